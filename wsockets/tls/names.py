"""The names of a TLS peer: the one it is told, and the one it has to prove.

The peer is told (server name indication, RFC 6066 section 3) `sni`, else
expectedServerHostname, else the hostname; an IP address is never sent. It has to
prove expectedServerHostname, else `sni`, else the hostname, which may be an IP
address. A final dot belongs to neither.
"""

from __future__ import annotations

import attrs

from ..address import SocketAddress
from ..errors import SocketError

__all__ = ["TlsNames", "tls_names"]


@attrs.frozen
class TlsNames:
    """What to send as the server name, and what the certificate must be for.

    Both are in ASCII and lower case, without a final dot; `verify_name` may be a
    numeric address, without brackets or zone. None: nothing to send, to verify.
    """

    server_name: str | None
    verify_name: str | None


def tls_names(
    hostname: str | None,
    sni: str | None = None,
    expectedServerHostname: str | None = None,
) -> TlsNames:
    """Choose the names for a connection to `hostname` (None for a unix socket).

    Raises SocketError (code "option") for one that is not a host name or address.
    """
    host = _read("hostname", hostname)
    told = _read("sni", sni)
    expected = _read("expectedServerHostname", expectedServerHostname)
    send = told or expected or host
    verify = expected or told or host
    return TlsNames(
        server_name=send[0] if send and not send[1] else None,
        verify_name=verify[0] if verify else None,
    )


def _read(member: str, value: str | None) -> tuple[str, bool] | None:
    """The normal form of a name, and whether it is a numeric address."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise SocketError(
            f"{member} is a host name, not {type(value).__name__}", code="option"
        )
    if not value:
        raise SocketError(f"{member} is empty; leave it out", code="option")
    try:
        address = SocketAddress(value, 0)
    except SocketError as error:
        raise SocketError(
            f"{member}: {str(error).removeprefix('SocketError: ')}", code="option"
        ) from error
    if address.numeric is not None:
        return address.numeric[1].partition("%")[0], True
    return address.hostname.removesuffix("."), False
