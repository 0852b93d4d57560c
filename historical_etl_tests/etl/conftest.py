"""A store with a past: three versions over the turn of a year, made once and copied for each test."""

import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest

from historical_etl import HistoricalETL
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, Ticking, changing, evening, store

#: Version 1 has 2012; version 2 has January 2013 too; in version 3 a volume of 2012 is corrected.
CORRECTED = ("BRK.B", date(2012, 12, 14))


def opened(root: Path, fetcher: object | None = None, **options: object) -> HistoricalETL:
    """The store in `root`, an hour after it was made; the time goes on with each look."""
    clock = Ticking(evening(SHORT.last) + timedelta(hours=1))
    return store(root, fetcher or ScriptedFetcher(SHORT), SHORT.last, **{"clock": clock, **options})


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the store that is copied."""
    root = tmp_path_factory.mktemp("versions") / "data"
    clock = Ticking(evening(SHORT.last))
    opened(root, clock=clock).run_full_etl(SHORT.symbols, SHORT.first, "2012-12-31")
    opened(root, clock=clock).run_full_etl(SHORT.symbols, "2013-01-01", "2013-01-31")
    symbol, day = CORRECTED
    corrected = ScriptedFetcher(SHORT, alter=changing(symbol, day, volume=4321.0))
    opened(root, corrected, clock=clock).run_full_etl([symbol], "2012-12-01", "2012-12-31")
    return root


@pytest.fixture
def etl(pristine: Path, root: Path) -> HistoricalETL:
    """A copy of it, linked and published as the original was."""
    shutil.copytree(pristine, root)
    copy = opened(root)
    copy.repair()
    return copy
