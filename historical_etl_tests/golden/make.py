"""Make the recorded stores of a release: `python -m historical_etl_tests.golden.make RELEASE [STORE …]`.

It says how the stores that lie here were made, and makes those of a later release; one that is there is never made
again. Equal code gives equal rows, ledgers and manifests: the clock and the sources are the story's own.
"""

import argparse
import json
import lzma
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import polars as pl

from historical_etl import FetchRequest, HistoricalETL, Settings, get_calendar
from historical_etl_tests.golden.recorded import FOLDER, moment, read_recorded
from historical_etl_tests.scenario import SHORT

_CALENDAR: Final = get_calendar("XNYS")
#: Never packed: the lock names the machine.
_LEFT_OUT: Final = ("manifests/historical_daily.lock",)
_CATALOG: Final = ("duckdb/historical_catalog.duckdb", "manifests/historical_daily.catalog")
_EPOCH: Final = 1_400_000_000  # of the first file in an archive
_CODE: Final = 9
#: What a backfill asks for before its first session, and does not store, lies within these.
_LEAD: Final = timedelta(days=60)


@dataclass
class Stage:
    """A store that lives from evening to evening."""

    root: Path
    source: Callable[[date], Any]
    options: Mapping[str, object]
    minute: int = 0

    def at(self, day: date) -> HistoricalETL:
        """The store on an evening, a minute later than the command before."""
        self.minute += 1
        now: datetime = moment(day, self.minute)
        settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue] - of pydantic-settings
        options: dict[str, Any] = dict(self.options)
        return HistoricalETL.open(
            self.root, self.source(day), clock=lambda: now, settings=settings, writer_id="golden", **options
        )


@dataclass(frozen=True)
class Story:
    """The life of one store.

    Attributes:
        symbols: what its source lists.
        first: the first session that was asked for.
        today: the evening of its last run.
        play: lives it.
        source: of an evening.
        options: settings.
        bars: explained, by symbol and session.
        whole: whether all that the source gives is stored, so that a new store with the same bars is the same one.
        interrupted: whether a writer was killed, and left work to the next one.
        adjusted: whether adjusted prices are recorded.
        catalog: whether the catalog is packed, too.
        exported: a version, by number or pin, that is exported.
    """

    symbols: Sequence[str]
    first: date
    today: date
    play: Callable[[Stage], None]
    source: Callable[[date], Any]
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    bars: Sequence[tuple[str, date]] = ()
    whole: bool = True
    interrupted: bool = False
    adjusted: bool = False
    catalog: bool = False
    exported: str | None = None

    @property
    def following(self) -> date:
        return _CALENDAR.after(self.today)


# ── stories ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _replay() -> Story:
    """February 2005: a split, two dividends, corrections and a late bar; a pin, and a return to it."""
    from historical_etl.sources.replay import ReplaySource

    symbols, first, since, today = (
        ("AAPL", "GOOG", "IBM", "MSFT"),
        date(2004, 7, 1),
        date(2005, 1, 31),
        date(2005, 3, 2),
    )
    before, split = date(2005, 2, 25), date(2005, 2, 28)

    def play(stage: Stage) -> None:
        stage.at(since).run_full_etl(symbols, first, since)
        for day in _CALENDAR.between(date(2005, 2, 1), split):
            stage.at(day).run_incremental_etl()
            if day == before:
                stage.at(day).pin("before-the-split")
        stage.at(split).rollback("before-the-split", reason="to look at it once more")
        for day in _CALENDAR.between(date(2005, 3, 1), today):
            stage.at(day).run_incremental_etl()

    return Story(
        symbols,
        first,
        today,
        play,
        lambda day: ReplaySource(lambda: day),
        {"start": first, "keep_versions": 3, "keep_days": 0},
        (("AAPL", before), ("MSFT", date(2005, 2, 1)), ("IBM", date(2005, 2, 16))),
        adjusted=True,
        catalog=True,
        exported="before-the-split",
    )


_SINCE: Final = date(2012, 12, 12)
_SESSIONS: Final = _CALENDAR.between(date(2012, 9, 4), date(2013, 3, 1)).to_list()


def _day(number: int) -> date:
    """The session so many after the backfill; below 1, before it."""
    return _SESSIONS[_SESSIONS.index(_SINCE) + number]


def _simulated(
    listings: Sequence[Any],
    evenings: Sequence[int],
    *,
    faults: Sequence[Any] = (),
    style: str = "raw",
    names_actions: bool = False,
    decide: Mapping[int, Callable[[HistoricalETL], object]] | None = None,
    first: date = date(2012, 11, 1),
    **facts: Any,
) -> Story:
    """A made-up market: a backfill on `_SINCE`, then some evenings, after which people decide."""
    from historical_etl_tests.simulation import SimMarket
    from historical_etl_tests.simulation_vendor import SimVendor

    market = SimMarket(seed=4, symbols=tuple(listings), first=first, last=_SESSIONS[-1])
    play = facts.pop("play", None)

    def source(day: date) -> SimVendor:
        return SimVendor(market, faults, style, names_actions, today=day)  # pyright: ignore[reportArgumentType]

    def live(stage: Stage) -> None:
        stage.at(_SINCE).run_full_etl(market.names, first, _SINCE)
        for number in evenings:
            stage.at(_day(number)).run_incremental_etl()
            if decide and number in decide:
                decide[number](stage.at(_day(number)))
        if play:
            play(stage)

    today = _day(facts.pop("today", evenings[-1]))
    options = {"start": first, "keep_versions": 3, "keep_days": 0}
    return Story(market.names, first, today, live, source, options, **facts)


def _held() -> Story:
    """Every kind of hold and gap, open and closed."""
    from historical_etl_tests import simulation_faults as faults
    from historical_etl_tests.simulation import SimListing

    listings = (
        *(SimListing(f"PLAIN{number}") for number in range(4)),
        SimListing("ACCP"),
        SimListing("BADR"),
        SimListing("GONE", last=_day(1)),
        SimListing("LACK", dividends=((_day(-10), 0.01), (_day(27), 0.02))),
        SimListing("LOST"),
        SimListing("PENC"),
        SimListing("TAKEN", away=(_day(3), _day(24)), again=(_day(25), 3.7)),
        SimListing("TWICE"),
    )
    errs = (
        faults.Pence("ACCP", _day(2), 0.01, start=_day(2)),
        faults.ImpossibleRows("BADR", _day(4), "close", -1.0, start=_day(4)),
        faults.IncompleteHistory("LACK", (_day(-15),), start=_day(27)),
        *(faults.LostDays("LOST", (_day(number),), start=_day(number)) for number in (2, 26, 30)),
        faults.Pence("PENC", _day(28), start=_day(28)),
        faults.ContradictoryDuplicate("TWICE", _day(28), start=_day(28)),
    )
    decide: Mapping[int, Callable[[HistoricalETL], object]] = {
        3: lambda etl: etl.accept("ACCP", reason="in pounds from now on", by="anna"),
        27: lambda etl: etl.waive("LOST", _day(26), reason="the exchange lost it", by="anna"),
    }
    told = [("ACCP", _day(2)), ("BADR", _day(4)), ("LOST", _day(2)), ("LOST", _day(26)), ("PENC", _day(28))]
    told += [("TAKEN", _day(25)), ("LACK", _day(27))]
    evenings = (1, 2, 3, 4, 5, 25, 26, 27, 28, 29, 30)
    return _simulated(listings, evenings, faults=errs, decide=decide, bars=told, whole=False)


def _without_adjusted() -> Story:
    """Raw prices and no adj_close; one volume was corrected."""
    from historical_etl_tests.simulation import SimListing
    from historical_etl_tests.simulation_faults import LateCorrection

    listings = [SimListing("PLAIN0"), SimListing("PLAIN1"), SimListing("CORR")]
    errs = [LateCorrection("CORR", _day(2), start=_day(2), until=_day(3))]
    return _simulated(listings, range(1, 5), faults=errs, style="unadjusted", bars=[("CORR", _day(2))])


def _named(style: str) -> Story:
    """Splits and dividends that the source names, before and after the backfill."""
    from historical_etl_tests.simulation import SimListing

    listings = [
        SimListing("PLAIN0"),
        SimListing("SPLT", splits=((_day(3), 2.0),)),
        SimListing("PAYR", dividends=((_day(-20), 0.01), (_day(2), 0.02))),
        SimListing("BOTH", splits=((_day(4), 3.0),), dividends=((_day(-12), 0.015),)),
        SimListing("RSPL", splits=((_day(5), 0.1),)),
    ]
    told = [("SPLT", _day(2)), ("PAYR", _day(1)), ("RSPL", _day(4))]
    return _simulated(listings, range(1, 7), style=style, names_actions=True, bars=told, adjusted=True)


def _killed(point: str) -> Story:
    """A writer that was killed in the middle of its commit."""
    from historical_etl_tests.simulation import SimListing

    def killed(stage: Stage) -> None:
        child = get_context("spawn").Process(target=_run_and_die, args=(stage.root, point, stage.minute))
        child.start()
        child.join()
        assert child.exitcode == _CODE, f"it ended with {child.exitcode}"

    listings = [SimListing("PLAIN0"), SimListing("PLAIN1"), SimListing("PAYR", dividends=((_day(2), 0.02),))]
    return _simulated(listings, [1], play=killed, today=2, whole=False, interrupted=True)


def _run_and_die(root: Path, point: str, minute: int) -> None:
    from historical_etl.store import transaction
    from historical_etl.store.manifest import ManifestManager

    show = transaction._show

    def die(*_: object) -> None:
        os._exit(_CODE)

    def die_after_the_commit(*facts: Any, proven: bool) -> None:
        if proven:
            die()
        show(*facts, proven=proven)  # what a recovery does

    if point == "before":  # the commit: objects and ledgers lie there, and no manifest names them
        ManifestManager.save_manifest = die  # pyright: ignore[reportAttributeAccessIssue]
    else:  # the version stands; daily/, progress and the catalog show the one before
        transaction._show = die_after_the_commit
    story = _killed(point)
    Stage(root, story.source, story.options, minute).at(story.today).run_incremental_etl()


def _before_ledgers() -> Story:
    """Made by a release that kept no ledgers: awkward symbols over a year's end."""
    from historical_etl_tests.scenario import ScriptedSource

    since, today = date(2013, 2, 25), date(2013, 2, 27)

    def play(stage: Stage) -> None:
        stage.at(since).run_full_etl(SHORT.symbols, SHORT.first, since)
        for day in _CALENDAR.between(date(2013, 2, 26), today):
            stage.at(day).run_incremental_etl()

    options = {"start": SHORT.first}
    return Story(SHORT.symbols, SHORT.first, today, play, lambda _: ScriptedSource(SHORT), options)


STORIES: Final[Mapping[str, Callable[[], Story]]] = {
    "replay": _replay,
    "held": _held,
    "without-adj-close": _without_adjusted,
    "named-raw": lambda: _named("raw"),
    "named-split-adjusted": lambda: _named("split_adjusted"),
    "killed-before": lambda: _killed("before"),
    "killed-after": lambda: _killed("after"),
    "before-ledgers": _before_ledgers,
}

#: Only the releases of their time can make them.
_OF_OLD: Final = ("before-ledgers",)

# ── what is written ────────────────────────────────────────────────────────────────────────────────────────────────


def make(folder: Path, name: str) -> None:
    """Live a story, and write down the store, its source and what it must answer."""
    story = STORIES[name]()
    scratch = Path(tempfile.gettempdir()) / "historical-etl-golden"  # a fixed one, since a catalog names its place
    scratch.mkdir()
    try:
        root = scratch / "data"
        stage = Stage(root, story.source, story.options)
        story.play(stage)
        bars, actions = _given(story)
        info = {key: value for key, value in asdict(story.source(story.today).info).items() if key in _SAID}
        facts = {
            "source": info,
            "actions": actions,
            "symbols": list(story.symbols),
            "first": str(story.first),
            "today": str(story.today),
            "following": str(story.following),
            "options": {key: str(value) if isinstance(value, date) else value for key, value in story.options.items()},
            "whole": story.whole,
            "interrupted": story.interrupted,
            **read_recorded(root),
            "told": _told(stage.at(story.today), story.bars) if story.bars else [],
            "adjusted": _adjusted(stage.at(story.today)) if story.adjusted else [],
        }
        if story.exported:
            facts["exported"] = stage.at(story.today).pins()[story.exported].version
            stage.at(story.today).export(folder / f"{name}.export.tar", story.exported)
        left_out = _LEFT_OUT if story.catalog else (*_LEFT_OUT, *_CATALOG)
        _pack(root, folder / f"{name}.tar.xz", left_out)
    finally:
        shutil.rmtree(scratch)
    bars.write_parquet(folder / f"{name}.parquet", compression="zstd", compression_level=19)
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")


_SAID: Final = ("name", "version", "adjustment", "split_adjusted")


def _given(story: Story) -> tuple[pl.DataFrame, list[list[Any]] | None]:
    """What the source gives on the two evenings; fails if what it gave on the first is not a part of the second."""
    request = FetchRequest(tuple(story.symbols), story.first - _LEAD, story.following)
    earlier, later = (story.source(day).fetch(request) for day in (story.today, story.following))
    frame, before = (answer.frame.filter(pl.col("date") <= story.following) for answer in (later, earlier))
    order = ["date", "symbol"]
    assert frame.filter(pl.col("date") <= story.today).equals(before.filter(pl.col("date") <= story.today))
    named = getattr(later, "actions", None)
    return frame.sort(order, maintain_order=True), _plain(named)


def _plain(actions: pl.DataFrame | None) -> list[list[Any]] | None:
    return None if actions is None else [list(row) for row in actions.with_columns(pl.col("date").cast(str)).rows()]


def _told(etl: HistoricalETL, bars: Sequence[tuple[str, date]]) -> list[dict[str, Any]]:
    """The stories of some bars, without their texts."""
    names = ("version", "event", "column", "old", "new")
    return [
        {"symbol": symbol, "date": str(day), "events": [list(row) for row in etl.explain(symbol, day)[names].rows()]}
        for symbol, day in bars
    ]


def _adjusted(etl: HistoricalETL) -> list[list[Any]]:
    """The first and the last bar of each symbol, adjusted in every way."""
    found: list[list[Any]] = []
    for adjust in ("none", "splits", "total"):
        rows = etl.scan(adjust=adjust).collect().sort("symbol", "date")
        ends = pl.concat([rows.group_by("symbol", maintain_order=True).first(), rows.group_by("symbol").last()])
        ends = ends.sort("symbol", "date").select("symbol", pl.col("date").cast(str), "open", "close", "volume")
        found += [[adjust, *row] for row in ends.rows()]
    return found


def _pack(root: Path, target: Path, left_out: Sequence[str]) -> None:
    """Every file, in the order of names; a second name of one file is a hard link, as on disk."""
    times: dict[str, int] = {}  # no two alike, since a copy in daily/ is known by its size and its time
    with (
        lzma.open(target, "wb", preset=9 | lzma.PRESET_EXTREME) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for path in sorted(root.rglob("*")):
            if path.is_file() and str(path.relative_to(root)) not in left_out:
                entry = tar.gettarinfo(path, str(path.relative_to(root)))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                entry.mtime = times.setdefault(entry.linkname or entry.name, _EPOCH + len(times))
                with path.open("rb") as content:
                    tar.addfile(entry, content if entry.isreg() else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the stores of a release."""
    parser = argparse.ArgumentParser(prog="python -m historical_etl_tests.golden.make", description=__doc__)
    parser.add_argument("release", help="the folder that they come into, beside this file")
    parser.add_argument("stores", nargs="*", default=[], help=f"some of {', '.join(STORIES)}")
    options = parser.parse_args(arguments)
    folder = FOLDER / options.release
    folder.mkdir(exist_ok=True)
    for name in options.stores or [story for story in STORIES if story not in _OF_OLD]:
        if (folder / f"{name}.json").exists():
            print(f"{options.release}/{name} is there already: left alone")
            continue
        make(folder, name)
        print(f"{options.release}/{name}: {sum(path.stat().st_size for path in folder.glob(f'{name}.*')):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
