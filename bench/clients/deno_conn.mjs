// deno: Deno.connect() and Deno.startTls(), the streams of its connections.

import fs from "node:fs";

import * as jobs from "./job.mjs";
import { kinds } from "./web_streams.mjs";

function share(job) {
  return job.tls ? [fs.readFileSync(job.ca, "utf8")] : null;
}

// Without setNoDelay a TLS handshake waits 40 ms for a delayed ACK; connectTls()
// offers no way to set it in time, startTls() does.
async function open(job, caCerts) {
  const { host: hostname, port } = job;
  const connection = await Deno.connect({ hostname, port });
  connection.setNoDelay(true);
  if (caCerts === null) return connection;
  const secure = await Deno.startTls(connection, { hostname, caCerts });
  await secure.handshake();
  return secure;
}

await jobs.main(kinds(share, open, (connection) => connection.close()));
