"""A store in a market whose vendor errs in every known way, under all that a person may do, in any order.

`store_machine` says what each version must be, to the cell, of a vendor that is right. Here the vendor is not, and a
version is held against what the market knows about itself: see `simulation.truth`. From each state something goes on.
"""

import random
import shutil
import sys
import tempfile
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import polars as pl
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from historical_etl import ConfigurationError
from historical_etl.errors import DataQualityError, ProviderError
from historical_etl.etl.maintenance.archive import export_store, import_store
from historical_etl_tests.proofs.property.machines import CountingMachine
from historical_etl_tests.proofs.simulation.bars import Spike
from historical_etl_tests.proofs.simulation.compare import compare
from historical_etl_tests.proofs.simulation.draw import Draw
from historical_etl_tests.proofs.simulation.faults import Fault, PhantomDays
from historical_etl_tests.proofs.simulation.life import Life, Person
from historical_etl_tests.proofs.simulation.market import SimMarket, Style
from historical_etl_tests.proofs.simulation.run import last_truth, with_wrong_calendar
from historical_etl_tests.proofs.simulation.schedule import faults_of
from historical_etl_tests.proofs.simulation.truth import KEYS
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import current_manifest

__all__ = ["LifeMachine"]

_FIRST: Final = date(2009, 8, 3)
_SYMBOLS, _SESSIONS = 12, 130
#: The end of the market, in which the vendor is right.
_QUIET: Final = 24
_AHEAD: Final = 12
_PINS: Final = ("one", "two")
_dice = st.integers(0, 2**32 - 1).map(random.Random)


class LifeMachine(CountingMachine):
    """Rules let time pass, let the vendor err, or do something to the store; after each all versions are looked at.

    `above` must be set to the folder in which each example may make one.
    """

    life: Life

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.above))
        #: What each version held when it was committed, and on which evening that was.
        self.versions: dict[int, pl.DataFrame] = {}
        self.evenings: dict[date, int] = {}
        self.pins: dict[str, int] = {}
        self.moves = 0
        #: The state from which a way out was found last.
        self.freed = (0, 0, 0)
        self.draw: Draw

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None and self.life.etl.manifest() is not None:
                self._ends_well()
        finally:
            shutil.rmtree(self.folder)

    def _ends_well(self) -> None:
        """Once the vendor is right, updates alone bring the truth; what only a person can tell is freed by one."""
        life, market = self.life, self.life.vendor.market
        self._count("end")
        life.vendor.faults = [fault for fault in life.vendor.faults if fault.until == date.max]
        life.person = replace(life.person, renames=dict.fromkeys(market.former, market.last))
        life.through(market.last, evenings=market.sessions[-3:])
        listed = compare(life.etl, market, life.vendor.style, last_truth(life), life.witness.names)
        again = {listing.symbol for listing in market.listings if listing.again}
        spikes = {fault.symbol for fault in life.vendor.faults if isinstance(fault, Spike)}
        assert set(listed.held) <= again | spikes, f"held for no reason: {listed.held}"
        life.goes_on()
        life.decide()
        final = compare(life.etl, market, life.vendor.style, last_truth(life), life.witness.names)
        assert not final.held, f"decided, and still held: {final.held}"

    @initialize(
        seed=st.integers(1, 50), style=st.sampled_from(["raw", "split_adjusted"]), named=st.booleans(), dice=_dice
    )
    def begin(self, seed: int, style: Style, named: bool, dice: random.Random) -> None:
        days = SimMarket(first=_FIRST, last=_FIRST + timedelta(days=400), symbols=()).sessions
        plain = SimMarket(seed=seed, symbols=_SYMBOLS, first=_FIRST, last=days[_SESSIONS - 1])
        market, self.release = with_wrong_calendar(plain, 0.3)
        faults = [PhantomDays(None, (day,), start=day, until=self.release + timedelta(days=4)) for day in market.closed]
        vendor = SimVendor(market, list[Fault](faults), style, names_actions=named)
        person = Person({}, self.release, splits=dice.random() < 0.5)
        self.life = Life(self.folder / "data", vendor, person=person, keep_versions=12)
        self.life.witness.thorough_every = 1
        self.draw = Draw(market, dice, 0, len(market.sessions) - _QUIET)
        self.life.backfill(market.sessions[dice.randint(20, 45)])

    # ── time and the vendor ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def now(self) -> int:
        sessions = self.life.vendor.market.sessions
        return max(at for at, day in enumerate(sessions) if day <= self.life.vendor.today)

    @precondition(lambda self: self.now < _SESSIONS - _QUIET)
    @rule(count=st.integers(1, 6), skip=st.booleans())
    def evenings_pass(self, count: int, skip: bool) -> None:
        """Some sessions pass, with an update on each, or on the last one alone."""
        self._count("evenings")
        self._pass(count, skip=skip)

    @precondition(lambda self: self.now < _SESSIONS - _QUIET - 2)
    @rule(which=_dice, evenings=st.integers(0, 4))
    def vendor_errs(self, which: random.Random, evenings: int) -> None:
        """From the next session on, or soon; and some evenings pass."""
        draw = self.draw
        last = len(self.life.vendor.market.sessions) - _QUIET
        taken = {symbol: list(spans) for symbol, spans in draw.taken.items()}
        first = self.now + 1
        some = Draw(draw.market, which, first, max(first + 2, min(first + _AHEAD, last)), taken)
        known = list(faults_of(some, named=self.life.vendor.names_actions))
        if not known:
            return
        kinds = sorted({type(fault).__name__ for fault in known})
        kind = which.choice(kinds)
        fault = which.choice([fault for fault in known if type(fault).__name__ == kind])
        symbol = getattr(fault, "symbol", None)
        if symbol is not None:
            sessions = draw.market.sessions
            end = max((at for at, day in enumerate(sessions) if day < fault.until), default=len(sessions) - 1)
            draw.take(symbol, max(0, sessions.index(min(day for day in sessions if day >= fault.start))), end)
        self.life.vendor.faults = [*self.life.vendor.faults, fault]
        self._count(type(fault).__name__)
        self._pass(evenings, skip=False)

    # ── what a person does ───────────────────────────────────────────────────────────────────────────────────────────

    @rule(which=_dice)
    def backfill(self, which: random.Random) -> None:
        """Some symbols and some range again."""
        market, today = self.life.vendor.market, self.life.vendor.today
        known = self.life.vendor.members(None, today)
        symbols = which.sample(known, which.randint(1, len(known)))
        days = [day for day in market.sessions if day <= today]
        first, last = sorted((which.choice(days), which.choice(days)))
        self._count("backfill")
        with self._errs():
            self.life.etl.run_full_etl(symbols, first, last, resume=False)
        self.life.witness.look(self.life.etl)

    @rule(which=_dice)
    def rename(self, which: random.Random) -> None:
        """The store learns of a new ticker, some time after it was introduced."""
        market, today = self.life.vendor.market, self.life.vendor.today
        reported = [old for old, (_, since) in market.former.items() if since <= today]
        if not reported:
            return
        old = which.choice(reported)
        self.life.person = replace(self.life.person, renames={**self.life.person.renames, old: today})
        self._count("rename")
        self.life.rename(today)

    @rule(which=_dice)
    def decide(self, which: random.Random) -> None:
        """A person takes another company for one, or for two; what the vendor may correct is left alone."""
        again = {listing.symbol for listing in self.life.vendor.market.listings if listing.again}
        held = [symbol for symbol in self.life.etl.holds()["symbol"].unique().sort() if symbol in again]
        if held and not self._errs_now():
            self._count("decide")
            self.life.decide_on(which.choice(held))

    @rule(which=_dice)
    def waive_all(self, which: random.Random) -> None:
        """Of a day that some lack."""
        gaps = self.life.etl.gaps().filter(pl.col("status") == "open")
        if gaps.is_empty():
            return
        first, last = which.choice(gaps.select("first_session", "last_session").rows())
        self._count("waive")
        self.life.etl.waive(None, first, last, reason="the exchange was closed", by="machine")
        self.life.witness.look(self.life.etl)

    @rule(which=_dice)
    def roll_back(self, which: random.Random) -> None:
        version = which.choice(self._kept())
        self._count("rollback")
        self.life.etl.rollback(version)
        self.life.witness.forget()
        self.life.witness.look(self.life.etl)
        assert self._stored().equals(self.versions[version])

    @precondition(lambda self: len(self.pins) < len(_PINS))
    @rule(which=_dice)
    def pin(self, which: random.Random) -> None:
        name = next(name for name in _PINS if name not in self.pins)
        self.pins[name] = which.choice(self._kept())
        self.life.etl.pin(name, self.pins[name])

    @rule(as_tar=st.booleans())
    def move(self, as_tar: bool) -> None:
        """The store goes on elsewhere, without its past."""
        self.moves += 1
        away = self.folder / f"export-{self.moves}{'.tar' if as_tar else ''}"
        export_store(self.life.etl.store.context, away)
        self.life.root = self.folder / f"data-{self.moves}"
        import_store(self.life.etl.store.state, away)
        version = current_manifest(self.life.etl).version
        self.versions, self.pins = {version: self.versions[version]}, {}
        self.evenings = {}
        self.life.witness.evenings = {}
        self._count("move")

    @precondition(lambda self: self.freed != self._state())
    @rule()
    def look_for_a_way_out(self) -> None:
        self.freed = self._state()
        self._count("way out")
        typed = self.life.goes_on()
        self.done["typed"] += len(typed)

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def every_version_is_what_it_was(self) -> None:
        etl = self.life.etl
        manifest = etl.manifest()
        if manifest is None:
            return
        kept = self._kept()
        for version in {*kept[:1], *kept[-2:], *(set(kept) - self.versions.keys())}:
            rows = etl.scan(version=version).collect().sort(KEYS)
            assert self.versions.setdefault(version, rows).equals(rows), f"version {version} is another one now"
        self.evenings[self.life.vendor.today] = manifest.version
        for evening, version in list(self.evenings.items())[-3:]:
            # Which version stood then is known only by the one after it.
            if version in kept and (version + 1 in kept or version == manifest.version):
                assert etl.scan(as_of=evening).collect().sort(KEYS).equals(self.versions[version]), evening
        for name, version in self.pins.items():
            assert etl.scan(version=name).collect().sort(KEYS).equals(self.versions[version]), name
        report = etl.verify()
        assert report.ok, report.findings

    # ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _pass(self, count: int, *, skip: bool) -> None:
        market = self.life.vendor.market
        until = market.sessions[min(self.now + count, len(market.sessions) - _QUIET)]
        self.life.through(until, evenings=[] if skip else None)

    def _errs_now(self) -> bool:
        today = self.life.vendor.today
        return any(fault.on(today) for fault in self.life.vendor.faults)

    def _errs(self) -> AbstractContextManager[None]:
        errors = suppress(ProviderError, DataQualityError, ConfigurationError)
        return errors if self._errs_now() else nullcontext()

    def _state(self) -> tuple[int, int, int]:
        manifest = self.life.etl.manifest()
        return manifest.version if manifest else 0, self.now, len(self.life.vendor.faults)

    def _kept(self) -> list[int]:
        return self.life.etl.manifests.list_versions()

    def _stored(self) -> pl.DataFrame:
        return self.life.etl.scan().collect().sort(KEYS)

    def _count(self, name: str) -> None:
        self.done[name] += 1
