// The work for any connection that has a WHATWG `readable` and `writable`.
// `open(job, shared)` gives one; `close(connection)` closes it.

import * as jobs from "./job.mjs";

async function receiveExactly(reader, size) {
  let { value, done } = await reader.read();
  while (!done && value.length < size) {
    const more = await reader.read();
    done = more.done;
    if (!done) value = Uint8Array.from([...value, ...more.value]);
  }
  if (done) throw new Error("the peer ended early");
  return value;
}

export function kinds(share, open, close) {
  async function opened(job, shared) {
    const connection = await open(job, shared);
    const reader = connection.readable.getReader();
    const writer = connection.writable.getWriter();
    return { connection, reader, writer };
  }

  async function roundtrip(job) {
    const digest = jobs.digestFor(job);
    const message = jobs.messages(job);
    const { connection, reader, writer } = await opened(job, share(job));
    for (let i = 0; i < job.count; i++) {
      await writer.write(message(i));
      const data = await receiveExactly(reader, job.size);
      if (digest !== null) digest.update(data);
    }
    await close(connection);
    return jobs.outcome(job.total, digest);
  }

  async function receive(job) {
    const digest = jobs.digestFor(job);
    const { connection, reader, writer } = await opened(job, share(job));
    let left = job.total;
    await writer.write(jobs.header(job));
    while (left > 0) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`the peer ended ${left} bytes early`);
      left -= value.length;
      if (digest !== null) digest.update(value);
    }
    await close(connection);
    return jobs.outcome(job.total - left, digest);
  }

  async function send(job) {
    const message = jobs.messages(job);
    const { connection, reader, writer } = await opened(job, share(job));
    await writer.write(jobs.header(job));
    for (let i = 0; i < job.count; i++) await writer.write(message(i));
    const result = jobs.reply(await receiveExactly(reader, jobs.REPLY_SIZE), job);
    await close(connection);
    return result;
  }

  async function connect(job) {
    const shared = share(job);
    let greetings = 0;
    for (let i = 0; i < job.count; i++) {
      const { connection, reader } = await opened(job, shared);
      greetings += (await receiveExactly(reader, 1)).length;
      await close(connection);
    }
    return jobs.outcome(greetings, null);
  }

  async function idle(job) {
    const digest = jobs.digestFor(job);
    const message = jobs.messages(job);
    const shared = share(job);
    const kept = [];
    for (const group of [job.warm, job.count]) {
      while (kept.length < group) {
        const one = await opened(job, shared);
        await one.writer.write(message(kept.length));
        const data = await receiveExactly(one.reader, job.size);
        if (digest !== null) digest.update(data);
        kept.push(one);
      }
      jobs.pause();
    }
    return jobs.outcome(job.total, digest);
  }

  return { roundtrip, receive, send, connect, idle };
}
