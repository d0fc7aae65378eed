"""The two exceptions of the library, and nothing else.

`SocketError` is the specification's: a TypeError whose message begins with
"SocketError: " (https://sockets-api.proposal.wintertc.org/#socket-error).
`AbortError` stands for the DOMException of that name, for a reason that is
not itself an exception.
"""

from __future__ import annotations

import errno as _errno
from typing import Any, Final, Literal, get_args

__all__ = ["AbortError", "ErrorCode", "SocketError", "as_exception", "os_error"]

ErrorCode = Literal[
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
]

_CODES: Final = frozenset(get_args(ErrorCode))
_PREFIX: Final = "SocketError: "


class SocketError(TypeError):
    """Anything that goes wrong with a socket, its address or its options.

    `code` is one of `ErrorCode`, a closed list of stable words to decide on;
    `errno` the operating system's number where there is one. With the code
    "tls-verify", `certificates` holds what the peer presented, as DER, leaf
    first. The original error, if any, is `__cause__`.
    """

    code: ErrorCode
    errno: int | None
    certificates: tuple[bytes, ...]

    def __init__(
        self, message: str, *, code: ErrorCode, errno: int | None = None
    ) -> None:
        if code not in _CODES:
            raise ValueError(f"{code!r} is not a code of SocketError")
        if not message.startswith(_PREFIX):
            message = _PREFIX + message
        super().__init__(message)
        self.code = code
        self.errno = errno
        self.certificates = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (self.args[0], self.code, self.errno, self.certificates))


def _restore(
    message: str,
    code: ErrorCode,
    errno: int | None,
    certificates: tuple[bytes, ...],
) -> SocketError:
    error = SocketError(message, code=code, errno=errno)
    error.certificates = certificates
    return error


class AbortError(Exception):
    """An operation was aborted for a reason that is not an exception.

    `reason` is the object given to `abort()`, `cancel()` or `close()`.
    """

    reason: object

    def __init__(self, reason: object = None) -> None:
        super().__init__(
            "the operation was aborted"
            if reason is None
            else f"the operation was aborted: {reason!r}"
        )
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (AbortError, (self.reason,))


def as_exception(reason: object) -> Exception:
    """`reason` itself where it can be raised, else an `AbortError` round it.

    An event loop's Cancelled, a KeyboardInterrupt and their like mean something
    where they were raised and nowhere else, so they go inside as well.
    """
    return reason if isinstance(reason, Exception) else AbortError(reason)


_OS_CODES: Final[dict[int, ErrorCode]] = {
    _errno.ECONNREFUSED: "refused",
    _errno.ENOENT: "refused",
    _errno.ECONNRESET: "reset",
    _errno.ECONNABORTED: "reset",
    _errno.EPIPE: "reset",
    _errno.ENOTCONN: "reset",
    _errno.EHOSTUNREACH: "unreachable",
    _errno.ENETUNREACH: "unreachable",
    _errno.EADDRNOTAVAIL: "unreachable",
    _errno.EHOSTDOWN: "unreachable",
    _errno.ENETDOWN: "unreachable",
    _errno.EAFNOSUPPORT: "unreachable",
    _errno.ETIMEDOUT: "timeout",
}


def os_error(doing: str, cause: OSError) -> SocketError:
    """The SocketError for an OSError met while `doing` ("connect to [::1]:80")."""
    text = cause.strerror or str(cause) or type(cause).__name__
    error = SocketError(
        f"could not {doing}: {text}",
        code=_OS_CODES.get(cause.errno or 0, "os"),
        errno=cause.errno,
    )
    error.__cause__ = cause.with_traceback(None)
    return error
