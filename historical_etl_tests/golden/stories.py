"""The lives of the recorded stores: who is listed, what goes wrong, who decides, and where a writer is killed."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import pytest

from historical_etl import HistoricalETL, ProviderUnavailableError, Settings, SyncManifest, get_calendar
from historical_etl_tests.golden.recorded import moment
from historical_etl_tests.scenario import SHORT

_CALENDAR: Final = get_calendar("XNYS")
_CODE: Final = 9  # of a process that was killed


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
        return _CALENDAR.back(self.today, -1)


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
    from historical_etl_tests.proofs.simulation.market import SimMarket
    from historical_etl_tests.proofs.simulation.vendor import SimVendor

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
    from historical_etl_tests.proofs.simulation import faults
    from historical_etl_tests.proofs.simulation.market import SimListing

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
    given = [("ACCP", _day(2)), ("BADR", _day(4)), ("LOST", _day(2)), ("LOST", _day(26)), ("PENC", _day(28))]
    given += [("TAKEN", _day(25)), ("LACK", _day(27))]
    evenings = (1, 2, 3, 4, 5, 25, 26, 27, 28, 29, 30)
    return _simulated(listings, evenings, faults=errs, decide=decide, bars=given, whole=False)


def _without_adjusted() -> Story:
    """Raw prices and no adj_close; one volume was corrected."""
    from historical_etl_tests.proofs.simulation.faults import LateCorrection
    from historical_etl_tests.proofs.simulation.market import SimListing

    listings = [SimListing("PLAIN0"), SimListing("PLAIN1"), SimListing("CORR")]
    errs = [LateCorrection("CORR", _day(2), start=_day(2), until=_day(3))]
    return _simulated(listings, range(1, 5), faults=errs, style="unadjusted", bars=[("CORR", _day(2))])


def _named(style: str) -> Story:
    """Splits and dividends that the source names, before and after the backfill."""
    from historical_etl_tests.proofs.simulation.market import SimListing

    listings = [
        SimListing("PLAIN0"),
        SimListing("SPLT", splits=((_day(3), 2.0),)),
        SimListing("PAYR", dividends=((_day(-20), 0.01), (_day(2), 0.02))),
        SimListing("BOTH", splits=((_day(4), 3.0),), dividends=((_day(-12), 0.015),)),
        SimListing("RSPL", splits=((_day(5), 0.1),)),
    ]
    given = [("SPLT", _day(2)), ("PAYR", _day(1)), ("RSPL", _day(4))]
    return _simulated(listings, range(1, 7), style=style, names_actions=True, bars=given, adjusted=True)


def _killed(point: str) -> Story:
    """A writer that was killed in the middle of its commit."""
    from historical_etl_tests.proofs.simulation.market import SimListing

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

    show = transaction.show

    def die(*_: object) -> None:
        os._exit(_CODE)

    def die_after_the_commit(manager: ManifestManager, manifest: SyncManifest, proven: Collection[int] = ()) -> None:
        if proven:
            die()
        show(manager, manifest, proven)  # what a recovery does

    if point == "before":  # the commit: objects and ledgers lie there, and no manifest names them
        ManifestManager.save_manifest = die  # pyright: ignore[reportAttributeAccessIssue]
    else:  # the version stands; daily/, progress and the catalog show the one before
        transaction.show = die_after_the_commit
    story = _killed(point)
    Stage(root, story.source, story.options, minute).at(story.today).run_incremental_etl()


def _every_ledger() -> Story:
    """A row in every ledger and in each status it knows; a pin, a rollback, and runs that failed."""
    from historical_etl_tests.proofs.simulation import faults
    from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
    from historical_etl_tests.proofs.simulation.vendor import SimVendor

    listings = (
        *(SimListing(f"PLAIN{number}") for number in range(3)),
        *map(SimListing, ("ACCP", "BADR", "CORR", "FLAG", "LOST", "NULL", "PENC", "STAL")),
        SimListing("GONE", last=_day(1)),
        SimListing("LACK", dividends=((_day(-10), 0.01), (_day(27), 0.02))),
        SimListing("PAYR", dividends=((_day(-20), 0.01), (_day(2), 0.02))),
        SimListing("RENA", formerly=("OLDN", _day(26))),
        SimListing("SPLT", splits=((_day(4), 2.0),)),
        SimListing("TAKEN", away=(_day(3), _day(24)), again=(_day(25), 3.7)),
        SimListing("THEN", away=(_day(3), _day(24)), again=(_day(25), 0.2)),
    )
    market = SimMarket(seed=5, symbols=listings, first=date(2012, 11, 1), last=_SESSIONS[-1])
    errs = (
        faults.Pence("ACCP", _day(2), 0.01, start=_day(2)),
        faults.ImpossibleRows("BADR", _day(4), "close", -1.0, start=_day(4)),
        faults.LateCorrection("CORR", _day(2), start=_day(2), until=_day(3)),
        faults.ImpossibleRows("FLAG", _day(3), "open", 0.0, start=_day(3)),
        faults.IncompleteHistory("LACK", (_day(-15),), start=_day(27)),
        *(faults.LostDays("LOST", (_day(number),), start=_day(number)) for number in (2, 26, 31)),
        faults.ImpossibleRows("NULL", _day(3), "volume", None, start=_day(4)),
        faults.Pence("PENC", _day(28), start=_day(28)),
        faults.FrozenFeed("STAL", _day(25), _day(28), start=_day(25)),
    )
    first, today = market.first, _day(31)

    def source(day: date) -> SimVendor:
        return SimVendor(market, errs, names_actions=True, today=day)

    decisions: Mapping[int, Callable[[HistoricalETL], object]] = {
        3: lambda etl: etl.accept("ACCP", reason="in pounds from now on", by="anna"),
        5: lambda etl: etl.pin("before-christmas"),
        25: lambda etl: etl.split("TAKEN", reason="another company since January", by="anna"),
        26: lambda etl: etl.rename("OLDN", "RENA", _day(26), reason="it says so in the news", by="anna"),
        27: lambda etl: etl.waive("LOST", _day(26), reason="the exchange lost it", by="anna"),
    }

    def fail(stage: Stage, day: date) -> None:
        unreachable = [*errs, faults.Errors()]
        broken = SimVendor(market, unreachable, names_actions=True, today=day)
        with pytest.raises(ProviderUnavailableError):
            replace(stage, source=lambda _: broken).at(day).run_incremental_etl()
        stage.minute += 1

    def play(stage: Stage) -> None:
        stage.at(_SINCE).run_full_etl(sorted(market.newest_names(_SINCE)), first, _SINCE)
        for number in (1, 2, 3, 4, 5, *range(25, 32)):
            if number == 4:
                fail(stage, _day(number))  # the next version has it in its ledger
            stage.at(_day(number)).run_incremental_etl()
            if number in decisions:
                decisions[number](stage.at(_day(number)))
            if number == 29:
                newest = stage.at(_day(number)).versions()["version"].to_list()[-1]
                stage.at(_day(number)).rollback("before-christmas", reason="to look at it once more")
                stage.at(_day(number)).rollback(newest, reason="looked at")
        fail(stage, today)  # no version has it yet

    given = [("ACCP", _day(2)), ("BADR", _day(4)), ("CORR", _day(2)), ("FLAG", _day(3)), ("LOST", _day(26))]
    given += [("NULL", _day(3)), ("RENA", _day(1)), ("SPLT", _day(3)), ("STAL", _day(27)), ("TAKEN", _day(25))]
    return Story(
        market.names,
        first,
        today,
        play,
        source,
        {"start": first, "keep_versions": 3, "keep_days": 0},
        given,
        whole=False,
        adjusted=True,
        catalog=True,
    )


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
    "every-ledger": _every_ledger,
    "before-ledgers": _before_ledgers,
}

#: Only the releases of their time can make them.
OF_OLD: Final = ("before-ledgers",)
