// deno: pipeTo() between the streams of its connections.

import { readPump } from "./pump.mjs";

const { port, backend, cert, key, tls } = readPump();
const where = { hostname: "127.0.0.1", port };
const listener = tls ? Deno.listenTls({ ...where, cert, key }) : Deno.listen(where);
for await (const front of listener) {
  front.setNoDelay?.(true);
  const back = await Deno.connect({ hostname: "127.0.0.1", port: backend });
  back.setNoDelay(true);
  front.readable.pipeTo(back.writable).catch(() => {});
  back.readable.pipeTo(front.writable).catch(() => {});
}
