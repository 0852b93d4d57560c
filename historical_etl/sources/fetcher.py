"""UnifiedDataFetcher: the one door to all sources, chosen by the settings and never by a failed call."""

import logging
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, cast

import polars as pl

from historical_etl.clock import Clock, as_date, system_clock
from historical_etl.errors import ConfigurationError, ProviderNotSupportedError
from historical_etl.fork_guard import refuse_lost_threads
from historical_etl.masking import display_value
from historical_etl.models import Outcome
from historical_etl.regular_files import facts_of
from historical_etl.settings import LENIENT_ENVIRONMENTS, Settings, load_settings
from historical_etl.sources.base import FetchRequest, FetchResult, PriceSource, SourceInfo
from historical_etl.sources.replay import is_replay, replay_source
from historical_etl.sources.sample import SampleSource
from historical_etl.sources.universe import PACKAGED_UNIVERSES, MembershipTable, packaged_universe
from historical_etl.symbols import normalize_symbols

__all__ = ["ENTRY_POINTS", "SOURCES", "UnifiedDataFetcher", "require_source"]

_log = logging.getLogger(__name__)

#: The group of entry points by which another package brings a source: each a callable of `Settings`.
ENTRY_POINTS: Final = "historical_etl.sources"


def _files(settings: Settings) -> PriceSource:
    from historical_etl.sources.files import FilesSource

    return FilesSource(settings.files, exchange=settings.exchange)


def _tiingo(settings: Settings) -> PriceSource:
    from historical_etl.sources.vendors.tiingo import TiingoSource

    return TiingoSource(settings.tiingo)


def _eodhd(settings: Settings) -> PriceSource:
    from historical_etl.sources.vendors.eodhd import EodhdSource

    return EodhdSource(settings.eodhd, exchange=settings.exchange, calendar_corrections=settings.calendar_corrections)


def _yfinance(settings: Settings) -> PriceSource:
    from historical_etl.sources.vendors.yfinance import YfinanceSource

    return YfinanceSource(settings.yfinance, exchange=settings.exchange)


def _alpaca(settings: Settings) -> PriceSource:
    from historical_etl.sources.vendors.alpaca import AlpacaSource

    return AlpacaSource(settings.alpaca)


def _massive(settings: Settings) -> PriceSource:
    from historical_etl.sources.vendors.massive import MassiveSource

    return MassiveSource(
        settings.massive, exchange=settings.exchange, calendar_corrections=settings.calendar_corrections
    )


#: Every source by the name the setting `source` knows it by.
SOURCES: Final[dict[str, Callable[[Settings], PriceSource]]] = {
    "sample": lambda _: SampleSource(),
    "files": _files,
    "tiingo": _tiingo,
    "eodhd": _eodhd,
    "yfinance": _yfinance,
    "alpaca": _alpaca,
    "massive": _massive,
}
#: Sources that are not `real`, known before they are made: to say so for itself, `files` would read every file.
_NOT_REAL: Final = frozenset({"sample"})
#: Names of environments that a message may show.
_PRODUCTION: Final = ("production", "staging", *LENIENT_ENVIRONMENTS)


class UnifiedDataFetcher:
    """Fetches daily bars from the configured source.

    Args:
        settings: default: read from the environment.
        provider: the source's name; default: the setting `source`. There is never a fallback to another one,
            so that a symbol's history never mixes two vendors.
        clock: of the run. Only the replay of the sample (setting `replay_from`) asks it: what it delivers is what a
            vendor had at that time.

    Raises:
        ConfigurationError: the source is unknown, lacks a setting, or is the sample in production.
    """

    def __init__(
        self, settings: Settings | None = None, provider: str | None = None, *, clock: Clock = system_clock
    ) -> None:
        self.settings = settings or load_settings()
        name = _name(self.settings, provider)
        make = require_source(self.settings, provider)
        replayed = is_replay(self.settings, name)
        self._source = replay_source(self.settings, clock) if replayed else make(self.settings)
        self._universe, self._table = _load_universe(self.settings.universe), _facts_of_universe(self.settings.universe)

    @property
    def info(self) -> SourceInfo:
        """What the source says of itself: coverage, price basis, version."""
        return self._source.info

    @property
    def source(self) -> PriceSource:
        """The source itself, for what only one of its kind can tell."""
        return self._source

    @property
    def requests(self) -> int:
        """How many requests the source has made so far, retries included; 0 where it does not count."""
        return int(getattr(self._source, "requests", 0))

    @property
    def clock_offset(self) -> timedelta | None:
        """How far the vendor's clock is before ours, as of its last answer; None where that is not known."""
        return getattr(self._source, "clock_offset", None)

    def close(self) -> None:
        """Close what the source holds open; it is not used again."""
        getattr(self._source, "close", lambda: None)()

    def forget_plan(self) -> None:
        """Have the source find out anew what the account's plan gives; nothing where it knows of no plans."""
        getattr(self._source, "forget_plan", lambda: None)()

    def look_anew(self) -> None:
        """Have the source take its files as they are now, and read the membership table again if it has changed.

        Raises:
            ConfigurationError: the files are gone, or the table cannot be read.
        """
        getattr(self._source, "look_anew", lambda: None)()
        table = _facts_of_universe(self.settings.universe)
        if table != self._table:
            self._universe, self._table = _load_universe(self.settings.universe), table

    def get_daily_prices(
        self, symbols: Iterable[str] | str, start_date: date | datetime | str, end_date: date | datetime | str
    ) -> pl.DataFrame:
        """Daily bars, both ends included; columns and dtypes as in `SCHEMA`, `ret` null, sorted by (date, symbol).

        Symbols without data are absent; `fetch` tells why.

        Raises:
            ConfigurationError: a symbol is malformed, the list empty or the range reversed.
            CoverageError: the range lies outside what the source covers.
            ProviderError: the source failed.
        """
        start, end = as_date(start_date, "start_date"), as_date(end_date, "end_date")
        request = FetchRequest(tuple(normalize_symbols(symbols)), start, end)
        self.look_anew()
        answer = self.fetch(request)
        failed = [symbol for symbol, outcome in answer.outcomes.items() if outcome is Outcome.ERROR]
        frame = answer.frame.filter(~pl.col("symbol").is_in(failed)) if failed else answer.frame
        return frame.sort("date", "symbol")

    def fetch(self, request: FetchRequest) -> FetchResult:
        """Bars and one outcome for each symbol of the request. Raises as `get_daily_prices` does."""
        refuse_lost_threads()
        return self._source.fetch(request)

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Symbols in the universe on any day from `start` to `end`, sorted.

        The universe is the setting `symbols`, else the configured membership table, else what the source knows; files
        are taken as they are now.
        """
        refuse_lost_threads()
        self.look_anew()
        if self.settings.symbols:
            return sorted(self.settings.symbols)
        if self._universe is not None:
            return self._universe.members(start, end)
        found = self._source.members(start, end)
        bounded = start is not None or end is not None
        if found and bounded and self.settings.is_production and not self.info.point_in_time:
            _log.warning(
                "The %d symbols are those that the source %r has, which need not be all of %s to %s: it may hold"
                " today's survivors only. Set HISTORICAL_ETL_UNIVERSE or HISTORICAL_ETL_SYMBOLS",
                len(found),
                self.info.name,
                start or "its beginning",
                end or "its end",
            )
        return found

    def member_since(self, symbols: Iterable[str]) -> dict[str, date]:
        """Since when symbols are in the configured membership table: bars are expected from then on.

        Empty without a table; symbols that are not in it are left out.
        """
        if self._universe is None:
            return {}
        spans = {symbol: self._universe.intervals(symbol) for symbol in symbols}
        return {symbol: min(interval.start for interval in found) for symbol, found in spans.items() if found}

    def get_universe(self, as_of_date: date | datetime | str | None = None) -> list[str]:
        """The symbols of the universe on a day, sorted; without a day, every symbol it ever had.

        Raises:
            ProviderNotSupportedError: no membership table is configured, and the source has no universe; or, in
                production, one that is not point-in-time: its answer would hold today's survivors only.
        """
        as_of = None if as_of_date is None else as_date(as_of_date, "as_of_date")
        from_source = self._universe is None and not self.settings.symbols
        if as_of is not None and from_source and not self.info.point_in_time:
            capabilities = self.info.capabilities
            if self.settings.is_production or (capabilities is not None and not capabilities.universe):
                raise ProviderNotSupportedError(
                    f"The source {self.info.name!r} does not know which symbols existed on {as_of}",
                    where=self.info.name,
                    todo="set HISTORICAL_ETL_UNIVERSE to a table of membership intervals, or HISTORICAL_ETL_SYMBOLS",
                )
        return self.members(as_of, as_of)


def require_source(settings: Settings, provider: str | None = None) -> Callable[[Settings], PriceSource]:
    """What makes the configured source. Whether that has its key and its files is found out when it is made.

    Raises:
        ConfigurationError: the source is unknown, or is the sample in production.
    """
    name = _name(settings, provider)
    make = _maker(name)
    if settings.is_production and name in _NOT_REAL:
        raise ConfigurationError(
            f"Environment {display_value(settings.environment, _PRODUCTION)} counts as production, which "
            f"refuses the source {name!r}",
            where="HISTORICAL_ETL_SOURCE",
            todo="configure a real source, or set HISTORICAL_ETL_ENVIRONMENT=development",
        )
    return make


def _name(settings: Settings, provider: str | None) -> str:
    return (provider or settings.source).strip().lower()


def _maker(name: str) -> Callable[[Settings], PriceSource]:
    """What makes the source of this name; ours come before those of other packages."""
    if name in SOURCES:
        return SOURCES[name]
    others = {point.name.strip().lower(): point for point in entry_points(group=ENTRY_POINTS)}
    if name not in others:
        raise ConfigurationError(
            f"Unknown source {display_value(name, [*SOURCES, *others])}",
            where="HISTORICAL_ETL_SOURCE",
            todo=f"use one of: {', '.join([*SOURCES, *sorted(others)])}",
        )
    point = others[name]
    try:
        made = point.load()
    except Exception as error:
        raise ConfigurationError(
            f"The source {name!r} of another package cannot be loaded: {type(error).__name__}: {error}",
            where=f"entry point {ENTRY_POINTS}: {point.value}",
            todo="repair or reinstall that package",
        ) from error
    return cast("Callable[[Settings], PriceSource]", made)


def _load_universe(name: str | None) -> MembershipTable | None:
    if not name:
        return None
    packaged = name.strip().lower() in PACKAGED_UNIVERSES
    return packaged_universe(name) if packaged else MembershipTable.from_csv(name)


def _facts_of_universe(name: str | None) -> tuple[int, ...]:
    """What tells whether the membership table is another by now; nothing of one that comes with this package."""
    return facts_of(Path(name)) if name and name.strip().lower() not in PACKAGED_UNIVERSES else ()
