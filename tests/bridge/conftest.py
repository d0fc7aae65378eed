"""The engines that every behaviour is shown on."""

from __future__ import annotations

import pytest

from tests.bridge.harness import ENGINES, Engine


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    """Makes the pumps of one engine."""
    return ENGINES[request.param]
