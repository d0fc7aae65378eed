"""The files that a server program is given for TLS."""

from __future__ import annotations

from pathlib import Path

import attrs

from tests import certificates

__all__ = ["TlsFiles"]


@attrs.frozen
class TlsFiles:
    """PEM files: the certificate with its intermediates, its key, the root."""

    chain: Path
    key: Path
    root: Path

    @classmethod
    def make(cls, folder: Path) -> TlsFiles:
        """A certificate for localhost, 127.0.0.1 and ::1, by the tests' authority."""
        issued = certificates.server()
        files = cls(folder / "chain.pem", folder / "key.pem", folder / "root.pem")
        files.chain.write_text(issued.pem)
        files.key.write_text(issued.key_pem())
        files.root.write_text(certificates.authority().pem)
        return files
