"""The machine and the versions that a result was measured with."""

from __future__ import annotations

import os
import platform
import shutil
import ssl
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.plan import ROOT, first_line

PACKAGES = ("trio", "anyio", "uvloop", "pyOpenSSL", "cryptography", "attrs")


def _field(path: str, name: str) -> str | None:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None


def _said(command: list[str]) -> str | None:
    """What `command` prints first, None where it is missing or fails."""
    if not shutil.which(command[0]):
        return None
    try:
        return first_line(command)
    except (RuntimeError, subprocess.TimeoutExpired):
        return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _bundled_openssl() -> str | None:
    """The OpenSSL inside `cryptography`, which pyOpenSSL uses."""
    code = "from OpenSSL import SSL; print(SSL.SSLeay_version(0).decode())"
    return _said([sys.executable, "-c", code])


def describe() -> dict[str, Any]:
    """What somebody has to know who compares figures with their own."""
    model = _field("/proc/cpuinfo", "model name") or platform.processor()
    memory = _field("/proc/meminfo", "MemTotal") or "0 kB"
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "memory_gib": round(int(memory.split()[0]) / (1 << 20), 1),
        "kernel": platform.release(),
        "commit": _said(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "openssl_of_cryptography": _bundled_openssl(),
        "openssl_of_debian": _said(["openssl", "version"]),
        "openssl_of_node": _said(["node", "-p", "process.versions.openssl"]),
        "packages": {each: _installed(each) for each in PACKAGES},
    }
