"""Events and their targets, as far as sockets and abort signals need them.

The DOM Standard's names (https://dom.spec.whatwg.org/#events) without a tree:
an event is dispatched to one target and goes no further. A listener is a
callable or an object with `handleEvent`; what it raises is logged and stops
neither the other listeners nor the code that dispatched the event.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias, cast

import attrs

__all__ = ["Event", "EventHandler", "EventListener", "EventTarget"]

_log = logging.getLogger("wsockets")


class HandlesEvents(Protocol):
    """An object that listens with a method."""

    def handleEvent(self, event: Any, /) -> object: ...


EventHandler: TypeAlias = "Callable[[Any], object]"
EventListener: TypeAlias = "EventHandler | HandlesEvents"


class Event:
    """Something that happened to `target` (https://dom.spec.whatwg.org/#event)."""

    __slots__ = ("_cancelable", "_prevented", "_stopped", "_target", "_type")

    def __init__(
        self,
        type: str,
        options: Mapping[str, object] | None = None,
        /,
        *,
        cancelable: bool = False,
    ) -> None:
        if options is not None:
            cancelable = bool(options.get("cancelable", cancelable))
        self._type = type
        self._cancelable = cancelable
        self._target: EventTarget | None = None
        self._prevented = False
        self._stopped = False

    @property
    def type(self) -> str:
        """The name under which listeners registered."""
        return self._type

    @property
    def target(self) -> EventTarget | None:
        """The object that the event was dispatched to."""
        return self._target

    @property
    def cancelable(self) -> bool:
        """Whether `preventDefault` has an effect."""
        return self._cancelable

    @property
    def defaultPrevented(self) -> bool:
        """Whether a listener called `preventDefault` on a cancelable event."""
        return self._prevented

    def preventDefault(self) -> None:
        """Ask the dispatcher not to go on as usual."""
        self._prevented = self._cancelable

    def stopImmediatePropagation(self) -> None:
        """Keep the listeners that come after this one from being called."""
        self._stopped = True

    default_prevented = defaultPrevented
    prevent_default = preventDefault
    stop_immediate_propagation = stopImmediatePropagation


@attrs.define(eq=False, slots=True)
class _Registration:
    callback: EventListener
    once: bool
    removed: bool = False


# What a target has to which nobody listens, as to most of them: nothing of its own.
_NOBODY: Final[dict[str, list[_Registration]]] = {}


class EventTarget:
    """An object that listeners register with.

    https://dom.spec.whatwg.org/#interface-eventtarget
    """

    __slots__ = ("_listeners",)

    _listeners: dict[str, list[_Registration]]

    def __init__(self) -> None:
        self._listeners = _NOBODY

    def addEventListener(
        self,
        type: str,
        callback: EventListener | None,
        options: Mapping[str, object] | None = None,
        /,
        *,
        once: bool = False,
        signal: Any = None,
    ) -> None:
        """Call `callback(event)` for each event of this type.

        `once` removes the listener after its first call, an aborted `signal`
        (an AbortSignal) when it is aborted. Adding a listener again does
        nothing.
        """
        if options is not None:
            once = bool(options.get("once", once))
            signal = options.get("signal", signal)
        if callback is None or (signal is not None and signal.aborted):
            return
        registered = self._listeners.get(type, [])
        if any(entry.callback == callback for entry in registered):
            return
        registered.append(_Registration(callback, once))
        if len(registered) == 1:
            if self._listeners is _NOBODY:
                self._listeners = {}
            self._listeners[type] = registered
            try:
                self._heard(type)
            except BaseException:
                del self._listeners[type]
                raise
        if signal is not None:
            signal.addEventListener(
                "abort", lambda _: self.removeEventListener(type, callback), once=True
            )

    def removeEventListener(self, type: str, callback: EventListener | None, /) -> None:
        """Undo `addEventListener`; nothing where there is no such listener."""
        registered = self._listeners.get(type, [])
        for entry in registered:
            if entry.callback == callback:
                entry.removed = True
                registered.remove(entry)
                break
        if not registered and self._listeners.pop(type, None) is not None:
            self._unheard(type)

    def _heard(self, type: str) -> None:
        """There is a listener for `type` now; an error that this raises refuses it."""

    def _unheard(self, type: str) -> None:
        """The last listener for `type` has gone."""

    def dispatchEvent(self, event: Event) -> bool:
        """Call the listeners of `event.type` now; False if one prevented it."""
        event._target = self
        for entry in list(self._listeners.get(event.type, ())):
            if event._stopped:
                break
            if entry.removed:
                continue
            if entry.once:
                self.removeEventListener(event.type, entry.callback)
            try:
                _call(entry.callback, event)
            except Exception:
                _log.exception("a listener for %r failed", event.type)
        return not event.defaultPrevented

    add_event_listener = addEventListener
    remove_event_listener = removeEventListener
    dispatch_event = dispatchEvent


def _call(callback: EventListener, event: Event) -> None:
    handler = getattr(callback, "handleEvent", None)
    if handler is None:
        handler = cast("EventHandler", callback)
    handler(event)
