"""wsockets: a request a line on stdin, an answer a line on stdout.

    python -m conformance.drivers.on_python --runtime trio|asyncio|uvloop [--binding]

The same vocabulary as interpreter.mjs, and the same behaviour; what Python does in
its own way is made alike here, and nowhere else:

- A JavaScript promise goes on by itself, and so does a `Promise` here, a read apart,
  which somebody has to await. Each promise that a scenario keeps has a task that
  awaits it.
- None is both undefined and null; `set` looks at what a property is afterwards, as
  JavaScript ignores, or throws for, what raises AttributeError here.
- An error's name and message, and an object's constructor, are found where Python
  has them.
- What JavaScript reports as a rejection that nobody handled would be an error in the
  library's or the event loop's log here, or an exception that could not be raised.

With --binding every connect() is that of a binding object which trusts the suite's
authority; otherwise SSL_CERT_FILE tells whom to trust. A request may name a mutant,
see mutants.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, Final, final

import anyio
import anyio.to_thread

import wsockets
from conformance.drivers import mutants
from conformance.drivers.python_values import (
    MAKERS,
    MISSING,
    kind_of,
    property_of,
    told,
)
from conformance.outcomes import Outcome
from conformance.pattern import describe, pattern
from wsockets import AbortError, Binding, Promise, TlsOptions

__all__ = ["Run", "main"]

_PENDING: Final = {"how": "pending"}
# The longest script of a peer, in seconds.
_OVER: Final = 60.0
# What anyio calls them, and its settings.
_RUNTIMES: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "trio": ("trio", {}),
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
}


class Missing(Exception):
    """There is no such variable or property."""


class Stray(logging.Handler):
    """Counts what nobody handled."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.count += 1

    def unraisable(self, _: object) -> None:
        """As `sys.unraisablehook`."""
        self.count += 1


@final
class Watch:
    """A promise that a task awaits: giving up waiting does not cancel anything."""

    def __init__(self, promise: Promise[Any]) -> None:
        self.promise = promise
        self.how = "pending"
        self.value: Any = None
        self.over = anyio.Event()

    async def follow(self) -> None:
        """Await the promise, whatever comes."""
        try:
            self.value = await self.promise
            self.how = "fulfilled"
        except Exception as error:
            self.value = error
            self.how = "rejected"
        self.over.set()


@final
class Run:
    """One scenario: its variables, and the verbs."""

    def __init__(
        self,
        request: Mapping[str, Any],
        tasks: anyio.abc.TaskGroup,
        connect: Callable[..., Any],
        stray: Stray,
    ) -> None:
        self.request = request
        self.limit: float = request["limit"]
        self.settle: float = request["settle"]
        self._variables: dict[str, Any] = {"connect": connect}
        self._tasks = tasks
        self._stray = stray
        self._reasons: dict[str, object] = {}
        self._watches: dict[int, Watch] = {}
        self._sockets: list[Any] = []

    async def perform(self, step: Mapping[str, Any]) -> Outcome:
        """The outcome of a step."""
        verb = getattr(self, "_do_" + step["do"])
        try:
            outcome: Outcome = await verb(step)
        except Missing as error:
            return {"how": "missing", "value": str(error)}
        if outcome["how"] == "pending" and step["do"] != "peek":
            self.limit = self.request["limit"] / 10
        return outcome

    async def finish(self) -> None:
        """When the peer's script is over: put away what the scenario leaves behind."""
        await self._wait("over", _OVER)
        for socket in self._sockets:
            socket.close(ConnectionAbortedError("the scenario is over"))
        self._tasks.cancel_scope.cancel()

    # -- the verbs

    async def _do_connect(self, step: Mapping[str, Any]) -> Outcome:
        how = self._variables["connect"]
        if "binding" in step:
            how = bound(self._value(step["binding"]))
        given = [self._value(step["to"])]
        if "options" in step:
            given.append(self._value(step["options"]))
        return await self._called(lambda: how(*given), {"as": "socket", **step})

    async def _do_call(self, step: Mapping[str, Any]) -> Outcome:
        method = self._find(step["on"])
        if not callable(method):
            raise Missing(step["on"])
        given = [self._value(each) for each in step.get("args", ())]
        return await self._called(lambda: method(*given), step)

    async def _do_new(self, step: Mapping[str, Any]) -> Outcome:
        made = getattr(wsockets, step["on"], None) or self._find(step["on"])
        given = [self._value(each) for each in step.get("args", ())]
        return await self._called(lambda: made(*given), step)

    async def _do_get(self, step: Mapping[str, Any]) -> Outcome:
        value = self._find(step["on"])
        if "as" in step:
            self._variables[step["as"]] = value
        return {"how": "returned", "value": told(value)}

    async def _do_set(self, step: Mapping[str, Any]) -> Outcome:
        before = self._find(step["on"])
        path, _, name = step["on"].rpartition(".")
        with contextlib.suppress(AttributeError):
            setattr(self._find(path), name, self._value(step["to"]))
        kept = self._find(step["on"]) is before
        return {"how": "returned", "value": {"text": "kept" if kept else "changed"}}

    async def _do_await(self, step: Mapping[str, Any]) -> Outcome:
        promise = self._find(step["on"])
        return await self._settled(
            promise, step.get("within", self.limit), step.get("as")
        )

    async def _do_peek(self, step: Mapping[str, Any]) -> Outcome:
        return await self._settled(self._find(step["on"]), self.settle, step.get("as"))

    async def _do_same(self, step: Mapping[str, Any]) -> Outcome:
        one, other = (self._find(path) for path in step["of"])
        # Two strings are the same in JavaScript where they are equal.
        same = one == other if isinstance(one, str) else one is other
        return {"how": "returned", "value": same}

    async def _do_kind(self, step: Mapping[str, Any]) -> Outcome:
        return {"how": "returned", "value": {"text": kind_of(self._find(step["on"]))}}

    async def _do_write(self, step: Mapping[str, Any]) -> Outcome:
        writer = self._end(step.get("on", "socket"), "writer")
        return await self._called(lambda: writer.write(self._value(step["data"])), step)

    async def _do_read(self, step: Mapping[str, Any]) -> Outcome:
        reader = self._end(step.get("on", "socket"), "reader")
        until = anyio.current_time() + step.get("within", self.limit)
        wanted = float("inf") if step.get("to") == "end" else step.get("bytes", 1)
        data = bytearray()
        ending: dict[str, Any] = {"end": "open"}
        while len(data) < wanted and ending["end"] == "open":
            try:
                promise = reader.read()
            except Exception as error:
                ending = {"end": "threw", "error": self._fault(error)}
                break
            how, value = await self._settle(
                promise, max(0.01, until - anyio.current_time())
            )
            if how == "pending":
                ending = {"end": "pending"}
            elif how == "rejected":
                ending = {"end": "rejected", "error": self._fault(value)}
            elif value.done:
                ending = {"end": "done"}
            else:
                data += value.value
        if not data and ending["end"] == "pending":
            return _PENDING
        if "as" in step:
            self._variables[step["as"]] = data.decode(errors="replace")
        return {"how": "read", "data": describe(bytes(data)), **ending}

    async def _do_fill(self, step: Mapping[str, Any]) -> Outcome:
        writer = self._end(step.get("on", "socket"), "writer")
        written = 0
        while written < step["most"] and writer.desiredSize is not None:
            if writer.desiredSize <= 0:
                how, _ = await self._settle(writer.ready, self.settle)
                if how == "pending":
                    return {"how": "returned", "value": {"text": "full"}}
            self._watch(writer.write(pattern(step["chunk"], written)))
            written += step["chunk"]
        return {"how": "returned", "value": {"text": "never full"}}

    async def _do_iterate(self, step: Mapping[str, Any]) -> Outcome:
        data = bytearray()
        end: dict[str, Any] = {"end": "pending"}
        with anyio.move_on_after(self.limit):
            try:
                async for chunk in self._find(step["on"]):
                    data += chunk
                end = {"end": "done"}
            except Exception as error:
                end = {"end": "rejected", "error": self._fault(error)}
        return {"how": "read", "data": describe(bytes(data)), **end}

    async def _do_unhandled(self, _: Mapping[str, Any]) -> Outcome:
        await anyio.sleep(self.settle)
        return {"how": "returned", "value": self._stray.count}

    async def _do_signal(self, step: Mapping[str, Any]) -> Outcome:
        await self._ask(f"signal/{step['name']}", self.limit)
        return {"how": "returned", "value": None}

    async def _do_wait(self, step: Mapping[str, Any]) -> Outcome:
        if await self._wait(step["name"], self.limit):
            return {"how": "returned", "value": None}
        return _PENDING

    # -- what they share

    async def _called(
        self, call: Callable[[], Any], step: Mapping[str, Any]
    ) -> Outcome:
        try:
            value = call()
        except Exception as error:
            if "as" in step:
                self._variables[step["as"]] = error
            return {"how": "threw", "error": self._fault(error)}
        if isinstance(value, wsockets.Socket):
            self._sockets.append(value)
        if "as" in step:
            self._variables[step["as"]] = value
            if isinstance(value, Promise):
                self._watch(value)
        awaited = None if "as" in step else value
        if "then" in step:
            awaited = getattr(value, step["then"], MISSING)
            if awaited is MISSING:
                raise Missing(step["then"])
        if isinstance(awaited, Promise):
            return await self._settled(awaited, step.get("within", self.limit), None)
        return {"how": "returned", "value": told(value)}

    def _watch(self, promise: Promise[Any]) -> Watch:
        watch = self._watches.get(id(promise))
        if watch is None:
            watch = self._watches[id(promise)] = Watch(promise)
            self._tasks.start_soon(watch.follow)
        return watch

    async def _settle(self, promise: Any, seconds: float) -> tuple[str, Any]:
        if not isinstance(promise, Promise):
            return "fulfilled", promise
        watch = self._watch(promise)
        with anyio.move_on_after(seconds):
            await watch.over.wait()
        return watch.how, watch.value

    async def _settled(
        self, promise: Any, seconds: float, variable: str | None
    ) -> Outcome:
        how, value = await self._settle(promise, seconds)
        if how == "pending":
            return _PENDING
        if variable is not None:
            self._variables[variable] = value
        if how == "rejected":
            return {"how": "rejected", "error": self._fault(value)}
        return {"how": "fulfilled", "value": told(value)}

    def _end(self, name: str, which: str) -> Any:
        variable = f"{name}_{which}"
        if variable not in self._variables:
            if which == "reader":
                self._variables[variable] = self._find(f"{name}.readable").getReader()
            else:
                self._variables[variable] = self._find(f"{name}.writable").getWriter()
        return self._variables[variable]

    def _find(self, path: str) -> Any:
        first, *names = path.split(".")
        found = self._variables.get(first, MISSING)
        for name in names:
            found = property_of(found, name)
        if found is MISSING:
            raise Missing(path)
        return found

    def _value(self, given: Any) -> Any:
        if isinstance(given, list):
            return [self._value(each) for each in given]
        if not isinstance(given, Mapping):
            return given
        for name, make in MAKERS.items():
            if name in given:
                return make(given[name])
        if "ref" in given:
            return self._find(given["ref"])
        if "reason" in given:
            name = given["reason"]
            return self._reasons.setdefault(name, RuntimeError(name))
        if "word" in given:
            return self._reasons.setdefault(given["word"], given["word"])
        return {key: self._value(each) for key, each in given.items()}

    def _fault(self, error: BaseException) -> dict[str, Any]:
        # A reason that cannot be raised arrives in an AbortError.
        found = error.reason if isinstance(error, AbortError) else error
        given = (name for name, each in self._reasons.items() if each is found)
        return {
            "name": type(error).__name__,
            "message": str(error),
            "reason": next(given, None),
            "typeError": isinstance(error, TypeError),
            "error": True,
        }

    async def _wait(self, name: str, within: float) -> bool:
        return await self._ask(f"wait/{name}?within={within}", within) == "yes"

    async def _ask(self, path: str, within: float) -> str:
        url = f"{self.request['control']}/{path}"

        def get() -> str:
            with urllib.request.urlopen(url, timeout=within + 5) as answer:
                return str(answer.read().decode())

        return await anyio.to_thread.run_sync(get)


def bound(settings: Mapping[str, Any]) -> Callable[..., Any]:
    """The connect() of a binding object."""
    given: dict[str, Any] = dict(settings)
    given["tls"] = TlsOptions(given.get("tls", {}))
    if given.pop("deny", False):
        given["policy"] = wsockets.deny_private()
    return Binding(given).connect


async def interpret(
    request: Mapping[str, Any], connect: Callable[..., Any], stray: Stray
) -> dict[str, Any]:
    """The answer to a request."""
    stray.count = 0
    steps: list[Outcome] = []
    async with anyio.create_task_group() as tasks:
        run = Run(request, tasks, connect, stray)
        with mutants.mutated(request.get("mutant")):
            for step in request["steps"]:
                steps.append(await run.perform(step))  # noqa: PERF401
        await run.finish()
    return {"id": request["id"], "steps": steps, "stray": stray.count}


async def lines() -> AsyncIterator[str]:
    """The lines of stdin."""
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        yield line


def main() -> None:
    """Answer requests until stdin ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime", choices=list(_RUNTIMES), default="trio")
    parser.add_argument("--binding", action="store_true")
    options = parser.parse_args()
    stray = Stray()
    sys.unraisablehook = stray.unraisable
    for name in ("wsockets", "asyncio"):
        logging.getLogger(name).addHandler(stray)
    connect = wsockets.connect
    if options.binding:
        trusted = Path(os.environ.pop("SSL_CERT_FILE"))
        connect = Binding(tls=TlsOptions(ca=trusted)).connect

    async def serve() -> None:
        async for line in lines():
            answer = await interpret(json.loads(line), connect, stray)
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    backend, settings = _RUNTIMES[options.runtime]
    anyio.run(serve, backend=backend, backend_options=settings)


if __name__ == "__main__":
    main()
