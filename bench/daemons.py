"""Forwarders from Debian packages, each configured for one bench and then run.

`python -m bench.daemons NAME JOB` writes the configuration into the job's folder and
becomes the program. Each forwards with one thread or process, as one bridge of ours
does, except where a connection is a thread (stunnel) or a process (socat).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType

from bench.clients.pump import Pump, read_pump

# Debian keeps some of them where only root looks.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# For bulk, in bytes: the best for each of 16 to 512 KiB in powers of two, all taken
# in turns. haproxy decrypts best with 32 KiB and does not mind when it encrypts;
# nginx encrypts best with 512 KiB and does not mind from 64 KiB on when it decrypts.
HAPROXY_BUFFER = 32768
NGINX_BUFFER = 524288
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def found(program: str) -> str | None:
    """Where the program is, or None."""
    return shutil.which(program, path=PATH)


def haproxy(pump: Pump) -> list[str]:
    """One thread. Bulk has the buffers that were best of those tried.

    Connections that are idle cost it least with the buffers it has by itself.
    """
    tls = f"ssl crt {pump.both} ssl-min-ver TLSv1.3" if pump.tls else ""
    size = f"tune.bufsize {HAPROXY_BUFFER}" if pump.bulk else ""
    count = 100 if pump.bulk else 9000
    splice = "" if pump.tls else "option splice-request\n option splice-response"
    text = f"""
global
 nbthread 1
 maxconn {count}
 {size}
defaults
 mode tcp
 maxconn {count}
 timeout connect 30s
 timeout client 300s
 timeout server 300s
 {splice}
frontend front
 bind 127.0.0.1:{pump.port} {tls}
 default_backend back
backend back
 server one 127.0.0.1:{pump.backend}
"""
    return ["haproxy", "-db", "-q", "-f", pump.write("haproxy.cfg", text)]


def nginx(pump: Pump) -> list[str]:
    """One process."""
    tls = "ssl" if pump.tls else ""
    size = f"proxy_buffer_size {NGINX_BUFFER};" if pump.bulk else ""
    text = f"""
load_module {STREAM_MODULE};
daemon off;
master_process off;
pid {pump.folder}/nginx.pid;
error_log stderr error;
worker_rlimit_nofile 20000;
events {{ worker_connections 20000; }}
stream {{
 server {{
  listen 127.0.0.1:{pump.port} {tls} backlog=4096;
  ssl_certificate {pump.certificate};
  ssl_certificate_key {pump.key};
  ssl_protocols TLSv1.3;
  tcp_nodelay on;
  {size}
  proxy_pass 127.0.0.1:{pump.backend};
 }}
}}
"""
    path = pump.write("nginx.conf", text)
    return ["nginx", "-e", "stderr", "-p", pump.folder, "-c", path]


def stunnel4(pump: Pump) -> list[str]:
    """One process, a thread a connection."""
    text = f"""
foreground = yes
pid =
syslog = no
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[bench]
accept = 127.0.0.1:{pump.port}
connect = 127.0.0.1:{pump.backend}
cert = {pump.certificate}
key = {pump.key}
sslVersionMin = TLSv1.3
"""
    return ["stunnel4", pump.write("stunnel.conf", text)]


def hitch(pump: Pump) -> list[str]:
    """A parent and one worker, which refuses to be root."""
    user = 'user = "nobody"' if os.geteuid() == 0 else ""
    text = f"""
{user}
frontend = "[127.0.0.1]:{pump.port}"
backend = "[127.0.0.1]:{pump.backend}"
pem-file = "{pump.both}"
workers = 1
tls-protos = TLSv1.3
log-level = 2
"""
    return ["hitch", "--config", pump.write("hitch.conf", text)]


def socat(pump: Pump) -> list[str]:
    """A process a connection, with a buffer of 512 KiB."""
    listen = f"TCP-LISTEN:{pump.port}"
    if pump.tls:
        listen = f"OPENSSL-LISTEN:{pump.port},cert={pump.both},verify=0"
    front = f"{listen},bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=128"
    back = f"TCP:127.0.0.1:{pump.backend},nodelay"
    return ["socat", "-b", "524288", front, back]


DAEMONS: Mapping[str, Callable[[Pump], list[str]]] = MappingProxyType(
    {each.__name__: each for each in (haproxy, nginx, stunnel4, hitch, socat)}
)


def main() -> None:
    """Become the program."""
    command = DAEMONS[sys.argv[1]](read_pump(sys.argv[2]))
    os.environ["PATH"] = PATH
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
