"""Server names (SNI): which certificate a server shows to whom.

A client names the server it means (RFC 6066, section 3). `SELECT_NAME` is called
by OpenSSL with the name and changes the connection over to the context of that
name. That brings along the certificate and the authorities of clients, while the
versions, the key of tickets and whatever else was copied into the connection stay
those of the server. Therefore a name has a certificate, and at most a `ca` of its
own; everything else in its options has to be as it is by default, and is the
server's. A session knows nothing of names: where they differ in whom they let in,
a server resumes none (else a ticket of one name would open the door of another).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

import attrs

from ..address import ascii_name
from ..errors import SocketError
from . import openssl
from .handshake import Failure, of_pointer
from .openssl import ffi, lib
from .options import TlsOptions

__all__ = ["SELECT_NAME", "ServerNames"]

_OF_A_NAME: Final = ("cert", "key", "password", "ca")


@final
class ServerNames:
    """The options of a server, and those of each name that it is known by.

    `given` has names ("www.example.com") and wildcards ("*.example.com", which
    stands for exactly one label); the exact name comes first, and a client with an
    unknown name, or none, gets the server's own certificate. Raises SocketError
    (code "option").
    """

    __slots__ = ("_names", "resumable")

    def __init__(self, base: TlsOptions, given: Mapping[str, TlsOptions]) -> None:
        self._names = {
            _pattern(name): _laid_over(base, name, options)
            for name, options in given.items()
        }
        if len(self._names) < len(given):
            raise SocketError(
                f"sniContexts has the same name twice: {', '.join(given):.200}",
                code="option",
            )
        # Whether a session may be resumed under another name.
        self.resumable = all(each.ca == base.ca for each in self._names.values())

    def __iter__(self) -> Any:
        return iter(self._names.values())

    def find(self, name: str) -> TlsOptions | None:
        """The options for a name, as a client wrote it."""
        name = name.lower().removesuffix(".")
        _, _, parent = name.partition(".")
        return self._names.get(name) or self._names.get("*." + parent)


def _pattern(name: object) -> str:
    if not isinstance(name, str):
        raise SocketError(
            f"a name of sniContexts is a str, not {type(name).__name__}", code="option"
        )
    host = name.removeprefix("*.")
    try:
        plain = ascii_name(host).removesuffix(".")
    except SocketError as error:
        raise SocketError(
            "a name of sniContexts is a host name, or one behind '*.': "
            f"{str(error).removeprefix('SocketError: ')}",
            code="option",
        ) from error
    return plain if host == name else "*." + plain


def _laid_over(base: TlsOptions, name: str, options: object) -> TlsOptions:
    if not isinstance(options, TlsOptions):
        raise SocketError(
            f"sniContexts[{name!r}] is a TlsOptions, not {type(options).__name__}",
            code="option",
        )
    for field in attrs.fields(TlsOptions):
        changed = getattr(options, field.name) != field.default
        if changed and field.name not in _OF_A_NAME:
            raise SocketError(
                f"sniContexts[{name!r}] has {field.name}, which is the same for all "
                "names: give it to listen(); a name has cert, key, password and ca",
                code="option",
            )
    if options.cert is None:
        raise SocketError(f"sniContexts[{name!r}] has no cert", code="option")
    own = {member: getattr(options, member) for member in _OF_A_NAME}
    if options.ca is None:
        del own["ca"]
    return attrs.evolve(base, **own)


def _select_name(ssl: Any, _alert: Any, _argument: Any) -> int:
    handshake = of_pointer(ssl)
    if handshake.contexts is None:
        return openssl.NAME_IGNORE
    name = lib.SSL_get_servername(ssl, lib.TLSEXT_NAMETYPE_host_name)
    if name == ffi.NULL:
        return openssl.NAME_IGNORE
    try:
        chosen = handshake.contexts(ffi.string(name).decode("ascii", "replace"))
    except BaseException as error:
        handshake.problem = Failure(
            f"there is no certificate for the server name: {type(error).__name__}",
            cause=error,
        )
        raise
    if chosen is None:
        return openssl.NAME_IGNORE
    handshake.options, context = chosen
    openssl.use_context(ssl, context)
    return openssl.NAME_OK


SELECT_NAME: Final[Any] = openssl.callback(
    "int (*)(SSL *, int *, void *)", _select_name, openssl.NAME_FATAL
)
