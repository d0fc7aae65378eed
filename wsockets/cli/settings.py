"""What a command line asks for in a connection, and making it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import attrs

from ..address import SocketAddress, parse_address
from ..connect import Binding
from ..dial import deny_private
from ..options import SecureTransportKind
from ..starttls import Protocol, upgrade
from ..tls import TlsOptions

if TYPE_CHECKING:
    from ..socket import Socket
    from ..starttls.upgrade import Overheard

__all__ = ["Settings"]


@attrs.frozen
class Settings:
    """Where to connect to, and how.

    `tls` are the members of TlsOptions. `members` those of `connect()`. With `fd`
    there is a connection already, to be adopted; `role` is the side that the TLS
    handshake takes then.
    """

    address: str
    fd: int | None = None
    role: Literal["client", "server"] = "client"
    secure_transport: SecureTransportKind = "off"
    starttls: str | None = None
    tls: Mapping[str, Any] = attrs.field(factory=dict, repr=False)
    members: Mapping[str, Any] = attrs.field(factory=dict)
    proxy: str | None = attrs.field(default=None, repr=False)
    proxy_resolve: bool = False
    deny_private: bool = False

    @property
    def verify(self) -> str:
        """How certificates are verified: "full", "ca" or "none"."""
        return str(self.tls.get("verify", "full"))

    async def connect(self, overheard: Overheard | None = None) -> Socket:
        """A socket that is open, and secured where that was asked for.

        Raises SocketError. `overheard` hears the STARTTLS dialogue.
        """
        binding = Binding(
            tls=TlsOptions(**self.tls),
            policy=deny_private() if self.deny_private else None,
            proxy=self.proxy,
            proxyResolve=self.proxy_resolve,
        )
        if self.fd is None:
            socket = binding.connect(
                self.address, secureTransport=self.secure_transport, **self.members
            )
        else:
            socket = binding.adopt(
                self.fd,
                secureTransport=self.secure_transport,
                role=self.role,
                **self.members,
            )
        if self.starttls is None:
            await socket.opened
            return socket
        try:
            return await upgrade(
                socket,
                cast("Protocol", self.starttls),
                hostname=self._domain() if self.starttls == "xmpp" else None,
                timeout=self.members["handshakeTimeout"],
                overheard=overheard,
            )
        except BaseException as error:
            socket.close(error)
            raise

    def _domain(self) -> str | None:
        """The domain that an XMPP client names."""
        if name := self.members.get("sni"):
            return str(name)
        if self.fd is not None:
            return None
        address = parse_address(self.address)
        return address.hostname if isinstance(address, SocketAddress) else None
