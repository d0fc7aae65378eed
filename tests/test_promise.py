from __future__ import annotations

import traceback
from collections.abc import Callable

import pytest
import trio

from tests import loops
from wsockets import Promise
from wsockets.promise import fulfilled, rejected
from wsockets.runtime import current

pytestmark = pytest.mark.every_loop


class Boom(Exception):
    pass


def pending() -> Promise[int]:
    return Promise(current())


async def test_awaiting_a_promise_gives_its_value_to_every_awaiter_every_time() -> None:
    promise = pending()
    got: list[int] = []

    async def reader() -> None:
        got.append(await promise)
        got.append(await promise)

    async with loops.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(reader)
        await loops.settle()
        promise._fulfil(7)
    assert got == [7] * 6


async def test_a_rejected_promise_raises_the_same_object_with_the_same_traceback() -> (
    None
):
    promise = pending()
    error = Boom("once")
    promise._reject(error)
    lengths = set()
    for _ in range(5):
        with pytest.raises(Boom) as caught:
            await promise
        assert caught.value is error
        lengths.add(len(traceback.extract_tb(error.__traceback__)))
    assert len(lengths) == 1


async def test_the_first_settling_counts() -> None:
    promise = pending()
    promise._fulfil(1)
    promise._fulfil(2)
    promise._reject(Boom())
    assert await promise == 1


async def test_a_cancelled_awaiter_only_detaches() -> None:
    promise = pending()
    with loops.move_on_after(0) as scope:
        await promise
    assert scope.cancelled_caught
    promise._fulfil(5)
    assert await promise == 5


async def test_awaiting_a_settled_promise_is_a_checkpoint() -> None:
    promise = fulfilled(current(), 1)
    with loops.assert_checkpoints():
        await promise
    if loops.on_trio():
        with trio.CancelScope() as scope:
            scope.cancel()
            await promise
        assert scope.cancelled_caught


async def test_wait_is_a_coroutine_for_nurseries() -> None:
    promise = pending()
    async with loops.open_nursery() as nursery:
        nursery.start_soon(promise.wait)
        promise._fulfil(3)


def test_awaiting_from_another_event_loop_is_an_error() -> None:
    async def make() -> Promise[int]:
        return fulfilled(current(), 1)

    promise = trio.run(make)
    with pytest.raises(RuntimeError, match="another event loop"):
        trio.run(promise.wait)
    with pytest.raises(RuntimeError, match="another event loop"):
        promise.wait().send(None)


async def test_then_passes_on_what_the_callback_returns() -> None:
    promise = pending()
    derived = promise.then(lambda value: value + 1)
    promise._fulfil(1)
    assert await derived == 2
    assert await promise.then(lambda value: value * 10) == 10


async def test_then_without_a_callback_passes_the_result_on() -> None:
    assert await fulfilled(current(), 4).then() == 4
    with pytest.raises(Boom):
        await rejected(current(), Boom()).then(lambda value: value)


async def test_catch_turns_an_error_into_a_value() -> None:
    error = Boom()
    assert await rejected(current(), error).catch(lambda caught: caught) is error
    assert await fulfilled(current(), 4).catch(lambda caught: 0) == 4


async def test_a_callback_may_be_an_async_function_or_return_a_promise() -> None:
    async def later(value: int) -> int:
        await loops.checkpoint()
        return value + 1

    start = fulfilled(current(), 1)
    assert await start.then(later) == 2
    assert await start.then(lambda value: fulfilled(current(), value + 2)) == 3

    async def fail(value: int) -> int:
        raise Boom(value)

    with pytest.raises(Boom):
        await start.then(fail)
    with pytest.raises(Boom):
        await start.then(lambda _: rejected(current(), Boom()))


async def test_a_callback_that_raises_rejects_the_derived_promise() -> None:
    def fail(_: object) -> None:
        raise Boom("from the callback")

    with pytest.raises(Boom, match="from the callback"):
        await fulfilled(current(), 1).then(fail)


async def test_callbacks_run_later_and_in_order() -> None:
    order: list[str] = []

    def note(text: str) -> Callable[[object], None]:
        return lambda _: order.append(text)

    first, second = pending(), pending()
    last = second.then(note("second"))
    first.then(note("first"))
    first.then(note("first again"))
    first._fulfil(1)
    second._fulfil(2)
    first.then(note("settled already"))
    order.append("settled")
    await last
    await loops.settle()
    assert order == ["settled", "first", "first again", "second", "settled already"]


async def test_finally_runs_for_both_and_passes_the_result_on() -> None:
    runs: list[str] = []
    kept = fulfilled(current(), 1).finally_(lambda: runs.append("value"))
    assert await kept == 1
    with pytest.raises(Boom):
        await rejected(current(), Boom()).finally_(lambda: runs.append("error"))
    assert runs == ["value", "error"]


async def test_an_error_in_finally_takes_the_place_of_the_result() -> None:
    async def fail() -> None:
        raise Boom("finally")

    with pytest.raises(Boom, match="finally"):
        await fulfilled(current(), 1).finally_(fail)


async def test_resolve_and_reject_make_settled_promises() -> None:
    promise = Promise.resolve(3)
    assert await promise == 3
    assert Promise.resolve(promise) is promise
    with pytest.raises(Boom):
        await Promise.reject(Boom())


async def test_a_promise_cannot_wait_for_itself() -> None:
    derived: Promise[object] = fulfilled(current(), 1).then(lambda _: derived)
    with pytest.raises(TypeError, match="itself"):
        await derived


async def test_even_SystemExit_in_a_callback_only_rejects() -> None:
    async def leave(_: object) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        await fulfilled(current(), 1).then(leave)


async def test_raising_one_error_from_many_promises_grows_no_traceback() -> None:
    error = Boom()
    promise = rejected(current(), error)
    lengths = set()
    for _ in range(5):
        with pytest.raises(Boom):
            await promise.then()
        lengths.add(len(traceback.extract_tb(error.__traceback__)))
    assert len(lengths) == 1


async def test_an_ignored_rejection_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rejected(current(), Boom())
    await loops.settle()
    assert not caplog.records


async def test_its_repr_tells_the_state_and_nothing_else() -> None:
    promise = pending()
    assert repr(promise) == "<Promise pending>"
    promise._fulfil(1)
    assert repr(promise) == "<Promise fulfilled>"
    assert repr(rejected(current(), Boom())) == "<Promise rejected>"
