// What a bridge program is asked to do: see pump.py, its twin.
// Runs on node and on deno.

import fs from "node:fs";
import process from "node:process";

/** The pump in the last argument, with the certificate read. */
export function readPump() {
  const pump = JSON.parse(process.argv.at(-1));
  pump.cert = fs.readFileSync(`${pump.folder}/cert.pem`, "utf8");
  pump.key = fs.readFileSync(`${pump.folder}/key.pem`, "utf8");
  return pump;
}

/** Tasks of 2 ms, from the first line on standard input on; its end is ours. */
export function beBusy() {
  process.stdin.once("end", () => process.exit(0));
  process.stdin.once("data", () => {
    const task = () => {
      const until = performance.now() + 2;
      while (performance.now() < until);
      setImmediate(task);
    };
    task();
  });
}
