"""Failures in words: from OpenSSL's error queue to a SocketError.

OpenSSL says what happened in short texts, which pyOpenSSL passes on; `_REASONS`
and `_ALERTS` hold those that deserve a better one. What our own callbacks refused
is known exactly, from the `Handshake`.
"""

from __future__ import annotations

import os
import re
from typing import Final

from OpenSSL import SSL

from ..errors import ErrorCode, SocketError, os_error
from .handshake import Handshake, handshake_of

__all__ = ["tls_error"]

# The alerts of RFC 8446, section 6, and those of RFC 5246 and RFC 6066, as OpenSSL
# spells them in a reason ("tlsv1 alert unknown ca"), behind a varying first word.
_RECEIVED: Final = re.compile(r"(?:sslv3|tlsv1|tlsv13|tls|ssl/tls) (?:alert )?(.+)")
_ALERTS: Final = {
    "access denied": "",
    "bad certificate": "it does not accept our certificate",
    "bad certificate hash value": "",
    "bad certificate status response": "",
    "bad record mac": "",
    "certificate expired": "our certificate has expired",
    "certificate required": "it wants a certificate of ours; see cert",
    "certificate revoked": "our certificate has been revoked",
    "certificate unknown": "it does not accept our certificate",
    "certificate unobtainable": "",
    "decode error": "",
    "decompression failure": "",
    "decrypt error": "a signature or key did not match",
    "decryption failed": "",
    "export restriction": "",
    "handshake failure": "there is no cipher suite, group or signature in common, or "
    "it wants a certificate of ours",
    "illegal parameter": "",
    "inappropriate fallback": "",
    "insufficient security": "",
    "internal error": "",
    "missing extension": "",
    "no application protocol": "it speaks none of the protocols of alpn",
    "no certificate": "",
    "no renegotiation": "",
    "protocol version": "there is no TLS version in common; see minVersion, maxVersion",
    "record overflow": "",
    "unexpected message": "",
    "unknown ca": "it does not trust the issuer of our certificate",
    "unknown psk identity": "it does not know the identity of psk",
    "unrecognized name": "it does not know the server name",
    "unsupported certificate": "it does not accept our certificate's kind",
    "unsupported extension": "",
    "user cancelled": "",
}
_SPELLED: Final = {"user cancelled": "user_canceled"}

_NOT_TLS: Final = "the peer does not speak TLS here"
_REASONS: Final = {
    "wrong version number": _NOT_TLS,
    "http request": f"{_NOT_TLS}: it sent a plaintext HTTP request",
    "https proxy request": f"{_NOT_TLS}: it sent a plaintext HTTP CONNECT request",
    "unknown protocol": f"{_NOT_TLS}, or only a version that is long obsolete",
    "packet length too long": f"{_NOT_TLS}, or sent a damaged record",
    "unsupported protocol": "there is no TLS version in common; see minVersion, "
    "maxVersion and the security level in ciphers",
    "no shared cipher": "there is no cipher suite in common that the certificate or "
    "psk allows",
    "no protocols available": "no TLS version is left by minVersion and maxVersion",
    "no ciphers available": "no cipher suite is left by ciphers and the TLS versions",
    "inappropriate fallback": "the TLS version was downgraded on the way",
    "unsafe legacy renegotiation disabled": "the peer lacks secure renegotiation, "
    "RFC 5746",
    "decryption failed or bad record mac": "a record was damaged, or a key is wrong",
    "binder does not verify": "the keys of psk differ",
    "psk identity not found": "psk gave no key",
    "data between ccs and finished": "the peer sent data too early",
    "application data in handshake": "the peer sent data too early",
}


def tls_error(
    doing: str, error: BaseException, connection: SSL.Connection
) -> SocketError:
    """The SocketError for an exception met while `doing` ("send to …") with TLS.

    Its codes: "tls-verify" (we refused the peer's certificate; `certificates` has
    what was presented), "tls-alert" (the peer refused, by a named alert), "alpn" (a
    server found no protocol in common), "truncated" (the end without close_notify),
    "closed" (the end with it, too early), "reset" and whatever else the operating
    system has to say, "tls" for everything else. `error` becomes the `__cause__`.
    """
    if isinstance(error, SocketError):
        return error
    if isinstance(error, OSError):
        return os_error(doing, error)
    failure = _describe(doing, error, handshake_of(connection))
    if failure.__cause__ is None:
        failure.__cause__ = error.with_traceback(None)
    return failure


def _describe(doing: str, error: BaseException, handshake: Handshake) -> SocketError:
    def failure(text: str, code: ErrorCode) -> SocketError:
        return SocketError(f"could not {doing}: {text}", code=code)

    if isinstance(error, SSL.Error):
        if handshake.failure is not None:
            refused = handshake.failure
            result = failure(
                f"the certificate of {_peer(handshake)} is refused: {refused.reason}",
                "tls-verify",
            )
            result.certificates = refused.certificates
            result.__cause__ = refused.cause
            return result
        if handshake.no_protocol is not None:
            return failure(
                f"there is no protocol in common: {handshake.no_protocol}", "alpn"
            )
        if handshake.problem is not None:
            result = failure(handshake.problem.reason, "tls")
            result.__cause__ = handshake.problem.cause
            return result
        if handshake.alpn and "bad extension" in _reasons(error):
            # OpenSSL says no more; it is what it says of a wrong protocol.
            return failure(
                "the peer answered with a protocol that was not offered, or with a "
                "malformed extension (bad extension)",
                "alpn",
            )
    if isinstance(error, SSL.SysCallError):
        return _system(doing, error, handshake)
    if isinstance(error, SSL.ZeroReturnError):
        return failure("the peer has closed the connection", "closed")
    if isinstance(error, SSL.Error):
        return failure(*_queue(error))
    return failure(f"unexpectedly, {type(error).__name__}", "tls")


def _peer(handshake: Handshake) -> str:
    if handshake.role == "server":
        return "the client"
    return handshake.names.verify_name or "the peer"


def _system(doing: str, error: SSL.SysCallError, handshake: Handshake) -> SocketError:
    number = error.args[0] if error.args else -1
    if number > 0:
        result = os_error(doing, OSError(number, os.strerror(number)))
        result.__cause__ = error.with_traceback(None)
        return result
    if handshake.finished:
        text = "the peer ended the connection without close_notify: data may be missing"
    else:
        text = "the peer ended the connection before the handshake was over"
    return SocketError(f"could not {doing}: {text}", code="truncated")


def _reasons(error: SSL.Error) -> list[str]:
    """OpenSSL's error queue, whose entries are (library, "", reason)."""
    entries = error.args[0] if error.args else ()
    if not isinstance(entries, (list, tuple)):
        return []
    return [str(entry[-1]) for entry in entries if entry[-1]]


def _queue(error: SSL.Error) -> tuple[str, ErrorCode]:
    """What OpenSSL's error queue comes to."""
    reasons = _reasons(error)
    for reason in reasons:
        match = _RECEIVED.fullmatch(reason)
        if match is not None and match[1] in _ALERTS:
            name = _SPELLED.get(match[1], match[1].replace(" ", "_"))
            hint = _ALERTS[match[1]]
            text = f"the peer sent the alert {name}" + (hint and f": {hint}")
            return text, "tls-alert"
    if "peer did not return a certificate" in reasons:
        return "the peer showed no certificate", "tls-verify"
    for reason in reasons:
        if reason in _REASONS:
            return f"{_REASONS[reason]} ({reason})", "tls"
    return "; ".join(reasons) or "OpenSSL gives no reason", "tls"
