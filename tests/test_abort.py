from __future__ import annotations

import gc
import weakref

import pytest

from tests import loops
from wsockets import AbortController, AbortError, AbortSignal, Event

pytestmark = pytest.mark.every_loop


def test_aborting_tells_every_listener_once() -> None:
    controller = AbortController()
    signal = controller.signal
    got: list[Event] = []
    signal.addEventListener("abort", got.append)
    signal.add_event_listener("abort", got.append)
    assert not signal.aborted
    controller.abort("enough")
    controller.abort("again")
    assert signal.aborted
    assert signal.reason == "enough"
    assert len(got) == 1
    assert got[0].target is signal


def test_the_reason_is_an_AbortError_where_none_is_given() -> None:
    controller = AbortController()
    controller.abort()
    assert isinstance(controller.signal.reason, AbortError)
    with pytest.raises(AbortError):
        controller.signal.throwIfAborted()


def test_an_exception_as_reason_is_raised_as_it_is() -> None:
    error = KeyError("x")
    with pytest.raises(KeyError) as caught:
        AbortSignal.abort(error).throw_if_aborted()
    assert caught.value is error


def test_any_other_reason_is_raised_inside_an_AbortError() -> None:
    with pytest.raises(AbortError) as caught:
        AbortSignal.abort("why").throwIfAborted()
    assert caught.value.reason == "why"
    AbortController().signal.throwIfAborted()


def test_onabort_is_called_like_a_listener() -> None:
    controller = AbortController()
    got: list[Event] = []
    assert controller.signal.onabort is None
    controller.signal.onabort = got.append
    assert controller.signal.onabort == got.append
    controller.abort()
    assert len(got) == 1


async def test_a_timeout_aborts_with_a_TimeoutError() -> None:
    signal = AbortSignal.timeout(1)
    aborted = loops.Event()
    signal.addEventListener("abort", lambda _: aborted.set())
    with loops.fail_after(5):
        await aborted.wait()
    assert isinstance(signal.reason, TimeoutError)


async def test_a_timeout_that_nobody_holds_ends_silently() -> None:
    AbortSignal.timeout(0)
    gc.collect()
    await loops.settle(0.01)


@pytest.mark.parametrize("bad", [-1, float("inf"), float("nan")])
def test_a_timeout_is_finite_and_not_negative(bad: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        AbortSignal.timeout(bad)


@pytest.mark.parametrize("bad", ["1", None, True])
def test_a_timeout_is_a_number(bad: object) -> None:
    with pytest.raises(TypeError, match="number"):
        AbortSignal.timeout(bad)  # type: ignore[arg-type]


def test_any_follows_the_first_to_be_aborted() -> None:
    one, two = AbortController(), AbortController()
    both = AbortSignal.any([one.signal, two.signal])
    assert not both.aborted
    two.abort("two")
    one.abort("one")
    assert both.reason == "two"


def test_any_of_an_aborted_signal_is_aborted() -> None:
    assert AbortSignal.any([AbortSignal.abort("x")]).reason == "x"
    assert not AbortSignal.any([]).aborted
    with pytest.raises(TypeError, match="AbortSignals"):
        AbortSignal.any([object()])  # type: ignore[list-item]


def test_a_combined_signal_without_listeners_is_not_kept_alive() -> None:
    source = AbortController()
    combined = weakref.ref(AbortSignal.any([source.signal]))
    gc.collect()
    assert combined() is None


def test_a_combined_signal_with_a_listener_is() -> None:
    source = AbortController()
    got: list[Event] = []
    AbortSignal.any([AbortSignal.any([source.signal])]).addEventListener(
        "abort", got.append
    )
    handled: list[Event] = []
    AbortSignal.any([source.signal]).onabort = handled.append
    gc.collect()
    source.abort()
    assert len(got) == 1
    assert len(handled) == 1


def test_errors_of_this_kind_survive_pickling() -> None:
    import pickle

    copy = pickle.loads(pickle.dumps(AbortError("why")))
    assert copy.reason == "why"
