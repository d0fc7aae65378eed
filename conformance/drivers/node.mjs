// @arrowood.dev/socket on Node: a request a line on stdin, an answer a line on stdout.
// SOCKET_MODULE names another module that exports connect().
import { createInterface } from "node:readline";
import { countStray, interpreter } from "./interpreter.mjs";

process.on("unhandledRejection", countStray);
process.on("uncaughtException", countStray);

const { connect } = await import(process.env.SOCKET_MODULE ?? "@arrowood.dev/socket");
const interpret = interpreter({ connect });

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await interpret(JSON.parse(line))));
}
process.exit();
