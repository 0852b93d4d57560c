"""How often the crash tests kill: a share in every run, all of it on request (`make torture`)."""

import pytest


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    chosen: object = request.config.getoption("--kills")
    assert isinstance(chosen, int)
    return chosen
