// @arrowood.dev/socket on node: the same API as wsockets, over node's own sockets.
// It takes no TLS options; the peer's CA comes in through NODE_EXTRA_CA_CERTS.

import arrowood from "@arrowood.dev/socket";

import * as jobs from "./job.mjs";
import { kinds } from "./web_streams.mjs";

function open(job) {
  const secureTransport = job.tls ? "on" : "off";
  const address = { hostname: job.host, port: job.port };
  return arrowood.connect(address, { secureTransport, allowHalfOpen: false });
}

await jobs.main(kinds(() => null, open, (socket) => socket.close()));
