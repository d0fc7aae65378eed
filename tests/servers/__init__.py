"""Real servers on this machine, each as a context manager.

They live in a folder of their own below /tmp, listen on loopback or on a unix
socket, and are gone with the block, or with the process that started them.
"""

from .nginx import Nginx, run_nginx
from .postgresql import PostgreSQL, run_postgresql
from .redis import Redis, run_redis
from .smtp import Smtp, run_smtp

__all__ = [
    "Nginx",
    "PostgreSQL",
    "Redis",
    "Smtp",
    "run_nginx",
    "run_postgresql",
    "run_redis",
    "run_smtp",
]
