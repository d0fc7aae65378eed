// node: net and tls sockets, "data" events and write(), callbacks only.

import fs from "node:fs";
import net from "node:net";
import tls from "node:tls";

import * as jobs from "./job.mjs";

function makeContext(job) {
  if (!job.tls) return null;
  const ca = fs.readFileSync(job.ca);
  return tls.createSecureContext({ ca, minVersion: "TLSv1.3" });
}

/** A connection to the peer; resolves when its handshake is done. */
function open(job, secureContext, session) {
  return new Promise((resolve, reject) => {
    const { host, port } = job;
    const socket = secureContext === null
      ? net.connect({ host, port, noDelay: true }, () => resolve(socket))
      : tls.connect({ host, port, noDelay: true, secureContext, session }, () =>
        resolve(socket));
    socket.on("error", reject);
  });
}

function close(socket) {
  return new Promise((resolve) => {
    socket.once("close", resolve);
    socket.end();
  });
}

/** Resolves with the first `size` bytes that arrive. */
function receiveExactly(socket, size) {
  return new Promise((resolve, reject) => {
    const parts = [];
    let left = size;
    const onData = (data) => {
      parts.push(data);
      left -= data.length;
      if (left > 0) return;
      socket.off("data", onData);
      socket.off("end", onEnd);
      resolve(Buffer.concat(parts));
    };
    const onEnd = () => reject(new Error(`the peer ended ${left} bytes early`));
    socket.on("data", onData);
    socket.on("end", onEnd);
  });
}

async function roundtrip(job) {
  const digest = jobs.digestFor(job);
  const message = jobs.messages(job);
  const socket = await open(job, makeContext(job));
  await new Promise((resolve, reject) => {
    let sent = 0;
    let left = 0;
    const next = () => {
      if (sent === job.count) return resolve();
      left = job.size;
      socket.write(message(sent++));
    };
    socket.on("end", () => reject(new Error("the peer ended early")));
    socket.on("data", (data) => {
      left -= data.length;
      if (digest !== null) digest.update(data);
      if (left === 0) next();
    });
    next();
  });
  await close(socket);
  return jobs.outcome(job.total, digest);
}

async function receive(job) {
  const digest = jobs.digestFor(job);
  const socket = await open(job, makeContext(job));
  let left = job.total;
  await new Promise((resolve, reject) => {
    socket.on("end", () => reject(new Error(`the peer ended ${left} bytes early`)));
    socket.on("data", (data) => {
      left -= data.length;
      if (digest !== null) digest.update(data);
      if (left <= 0) resolve();
    });
    socket.write(jobs.header(job));
    if (left === 0) resolve();
  });
  await close(socket);
  return jobs.outcome(job.total - left, digest);
}

async function send(job) {
  const message = jobs.messages(job);
  const socket = await open(job, makeContext(job));
  const answer = receiveExactly(socket, jobs.REPLY_SIZE);
  socket.write(jobs.header(job));
  let sent = 0;
  const fill = () => {
    while (sent < job.count) {
      if (!socket.write(message(sent++))) {
        socket.once("drain", fill);
        return;
      }
    }
  };
  fill();
  const result = jobs.reply(await answer, job);
  await close(socket);
  return result;
}

async function connect(job) {
  const context = makeContext(job);
  let session;
  let greetings = 0;
  for (let i = 0; i < job.count; i++) {
    const socket = await open(job, context, session);
    if (job.resume) socket.on("session", (ticket) => (session = ticket));
    greetings += (await receiveExactly(socket, 1)).length;
    await close(socket);
  }
  return jobs.outcome(greetings, null);
}

async function idle(job) {
  const digest = jobs.digestFor(job);
  const message = jobs.messages(job);
  const context = makeContext(job);
  const opened = [];
  for (const group of [job.warm, job.count]) {
    while (opened.length < group) {
      const socket = await open(job, context);
      const answer = receiveExactly(socket, job.size);
      socket.write(message(opened.length));
      const data = await answer;
      if (digest !== null) digest.update(data);
      opened.push(socket);
    }
    await new Promise(setImmediate);
    jobs.pause();
  }
  for (const socket of opened) socket.destroy();
  return jobs.outcome(job.total, digest);
}

await jobs.main({ roundtrip, receive, send, connect, idle });
