"""A mail server with STARTTLS, in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
from aiosmtpd.smtp import SMTP, Envelope, Session

from .tls import TlsFiles

__all__ = ["Smtp", "run_smtp"]


@attrs.frozen
class Smtp:
    """A running mail server; `messages` holds what it accepted, in order.

    A message is there before its sender reads "250".
    """

    port: int
    messages: list[Envelope]

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    async def handle_DATA(
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keep a message: a hook that aiosmtpd calls."""
        self.messages.append(envelope)
        return "250 kept"


@contextmanager
def run_smtp(tls: TlsFiles) -> Iterator[Smtp]:
    """A mail server on a port of 127.0.0.1 that takes mail only under TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tls.chain, tls.key)
    listener = socket.create_server(("127.0.0.1", 0))
    smtp = Smtp(listener.getsockname()[1], [])
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def serve() -> None:
        # The socket listens already: whoever connects meanwhile is kept waiting.
        server = await loop.create_server(
            lambda: SMTP(
                smtp,
                hostname="localhost",
                tls_context=context,
                require_starttls=True,
                loop=loop,
            ),
            sock=listener,
        )
        async with server:
            await stopping.wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="smtp")
    thread.start()
    try:
        yield smtp
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
