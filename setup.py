"""The one thing that pyproject.toml cannot say: the native engine may be missing.

Where it cannot be built, for want of a compiler, the engine in Python serves. With
WSOCKETS_NATIVE=required that is an error.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup

FOLDER = Path("wsockets/bridge/native")

native = Extension(
    "wsockets.bridge._native",
    sources=sorted(map(str, FOLDER.glob("*.c"))),
    depends=sorted(map(str, FOLDER.glob("*.h"))),
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    extra_compile_args=["-std=c11", "-O2", "-pthread", "-fvisibility=hidden"],
    extra_link_args=["-pthread"],
    py_limited_api=True,
    optional=os.environ.get("WSOCKETS_NATIVE") != "required",
)

setup(
    ext_modules=[native] if sys.platform == "linux" else [],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
