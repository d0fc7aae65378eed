from __future__ import annotations

import pytest

from wsockets import AbortController, Event, EventTarget


def collect() -> tuple[list[Event], EventTarget]:
    return [], EventTarget()


def test_a_listener_is_called_with_the_event_and_its_target() -> None:
    got, target = collect()
    target.addEventListener("news", got.append)
    event = Event("news")
    assert event.target is None
    assert target.dispatchEvent(event)
    assert got == [event]
    assert event.target is target
    assert event.type == "news"


def test_adding_a_listener_twice_does_nothing() -> None:
    got, target = collect()
    target.addEventListener("news", got.append)
    target.add_event_listener("news", got.append)
    target.dispatchEvent(Event("news"))
    assert len(got) == 1


def test_a_listener_for_another_type_is_not_called() -> None:
    got, target = collect()
    target.addEventListener("other", got.append)
    target.dispatchEvent(Event("news"))
    assert not got


def test_a_removed_listener_is_not_called_even_during_the_dispatch() -> None:
    got, target = collect()

    def first(_: Event) -> None:
        target.removeEventListener("news", got.append)

    target.addEventListener("news", first)
    target.addEventListener("news", got.append)
    target.dispatchEvent(Event("news"))
    assert not got
    target.remove_event_listener("news", first)
    target.removeEventListener("news", first)
    target.dispatch_event(Event("news"))


def test_once_is_called_once() -> None:
    got, target = collect()
    target.addEventListener("news", got.append, once=True)
    target.addEventListener("more", got.append, {"once": True})
    for name in ("news", "news", "more", "more"):
        target.dispatchEvent(Event(name))
    assert [event.type for event in got] == ["news", "more"]


def test_an_aborted_signal_removes_the_listener() -> None:
    got, target = collect()
    controller = AbortController()
    target.addEventListener("news", got.append, signal=controller.signal)
    target.dispatchEvent(Event("news"))
    controller.abort()
    target.dispatchEvent(Event("news"))
    target.addEventListener("news", got.append, {"signal": controller.signal})
    target.dispatchEvent(Event("news"))
    assert len(got) == 1


def test_an_object_with_handleEvent_listens() -> None:
    class Listener:
        def __init__(self) -> None:
            self.got: list[Event] = []

        def handleEvent(self, event: Event) -> None:
            self.got.append(event)

    listener, target = Listener(), EventTarget()
    target.addEventListener("news", listener)
    target.dispatchEvent(Event("news"))
    assert len(listener.got) == 1


def test_no_listener_at_all_is_accepted() -> None:
    target = EventTarget()
    target.addEventListener("news", None)
    assert target.dispatchEvent(Event("news"))


def test_preventing_the_default_is_for_cancelable_events() -> None:
    target = EventTarget()
    target.addEventListener("news", lambda event: event.preventDefault())
    event = Event("news", cancelable=True)
    assert event.cancelable
    assert not target.dispatchEvent(event)
    assert event.defaultPrevented
    assert event.default_prevented
    assert target.dispatchEvent(Event("news"))


def test_stopping_keeps_later_listeners_from_being_called() -> None:
    got, target = collect()
    target.addEventListener("news", lambda event: event.stopImmediatePropagation())
    target.addEventListener("news", got.append)
    target.dispatchEvent(Event("news"))
    assert not got


def test_what_a_listener_raises_is_logged_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    got, target = collect()

    def fail(_: Event) -> None:
        raise ValueError("oops")

    target.addEventListener("news", fail)
    target.addEventListener("news", got.append)
    target.dispatchEvent(Event("news"))
    assert len(got) == 1
    assert "a listener for 'news' failed" in caplog.text
