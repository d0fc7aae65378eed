"""Promises: results that many tasks may await, or none.

A Promise is eager: the work it stands for runs whether or not anybody awaits
it (a read apart, which takes data while somebody awaits it, or the socket's
`closed`). It can be awaited by any number of tasks, any number of times, and
ignoring one, rejected or not, never warns. An awaiter that is cancelled only
detaches.

`then`, `catch` and `finally_` are ECMAScript's: they return a new promise, and
their callbacks run later, in the order in which the promises were settled,
never inside the call that settles.

Raising one exception object many times would grow its traceback each time, so
a rejected promise remembers the traceback that the error came with and starts
from that one again.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from .runtime import Line, Runtime, current, protect

__all__ = ["Promise"]

T = TypeVar("T")

PENDING: Final = 0
FULFILLED: Final = 1
REJECTED: Final = 2

_STATES: Final = ("pending", "fulfilled", "rejected")

# Returns the value, or something to await for it.
Handler = Callable[[Any], Any]


class Promise(Generic[T]):
    """The result of something that may still be going on.

    `await promise` gives its value or raises its error; `promise.wait()` is
    the same as a coroutine, for `nursery.start_soon` and `create_task`.
    Awaiting it from another event loop is a RuntimeError.
    """

    __slots__ = (
        "__weakref__",
        "_line",
        "_reactions",
        "_runtime",
        "_state",
        "_traceback",
        "_value",
    )

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._state = PENDING
        self._value: Any = None
        self._traceback: TracebackType | None = None
        self._line: Line | None = None
        self._reactions: list[Callable[[], None]] | None = None

    @classmethod
    def resolve(cls, value: Any = None) -> Promise[Any]:
        """A promise fulfilled with `value`; `value` itself if it is a promise."""
        if isinstance(value, Promise):
            return value
        return fulfilled(current(), value)

    @classmethod
    def reject(cls, error: BaseException) -> Promise[Any]:
        """A promise rejected with `error`."""
        return rejected(current(), error)

    # -- awaiting

    def __await__(self) -> Generator[Any, Any, T]:
        runtime = self._runtime
        if not runtime.is_current():
            raise RuntimeError(
                "this promise belongs to another event loop; await it where its "
                "socket was made"
            )
        if self._state == PENDING:
            yield from self._wait().__await__()
        else:
            yield from self._checkpoint().__await__()
        if self._state == REJECTED:
            raise self._value.with_traceback(self._traceback)
        value: T = self._value
        return value

    async def wait(self) -> T:
        """The same as awaiting the promise, as a coroutine."""
        return await self

    @protect
    async def _wait(self) -> None:
        line = self._line
        if line is None:
            line = self._line = {}
        try:
            while self._state == PENDING:
                await self._runtime.park(line)
        finally:
            if self._state == PENDING and not line:
                self._abandoned()

    def _checkpoint(self) -> Awaitable[None]:
        """What awaiting a settled promise does before it gives the result."""
        return self._runtime.checkpoint()

    def _abandoned(self) -> None:
        """The last awaiter of a pending promise was cancelled."""

    def _is_pending(self) -> bool:
        return self._state == PENDING

    def _is_rejected(self) -> bool:
        return self._state == REJECTED

    # -- settling

    @protect
    def _fulfil(self, value: T) -> None:
        if self._state == PENDING:
            self._state = FULFILLED
            self._value = value
            self._settled()

    def _reject(self, error: BaseException) -> None:
        self._reject_from(error, error.__traceback__)

    @protect
    def _reject_from(
        self, error: BaseException, traceback: TracebackType | None
    ) -> None:
        """Reject with an error that may have been raised since it had `traceback`."""
        if self._state == PENDING:
            self._state = REJECTED
            self._value = error
            self._traceback = traceback
            self._settled()

    def _settled(self) -> None:
        line, self._line = self._line, None
        if line:
            self._runtime.wake(line)
        if self._reactions is not None:
            reactions, self._reactions = self._reactions, None
            for reaction in reactions:
                self._runtime.soon(reaction)

    @protect
    def _when_settled(self, reaction: Callable[[], None]) -> None:
        """Call `reaction` once this is settled: later, also if it is already."""
        if self._state != PENDING:
            self._runtime.soon(reaction)
        elif self._reactions is None:
            self._reactions = [reaction]
            self._watched()
        else:
            self._reactions.append(reaction)

    def _watched(self) -> None:
        """Something other than an awaiter wants to know the result."""

    # -- reactions

    def then(
        self,
        on_fulfilled: Handler | None = None,
        on_rejected: Handler | None = None,
    ) -> Promise[Any]:
        """A promise of what the callback that applies returns or raises.

        A callback may be an async function or return anything awaitable.
        Without a callback for it, the value or the error is passed on.
        (https://tc39.es/ecma262/#sec-promise.prototype.then)
        """
        derived: Promise[Any] = Promise(self._runtime)

        def react() -> None:
            handler = on_fulfilled if self._state == FULFILLED else on_rejected
            if handler is None:
                _settle_like(derived, self)
                return
            value = self._value
            _settle_with(derived, lambda: handler(value))

        self._when_settled(react)
        return derived

    def catch(self, on_rejected: Handler) -> Promise[Any]:
        """`then(None, on_rejected)`."""
        return self.then(None, on_rejected)

    def finally_(self, on_finally: Callable[[], object]) -> Promise[T]:
        """A promise of the same result, settled after `on_finally()` has run.

        An error of the callback, or of what it returns, takes the result's
        place.
        """
        derived: Promise[Any] = Promise(self._runtime)

        def react() -> None:
            called: Promise[Any] = Promise(self._runtime)
            called._when_settled(
                lambda: _settle_like(
                    derived, called if called._state == REJECTED else self
                )
            )
            _settle_with(called, on_finally)

        self._when_settled(react)
        return derived

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_STATES[self._state]}>"


def fulfilled(runtime: Runtime, value: T) -> Promise[T]:
    """A promise that already has its value."""
    promise: Promise[T] = Promise(runtime)
    promise._state = FULFILLED
    promise._value = value
    return promise


def rejected(runtime: Runtime, error: BaseException) -> Promise[Any]:
    """A promise that already has its error."""
    promise: Promise[Any] = Promise(runtime)
    promise._reject(error)
    return promise


async def _follow(promise: Promise[Any], work: Awaitable[object]) -> None:
    try:
        promise._fulfil(await work)
    except promise._runtime.Cancelled:
        raise
    except BaseException as error:
        promise._reject(error)


def _settle_like(promise: Promise[Any], other: Promise[Any]) -> None:
    if other._state == FULFILLED:
        promise._fulfil(other._value)
    else:
        promise._reject_from(other._value, other._traceback)


def _settle_with(promise: Promise[Any], callback: Callable[[], object]) -> None:
    try:
        result = callback()
    except BaseException as error:
        promise._reject(error)
        return
    if result is promise:
        promise._reject(TypeError("a promise cannot wait for itself"))
    elif isinstance(result, Promise):
        result._when_settled(lambda: _settle_like(promise, result))
    elif inspect.isawaitable(result):
        promise._runtime.spawn(_follow, promise, result, name="wsockets promise")
    else:
        promise._fulfil(result)
