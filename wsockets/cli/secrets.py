"""Where secrets come from: a file or the environment, never the command line.

Arguments can be read by every user of the machine (/proc/*/cmdline) and stay in
the shell's history.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["SECRET", "parse_psk"]


class Secret(click.ParamType[str]):
    """`file:PATH` or `env:NAME`; gives the contents, without an end of line."""

    name = "secret"

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> str:
        """The secret itself."""
        kind, _, where = str(value).partition(":")
        if kind == "env" and where:
            found = os.environ.get(where)
            if found is None:
                self.fail(f"the environment has no {where}", param, ctx)
            return found.rstrip("\r\n")
        if kind == "file" and where:
            try:
                return Path(where).read_text("utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                self.fail(f"{where} is not a UTF-8 text", param, ctx)
            except OSError as error:
                self.fail(f"{where}: {error.strerror}", param, ctx)
        # The value is not shown: it may be the secret.
        return self.fail(
            "takes file:PATH or env:NAME, not the secret itself", param, ctx
        )

    def get_metavar(
        self, param: click.Parameter, ctx: click.Context | None = None
    ) -> str:
        """How the help names the value."""
        return "file:PATH|env:NAME"


SECRET = Secret()


def parse_psk(secret: str) -> tuple[bytes, bytes]:
    """The identity (which may be empty) and the key of "identity:hexkey".

    Raises click.UsageError, which does not show what it was given.
    """
    identity, colon, key = secret.rpartition(":")
    try:
        psk = identity.encode(), bytes.fromhex(key)
    except ValueError:
        psk = b"", b""
    if not colon or not psk[1]:
        raise click.UsageError(
            "--psk: the secret must be an identity, a colon and the key in hexadecimal"
        )
    return psk
