"""A plugin of pytest that has the tests use another build of the native engine.

WSOCKETS_NATIVE_MODULE is its path; see tools/sanitize.sh.
"""

from __future__ import annotations

import importlib.util
import os
import sys

_NAME = "wsockets.bridge._native"
_PATH = os.environ["WSOCKETS_NATIVE_MODULE"]

_spec = importlib.util.spec_from_file_location(_NAME, _PATH)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
sys.modules[_NAME] = _module


def pytest_report_header() -> str:
    """Which build it is."""
    return f"native engine: {_PATH}"
