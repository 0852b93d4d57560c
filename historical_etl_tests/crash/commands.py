"""The commands that the proofs by fault disturb: each with the store that it starts from, and what it does.

A command runs on the evening of a fixed day against the sample, so that it does the same whenever it is run, and
comes to the same bytes however often it was disturbed before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl import FetchRequest, FetchResult, HistoricalETL, Settings
from historical_etl.etl.tally import YearEvent
from historical_etl.sources.base import Capabilities
from historical_etl.sources.sample import SampleSource

__all__ = ["COMMANDS", "RETURN", "SEQUENCE", "Command", "Tell", "store_on"]

SYMBOLS: Final = ("AAPL", "IBM")
FIRST, YEAR_END, JANUARY = date(2004, 12, 20), date(2004, 12, 31), date(2005, 1, 5)
#: The evening before AAPL's split, two for one, and its own.
BEFORE, SPLIT = date(2005, 2, 25), date(2005, 2, 28)

#: Told of each version that a command has acknowledged, before it goes on; and, as a negative number, of how many
#: units it has said to be staged.
Tell = Callable[[int], None]


class AsOfSource(SampleSource):
    """The sample as it was on the evening of a day: before its split, AAPL was adjusted to another basis."""

    info = replace(SampleSource.info, capabilities=Capabilities())

    def __init__(self, day: date) -> None:
        self._day = day

    def fetch(self, request: FetchRequest) -> FetchResult:
        answer = super().fetch(request)
        basis = pl.when(pl.col("symbol") == "AAPL").then(1.0 if self._day >= SPLIT else 2.0).otherwise(1.0)
        return replace(answer, frame=answer.frame.with_columns(pl.col("adj_close") * basis))


def store_on(root: Path, day: date) -> HistoricalETL:
    """The store as it is written on the evening of `day`; it keeps two versions."""
    evening = datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC)
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue] - of pydantic-settings
    source = AsOfSource(day)
    return HistoricalETL.open(root, source, clock=lambda: evening, settings=settings, keep_versions=2, keep_days=0)


def _year(root: Path, tell: Tell) -> None:
    etl = store_on(root, YEAR_END)
    tell(etl.run_full_etl(SYMBOLS, FIRST, YEAR_END, progress=_heard(etl, tell)).version)


def _backfill(root: Path, tell: Tell) -> None:
    etl = store_on(root, JANUARY)
    tell(etl.run_full_etl(SYMBOLS, FIRST, JANUARY, progress=_heard(etl, tell)).version)


def _heard(etl: HistoricalETL, tell: Tell) -> Callable[[YearEvent], None]:
    def heard(event: YearEvent) -> None:
        if event.step == "committed":
            tell(_standing(etl))
        elif event.step == "fetching" and event.done:
            tell(-event.done)

    return heard


def _increment(root: Path, tell: Tell) -> None:
    tell(store_on(root, BEFORE).run_incremental_etl().version)


def _restatement(root: Path, tell: Tell) -> None:
    result = store_on(root, SPLIT).run_incremental_etl()
    assert result.version < 5 or result.years_written in ((), (2004, 2005))
    tell(result.version)


def _unpublished(root: Path, tell: Tell) -> None:
    tell(store_on(root, BEFORE).run_incremental_etl(publish=False).version)


def _publish(root: Path, tell: Tell) -> None:
    tell(store_on(root, BEFORE).publish_catalog().version)


def _pin(root: Path, tell: Tell) -> None:
    tell(store_on(root, BEFORE).pin("before-the-split").version)


def _unpin(root: Path, tell: Tell) -> None:
    etl = store_on(root, BEFORE)
    if "before-the-split" in etl.pins():  # run again after a kill, it may be gone
        etl.unpin("before-the-split")
    tell(_standing(etl))


def _rollback(root: Path, tell: Tell) -> None:
    tell(store_on(root, SPLIT).rollback("before-the-split").version)


def _vacuum(root: Path, tell: Tell) -> None:
    etl = store_on(root, SPLIT)
    etl.vacuum(keep_versions=1, keep_days=0)
    tell(_standing(etl))


def _standing(etl: HistoricalETL) -> int:
    manifest = etl.manifest()
    return manifest.version if manifest else 0


@dataclass(frozen=True)
class Command:
    """What is disturbed.

    Attributes:
        run: does it on the store of a folder, and tells of what was acknowledged.
        day: the evening on which it runs, for those who open the store after it.
        before: what is done, undisturbed, before it.
    """

    run: Callable[[Path, Tell], None]
    day: date
    before: tuple[Callable[[Path, Tell], None], ...] = ()


COMMANDS: Final[Mapping[str, Command]] = {
    "backfill": Command(_backfill, JANUARY),
    "increment": Command(_increment, BEFORE, (_backfill,)),
    "restatement": Command(_restatement, SPLIT, (_backfill, _increment)),
    "publish": Command(_publish, BEFORE, (_backfill, _unpublished)),
    "pin": Command(_pin, BEFORE, (_backfill, _increment)),
    "unpin": Command(_unpin, BEFORE, (_backfill, _increment, _pin)),
    "rollback": Command(_rollback, SPLIT, (_backfill, _increment, _pin, _restatement)),
    "vacuum": Command(_vacuum, SPLIT, (_backfill, _increment, _restatement)),
}
#: One after the other on one store, from an empty folder on.
SEQUENCE: Final = (_year, _backfill, _increment, _restatement)
#: As before, and then back again.
RETURN: Final = (_backfill, _increment, _pin, _restatement, _rollback, _unpin, _vacuum)
