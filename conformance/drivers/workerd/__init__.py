"""workerd: the worker answers requests by HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from conformance.drivers import DriverError

__all__ = ["WorkerdProcess"]

_HERE: Final = Path(__file__).parent


@final
class WorkerdProcess:
    """The process, started again where it has died."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], authority: Path
    ) -> None:
        self._command = command
        self._env = env
        self._folder = tempfile.TemporaryDirectory(prefix="conformance-workerd-")
        folder = Path(self._folder.name)
        for name in ("config.capnp", "worker.mjs", "../interpreter.mjs"):
            shutil.copy(_HERE / name, folder)
        shutil.copy(authority, folder / "authority.pem")
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def _start(self) -> None:
        if self._process is not None:
            return
        reading, writing = os.pipe()
        with open(reading, "rb") as told, open(self._log, "ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "serve", f"--control-fd={writing}", "config.capnp"],
                cwd=self._folder.name,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
            )
            os.close(writing)
            for line in told:
                event = json.loads(line)
                if event.get("event") == "listen":
                    self._port = event["port"]
                    return
        raise OSError("workerd did not start")

    def ask(self, request: Mapping[str, Any], within: float) -> dict[str, Any]:
        try:
            self._start()
            with contextlib.closing(
                http.client.HTTPConnection("127.0.0.1", self._port, timeout=within)
            ) as connection:
                connection.request("POST", "/", json.dumps(request))
                response = connection.getresponse()
                body = response.read()
            if response.status != http.HTTPStatus.OK:
                raise ValueError(f"status {response.status}: {body[:500]!r}")
            answer: dict[str, Any] = json.loads(body)
        except (OSError, ValueError, http.client.HTTPException) as error:
            said = self._log.read_text(errors="replace").strip()[-2000:]
            self._end()
            raise DriverError(f"workerd: {error!r}; {said}") from error
        return answer

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        self._end()
        self._folder.cleanup()
