// What a client program is asked to do, and how it answers: see job.py, its twin.
// Runs on node and on deno.

import crypto from "node:crypto";
import fs from "node:fs";
import process from "node:process";

export const REPLY_SIZE = 40;

/** The job in the first argument, with the payload read. */
export function readJob() {
  const job = JSON.parse(process.argv[2]);
  job.total = job.count * job.size;
  return job;
}

/** A function (i) => the i-th message, cut from the payload, round and round. */
export function messages(job) {
  const payload = new Uint8Array(fs.readFileSync(job.payload));
  const count = Math.min(1024, Math.floor(payload.length / job.size));
  const cut = [];
  for (let i = 0; i < count; i++) {
    cut.push(payload.slice(i * job.size, (i + 1) * job.size));
  }
  return (i) => cut[i % count];
}

/** What the source and sink peers want to hear first. */
export function header(job) {
  const bytes = new Uint8Array(9);
  bytes[0] = job.check ? 1 : 0;
  new DataView(bytes.buffer).setBigUint64(1, BigInt(job.total));
  return bytes;
}

/** A digest to fill, or null in a timed run. */
export function digestFor(job) {
  return job.check ? crypto.createHash("sha256") : null;
}

export function outcome(bytes, digest) {
  return { bytes, digest: digest === null ? null : digest.digest("hex") };
}

/** What the sink peer says it received. */
export function reply(bytes, job) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const hex = [...bytes.subarray(8)].map((b) => b.toString(16).padStart(2, "0"));
  return {
    bytes: Number(view.getBigUint64(0)),
    digest: job.check ? hex.join("") : null,
  };
}

/** Tell the harness that memory may be read now, and wait until it has been. */
export function pause() {
  globalThis.gc();
  fs.writeSync(1, "ready\n");
  // Opened anew, because node has made descriptor 0 non-blocking.
  const input = fs.openSync("/dev/stdin");
  const byte = new Uint8Array(1);
  while (fs.readSync(input, byte, 0, 1) === 1 && byte[0] !== 10);
  fs.closeSync(input);
}

/** Do the job with the function of its kind and print the answer. */
export async function main(kinds) {
  const job = readJob();
  const result = await kinds[job.kind](job);
  fs.writeSync(1, JSON.stringify(result) + "\n");
  process.exit(0);
}
