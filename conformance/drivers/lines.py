"""A driver that answers a request a line, on stdin and stdout."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from conformance.drivers import ROOT, DriverError

__all__ = ["LineProcess"]


@final
class LineProcess:
    """The process, started again where it has died."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], authority: Path
    ) -> None:
        self._command = command
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._buffer = b""

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._buffer = b""
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
            )
        return self._process

    def ask(self, request: Mapping[str, Any], within: float) -> dict[str, Any]:
        process = self._started()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._line(process, within))
        except (OSError, EOFError, ValueError) as error:
            self._end()
            raise DriverError(f"the driver: {error}; {self._said()}") from error
        return answer

    def _line(self, process: subprocess.Popen[bytes], within: float) -> bytes:
        assert process.stdout is not None
        until = time.monotonic() + within
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0, until - time.monotonic())):
                    raise TimeoutError(f"no answer within {within:g} s")
                data = os.read(process.stdout.fileno(), 1 << 20)
                if not data:
                    raise EOFError(f"it ended with status {process.wait()}")
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-2000:]

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def close(self) -> None:
        self._end()
        self._errors.close()
