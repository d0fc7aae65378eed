"""wsockets.bridge.engines and its trial: which engine serves, and what is said."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator

import pytest

from tests.bridge.harness import joined, lend, sink_of
from wsockets import SocketError
from wsockets.bridge import _native, engines, native, trial
from wsockets.bridge.engines import make_pump
from wsockets.bridge.sink import open_sink
from wsockets.bridge.trial import TrialError, try_native
from wsockets.bridge.work import End, Work
from wsockets.connection import TlsConnection
from wsockets.runtime import current
from wsockets.runtime.gate import Want

pytestmark = pytest.mark.every_loop

NOTHING = Work(End(-1, -1), End(-1, -1))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has not bridged anything yet."""
    monkeypatch.delenv("WSOCKETS_BRIDGE_ENGINE", raising=False)
    engines._lasting_problem.cache_clear()
    yield
    engines._lasting_problem.cache_clear()


async def chosen(**members: object) -> str:
    """The engine that serves a TLS connection, which it is shown to do."""
    async with joined("tls") as (connection, peer):
        with sink_of("unix") as (given, other):
            sink = open_sink(given, reading=True, writing=True)
            work = Work(lend(connection), sink.end, **members)  # type: ignore[arg-type]
            pump, name = make_pump(current(), work, lambda: None)
            pump.start()
            await peer.send(b"x")
            assert (await other.receive())[-1:] == b"x"
            pump.abandon()
            sink.restore()
            return name


async def test_the_native_engine_serves_where_it_works() -> None:
    assert await chosen() == "native"


@pytest.mark.parametrize("wanted", ["native", "python"])
async def test_the_choice_can_be_taken_away(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv("WSOCKETS_BRIDGE_ENGINE", wanted)
    assert await chosen() == wanted


async def test_a_choice_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WSOCKETS_BRIDGE_ENGINE", "rust")
    with pytest.raises(SocketError, match="it must be 'native' or 'python'") as caught:
        make_pump(current(), NOTHING, lambda: None)
    assert caught.value.code == "option"


async def test_python_serves_what_the_native_engine_has_no_room_for() -> None:
    assert await chosen(mtu=70000) == "python"


async def test_python_serves_where_nothing_was_built(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wsockets.bridge.native", None)
    monkeypatch.delattr("wsockets.bridge.native")
    with caplog.at_level(logging.INFO, "wsockets"):
        assert await chosen() == "python"
        assert await chosen() == "python"
    (record,) = caplog.records
    assert "served by Python, not by native code: " in record.getMessage()


async def test_a_native_engine_that_was_demanded_and_is_missing_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wsockets.bridge.native", None)
    monkeypatch.delattr("wsockets.bridge.native")
    monkeypatch.setenv("WSOCKETS_BRIDGE_ENGINE", "native")
    with pytest.raises(SocketError, match="make native") as caught:
        make_pump(current(), NOTHING, lambda: None)
    assert caught.value.code == "state"
    assert isinstance(caught.value.__cause__, ImportError)


async def test_python_serves_where_a_function_of_openssl_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_native, "FUNCTIONS", (*_native.FUNCTIONS, "SSL_no_such"))
    with caplog.at_level(logging.INFO, "wsockets"):
        assert await chosen() == "python"
    assert "SSL_no_such" in caplog.text


async def test_what_may_pass_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left() -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch, caplog.at_level(logging.INFO, "wsockets"):
        patch.setattr(trial, "try_native", none_left)
        assert await chosen() == "python"
    assert "Too many open files" in caplog.text
    assert await chosen() == "native"


# -- the trial


def test_the_trial_costs_little() -> None:
    native.configure()
    try_native()
    begun = time.thread_time()
    try_native()
    assert time.thread_time() - begun < 0.02


def failing(expected: str) -> None:
    native.configure()
    with pytest.raises(TrialError, match=expected):
        try_native()


def test_other_bytes_than_were_sent_fail_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = TlsConnection.receive

    def receive(self: TlsConnection, limit: int, /) -> bytes | Want:
        data = real(self, limit)
        return data if isinstance(data, Want) else data[:-1] + b"?"

    monkeypatch.setattr(TlsConnection, "receive", receive)
    failing("others came out")


def test_an_end_that_comes_early_fails_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TlsConnection, "receive", lambda self, limit: b"")
    failing("others came out")


def test_silence_fails_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PATIENCE", 0.01)
    monkeypatch.setattr(TlsConnection, "receive", lambda self, limit: Want.READ)
    monkeypatch.setattr(TlsConnection, "send", lambda self, data: len(data))
    failing("nothing happens")


def test_a_kernel_that_takes_nothing_fails_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TlsConnection, "send", lambda self, data: Want.WRITE)
    failing("no room")


def test_a_handshake_without_progress_fails_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TlsConnection, "handshake", lambda self: Want.READ)
    failing("no progress")


def test_another_end_than_was_asked_for_fails_the_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "_STOPPED", 0)
    failing("it ended with")
