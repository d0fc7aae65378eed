"""A report as a person likes to read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from .certificates import Certificate
from .report import Failure, Report, Tls

__all__ = ["one_line", "show"]

_SOON: Final = 21  # days
_NAMES: Final = 20
_NOBODY_VOUCHES: Final = ("unknown issuer", "self-signed", "not trusted here")


def show(report: Report) -> RenderableType:
    """Everything in `report`, to be printed on a rich console.

    What the peer said comes as Text, never as markup.
    """
    parts: list[RenderableType] = [_headline(report), Text()]
    parts.append(_indented(_facts(report)))
    if report.dialogue:
        parts += [
            Text(),
            Text("What was said before TLS", "bold"),
            _indented(_dialogue(report)),
        ]
    if report.certificates:
        parts += [
            Text(),
            Text("Certificates of the server", "bold"),
            _indented(_chain(report)),
        ]
    if found := list(hints(report)):
        table = Table.grid(padding=(0, 1))
        for hint in found:
            table.add_row(Text("hint", "bold yellow"), hint)
        parts += [Text(), table]
    return Group(*parts)


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))


def one_line(report: Report) -> Text:
    """The connection in a line."""
    parts = [f"connected to {report.remote_address or report.address}"]
    if report.tls is None:
        parts.append("plaintext")
    else:
        parts += [report.tls.protocol, report.tls.cipher]
        parts += [report.tls.alpn] if report.tls.alpn else []
        parts.append("verified" if report.tls.verified else "not verified")
    return Text(" · ".join(parts), "dim")


def _headline(report: Report) -> Text:
    name = Text(report.address, "bold")
    took = f"{report.seconds * 1000:,.0f} ms"
    if report.error is None:
        return Text.assemble(("✓ ", "bold green"), name, f"  connected in {took}")
    return Text.assemble(("✗ ", "bold red"), name, f"  failed after {took}")


def _facts(report: Report) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _rows(report):
        table.add_row(name, value)
    return table


def _rows(report: Report) -> Iterator[tuple[str, Text]]:
    if report.error is not None:
        yield from _failure(report.error, report.exit_code)
    if report.remote_address:
        yield "remote", Text(report.remote_address)
    if report.local_address:
        yield "local", Text(report.local_address)
    if report.tls is not None:
        yield from _session(report.tls)
    elif report.error is None:
        yield "security", Text("none: plaintext", "yellow")


def _failure(error: Failure, exit_code: int) -> Iterator[tuple[str, Text]]:
    yield "error", Text.assemble((error.code, "bold red"), "  ", error.message)
    yield "exit code", Text(str(exit_code))


def _session(tls: Tls) -> Iterator[tuple[str, Text]]:
    yield "protocol", Text(tls.protocol, "cyan")
    yield "cipher", Text.assemble((tls.cipher, "cyan"), f"  {tls.cipher_bits} bits")
    yield "ALPN", Text(tls.alpn, "cyan") if tls.alpn else Text("none", "dim")
    yield (
        "server name",
        Text(tls.server_name or "none", "" if tls.server_name else "dim"),
    )
    yield "verified", _verified(tls)
    if tls.resumed:
        yield "session", Text("resumed")


def _verified(tls: Tls) -> Text:
    if not tls.verified:
        return Text("no: anybody could have answered", "bold yellow")
    if tls.verify == "ca":
        return Text("yes, by its issuer; its name was not checked", "yellow")
    return Text("yes", "green")


def _dialogue(report: Report) -> Table:
    table = Table.grid(padding=(0, 1))
    for message in report.dialogue:
        ours = message.speaker == "client"
        table.add_row(
            Text("→" if ours else "←", "cyan" if ours else "magenta"),
            Text(message.text, overflow="fold"),
        )
    return table


def _chain(report: Report) -> Tree:
    """Leaf outermost, each one's issuer inside it, as the server presented them."""
    first, *rest = report.certificates
    tree = branch = Tree(_certificate(first), guide_style="dim")
    for each in rest:
        branch = branch.add(_certificate(each))
    return tree


def _certificate(found: Certificate) -> RenderableType:
    if found.subject is None:
        title = Text("a certificate that cannot be read", "bold red")
    else:
        title = Text(found.subject or "(no subject)", "bold")
        if found.authority:
            title.append("  authority", "dim")
        if found.self_issued:
            title.append("  self-issued", "dim")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _details(found):
        table.add_row(name, value)
    return Group(title, table)


def _details(found: Certificate) -> Iterator[tuple[str, Text]]:
    if found.names:
        names = ", ".join(found.names[:_NAMES])
        more = f" and {len(found.names) - _NAMES} more" * (len(found.names) > _NAMES)
        yield "names", Text(names + more)
    if found.issuer is not None and not found.self_issued:
        yield "issuer", Text(found.issuer)
    if found.not_before and found.not_after:
        yield "valid", _validity(found)
    if found.key:
        signed = f", signed with {found.signed_with}" if found.signed_with else ""
        yield "key", Text(found.key + signed)
    yield "sha256", Text(found.sha256, "dim")


def _validity(found: Certificate) -> Text:
    days = found.days_left or 0
    span = f"{(found.not_before or '')[:10]} to {(found.not_after or '')[:10]}  "
    if found.current:
        style = "yellow" if days < _SOON else "green"
        return Text.assemble(span, (f"{days:,} days left", style))
    if days < 0:
        ago = f"{-days - 1:,} days ago" if days < -1 else "today"
        return Text.assemble(span, (f"expired {ago}", "bold red"))
    return Text.assemble(span, ("not valid yet", "bold red"))


def hints(report: Report) -> Iterator[str]:
    """What to do, where the report shows what is wrong."""
    if report.error is None or not report.certificates:
        return
    leaf, last = report.certificates[0], report.certificates[-1]
    for each in dict.fromkeys(report.certificates):
        if each.current is False:
            yield f"{each.subject} is not valid today, if this machine's clock is right"
    if "not for" in report.error.message and leaf.names:
        names = ", ".join(leaf.names[:_NAMES])
        yield f"the certificate is for {names}; --sni says which name is meant"
    if any(text in report.error.message for text in _NOBODY_VOUCHES):
        yield (
            f"nobody trusted here vouches for {last.issuer}; if you do, give its "
            "certificate with --ca"
        )
