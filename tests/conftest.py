"""What all tests share: seeds, profiles, the leak check, real peers and servers."""

from __future__ import annotations

import functools
import inspect
import os
import platform
import random
import secrets
import socket
from collections.abc import Callable, Iterator
from typing import Any

import cryptography
import OpenSSL.SSL
import pytest
import trio
from hypothesis import HealthCheck, settings

from tests import loops
from tests import peers as _peers
from tests.leaks import Snapshot, left_behind
from tests.loopback import Secure
from tests.servers import (
    Nginx,
    PostgreSQL,
    Redis,
    Smtp,
    run_nginx,
    run_postgresql,
    run_redis,
    run_smtp,
)
from tests.servers.tls import TlsFiles
from tests.wires import SocketStream

SEED = "WSOCKETS_SEED"

# The machine may be loaded, so no example has a deadline of its own. "ci" takes
# the same examples each time: a change is judged by what it changes. Every
# other run looks at new ones, and the header tells how to see them again.
_LOADED = (HealthCheck.too_slow,)
settings.register_profile(
    "default", deadline=None, print_blob=True, suppress_health_check=_LOADED
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("stress", settings.get_profile("default"), max_examples=10)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # libuv keeps a pipe of its own from its first run on.
    loops.run("uvloop", loops.nothing)
    # The workers of one run inherit the environment, so they share the seed.
    seed = os.environ.setdefault(SEED, str(secrets.randbelow(1 << 32)))
    if config.option.hypothesis_profile is None:
        name = "ci" if os.environ.get("CI") else "default"
        config.option.hypothesis_profile = name
    if config.option.hypothesis_seed is None:
        profile = settings.get_profile(config.option.hypothesis_profile)
        if not profile.derandomize:
            config.option.hypothesis_seed = seed


def pytest_report_header(config: pytest.Config) -> list[str]:
    profile = config.option.hypothesis_profile
    library = OpenSSL.SSL.SSLeay_version(OpenSSL.SSL.SSLEAY_VERSION).decode()
    versions = {
        "trio": trio.__version__,
        "pyOpenSSL": OpenSSL.__version__,
        "cryptography": cryptography.__version__,
    }
    found = {name: peer.describe() or "missing" for name, peer in _peers.PEERS.items()}
    return [
        f"{SEED}={os.environ[SEED]} (repeats it), hypothesis profile {profile}",
        f"{platform.platform()}, {_listed(versions)}, {library}",
        f"peers: {_listed(found)}",
    ]


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


# -- event loops

CLOCK = "autojump_clock"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each asynchronous test of a module for every loop, once for each."""
    item = metafunc.definition
    if (
        inspect.iscoroutinefunction(metafunc.function)
        and item.get_closest_marker("every_loop") is not None
        and item.get_closest_marker("only_trio") is None
    ):
        kinds = [*loops.LOOPS]
        if CLOCK in metafunc.fixturenames:
            kinds.remove("uvloop")  # it has no clock but the machine's
        metafunc.fixturenames.append("loop")
        metafunc.parametrize("loop", kinds)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        callspec = getattr(item, "callspec", None)
        loop = None if callspec is None else callspec.params.get("loop")
        if not isinstance(item, pytest.Function) or loop in (None, "trio"):
            continue  # pytest-trio's
        if not inspect.iscoroutinefunction(item.obj):
            continue  # It runs the loop itself.
        item.add_marker(loop)
        item.obj = _on("jumping" if CLOCK in item.fixturenames else loop, item.obj)


def _on(loop: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        loops.run(loop, functools.partial(function, *args, **kwargs))

    return run


@pytest.fixture(params=["off", "on"])
def secure(request: pytest.FixtureRequest) -> Secure:
    """A behaviour is the same in the clear and over TLS."""
    kind: Secure = request.param
    return kind


@pytest.fixture(params=["native", "python"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A behaviour is the same whichever engine bridges have, or pipes could have."""
    name: str = request.param
    monkeypatch.setenv("WSOCKETS_BRIDGE_ENGINE", name)
    return name


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, SocketStream]]:
    """A descriptor, for a bridge or a pipe, and the stream at its other side."""
    near, far = socket.socketpair()
    stream = SocketStream(far)
    with near, far:
        yield near, stream


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random choices of the test's own, the same for the same WSOCKETS_SEED."""
    return random.Random(f"{os.environ[SEED]} {request.node.nodeid}")


@pytest.fixture(autouse=True)
def _nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a file descriptor or a thread behind."""
    if request.node.get_closest_marker("leaks") is not None:
        yield
        return
    before = Snapshot.take()
    yield
    found = left_behind(before)
    if found:
        pytest.fail("left behind by the test: " + "; ".join(found), pytrace=False)


@pytest.fixture(scope="session")
def peer() -> Callable[[str], str]:
    """`peer("nginx")` is the path of the program, as tests/peers.toml lists it.

    A missing required peer fails the test, a missing optional one skips it.
    """
    return find_peer


def find_peer(name: str) -> str:
    wanted = _peers.PEERS[name]
    found = wanted.find()
    if found is None:
        if wanted.required:
            pytest.fail(wanted.absence, pytrace=False)
        pytest.skip(wanted.absence)
    return found


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for localhost, 127.0.0.1 and ::1, its key, and its root."""
    return TlsFiles.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def nginx(tls_files: TlsFiles) -> Iterator[Nginx]:
    """nginx with TLS, ALPN h2 and http/1.1."""
    find_peer("nginx")
    with run_nginx(tls_files) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(tls_files: TlsFiles) -> Iterator[PostgreSQL]:
    """PostgreSQL with TLS and SCRAM."""
    find_peer("postgresql")
    with run_postgresql(tls_files) as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """Redis on a unix socket."""
    find_peer("redis")
    with run_redis() as server:
        yield server


@pytest.fixture(scope="session")
def smtp(tls_files: TlsFiles) -> Iterator[Smtp]:
    """A mail server with STARTTLS."""
    find_peer("aiosmtpd")
    with run_smtp(tls_files) as server:
        yield server
