"""SocketInfo: what is known of a socket that is open.

One class for two specifications. `opened` resolves to one with the members of the
Sockets API, and every open socket keeps it, so those of the early draft are in an
object behind it, which only `Socket.info` fills.
"""

from __future__ import annotations

import socket as _socket
from typing import Final

import attrs

from .address import SocketAddress, format_address, parse_address
from .tls import CipherInfo, EphemeralKeyInfo, TlsDetails

__all__ = ["Particulars", "SocketInfo", "info_of"]


@attrs.frozen
class Particulars:
    """What the early draft has to say of a connection beside its two ends.

    `kind` is "tcp" or "tls", None where it is neither or not known; `tls` has what
    TLS came to, where somebody has asked.
    """

    kind: str | None = None
    tls: TlsDetails | None = None


UNKNOWN: Final = Particulars()
PLAIN: Final = Particulars("tcp")
SECURE: Final = Particulars("tls")


@attrs.frozen(weakref_slot=False)
class SocketInfo:
    """What `opened` resolves to: the two ends, and the protocol agreed on.

    Addresses are numeric, "127.0.0.1:443", "[::1]:443" or "unix:/path"; the
    remote one is the proxy's where one was connected through, and what a trusted
    proxy announced where one has connected here.
    https://sockets-api.proposal.wintertc.org/#socketinfo-dictionary

    The early draft's members are here too. `type` is the protocol that ALPN chose,
    else "tls" or "tcp", and None on a unix socket without TLS. Those of certificates,
    keys and sessions are None without TLS, and filled by `Socket.info` alone.
    """

    remoteAddress: str | None = None
    localAddress: str | None = None
    alpn: str | None = None
    _particulars: Particulars = attrs.field(default=UNKNOWN, eq=False, repr=False)

    @property
    def remote_address(self) -> str | None:
        """`remoteAddress`."""
        return self.remoteAddress

    @property
    def local_address(self) -> str | None:
        """`localAddress`."""
        return self.localAddress

    # -- the early draft's

    @property
    def type(self) -> str | None:
        """The protocol that ALPN chose, else "tls" or "tcp"; None on a unix socket."""
        return self.alpn or self._particulars.kind

    @property
    def remote(self) -> SocketAddress | None:
        """`remoteAddress` in two parts; None on a unix socket."""
        return _in_parts(self.remoteAddress)

    @property
    def local(self) -> SocketAddress | None:
        """`localAddress` in two parts; None on a unix socket."""
        return _in_parts(self.localAddress)

    @property
    def servername(self) -> str | None:
        """The name that the client asked for (SNI)."""
        tls = self._particulars.tls
        return None if tls is None else tls.servername

    @property
    def certificate(self) -> bytes | None:
        """What we presented, as DER: the leaf."""
        tls = self._particulars.tls
        return None if tls is None else tls.certificate

    @property
    def peerCertificate(self) -> bytes | None:
        """What the peer presented, as DER: the leaf."""
        tls = self._particulars.tls
        return None if tls is None else tls.peerCertificate

    @property
    def peer_certificate(self) -> bytes | None:
        """`peerCertificate`."""
        return self.peerCertificate

    @property
    def verificationStatus(self) -> str | None:
        """ "verified", else what there is against the peer's certificate, in words.

        "unverified" where there was no certificate, or nobody looked at it.
        """
        tls = self._particulars.tls
        return None if tls is None else tls.verificationStatus

    @property
    def verification_status(self) -> str | None:
        """`verificationStatus`."""
        return self.verificationStatus

    @property
    def cipher(self) -> CipherInfo | None:
        """The cipher suite."""
        tls = self._particulars.tls
        return None if tls is None else tls.cipher

    @property
    def ephemeralKey(self) -> EphemeralKeyInfo | None:
        """How the key was agreed on; None where an earlier session was gone on with."""
        tls = self._particulars.tls
        return None if tls is None else tls.ephemeralKey

    @property
    def ephemeral_key(self) -> EphemeralKeyInfo | None:
        """`ephemeralKey`."""
        return self.ephemeralKey

    @property
    def session(self) -> bytes | None:
        """The session, as OpenSSL's DER. A secret: whoever has it can go on with it."""
        tls = self._particulars.tls
        return None if tls is None else tls.session

    @property
    def ticket(self) -> bytes | None:
        """The session's ticket, where the server has sent one by now."""
        tls = self._particulars.tls
        return None if tls is None else tls.ticket

    @property
    def signatureAlgorithms(self) -> tuple[str, ...] | None:
        """None: OpenSSL's bindings have no way to what the peer offered."""
        return None

    @property
    def signature_algorithms(self) -> tuple[str, ...] | None:
        """`signatureAlgorithms`."""
        return None


def _in_parts(address: str | None) -> SocketAddress | None:
    if address is None or address.startswith("unix:"):
        return None
    parsed = parse_address(address)
    assert isinstance(parsed, SocketAddress)
    return parsed


def info_of(
    sock: _socket.socket,
    alpn: str | None,
    announced: str | None = None,
    *,
    secure: bool = False,
) -> SocketInfo:
    """What is known of a connected `sock`; not its ends if the peer has reset it.

    `announced` is the peer's address, where a proxy has told it.
    """
    if secure:
        kind = SECURE
    else:
        kind = PLAIN if sock.family != _socket.AF_UNIX else UNKNOWN
    try:
        peer, own = sock.getpeername(), sock.getsockname()
    except OSError:
        return SocketInfo(announced, None, alpn, kind)
    return SocketInfo(
        announced or format_address(peer), format_address(own), alpn, kind
    )
