"""The engines that every behaviour is shown on."""

from __future__ import annotations

import pytest

from tests.bridge.harness import ENGINES, SINKS, Engine, Kind


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Makes the pumps of one engine."""
    return ENGINES[request.param]


@pytest.fixture(params=["plain", "tls"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """What the connection is."""
    found: Kind = request.param
    return found


@pytest.fixture(params=[*SINKS, "plain", "tls"])
def sink_kind(request: pytest.FixtureRequest) -> str:
    """What the sink is: see `either`."""
    found: str = request.param
    return found
