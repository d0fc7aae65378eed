"""The two exceptions and how the operating system's errors become them."""

from __future__ import annotations

import copy
import errno
import pickle
import socket
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from wsockets.errors import (
    AbortError,
    ErrorCode,
    SocketError,
    as_exception,
    os_error,
)

CODES = {
    "address",
    "option",
    "state",
    "refused",
    "unreachable",
    "dns",
    "timeout",
    "policy",
    "proxy",
    "tls",
    "tls-verify",
    "tls-alert",
    "alpn",
    "truncated",
    "reset",
    "closed",
    "os",
}


def test_the_list_of_codes_is_closed() -> None:
    assert set(get_args(ErrorCode)) == CODES


@pytest.mark.parametrize("code", get_args(ErrorCode))
def test_every_code_makes_an_error_that_is_a_type_error(code: ErrorCode) -> None:
    error = SocketError("something", code=code)
    assert isinstance(error, TypeError)
    assert error.code == code


def test_a_code_outside_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match="'nonsense' is not a code"):
        SocketError("x", code="nonsense")  # type: ignore[arg-type]


def test_the_code_has_to_be_given() -> None:
    with pytest.raises(TypeError, match="code"):
        SocketError("x")  # type: ignore[call-arg]


def test_the_message_begins_with_the_specifications_word() -> None:
    assert str(SocketError("no route", code="os")) == "SocketError: no route"


def test_the_word_is_not_put_in_front_twice() -> None:
    error = SocketError("SocketError: no route", code="os")
    assert str(error) == "SocketError: no route"


def test_without_more_an_error_has_no_number_and_no_certificates() -> None:
    error = SocketError("x", code="os")
    assert error.errno is None
    assert error.certificates == ()


def test_the_number_of_the_operating_system_is_kept() -> None:
    error = SocketError("x", code="reset", errno=errno.ECONNRESET)
    assert error.errno == errno.ECONNRESET


def pickled(error: SocketError) -> SocketError:
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, SocketError)
    return again


@pytest.mark.parametrize("again", [copy.copy, pickled])
def test_a_copied_or_pickled_socket_error_is_the_same(
    again: Callable[[SocketError], SocketError],
) -> None:
    error = again(SocketError("no route", code="unreachable", errno=113))
    assert type(error) is SocketError
    assert (str(error), error.code, error.errno) == (
        "SocketError: no route",
        "unreachable",
        113,
    )


def test_an_abort_error_carries_its_reason() -> None:
    reason = object()
    error = AbortError(reason)
    assert error.reason is reason
    assert repr(reason) in str(error)
    assert not isinstance(error, SocketError)


def test_an_abort_error_needs_no_reason() -> None:
    error = AbortError()
    assert error.reason is None
    assert str(error) == "the operation was aborted"


def test_a_pickled_abort_error_keeps_its_reason() -> None:
    error = pickle.loads(pickle.dumps(AbortError({"why": 1})))
    assert type(error) is AbortError
    assert error.reason == {"why": 1}
    assert str(error) == "the operation was aborted: {'why': 1}"


@pytest.mark.parametrize("reason", [ValueError("x"), OSError()])
def test_an_exception_as_the_reason_stays_itself(reason: BaseException) -> None:
    assert as_exception(reason) is reason


@pytest.mark.parametrize("reason", [None, "because", 0, ValueError, SystemExit()])
def test_any_other_reason_is_wrapped(reason: object) -> None:
    error = as_exception(reason)
    assert isinstance(error, AbortError)
    assert error.reason is reason


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ECONNREFUSED, "refused"),
        (errno.ENOENT, "refused"),
        (errno.ECONNRESET, "reset"),
        (errno.ECONNABORTED, "reset"),
        (errno.EPIPE, "reset"),
        (errno.ENOTCONN, "reset"),
        (errno.EHOSTUNREACH, "unreachable"),
        (errno.ENETUNREACH, "unreachable"),
        (errno.EADDRNOTAVAIL, "unreachable"),
        (errno.EHOSTDOWN, "unreachable"),
        (errno.ENETDOWN, "unreachable"),
        (errno.ETIMEDOUT, "timeout"),
        (errno.EMFILE, "os"),
        (errno.EACCES, "os"),
    ],
)
def test_an_errno_decides_the_code(number: int, code: str) -> None:
    error = os_error("connect to [::1]:80", OSError(number, "text of it"))
    assert str(error) == "SocketError: could not connect to [::1]:80: text of it"
    assert error.code == code
    assert error.errno == number


def test_an_error_of_the_operating_system_is_the_cause_without_its_traceback(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        with pytest.raises(FileNotFoundError) as caught:
            sock.connect(str(tmp_path / "absent"))
        assert caught.value.__traceback__ is not None
        error = os_error("connect", caught.value)
    assert error.__cause__ is caught.value
    assert caught.value.__traceback__ is None
    assert error.code == "refused"


def test_an_error_of_the_resolver_keeps_its_text() -> None:
    error = os_error("resolve x", socket.gaierror(socket.EAI_NONAME, "unknown name"))
    assert str(error).endswith("could not resolve x: unknown name")
    assert error.code == "os"


@pytest.mark.parametrize(
    ("cause", "text"), [(OSError("odd"), "odd"), (OSError(), "OSError")]
)
def test_an_os_error_without_a_number_has_the_general_code(
    cause: OSError, text: str
) -> None:
    error = os_error("go on", cause)
    assert str(error) == f"SocketError: could not go on: {text}"
    assert (error.code, error.errno) == ("os", None)
