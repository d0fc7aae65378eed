"""Abort signals: one party tells many others to stop, once.

AbortController and AbortSignal of the DOM Standard
(https://dom.spec.whatwg.org/#aborting-ongoing-activities). A reason is any
object; where it has to be raised, an exception is raised as it is and anything
else inside an `AbortError`. `AbortSignal.timeout()` aborts with a TimeoutError.

A signal made by `any()` must not be kept alive by signals that outlive it, nor
vanish while somebody listens to it: its sources know it weakly until it has a
listener, and strongly from then on.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, final

from .errors import AbortError, as_exception
from .events import Event, EventHandler, EventTarget
from .runtime import Runtime, current

__all__ = ["AbortController", "AbortSignal", "when_aborted"]


def when_aborted(
    signal: Any, stop: Callable[[BaseException], object]
) -> Callable[[], object] | None:
    """Call `stop` with the reason, as an exception, when `signal` is aborted.

    At once if it is aborted already. The signal may be of any make that has
    `aborted` and `addEventListener`. Returns what undoes it, if it can be undone.
    """

    def aborted(_event: object = None) -> None:
        stop(as_exception(getattr(signal, "reason", None)))

    if signal.aborted:
        aborted()
        return None
    signal.addEventListener("abort", aborted, once=True)
    remove = getattr(signal, "removeEventListener", None)
    return None if remove is None else lambda: remove("abort", aborted)


@final
class AbortSignal(EventTarget):
    """Says whether, and why, something is to stop.

    Made by an `AbortController` or by `abort()`, `timeout()` and `any()`. The
    event "abort" is dispatched when it happens.
    """

    __slots__ = (
        "__weakref__",
        "_aborted",
        "_followers",
        "_kept",
        "_onabort",
        "_reason",
        "_sources",
        "_traceback",
    )

    _aborted: bool
    _followers: weakref.WeakSet[AbortSignal]
    _kept: set[AbortSignal]
    _onabort: EventHandler | None
    _reason: object
    _sources: tuple[AbortSignal, ...]
    _traceback: TracebackType | None

    def __init__(self) -> None:
        raise TypeError(
            "an AbortSignal is not constructed: take an AbortController's, or "
            "AbortSignal.abort(), timeout() or any()"
        )

    @classmethod
    def _make(cls) -> AbortSignal:
        signal = cls.__new__(cls)
        EventTarget.__init__(signal)
        signal._aborted = False
        signal._reason = None
        signal._onabort = None
        signal._sources = ()
        signal._traceback = None
        signal._followers = weakref.WeakSet()
        signal._kept = set()
        return signal

    @classmethod
    def abort(cls, reason: object = None) -> AbortSignal:
        """A signal that is already aborted."""
        signal = cls._make()
        signal._abort(reason)
        return signal

    @classmethod
    def timeout(cls, milliseconds: float) -> AbortSignal:
        """A signal that aborts with a TimeoutError after `milliseconds`."""
        if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)):
            raise TypeError(f"milliseconds must be a number, not {milliseconds!r}")
        if not 0 <= milliseconds < float("inf"):
            raise ValueError(
                f"milliseconds must be finite and not negative, not {milliseconds!r}"
            )
        signal = cls._make()
        runtime = current()
        runtime.spawn(_abort_after, runtime, milliseconds / 1000, weakref.ref(signal))
        return signal

    @classmethod
    def any(cls, signals: Iterable[AbortSignal]) -> AbortSignal:
        """A signal that aborts with the first of `signals` to do so."""
        signal = cls._make()
        sources = tuple(signals)
        for source in sources:
            if not isinstance(source, AbortSignal):
                raise TypeError(f"any() takes AbortSignals, not {source!r}")
            if source.aborted:
                signal._abort(source.reason)
                return signal
        signal._sources = sources
        for source in sources:
            source._followers.add(signal)
        return signal

    @property
    def aborted(self) -> bool:
        """Whether it has happened."""
        return self._aborted

    @property
    def reason(self) -> Any:
        """What was given to `abort()`; an AbortError where nothing was."""
        return self._reason

    @property
    def onabort(self) -> EventHandler | None:
        """A handler called like a listener; the one attribute that can be set."""
        return self._onabort

    @onabort.setter
    def onabort(self, handler: EventHandler | None) -> None:
        self._onabort = handler
        if handler is not None:
            self._be_kept()
        else:
            self._be_released()

    def throwIfAborted(self) -> None:
        """Raise the reason if there is one (an AbortError round a non-exception)."""
        if self._aborted:
            raise as_exception(self._reason).with_traceback(self._traceback)

    throw_if_aborted = throwIfAborted

    def _heard(self, type: str) -> None:
        self._be_kept()

    def _unheard(self, type: str) -> None:
        self._be_released()

    def _be_released(self) -> None:
        if not self._listeners and not self._kept and self._onabort is None:
            for source in self._sources:
                source._kept.discard(self)
                source._be_released()

    def _be_kept(self) -> None:
        for source in self._sources:
            source._kept.add(self)
            source._be_kept()

    def _abort(self, reason: object) -> None:
        if self._aborted:
            return
        self._aborted = True
        self._reason = AbortError() if reason is None else reason
        if isinstance(reason, BaseException):
            self._traceback = reason.__traceback__
        for source in self._sources:
            source._kept.discard(self)
        self._sources = ()
        followers = list(self._followers)
        self._kept.clear()
        event = Event("abort")
        if self._onabort is not None:
            self.addEventListener("abort", self._onabort, once=True)
        self.dispatchEvent(event)
        self._listeners.clear()
        for follower in followers:
            follower._abort(self._reason)


async def _abort_after(
    runtime: Runtime, seconds: float, signal: weakref.ref[AbortSignal]
) -> None:
    with runtime.scope(seconds):
        await runtime.park({})
    alive = signal()
    if alive is not None:
        alive._abort(TimeoutError(f"no result within {seconds:g} seconds"))


@final
class AbortController:
    """The side that decides (https://dom.spec.whatwg.org/#abortcontroller)."""

    __slots__ = ("_signal",)

    def __init__(self) -> None:
        self._signal = AbortSignal._make()

    @property
    def signal(self) -> AbortSignal:
        """What to hand to those who are to stop."""
        return self._signal

    def abort(self, reason: object = None) -> None:
        """Abort the signal; later calls do nothing."""
        self._signal._abort(reason)
