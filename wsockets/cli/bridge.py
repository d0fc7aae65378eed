"""`wsockets bridge`: the options, and what they do.

A helper process for programs in any language: they hand it a connection and a sink,
as descriptors that it inherits or as addresses, and read how it ended from its
standard output. It moves the bytes; the program has the other ends.
"""

from __future__ import annotations

import json
import re
import signal
import time
from typing import Any, Final

import attrs
import click
import trio

from ..bridge import Bridge, BridgeEnd, BridgeOptions, BridgeStats
from ..bridge.engines import engine_name
from ..errors import SocketError
from .connecting import connecting_options, settings_of
from .console import error_console, print_error
from .ending import Ending, counters
from .exits import CTRL_C, EPILOG, OUTPUT_CLOSED
from .report import Report, succeeded
from .settings import Settings
from .show import one_line
from .sinks import SINK, SinkPlace

__all__ = ["bridge_command"]

_DIRECTIONS: Final = click.Choice(["duplex", "encrypt-only", "decrypt-only"])
_SECONDS: Final = click.FloatRange(min=0, min_open=True)


class _Hex(click.ParamType[bytes]):
    """Bytes, in hexadecimal."""

    name = "hex"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> bytes:
        """The bytes."""
        try:
            return value if isinstance(value, bytes) else bytes.fromhex(str(value))
        except ValueError:
            return self.fail(f"{value!r} is not hexadecimal", param, ctx)


@click.command("bridge", epilog=EPILOG)
@click.option(
    "--connection",
    "address",
    required=True,
    metavar="FD|HOST:PORT|unix:PATH",
    help="The connection: a descriptor that is connected, or where to connect to.",
)
@click.option(
    "--sink",
    type=SINK,
    required=True,
    help="What to bridge it with; - is standard input and output.",
)
@click.option(
    "--role",
    type=click.Choice(["client", "server"]),
    default="client",
    show_default=True,
    help="The side to take in the TLS handshake over a descriptor.",
)
@connecting_options
@click.option(
    "--direction",
    type=_DIRECTIONS,
    default="duplex",
    show_default=True,
    help="Both, from the sink to the connection only, or the other way.",
)
@click.option(
    "--framing",
    type=click.Choice(["stream", "ip", "length16"]),
    help=(
        "Bytes; IP packets, each in a TLS record of its own; or datagrams behind two "
        "bytes of length.  [default: ip for tun:, else stream]"
    ),
)
@click.option(
    "--prefix",
    type=_Hex(),
    default="",
    metavar="HEX",
    help="Bytes before each packet on the side of the sink, such as 000086dd.",
)
@click.option("--mtu", type=int, metavar="BYTES", help="The longest packet.")
@click.option(
    "--idle-timeout",
    type=_SECONDS,
    metavar="SECONDS",
    help="End it after so long without a byte.",
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Once told to stop, deliver what is under way for so long.",
)
@click.option(
    "--stats",
    type=_SECONDS,
    metavar="SECONDS",
    help="Tell the counters on standard error, every so often.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Tell on standard error what it connected to.",
)
def bridge_command(**given: Any) -> int:
    """Forward bytes or packets between a connection and a sink.

    It ends when both sides have, when something fails, or with SIGTERM or Ctrl-C,
    which let what is under way arrive. How it ended is one line of JSON on
    standard output, or on standard error if the bytes are on standard output.

    \b
      wsockets bridge --connection 3 --sink 4
      wsockets bridge --connection 3 --tls --verify none --sink tun:tun0 --mtu 1280
      wsockets bridge --connection example.org:443 --tls --sink unix:/run/clear.sock
    """
    place: SinkPlace = given["sink"]
    packets = "ip" if place.kind == "tun" else "stream"
    options = BridgeOptions(
        direction=given["direction"],
        framing=given["framing"] or packets,  # type: ignore[arg-type]
        prefix=given["prefix"],
        mtu=given["mtu"],
        # So that the end of a pipe is seen at its other side.
        closeSink=place.kind == "fd",
        idleTimeout=given["idle_timeout"] or float("inf"),
    )
    if place.kind == "tun" and options.framing != "ip":
        raise click.UsageError("a tun: sink has packets: it needs --framing ip")
    return trio.run(_Run(_settings(given), place, options, given).to_the_end)


def _settings(given: dict[str, Any]) -> Settings:
    fd = None
    if re.fullmatch(r"[0-9]{1,9}", given["address"]):
        fd = int(given["address"])
    elif given["role"] == "server":
        raise click.UsageError(
            "--role server needs a connection that is a descriptor: an address is "
            "connected to by clients"
        )
    return attrs.evolve(settings_of(given, fd), role=given["role"])


class _Run:
    """One run of the command."""

    def __init__(
        self,
        settings: Settings,
        place: SinkPlace,
        options: BridgeOptions,
        given: dict[str, Any],
    ) -> None:
        self._settings = settings
        self._place = place
        self._options = options
        self._given = given
        self._begun = time.monotonic()
        self._bridge: Bridge | None = None
        self._scope = trio.CancelScope()
        self._signal: int | None = None

    async def to_the_end(self) -> int:
        """Forward, report, and give the exit code."""
        listening = trio.Event()
        trio.lowlevel.spawn_system_task(self._listen, listening)
        await listening.wait()
        return self._report(await self._ending())

    async def _listen(self, listening: trio.Event) -> None:
        wanted = {signal.SIGTERM}
        # A shell's background jobs ignore it, and go on doing so.
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            wanted.add(signal.SIGINT)
        with trio.open_signal_receiver(*wanted) as caught:
            listening.set()
            async for number in caught:
                if self._bridge is None or self._signal is not None:
                    # The second signal does not wait for the first one's drain.
                    self._scope.cancel()
                else:
                    self._bridge.stop(self._given["drain"])
                self._signal = number

    async def _ending(self) -> Ending:
        end = BridgeEnd("connection", "decrypt", "stopped")
        try:
            with self._scope:
                end = await self._forward()
        except SocketError as error:
            if error.code in ("address", "option", "state"):
                raise
            end = BridgeEnd("connection", "decrypt", "closed", error)
        bridge = self._bridge
        return Ending(
            end,
            bridge.stats if bridge else BridgeStats(),
            bridge.engine if bridge else engine_name(),
            time.monotonic() - self._begun,
        )

    async def _forward(self) -> BridgeEnd:
        options, settings = self._options, self._settings
        packets = options.framing != "stream"
        with self._place.opened(packets=packets, prefix=options.prefix) as sink:
            async with await settings.connect() as socket:
                if self._given["verbose"]:
                    report = Report(
                        settings.address, settings.secure_transport, None, 0.0
                    )
                    report = await succeeded(report, socket, settings.verify)
                    error_console().print(one_line(report))
                self._bridge = bridge = socket.bridge(sink, options)
                bridge.start()
                async with trio.open_nursery() as nursery:
                    if self._given["stats"]:
                        nursery.start_soon(self._tell, bridge)
                    end = await bridge.closed
                    nursery.cancel_scope.cancel()
        return end

    async def _tell(self, bridge: Bridge) -> None:
        while True:
            await trio.sleep(self._given["stats"])
            click.echo(json.dumps({"stats": counters(bridge.stats)}), err=True)

    def _report(self, ending: Ending) -> int:
        failure = ending.failure
        standard = 1 in self._place.fds
        quiet = standard and ending.unread
        if failure is not None and not quiet:
            print_error(failure.code, failure.message)
        click.echo(ending.to_json(), err=standard or self._settings.fd in (0, 1))
        if self._signal == signal.SIGINT:
            return CTRL_C
        return OUTPUT_CLOSED if quiet else ending.exit_code
