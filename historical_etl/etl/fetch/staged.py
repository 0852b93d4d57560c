"""The fetch plan of a backfill: every symbol's whole range once, staged, and read again year by year.

The source is asked unit by unit, as it is best asked, several at a time within its own pace. What was fetched lies in
staging, so that memory holds a year and not thirty, and an interrupted run asks for nothing again.
"""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from itertools import islice
from typing import Final

import polars as pl

from historical_etl.errors import CoverageError, HistoricalETLError, RateLimitedError, StorageError
from historical_etl.etl.context import StoreContext
from historical_etl.etl.fetch.fetch import fetch_one, in_batches, is_final, outcome_of
from historical_etl.etl.fetch.year_range import Window
from historical_etl.models import Outcome
from historical_etl.schema import empty_frame
from historical_etl.sources.base import ACTIONS, FetchRequest, FetchResult, PriceSource, SourceInfo
from historical_etl.store.staging import StagedUnit, Staging

__all__ = ["StagedSource", "forget_plan", "look_anew", "requests_made", "with_staging"]

_log = logging.getLogger(__name__)
#: What a source says of a symbol for good; after anything else it is asked again.
_FINAL: Final = frozenset({Outcome.OK, Outcome.EMPTY, Outcome.NOT_FOUND})


@dataclass
class StagedSource:
    """A source, with one request of it in staging: what lies inside is read there, all else is asked of the source.

    Attributes:
        source: the source itself.
        staging: where the units of the request lie.
        symbols: of the request.
        start: its first date.
        end: its last date.
    """

    source: PriceSource
    staging: Staging
    symbols: tuple[str, ...]
    start: date
    end: date
    _units: dict[str, StagedUnit] = field(default_factory=dict[str, StagedUnit])
    _failed: dict[str, tuple[Outcome, str]] = field(default_factory=dict[str, tuple[Outcome, str]])
    _unstaged: list[FetchResult] = field(default_factory=list[FetchResult])

    @property
    def info(self) -> SourceInfo:
        """The source's own."""
        return self.source.info

    @property
    def complete(self) -> bool:
        """Whether every unit is staged, so that staging is of no more use once all years are committed."""
        return not self._failed

    @property
    def requests(self) -> int:
        """How many requests were made so far."""
        return requests_made(self.source)

    @property
    def clock_offset(self) -> timedelta | None:
        """How far the source's clock is before ours, if it tells."""
        return clock_offset_of(self.source)

    def members(self, start: date | None, end: date | None) -> list[str]:
        """The source's own."""
        return self.source.members(start, end)

    def member_since(self, symbols: Sequence[str]) -> dict[str, date]:
        """The source's own."""
        known = getattr(self.source, "member_since", None)
        return known(symbols) if known else {}

    def stage(self, workers: int, progress: Callable[[int, int], None] | None = None) -> None:
        """Fetch every unit that is not staged yet.

        Args:
            workers: how many units to fetch at a time.
            progress: called with how many of how many symbols are staged.

        Raises:
            RateLimitedError: the source's limit is reached; what was fetched until then is staged.
            ConfigurationError: the source cannot be asked at all.
            ProviderError: every unit failed: the first failure.
            DiskSpaceError, StorageError: staging cannot be written.
        """
        for unit in self.staging.units():
            self._units |= dict.fromkeys(unit.symbols, unit)
        missing = [symbol for symbol in self.symbols if symbol not in self._units]
        if self._units and missing:
            _log.info("%d of %d symbols were staged before", len(self._units), len(self.symbols))
        capabilities = self.info.capabilities
        size = capabilities.symbols_per_request if capabilities else 1
        failures: list[HistoricalETLError] = []
        stops: list[HistoricalETLError] = []
        with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="fetch") as pool:
            units = in_batches(missing, size)
            fetch = partial(self._fetch, among=tuple(missing))
            for symbols, future in _as_completed(pool, fetch, units, 2 * workers, lambda: bool(stops)):
                try:
                    self._keep(future.result())
                except HistoricalETLError as error:
                    limited = isinstance(error, RateLimitedError) and not error.alone
                    if limited or isinstance(error, StorageError) or is_final(error):
                        stops.append(error)  # what is under way is staged, nothing more is asked for
                        continue
                    failures.append(error)
                    self._failed |= dict.fromkeys(symbols, (outcome_of(error), error.what))
                if progress:
                    progress(len(self._units), len(self.symbols))
        if stops:
            raise stops[0]
        if failures and not self._units:
            raise failures[0]

    def fetch(self, request: FetchRequest) -> FetchResult:
        """What was staged, where the request lies inside it; else the source's own answer."""
        if not (self.start <= request.start and request.end <= self.end and set(request.symbols) <= set(self.symbols)):
            return self.source.fetch(request)
        units = {unit.rows: unit for symbol in request.symbols if (unit := self._units.get(symbol))}.values()
        mine = pl.col("symbol").is_in(request.symbols)
        rows = self.staging.rows(units, request.start, request.end)
        frame = rows.filter(mine).collect() if rows is not None else empty_frame()
        named, foreign = (
            of_units(units, request.start, request.end) for of_units in (self.staging.actions, self.staging.foreign)
        )
        notes_by_part = [unit.notes for unit in units] + [answer.notes for answer in self._unstaged]
        present = set(frame.get_column("symbol").unique())
        outcomes, details = dict[str, Outcome](), dict[str, str]()
        for symbol in request.symbols:
            outcomes[symbol], details[symbol] = self._outcome(symbol, is_present=symbol in present)
        return FetchResult(
            frame,
            outcomes,
            {symbol: detail for symbol, detail in details.items() if detail},
            named.filter(mine).select(list(ACTIONS)).collect() if named is not None else None,
            self._rejected(request, units),
            tuple(dict.fromkeys(note for notes in notes_by_part for note in notes)),
            foreign=foreign.filter(mine).collect() if foreign is not None else None,
        )

    def _rejected(self, request: FetchRequest, units: Iterable[StagedUnit]) -> pl.DataFrame | None:
        """Rows that cannot be read. Those without a date may be of any year: they are reported with the first one."""
        staged = self.staging.rejected(units, request.start, request.end)
        within = pl.col("date").is_between(request.start, request.end).fill_null(value=True)
        found = [staged.collect()] if staged is not None else []
        found += [answer.rejected.filter(within) for answer in self._unstaged if answer.rejected is not None]
        if not found:
            return None
        rejected = pl.concat(found).filter(pl.col("symbol").is_in(request.symbols))
        return rejected if request.start == self.start else rejected.drop_nulls("date")

    def _outcome(self, symbol: str, *, is_present: bool) -> tuple[Outcome, str]:
        if symbol in self._failed:
            return self._failed[symbol]
        unit = self._units[symbol]
        outcome = unit.outcomes[symbol]
        if outcome is Outcome.NOT_FOUND:
            return outcome, unit.details.get(symbol, "")
        return (Outcome.OK if is_present else Outcome.EMPTY), ""

    def _fetch(self, symbols: tuple[str, ...], among: tuple[str, ...]) -> FetchResult:
        return fetch_one(self.source, FetchRequest(symbols, self.start, self.end, among))

    def _keep(self, answer: FetchResult) -> None:
        """Stage what is final of a unit; the rest is asked for again by the next run."""
        final = {s: o for s, o in answer.outcomes.items() if o in _FINAL}
        self._failed |= {
            symbol: (outcome, answer.details.get(symbol, ""))
            for symbol, outcome in answer.outcomes.items()
            if symbol not in final
        }
        mine = pl.col("symbol").is_in(list(final))
        if len(final) < len(answer.outcomes):
            rest = answer.rejected.filter(~mine) if answer.rejected is not None else None
            self._unstaged.append(FetchResult(empty_frame(), {}, rejected=rest, notes=answer.notes))
        if not final:
            return
        frames = {"rows": answer.frame, "actions": answer.actions}
        frames |= {"foreign": answer.foreign, "rejected": answer.rejected}
        parts = {name: frame.filter(mine) for name, frame in frames.items() if frame is not None}
        unit = self.staging.put(parts, final, answer.details, answer.notes)
        self._units |= dict.fromkeys(unit.symbols, unit)


@contextmanager
def with_staging(
    store: StoreContext,
    source: PriceSource,
    symbols: Sequence[str],
    windows: Sequence[Window],
    name: str,
    progress: Callable[[int, int], None] | None = None,
) -> Generator[PriceSource]:
    """The source, with the bars of several windows fetched into staging; itself where that saves no request.

    Staging is cleared once the block has ended well and every symbol was fetched; otherwise the next run of the same
    request goes on from it.

    Args:
        store: whose staging.
        source: where bars come from.
        symbols: of the request.
        windows: its years.
        name: the hash that names it.
        progress: called with how many of how many symbols are fetched.

    Raises: as `StagedSource.stage`.
    """
    if source.info.capabilities is None or len(windows) == 1:
        yield source
        return
    staging = Staging(store.layout, name)
    planned = StagedSource(source, staging, tuple(sorted(symbols)), windows[0].lead_in, windows[-1].end)
    planned.stage(store.settings.fetch_workers, progress)
    try:
        yield planned
    except CoverageError:  # years that the source turned out not to cover: another run will not get them either
        if planned.complete:
            staging.clear()
        raise
    if planned.complete:
        staging.clear()


def requests_made(source: PriceSource) -> int:
    """How many requests a source has made so far; 0 for one that does not count."""
    return int(getattr(source, "requests", 0))


def clock_offset_of(source: PriceSource) -> timedelta | None:
    """How far a vendor's clock is before ours; None for a source that does not tell."""
    return getattr(source, "clock_offset", None)


def forget_plan(source: PriceSource) -> None:
    """Have a source find out anew what the account's plan gives; nothing where it knows of no plans."""
    getattr(source, "forget_plan", lambda: None)()


def look_anew(source: PriceSource) -> None:
    """Have a source take its files as they are now; nothing where it reads none.

    Raises:
        ConfigurationError: they are gone.
    """
    getattr(source, "look_anew", lambda: None)()


def _as_completed(
    pool: ThreadPoolExecutor,
    work: Callable[[tuple[str, ...]], FetchResult],
    units: Iterator[tuple[str, ...]],
    ahead: int,
    stopped: Callable[[], bool],
) -> Iterator[tuple[tuple[str, ...], Future[FetchResult]]]:
    """Units as they finish, with no more than `ahead` of them under way; once stopped, only those already begun."""
    pending: dict[Future[FetchResult], tuple[str, ...]] = {}
    try:
        while True:
            if stopped():
                pending = {future: unit for future, unit in pending.items() if not future.cancel()}
            else:
                pending |= {pool.submit(work, unit): unit for unit in islice(units, ahead - len(pending))}
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield pending.pop(future), future
    finally:
        for future in pending:
            future.cancel()
