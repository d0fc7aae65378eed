from __future__ import annotations

import errno
import os

import pytest

from wsockets.dial.failures import Failure, at, combined, connect_failure
from wsockets.errors import ErrorCode, SocketError


def failed(where: str, number: int) -> Failure:
    return connect_failure(where, OSError(number, os.strerror(number)))


def refused_by_policy(where: str) -> Failure:
    return Failure(where, "refused by the policy", SocketError("no", code="policy"))


def test_ipv6_addresses_are_written_in_brackets() -> None:
    assert at("127.0.0.1", 80) == "127.0.0.1:80"
    assert at("::1", 80) == "[::1]:80"


def test_the_only_attempt_at_the_address_asked_for_is_its_own_error() -> None:
    failure = failed("127.0.0.1:80", errno.ECONNREFUSED)
    assert combined("127.0.0.1:80", [failure]) is failure.error
    assert str(failure.error) == (
        "SocketError: could not connect to 127.0.0.1:80: Connection refused"
    )
    assert failure.error.code == "refused"
    assert failure.error.errno == errno.ECONNREFUSED
    assert isinstance(failure.error.__cause__, ConnectionRefusedError)


def test_the_only_address_of_a_name_is_told_with_its_reason_and_cause() -> None:
    error = combined("a.example:80", [failed("127.0.0.1:80", errno.ECONNREFUSED)])
    assert str(error) == (
        "SocketError: could not connect to a.example:80: 127.0.0.1:80: "
        "Connection refused"
    )
    assert isinstance(error.__cause__, ConnectionRefusedError)


def test_an_oserror_without_a_number_is_told_by_its_text() -> None:
    assert connect_failure("unix:/x", OSError("path too long")).why == "path too long"
    assert connect_failure("unix:/x", OSError()).why == "OSError"


def test_all_attempts_are_listed_and_grouped() -> None:
    error = combined(
        "a.example:80",
        [failed("[::1]:80", errno.ENETUNREACH), refused_by_policy("10.0.0.1:80")],
    )
    assert "[::1]:80: Network is unreachable" in str(error)
    assert "10.0.0.1:80: refused by the policy" in str(error)
    group = error.__cause__
    assert isinstance(group, ExceptionGroup)
    codes = [each.code for each in group.exceptions if isinstance(each, SocketError)]
    assert codes == ["unreachable", "policy"]


def test_a_long_list_of_attempts_is_cut_short_in_the_message() -> None:
    failures = [failed(f"10.0.0.{last}:80", errno.ETIMEDOUT) for last in range(64)]
    error = combined("a.example:80", failures)
    assert "10.0.0.7:80" in str(error)
    assert "10.0.0.8:80" not in str(error)
    assert str(error).endswith("and 56 more")
    assert isinstance(error.__cause__, ExceptionGroup)
    assert len(error.__cause__.exceptions) == 64


@pytest.mark.parametrize(
    ("numbers", "code"),
    [
        ([errno.ENETUNREACH, errno.ECONNREFUSED], "refused"),
        ([errno.ETIMEDOUT, errno.ECONNREFUSED], "refused"),
        ([errno.ECONNRESET, errno.ETIMEDOUT], "reset"),
        ([errno.ENETUNREACH, errno.ETIMEDOUT], "timeout"),
        ([errno.ENETUNREACH, errno.EACCES], "os"),
        ([errno.ENETUNREACH, errno.EHOSTUNREACH], "unreachable"),
    ],
)
def test_the_most_telling_failure_gives_code_and_errno(
    numbers: list[int], code: ErrorCode
) -> None:
    for order in (numbers, numbers[::-1]):
        failures = [failed("10.0.0.1:80", number) for number in order]
        error = combined("a.example:80", [refused_by_policy("10.0.0.2:80"), *failures])
        assert error.code == code
        assert error.errno in numbers


def test_the_code_is_policy_only_if_the_policy_refused_every_address() -> None:
    refused = [refused_by_policy("10.0.0.1:80"), refused_by_policy("10.0.0.2:80")]
    assert combined("a.example:80", refused).code == "policy"
    mixed = [*refused, failed("10.0.0.3:80", errno.ENETUNREACH)]
    assert combined("a.example:80", mixed).code == "unreachable"
