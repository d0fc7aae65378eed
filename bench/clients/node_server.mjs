// node: net and tls servers, pipe() back, or to a connection of its own.

import net from "node:net";
import process from "node:process";
import tls from "node:tls";

import { readPump } from "./pump.mjs";

const pump = readPump();

function answer(socket) {
  // Whoever resets has his reasons.
  socket.on("error", () => socket.destroy());
  if (pump.mode === "serve") {
    socket.pipe(socket);
    return;
  }
  const backend = net.connect({ host: "127.0.0.1", port: pump.backend, noDelay: true });
  backend.on("error", () => socket.destroy());
  socket.pipe(backend);
  backend.pipe(socket);
}

const options = { noDelay: true, allowHalfOpen: true };
const server = pump.tls
  ? tls.createServer(
    { ...options, cert: pump.cert, key: pump.key, minVersion: "TLSv1.3" },
    answer,
  )
  : net.createServer(options, answer);
server.on("tlsClientError", () => {});
server.listen({ host: "127.0.0.1", port: pump.port, backlog: 4096 });
process.stdin.once("end", () => process.exit(0)).resume();
