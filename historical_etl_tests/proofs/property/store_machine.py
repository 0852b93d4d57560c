"""A store under everything that can be done to it, in any order, beside a model of dicts."""

import random
import shutil
import signal
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from historical_etl import ChecksumMismatchError, HistoricalETL, ManifestCorruptError
from historical_etl.etl.maintenance.archive import export_store, import_store
from historical_etl.store.manifest import ManifestManager
from historical_etl_tests.proofs.crash.intercept import Answer, Step, intercepted
from historical_etl_tests.proofs.property.machines import CountingMachine
from historical_etl_tests.proofs.property.store_looks import assert_daily, difference, end_leases, flip, is_changed
from historical_etl_tests.proofs.property.store_model import (
    DAYS,
    SYMBOLS,
    State,
    Truth,
    cursors_of,
    has_moved,
    lacks_volume,
    state_of,
    with_window,
    with_years,
)
from historical_etl_tests.proofs.property.store_operations import Moment, Operation, current_version
from historical_etl_tests.scenario import current_manifest, evening, stored

__all__ = ["StoreMachine"]

_OVERLAP: Final = 5
_PINS: Final = ("one", "two")
_dice = st.integers(0, 2**32 - 1).map(random.Random)
_days = st.integers(0, len(DAYS) - 1)
_symbols = st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True).map(tuple)


class StoreMachine(CountingMachine):
    """Rules do something to the store and say what it must come to; after each all of it is compared.

    `above` must be set to the folder in which each example may make one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.above))
        self.root = self.folder / "data"
        self.moves = 0
        self.today = 20
        self.ticks = 0
        self.truth = Truth()
        #: Every version that was ever there, and which one stands.
        self.versions: dict[int, State] = {0: {}}
        self.version = 0
        self.pins: dict[str, int] = {}
        #: Versions of which a ledger rotted away.
        self.lack_ledgers: set[int] = set()

    def teardown(self) -> None:
        end_leases()
        shutil.rmtree(self.folder)

    # ── the source and the clock ─────────────────────────────────────────────────────────────────────────────────────

    @rule(days=st.integers(1, 6))
    def wait(self, days: int) -> None:
        """Some sessions pass."""
        later = min(self.today + days, len(DAYS) - 1)
        self.today, self.ticks = later, self.ticks if later == self.today else 0

    @rule(symbol=st.sampled_from(SYMBOLS), factor=st.sampled_from([0.5, 2.0, 0.25]))
    def restate(self, symbol: str, factor: float) -> None:
        """The source tells the whole history of a symbol on another level, unless that would lack stored volumes."""
        lacks = any(lacks_volume(self.versions[version], self.truth, symbol) for version in self.versions)
        if not lacks and 2**-20 < self.truth.levels[symbol] * factor < 2**10:
            self.truth = self.truth.split(symbol, factor)

    @rule(symbol=st.sampled_from(SYMBOLS), day=_days, volume=st.integers(1, 1000))
    def correct(self, symbol: str, day: int, volume: int) -> None:
        """The source corrects a bar."""
        self.truth = self.truth.correct(symbol, DAYS[day], float(volume))

    @rule(symbol=st.sampled_from(SYMBOLS), day=_days)
    def forget(self, symbol: str, day: int) -> None:
        """The source has no volume any more of a bar, or has it again; but for a history that it restates."""
        if self.truth.levels[symbol] == 1:
            self.truth = self.truth.forget(symbol, DAYS[day])

    @precondition(lambda self: not self.truth.released)
    @rule()
    def release(self) -> None:
        """The next release of the calendar has one session less and one more."""
        self.truth = replace(self.truth, released=True)
        self._count("release")

    # ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize(symbols=_symbols, first=_days, length=st.integers(1, 40))
    def begin(self, symbols: tuple[str, ...], first: int, length: int) -> None:
        self._perform(*self._backfill(symbols, first, length))

    @rule(symbols=_symbols, first=_days, length=st.integers(1, 60))
    def backfill(self, symbols: tuple[str, ...], first: int, length: int) -> None:
        self._perform(*self._backfill(symbols, first, length))

    @rule()
    def increment(self) -> None:
        self._perform(*self._increment())

    @rule(which=_dice)
    def roll_back(self, which: random.Random) -> None:
        self._perform(*self._rollback(which))

    @rule(symbols=_symbols, beyond=st.integers(0, 20), as_csv=st.booleans())
    def adopt(self, symbols: tuple[str, ...], beyond: int, as_csv: bool) -> None:
        self._perform(*self._adoption(symbols, beyond, as_csv=as_csv))

    @rule(which=_dice)
    def crash(self, which: random.Random) -> None:
        """Something is broken off by SIGKILL before one of its calls that change the disk."""
        choices = [
            partial(self._backfill, tuple(SYMBOLS), which.randrange(20), which.randrange(1, 60)),
            self._increment,
            partial(self._rollback, which),
            partial(self._adoption, SYMBOLS[:2], which.randrange(20), as_csv=True),
            lambda: (self._operation("vacuum"), [self.current]),
            lambda: (self._operation("publish"), [self.current]),
        ]
        operation, expected = which.choice(choices)()
        point, seen = which.randrange(160), 0

        def decide(step: Step) -> Answer:
            nonlocal seen
            seen += step.changes
            return "kill" if seen == point + 1 else None

        ended = intercepted(operation, self.root, self.folder / "marks", decide)
        assert not ended.error, ended
        assert ended.exitcode in (0, -signal.SIGKILL)
        self._count("killed" if ended.exitcode else "not killed in time")
        before, store = self.version, self._store()
        assert store.verify().ok
        store.vacuum()  # the next write
        self._take_over(expected, finished=ended.exitcode == 0)
        assert self.version >= max([before, *ended.acknowledged])

    # ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: len(self.pins) < len(_PINS))
    @rule(which=_dice)
    def pin(self, which: random.Random) -> None:
        name = next(name for name in _PINS if name not in self.pins)
        version = which.choice(self._kept())
        self._perform(self._operation("pin", name=name, version=version), [self.current])
        self.pins[name] = version

    @precondition(lambda self: self.pins)
    @rule(which=_dice)
    def unpin(self, which: random.Random) -> None:
        name = which.choice(sorted(self.pins))
        self._perform(self._operation("unpin", name=name), [self.current])
        del self.pins[name]

    @rule()
    def vacuum(self) -> None:
        self._perform(self._operation("vacuum"), [self.current])
        store = self._store()
        named = {version: store.manifests.load_version(version).named_paths() for version in self._kept()}
        files = [*store.layout.objects.iterdir(), *store.layout.ledgers.iterdir()]
        there = {store.layout.relative(path) for path in files}
        assert there <= {path for paths in named.values() for path in paths}, "nothing is left that no version names"
        assert there >= {path for version in self._whole() for path in named[version]}

    @rule(which=_dice, as_tar=st.booleans())
    def move(self, which: random.Random, as_tar: bool) -> None:
        """A version is exported, and goes on elsewhere as a store of its own."""
        version = which.choice(self._whole())
        self.moves += 1
        away = self.folder / f"export-{self.moves}{'.tar' if as_tar else ''}"
        export_store(self._store().store.context, away, version)
        self.root = self.folder / f"data-{self.moves}"
        import_store(self._store().store.state, away)
        self.version, self.pins, self.lack_ledgers = version, {}, set()
        self.versions = {0: {}, version: self.versions[version]}
        self._count("move")

    # ── damage ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(which=_dice)
    def rot(self, which: random.Random) -> None:
        """One bit of one file flips; what is read is right or refused, and a repair restores it."""
        store = self._store()
        path = which.choice(self._perishable(store))
        self._count(f"rot in {path.parent.name}")
        flip(path, which)
        committed = path.parent in (store.layout.objects, store.layout.ledgers)
        assert not committed or path.name in str(store.verify().findings), path
        self._read_right_or_not_at_all()
        manifest = current_manifest(self._store())
        expected = [self.current]
        year = next((p.year for p in manifest.partitions if store.layout.resolve(p.path) == path), None)
        if year is not None:
            expected.append(self._fetched_again(year))
        report = self._store().repair(refetch=True)
        if not report.ok:  # older versions that lack what returned with other bytes
            report = self._store().repair()
        assert report.ok, (path, report)
        self._take_over(expected, finished=True)
        if path.parent == store.layout.ledgers:  # its rows are lost, and no price
            named = store.layout.relative(path)
            lack = [v for v in self._kept() if named in store.manifests.load_version(v).named_paths()]
            self.lack_ledgers |= set(lack) if is_changed(path) else set()

    def _perishable(self, store: HistoricalETL) -> list[Path]:
        """The files that may rot: nothing that a pinned version alone would miss for good."""
        layout, manifest = store.layout, current_manifest(store)
        pinned = {
            path for version in self.pins.values() for path in store.manifests.load_version(version).named_paths()
        }
        if any(has_moved(self.current, self.truth, s) or lacks_volume(self.current, self.truth, s) for s in SYMBOLS):
            pinned |= set(manifest.file_paths)  # a year alone cannot come back as it was
        files = [*layout.objects.glob("*.parquet"), *layout.ledgers.glob("*.parquet")]
        others = [layout.manifest_file(), layout.history_file(self.version), layout.progress_file(), layout.catalog]
        older = [layout.history_file(v) for v in self._kept() if v not in (self.version, *self.pins.values())]
        named = [file for file in files if layout.relative(file) not in pinned]
        return sorted({*named, *others, *older, *layout.pins.glob("*.json")})

    def _read_right_or_not_at_all(self) -> None:
        try:
            assert state_of(stored(self._store())) == self.current
        except (ChecksumMismatchError, ManifestCorruptError):
            return

    def _fetched_again(self, year: int) -> State:
        """The version after a year was fetched again, as a whole, for those that had it."""
        lives: dict[str, list[date]] = {}
        for symbol, day in self.current:
            lives.setdefault(symbol, []).append(day)
        known = [symbol for symbol, days in lives.items() if min(days).year <= year <= max(days).year]
        span = max(date(year, 1, 1), DAYS[0]), min(date(year, 12, 31), DAYS[self.today])
        return with_window(self.current, self.truth, dict.fromkeys(known, span))

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        if not self.version:
            return
        store = self._store()
        manifest = current_manifest(store)
        assert manifest.version == self.version
        assert state_of(stored(store)) == self.current
        assert store.cursors() == cursors_of(self.current, self.truth)
        assert {name: pin.version for name, pin in store.pins().items()} == self.pins
        kept = self._kept()
        assert {self.version, *self.pins.values()} <= set(kept)
        for version in kept:
            # By SQL now and then: it takes ten times as long.
            rows = (
                store.query_sql("SELECT * FROM daily_prices", version=version)
                if (version + self.ticks // 100) % 5 == 0
                else store.scan(version=version).collect()
            )
            assert state_of(rows) == self.versions[version], f"version {version}"
            committed = store.manifests.load_version(version).sync_timestamp
            # What stood at that time is known only if the version after it is kept, too.
            if self.ticks // 100 % 3 == 0 and (version == self.version or version + 1 in kept):
                assert state_of(store.scan(as_of=committed).collect()) == self.versions[version], committed
        self._assert_adjusted(store)
        end_leases()
        assert_daily(store, manifest)
        report = store.verify()
        assert report.ok, report.findings

    def _assert_adjusted(self, store: HistoricalETL) -> None:
        """The source takes its splits out and names none: as traded is not known, all else is as stored."""
        adjust = ("none", "splits", "total")[self.ticks // 100 % 3]
        nothing = (None,) * 5
        wanted = {key: (*nothing, *v[5:]) if adjust == "none" else v for key, v in self.current.items()}
        assert state_of(store.scan(adjust=adjust).collect()) == wanted, adjust

    # ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def current(self) -> State:
        return self.versions[self.version]

    def _moment(self) -> Moment:
        self.ticks += 100
        now: datetime = evening(DAYS[self.today]) + timedelta(seconds=self.ticks)
        return Moment(now, self.truth, self.folder / "calendar.csv")

    def _store(self) -> HistoricalETL:
        return self._moment().store(self.root)

    def _kept(self) -> list[int]:
        return ManifestManager(self.root).list_versions()

    def _operation(self, kind: str, **arguments: object) -> Operation:
        return Operation(kind, self._moment(), **arguments)  # pyright: ignore[reportArgumentType] - one of its fields

    def _backfill(self, symbols: Sequence[str], first: int, length: int) -> tuple[Operation, list[State]]:
        """A range that leaves no hole: it meets what is stored of each of the symbols."""
        first = min(first, self.today)
        last = min(first + length, self.today)
        for symbol in symbols:
            mine = [DAYS.index(day) for name, day in self.current if name == symbol and day in DAYS]
            if mine:
                first, last = min(first, max(mine) + 1), max(last, min(mine) - 1)
        first = self._without_hole(symbols, first)
        last = min(max(first, last), self.today)
        first = min(first, last)
        span = DAYS[first], DAYS[last]
        expected = with_years(self.current, self.truth, symbols, *span)
        return self._operation("backfill", symbols=tuple(symbols), span=span), expected

    def _without_hole(self, symbols: Sequence[str], first: int) -> int:
        """Where a range may begin: the commit of its first year must not end before a hole."""
        new_year = next(number for number, day in enumerate(DAYS) if day.year > DAYS[0].year)
        begins = {symbol: min(day for name, day in self.current if name == symbol) for symbol, _ in self.current}
        late = any(begins[symbol] > DAYS[new_year] for symbol in symbols if symbol in begins)
        return max(first, new_year) if late else first

    def _increment(self) -> tuple[Operation, list[State]]:
        days = self.truth.days
        spans = {
            symbol: (days[max(days.index(last) - _OVERLAP + 1, 0)], DAYS[self.today])
            for symbol, last in cursors_of(self.current, self.truth).items()
        }
        return self._operation("increment"), [with_window(self.current, self.truth, spans)]

    def _rollback(self, which: random.Random) -> tuple[Operation, list[State]]:
        version = which.choice(self._whole())
        return self._operation("rollback", version=version), [self.versions[version]]

    def _adoption(self, symbols: Sequence[str], beyond: int, *, as_csv: bool) -> tuple[Operation, list[State]]:
        """Files with the history of some symbols as the source has it now, as far as it is stored or further."""
        stored_days = [DAYS.index(day) for name, day in self.current if name in symbols and day in DAYS]
        first = self._without_hole(symbols, 0)
        last = DAYS[max(first, min(max([*stored_days, 0]) + beyond, self.today))]
        files = Path(tempfile.mkdtemp(dir=self.folder, prefix="files-"))
        for symbol in symbols:
            rows = self.truth.frame([symbol], DAYS[first], last).drop("ret")
            rows = rows.filter(pl.col("date").is_in(self.truth.days))
            if as_csv:
                rows.write_csv(files / f"{symbol}.csv")
            else:
                rows.write_parquet(files / f"{symbol}.parquet")
        expected = with_years(self.current, self.truth, symbols, DAYS[first], last)
        return self._operation("adopt", files=files), expected

    def _perform(self, operation: Operation, expected: Sequence[State]) -> None:
        self._count(operation.kind)
        notes: list[int] = []
        operation(self.root, notes.append)
        self._take_over(expected, finished=True)
        assert notes == [self.version]

    def _take_over(self, expected: Sequence[State], *, finished: bool) -> None:
        """The store's new versions are the expected ones, in their order; the last is there if it was finished."""
        store = self._store()
        newest, at = current_version(store), 0
        assert newest >= self.version, "versions never go back"
        steps = [self.current, *expected]
        for version in range(self.version + 1, newest + 1):
            found = state_of(store.scan(version=version).collect())
            at = next((n for n in range(at, len(steps)) if steps[n] == found), -1)
            assert at >= 0, f"version {version} is none of those that were expected: {difference(found, steps)}"
            self.versions[version] = found
        self.version = newest
        assert not finished or self.current == expected[-1], difference(self.current, expected)

    def _whole(self) -> list[int]:
        """The kept versions that can stand again: with all their ledgers."""
        return [version for version in self._kept() if version not in self.lack_ledgers]

    def _count(self, name: str) -> None:
        self.done[name] += 1
