"""A store that lives with a simulated vendor from one evening to the next, and a person who decides now and then."""

import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from historical_etl import ETLResult, HistoricalETL, Settings
from historical_etl.errors import ConfigurationError, DataQualityError, HistoricalETLError, ProviderError
from historical_etl_tests.proofs.simulation.bars import last_word
from historical_etl_tests.proofs.simulation.shell import Shell, way_out
from historical_etl_tests.proofs.simulation.truth import KEYS, Witness
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import plain_settings, store

__all__ = ["KEYS", "Life", "Person"]

#: Of one symbol no more than so many decisions are needed, with an update after each.
_DECISIONS = 4


@dataclass(frozen=True)
class Person:
    """What someone does beside the updates, and when.

    Attributes:
        renames: by former ticker, the evening on which the store learns of it.
        corrections: from this evening on the store has a file that corrects the calendar to the market's.
        splits: whether another company under an old ticker is distinguished; else both are one series.
    """

    renames: Mapping[str, date] = field(default_factory=dict[str, date])
    corrections: date = date.min
    splits: bool = False


class Life:
    """A store and its vendor, watched at every version.

    Attributes:
        root: the folder of the store.
        vendor: where bars come from.
        etl: the store, on the evening of `vendor.today`.
        witness: has looked at every version so far.
        person: who decides.
    """

    def __init__(
        self,
        root: Path,
        vendor: SimVendor,
        *,
        fetcher: object | None = None,
        person: Person | None = None,
        **options: object,
    ) -> None:
        self.vendor = vendor
        self.person = person or Person()
        self.witness = Witness(vendor, calendar_since=self.person.corrections)
        self.root, self._fetcher = root, fetcher or vendor
        self._options = {"batch_symbols": 12, "start": vendor.market.first, **options}
        self._settings: dict[Path | None, Settings] = {}
        self._open: tuple[tuple[date, Path | None, Path], HistoricalETL] | None = None

    @property
    def etl(self) -> HistoricalETL:
        now = self.vendor.today, self._corrections(), self.root
        if self._open is not None and self._open[0] == now:
            return self._open[1]  # it remembers where symbols stand
        etl = store(self.root, self._fetcher, self.vendor.today, settings=self.settings)
        self._open = now, etl
        return etl

    @property
    def settings(self) -> Settings:
        """Of the store on this evening."""
        file = self._corrections()
        if file not in self._settings:  # made once: it takes as long as an increment of a small market
            changes = {} if file is None else {"calendar_corrections": file}
            self._settings[file] = plain_settings().changed(self._options | changes)
        return self._settings[file]

    def _corrections(self) -> Path | None:
        market = self.vendor.market
        if not (market.closed or market.opened) or self.vendor.today < self.person.corrections:
            return None
        file = self.root.parent / f"{self.root.name}-corrections.csv"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            days = [(day, "removed") for day in market.closed] + [(day, "added") for day in market.opened]
            lines = [f"{market.calendar},{day},{change},as it was," for day, change in days]
            file.write_text("\n".join(["exchange,date,change,reason,close", *lines, ""]), encoding="utf-8")
        return file

    def backfill(self, since: date) -> ETLResult:
        """All that is listed on the evening of `since`, up to it."""
        self.vendor.today = since
        etl, names = self.etl, self.vendor.members(None, since)
        result = etl.run_full_etl(names, self.vendor.market.first, since, progress=lambda _: self.witness.look(etl))
        self.witness.look(etl)
        return result

    def evening(self, day: date, symbols: Iterable[str] | None = None) -> ETLResult:
        """An increment on the evening of a day. If it fails, nothing has moved."""
        self.vendor.today = day
        etl = self.etl
        before = etl.manifest()
        try:
            return etl.run_incremental_etl(symbols, publish=False)
        except HistoricalETLError:
            after = etl.manifest()
            assert (after and after.checksum) == (before and before.checksum), f"{day}: a failed run moved something"
            raise
        finally:
            self.witness.look(etl)

    def through(self, day: date, evenings: Iterable[date] | None = None) -> None:
        """An increment on each evening up to `day`, or on some. New listings are asked for by name, as a person would.

        A run that fails is left at that while something is wrong at the vendor: the next evening comes.
        """
        days = [d for d in self.vendor.market.sessions if self.vendor.today < d <= day]
        for evening in days if evenings is None else sorted(set(evenings) & set(days) | {day}):
            self.vendor.today = evening
            self.rename(evening)
            new = sorted(set(self.vendor.members(None, None)) - set(self.etl.cursors()))
            errs = any(fault.on(evening) and fault.until != date.max for fault in self.vendor.faults)
            for symbols in (new, None):
                if symbols is None or symbols:
                    with suppress(ProviderError, DataQualityError, ConfigurationError) if errs else nullcontext():
                        self.evening(evening, symbols)

    def goes_on(self) -> list[str]:
        """What frees a copy of the store as it stands, typed as the store names it; fails if nothing does.

        Where only the source can put things right, it does, for as long as this takes.
        """
        faults = self.vendor.faults
        with tempfile.TemporaryDirectory(prefix="historical-etl-", dir=self.root.parent) as folder:
            copy = Path(folder) / "data"
            shutil.copytree(self.root, copy)
            try:
                return way_out(Shell(copy, self.vendor, self.settings), self._correct)
            finally:
                self.vendor.faults = faults

    def _correct(self) -> None:
        self.vendor.faults = [fault for fault in self.vendor.faults if fault.until == date.max]

    def decide(self) -> dict[str, str]:
        """Decide on all that is held, with an update after each time, until nothing is; what was held, and why."""
        decided: dict[str, str] = {}
        for _ in range(_DECISIONS):
            etl = self.etl
            held = etl.holds()
            if held.is_empty():
                return decided
            for symbol, code in held.select("symbol", "code").iter_rows():
                decided[symbol] = code
                self.decide_on(symbol)
            self.evening(self.vendor.today)
        return decided

    def decide_on(self, symbol: str) -> None:
        """Say that another company is one, if the person does so, or take what is held as it is."""
        etl = self.etl
        again = {listing.symbol for listing in self.vendor.market.listings if listing.again}
        if self.person.splits and symbol in again:
            self._split(etl, symbol)
        else:
            kept = last_word(self.vendor.faults)
            self.witness.taken |= {key for key in kept if key[1] == symbol}
            etl.accept(symbol, reason="it is as it arrived", by="simulation")
        self.witness.look(etl)

    def _split(self, etl: HistoricalETL, symbol: str) -> None:
        reason, by = "another company took the ticker over", "simulation"
        before, since = set(etl.cursors()), None
        if symbol not in before:  # of what never was stored nothing can be split off
            etl.accept(symbol, reason=reason, by=by)
            self.evening(self.vendor.today)
            since = next(x.again[0] for x in self.vendor.market.listings if x.symbol == symbol and x.again)
            before = set(etl.cursors())
        etl.split(symbol, since, reason=reason, by=by)
        self.witness.names |= dict.fromkeys(set(etl.cursors()) - before, symbol)

    def rename(self, evening: date) -> None:
        """Tell the store of a new ticker, once it is time and if it has the old one."""
        for old, reported in self.person.renames.items():
            new, since = self.vendor.market.former[old]
            if evening >= reported and old in self.etl.cursors():
                etl = self.etl
                try:
                    etl.rename(old, new, since, by="simulation", publish=False)
                except DataQualityError:  # the new one arrived meanwhile, restated since
                    etl.rename(old, new, since, reason="the same company", by="simulation", force=True, publish=False)
                self.witness.look(etl)
