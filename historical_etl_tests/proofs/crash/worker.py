"""A writer that never stops by itself: it backfills and updates one store until somebody kills it."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl

from historical_etl import FetchRequest, FetchResult, HistoricalETL
from historical_etl.sources.sample import SampleSource

YEARS = (2004, 2005, 2006)
SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
LAST_DAY = date(2006, 12, 29)


class RestlessSource(SampleSource):
    """The sample with another volume at each call, so that every write changes bytes."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def fetch(self, request: FetchRequest) -> FetchResult:
        answer = super().fetch(request)
        return replace(answer, frame=answer.frame.with_columns(pl.col("volume") + self._dice.randrange(1, 1000)))


def store_at(root: Path, day: date, source: SampleSource | None = None) -> HistoricalETL:
    """The store as it is written on the evening of `day`."""
    evening = datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC)
    begin = date(YEARS[0], 1, 1)  # also where an increment meets a symbol that is not stored yet
    return HistoricalETL.open(
        root, source or SampleSource(), clock=lambda: evening, keep_versions=2, keep_days=0, start=begin
    )


def write_everything(root: Path) -> None:
    """The undisturbed run that all disturbed ones must end equal to."""
    store_at(root, LAST_DAY).run_full_etl(SYMBOLS, date(YEARS[0], 1, 1), LAST_DAY)


def write_until_killed(root: Path, seed: int, ready: Connection) -> None:
    """Random backfills and updates, one after the other; tells `ready` once imports and calendar are loaded."""
    dice = random.Random(seed)
    store_at(root, LAST_DAY).last_closed_session()
    ready.send("ready")
    while True:
        etl = store_at(root, date(2006, 1, 10) + timedelta(days=dice.randrange(340)), RestlessSource(dice))
        match dice.randrange(4):
            case 0:
                etl.run_year(dice.choice(YEARS), dice.sample(SYMBOLS, dice.randrange(1, 5)))
            case 1:
                start = date(2004, 1, 5) + timedelta(days=dice.randrange(700))
                etl.run_full_etl(dice.sample(SYMBOLS, 2), start, start + timedelta(days=dice.randrange(20, 200)))
            case 2:
                etl.run_full_etl(SYMBOLS, date(2004, 1, 1), date(2006, 6, 30))
            case _:
                etl.run_incremental_etl(SYMBOLS)
