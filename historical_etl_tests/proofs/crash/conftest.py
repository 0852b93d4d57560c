"""How much of the proofs by fault is tried: a share in every run, all of it on request (`make torture`)."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from historical_etl_tests.shares import drawn

_T = TypeVar("_T")

#: Takes some of many points: all with `--torture`, else so many, drawn by the seed of the run.
Share = Callable[[Sequence[_T], int], list[_T]]
#: Notes how much was tried, for the summary of the run.
Tried = Callable[[str], None]


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    chosen: object = request.config.getoption("--kills")
    assert isinstance(chosen, int)
    return chosen


@pytest.fixture
def many_minutes(request: pytest.FixtureRequest) -> float:
    chosen: object = request.config.getoption("--many-minutes")
    assert isinstance(chosen, float)
    return chosen


@pytest.fixture
def torture(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--torture"))


@pytest.fixture
def share(torture: bool, request: pytest.FixtureRequest) -> Share[object]:
    def some(points: Sequence[_T], most: int) -> list[_T]:
        return list(points) if torture else drawn(points, most, request.node.name)

    return some


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Tried:
    return lambda reported: record_property("tried", reported)


@pytest.fixture
def root(memory: Path) -> Path:
    """The data folder of a store that does not exist yet, two below a folder of its own: see `commands.aside`."""
    (memory / "top").mkdir()
    return memory / "top" / "data"


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is such a volume, for what is made and thrown away thousands of times."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="historical-etl-", dir=shared) as folder:
        yield Path(folder)
