"""How often the crash tests kill: a share in every run, all of it on request (`--kills 300`, `make torture`)."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=60, help="how many writers the crash tests kill")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    chosen: object = request.config.getoption("--kills")
    assert isinstance(chosen, int)
    return chosen
