// Turns the steps of a scenario into a transcript, for any implementation in
// JavaScript. It knows the vocabulary of ../README.md and holds no expectations.
//
//   const interpret = interpreter({ connect, bind });
//   const answer = await interpret(request);
//
// `connect` is the implementation's function; `bind(settings)`, where there are
// binding objects, gives the connect of one. A request is { id, steps, control,
// settle, limit }; the answer is { id, steps: [outcome], stray }.

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const stray = { rejections: 0 };

// Called by whoever listens for rejections that nobody has handled.
export function countStray() {
  stray.rejections += 1;
}

export function interpreter({ connect, bind }) {
  return async function interpret(request) {
    const run = new Run(connect, bind, request);
    stray.rejections = 0;
    const steps = [];
    for (const step of request.steps) {
      const outcome = await run.perform(step);
      steps.push(outcome);
      // Who has kept us waiting once is not given so much time again.
      if (outcome.how === "pending" && step.do !== "peek") run.limit = request.limit / 10;
    }
    await run.finish();
    return { id: request.id, steps, stray: stray.rejections };
  };
}

class Run {
  constructor(connect, bind, request) {
    this.variables = { connect };
    this.bind = bind;
    this.control = request.control;
    this.settle = request.settle;
    this.limit = request.limit;
    this.reasons = {};
    this.sockets = [];
  }

  async perform(step) {
    try {
      return await this[`do_${step.do}`](step);
    } catch (error) {
      if (error instanceof Missing) return { how: "missing", value: error.message };
      throw error;
    }
  }

  // -- the verbs

  async do_connect(step) {
    const how = step.binding === undefined ? this.variables.connect : this.bind(this.value(step.binding));
    const given = [this.value(step.to)];
    if ("options" in step) given.push(this.value(step.options));
    return this.called(() => how(...given), { as: "socket", ...step });
  }

  async do_call(step) {
    const [owner, name] = this.owner(step.on);
    const method = owner[name];
    if (typeof method !== "function") throw new Missing(step.on);
    const given = (step.args ?? []).map((each) => this.value(each));
    return this.called(() => method.apply(owner, given), step);
  }

  async do_new(step) {
    const made = step.on in globalThis ? globalThis[step.on] : this.find(step.on);
    const given = (step.args ?? []).map((each) => this.value(each));
    return this.called(() => new made(...given), step);
  }

  async do_get(step) {
    const value = this.find(step.on);
    if (step.as) this.variables[step.as] = value;
    return { how: "returned", value: this.told(value) };
  }

  async do_set(step) {
    const [owner, name] = this.owner(step.on);
    if (!(name in owner)) throw new Missing(step.on);
    const before = owner[name];
    try {
      owner[name] = this.value(step.to);
    } catch {
      // In strict mode a setter that is not there throws.
    }
    return { how: "returned", value: this.told(owner[name] === before ? "kept" : "changed") };
  }

  async do_await(step) {
    const found = await settled(this.find(step.on), step.within ?? this.limit);
    return this.settlement(found, step.as);
  }

  async do_peek(step) {
    const found = await settled(this.find(step.on), this.settle);
    return this.settlement(found, step.as);
  }

  async do_same(step) {
    const [one, other] = step.of.map((path) => this.find(path));
    return { how: "returned", value: one === other };
  }

  async do_kind(step) {
    return { how: "returned", value: { text: kindOf(this.find(step.on)) } };
  }

  async do_write(step) {
    const writer = this.end(step.on ?? "socket", "writer");
    return this.called(() => writer.write(this.value(step.data)), step);
  }

  async do_read(step) {
    const reader = this.end(step.on ?? "socket", "reader");
    const until = Date.now() + (step.within ?? this.limit) * 1000;
    const parts = [];
    let length = 0;
    const wanted = step.to === "end" ? Infinity : (step.bytes ?? 1);
    let ending = { end: "open" };
    while (length < wanted) {
      let promise;
      try {
        promise = reader.read();
      } catch (error) {
        ending = { end: "threw", error: this.fault(error) };
        break;
      }
      const found = await settled(promise, Math.max(0.01, (until - Date.now()) / 1000));
      if (found.how === "pending") ending = { end: "pending" };
      else if (found.how === "rejected") ending = { end: "rejected", error: this.fault(found.value) };
      else if (found.value.done) ending = { end: "done" };
      else {
        const chunk = asBytes(found.value.value);
        if (chunk === null) ending = { end: `a chunk of ${kindOf(found.value.value)}` };
        else {
          parts.push(chunk);
          length += chunk.length;
        }
      }
      if (ending.end !== "open") break;
    }
    if (length === 0 && ending.end === "pending") return { how: "pending" };
    const data = joined(parts);
    if (step.as) this.variables[step.as] = decoder.decode(data);
    return { how: "read", data: describe(data), ...ending };
  }

  async do_fill(step) {
    const writer = this.end(step.on ?? "socket", "writer");
    let written = 0;
    while (written < step.most) {
      if (writer.desiredSize === null) break;
      if (writer.desiredSize <= 0) {
        const found = await settled(writer.ready, this.settle);
        if (found.how === "pending") return { how: "returned", value: { text: "full" } };
      }
      quiet(writer.write(pattern(step.chunk, written)));
      written += step.chunk;
    }
    return { how: "returned", value: { text: "never full" } };
  }

  async do_iterate(step) {
    const parts = [];
    const read = (async () => {
      for await (const chunk of this.find(step.on)) parts.push(asBytes(chunk));
    })();
    const found = await settled(read, this.limit);
    const end = { fulfilled: "done", pending: "pending", rejected: "rejected" }[found.how];
    const error = found.how === "rejected" ? { error: this.fault(found.value) } : {};
    return { how: "read", data: describe(joined(parts)), end, ...error };
  }

  async do_unhandled() {
    await sleep(this.settle);
    return { how: "returned", value: stray.rejections };
  }

  async do_signal(step) {
    await fetch(`${this.control}/signal/${step.name}`);
    return { how: "returned", value: null };
  }

  async do_wait(step) {
    const answer = await fetch(`${this.control}/wait/${step.name}?within=${this.limit}`);
    return (await answer.text()) === "yes" ? { how: "returned", value: null } : { how: "pending" };
  }

  // -- what they share

  async called(call, step) {
    let value;
    try {
      value = call();
    } catch (error) {
      if (step.as) this.variables[step.as] = error;
      return { how: "threw", error: this.fault(error) };
    }
    this.keep(value);
    if (step.as) {
      this.variables[step.as] = value;
      quiet(value);
    }
    if (step.then && value[step.then] === undefined) throw new Missing(step.then);
    const awaited = step.then ? value[step.then] : step.as ? undefined : value;
    if (!isPromise(awaited)) return { how: "returned", value: this.told(value) };
    return this.settlement(await settled(awaited, step.within ?? this.limit));
  }

  settlement(found, as) {
    if (found.how === "pending") return found;
    if (as) this.variables[as] = found.value;
    if (found.how === "rejected") return { how: "rejected", error: this.fault(found.value) };
    return { how: "fulfilled", value: this.told(found.value) };
  }

  // Sockets are put away when the scenario is over.
  keep(value) {
    if (value !== null && typeof value === "object" && "opened" in value && "closed" in value)
      this.sockets.push(value);
  }

  // The reader or writer that the verbs `read` and `write` use, taken at first.
  end(name, which) {
    const variable = `${name}_${which}`;
    if (!(variable in this.variables)) {
      const stream = this.find(`${name}.${which === "reader" ? "readable" : "writable"}`);
      this.variables[variable] = which === "reader" ? stream.getReader() : stream.getWriter();
    }
    return this.variables[variable];
  }

  find(path) {
    const [owner, name] = this.owner(path);
    if (owner === this.variables ? !(name in owner) : owner[name] === undefined && !(name in Object(owner)))
      throw new Missing(path);
    return owner[name];
  }

  owner(path) {
    const names = path.split(".");
    const last = names.pop();
    let owner = this.variables;
    for (const name of names) {
      owner = owner[name];
      if (owner === undefined || owner === null) throw new Missing(path);
    }
    return [owner, last];
  }

  value(given) {
    if (Array.isArray(given)) return given.map((each) => this.value(each));
    if (given === null || typeof given !== "object") return given;
    if ("ref" in given) return this.find(given.ref);
    if ("text" in given) return String(given.text);
    if ("bytes" in given) return encoder.encode(given.bytes);
    if ("pattern" in given) return pattern(given.pattern, 0);
    if ("view" in given) return new Uint8Array(given.view);
    if ("octets" in given) return new Uint8Array(given.octets);
    if ("buffer" in given) return encoder.encode(given.buffer).buffer;
    if ("words" in given) return new Uint16Array(given.words);
    if ("nothing" in given) return undefined;
    if ("function" in given) return () => undefined;
    if ("reason" in given) return (this.reasons[given.reason] ??= new Error(given.reason));
    if ("word" in given) return (this.reasons[given.word] = given.word);
    return Object.fromEntries(Object.entries(given).map(([key, each]) => [key, this.value(each)]));
  }

  // A value as the transcript tells it.
  told(value) {
    if (value === undefined || value === null) return null;
    if (["boolean", "number"].includes(typeof value)) return value;
    if (typeof value === "string") return { text: value };
    const data = asBytes(value);
    if (data !== null) return { data: describe(data) };
    if (kindOf(value) === "Object" && "done" in value) {
      return { done: value.done, value: this.told(value.value) };
    }
    return { kind: kindOf(value) };
  }

  fault(error) {
    const [reason] = Object.entries(this.reasons).find(([, each]) => each === error) ?? [null];
    const message = String(error?.message ?? error);
    const typeError = error instanceof TypeError;
    return { name: error?.name ?? typeof error, message, reason, typeError, error: error instanceof Error };
  }

  // When the peer's script is over: put away what the scenario leaves behind.
  async finish() {
    await fetch(`${this.control}/wait/over?within=60`);
    for (const socket of this.sockets) {
      try {
        quiet(socket.opened);
        quiet(socket.closed);
        quiet(socket.close(new Error("the scenario is over")));
      } catch {
        // Whatever it is, it is over.
      }
    }
  }
}

class Missing extends Error {}

function quiet(value) {
  if (isPromise(value)) value.then(undefined, () => undefined);
}

// What becomes of a promise in so many seconds; of another value, that it is there.
async function settled(promise, seconds) {
  if (!isPromise(promise)) return { how: "fulfilled", value: promise };
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve({ how: "pending" }), seconds * 1000);
  });
  const watched = promise.then(
    (value) => ({ how: "fulfilled", value }),
    (error) => ({ how: "rejected", value: error }),
  );
  const found = await Promise.race([watched, late]);
  clearTimeout(timer);
  return found;
}

function isPromise(value) {
  return value !== null && typeof value === "object" && typeof value.then === "function";
}

function kindOf(value) {
  if (value === null) return "null";
  if (typeof value !== "object") return typeof value;
  return value.constructor?.name ?? "Object";
}

function asBytes(value) {
  if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return null;
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, each) => sum + each.length, 0));
  let at = 0;
  for (const each of parts) {
    whole.set(each, at);
    at += each.length;
  }
  return whole;
}

// Bytes that tell where they stand in a stream, see ../pattern.py.
function pattern(length, start) {
  const made = new Uint8Array(length);
  for (let i = 0; i < length; i++) made[i] = byteAt(start + i);
  return made;
}

function byteAt(i) {
  return (i * 31 + (i >>> 8) * 7 + (i >>> 16) * 3) & 255;
}

function describe(data) {
  if (data.length <= 64) return { text: String.fromCharCode(...data), length: data.length };
  let same = true;
  for (let i = 0; same && i < data.length; i++) same = data[i] === byteAt(i);
  return { pattern: same, length: data.length };
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
