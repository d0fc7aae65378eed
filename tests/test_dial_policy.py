from __future__ import annotations

import pytest

from wsockets.dial.policy import judge


def asked(answer: object) -> list[tuple[str, str, int]]:
    """What a policy that answers `answer` was asked, once it has allowed."""
    calls: list[tuple[str, str, int]] = []

    def policy(host: str, address: str, port: int) -> object:
        calls.append((host, address, port))
        return answer

    failure = judge(policy, "a.example", "192.0.2.1", 80, "192.0.2.1:80")
    assert failure is None
    return calls


def test_without_a_policy_everything_may_be_dialled() -> None:
    assert judge(None, "a.example", "127.0.0.1", 80, "127.0.0.1:80") is None


@pytest.mark.parametrize("answer", [True, None, 0, "", [], 1, "no"])
def test_a_policy_allows_with_whatever_is_not_false(answer: object) -> None:
    assert asked(answer) == [("a.example", "192.0.2.1", 80)]


def test_false_refuses() -> None:
    failure = judge(lambda *_: False, "a.example", "192.0.2.1", 80, "192.0.2.1:80")
    assert failure is not None
    assert failure.error.code == "policy"
    assert str(failure.error) == (
        "SocketError: the policy refused 192.0.2.1:80 for 'a.example': "
        "it is not allowed"
    )
    assert failure.error.__cause__ is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PermissionError("not that one"), "not that one"),
        (ZeroDivisionError(), "ZeroDivisionError"),
    ],
)
def test_an_exception_refuses_and_is_the_cause(error: Exception, text: str) -> None:
    def policy(host: str, address: str, port: int) -> object:
        raise error

    failure = judge(policy, "192.0.2.1", "192.0.2.1", 80, "192.0.2.1:80")
    assert failure is not None
    assert failure.error.code == "policy"
    assert failure.error.__cause__ is error
    assert failure.error.__cause__.__traceback__ is None
    assert failure.why == f"refused by the policy: {text}"
    assert str(failure.error) == (
        f"SocketError: the policy refused 192.0.2.1:80: {text}"
    )


def test_a_talkative_policy_is_cut_short() -> None:
    def policy(host: str, address: str, port: int) -> object:
        raise PermissionError("x" * 10_000)

    failure = judge(policy, "192.0.2.1", "192.0.2.1", 80, "192.0.2.1:80")
    assert failure is not None
    assert len(str(failure.error)) < 300


def test_an_async_policy_has_not_answered_and_refuses() -> None:
    async def policy(host: str, address: str, port: int) -> object:
        return True

    failure = judge(policy, "a.example", "192.0.2.1", 80, "192.0.2.1:80")
    assert failure is not None
    assert failure.error.code == "policy"
    assert isinstance(failure.error.__cause__, TypeError)


def test_an_awaitable_of_another_kind_refuses_too() -> None:
    class Later:
        def __await__(self) -> object:
            raise AssertionError

    failure = judge(lambda *_: Later(), "a.example", "192.0.2.1", 80, "192.0.2.1:80")
    assert failure is not None
    assert failure.error.code == "policy"


def test_what_is_not_an_answer_but_an_interruption_passes_through() -> None:
    def policy(host: str, address: str, port: int) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge(policy, "a.example", "192.0.2.1", 80, "192.0.2.1:80")
