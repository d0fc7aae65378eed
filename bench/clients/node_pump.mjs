// node: net and tls sockets. "data" events and write() under TLS, pipe() between two
// plain sockets, pipeTo() of their web streams where that is what is measured.
//
// A packet device is no stream to node: it is read through its thread pool, one read
// after the other since packets have an order, and written to at once, which does not
// block.

import fs from "node:fs";
import net from "node:net";
import { Duplex } from "node:stream";
import tls from "node:tls";

import { beBusy, readPump } from "./pump.mjs";

const HEADER = 40;
const pump = readPump();

function copy(source, target) {
  source.on("data", (data) => {
    if (target.write(data)) return;
    source.pause();
    target.once("drain", () => source.resume());
  });
  source.on("end", () => target.end());
  source.on("error", () => target.destroy());
}

function forward(front, back) {
  if (pump.tls) {
    copy(front, back);
    copy(back, front);
  } else {
    front.pipe(back).pipe(front);
  }
}

function pipe(front, back) {
  const a = Duplex.toWeb(front);
  const b = Duplex.toWeb(back);
  a.readable.pipeTo(b.writable).catch(() => {});
  b.readable.pipeTo(a.writable).catch(() => {});
}

function tunnel(front) {
  let rest = null;
  front.on("data", (data) => {
    const all = rest === null ? data : Buffer.concat([rest, data]);
    let at = 0;
    while (all.length - at >= HEADER) {
      const end = at + HEADER + all.readUInt16BE(at + 4);
      if (end > all.length) break;
      if (all[at] >> 4 !== 6) throw new Error(`no IPv6 packet at ${at}`);
      fs.writeSync(pump.tun, all, at, end - at);
      at = end;
    }
    rest = at < all.length ? all.subarray(at) : null;
  });
  const read = () => {
    const buffer = Buffer.allocUnsafe(pump.mtu);
    fs.read(pump.tun, buffer, 0, pump.mtu, null, (error, count) => {
      if (error) throw error;
      if (front.write(buffer.subarray(0, count))) read();
      else front.once("drain", read);
    });
  };
  read();
}

function accepted(front) {
  front.on("error", () => {});
  front.setNoDelay(true);
  if (pump.mode === "tunnel") return tunnel(front);
  const back = net.connect({ port: pump.backend, host: "127.0.0.1", noDelay: true });
  back.on("error", () => {});
  if (pump.mode === "pipe") pipe(front, back);
  else forward(front, back);
}

const version = pump.mode === "tunnel" ? "TLSv1.2" : "TLSv1.3";
const { cert, key } = pump;
const options = { cert, key, minVersion: version, maxVersion: version };
// node does not ask for AES-256 first by itself.
if (pump.mode !== "tunnel") options.ciphers = "TLS_AES_256_GCM_SHA384";
const server = pump.tls
  ? tls.createServer(options, accepted)
  : net.createServer(accepted);
server.listen(pump.port, "127.0.0.1", 4096);
beBusy();
