"""What a source of prices is: the request, the answer, and the two protocols. No vendor is known here."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Final, Protocol

import polars as pl

from historical_etl.errors import ConfigurationError, CoverageError
from historical_etl.models import Outcome
from historical_etl.schema import symbols_in

__all__ = [
    "ACTIONS",
    "FOREIGN",
    "SHARES_OF",
    "Capabilities",
    "Coverage",
    "FetchRequest",
    "FetchResult",
    "PriceFetcher",
    "PriceSource",
    "SourceInfo",
    "Unit",
    "check_coverage",
    "outcomes_from_rows",
]

#: A corporate action: its ex-date, new shares for each old one (1.0: no split), cash for each share (0.0: none).
ACTIONS: Final = pl.Schema({"symbol": pl.String(), "date": pl.Date(), "split": pl.Float64(), "dividend": pl.Float64()})


#: A spin-off is paid in shares: this and their symbol stand for the currency, the dividend is how many for each share.
SHARES_OF: Final = "shares of "
#: A dividend that is paid in another currency than that of the prices: cash for each share, in that currency.
FOREIGN: Final = pl.Schema(
    {"symbol": pl.String(), "date": pl.Date(), "dividend": pl.Float64(), "currency": pl.String()}
)


@dataclass(frozen=True)
class FetchRequest:
    """Symbols (normalised) and a range of dates, both ends included.

    `among` are symbols that will be asked for in turn with the same range: a source may ask for what it gets of many
    symbols at once, as splits and dividends, for these too. They are no part of the answer.

    Raises:
        ConfigurationError: no symbols, or the range is reversed.
    """

    symbols: tuple[str, ...]
    start: date
    end: date
    among: tuple[str, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ConfigurationError("The list of symbols is empty", where="symbols", todo="name at least one symbol")
        if self.end < self.start:
            raise ConfigurationError(
                f"The range is reversed: {self.start} to {self.end}", where="dates", todo="put the earlier date first"
            )


@dataclass(frozen=True)
class FetchResult:
    """What a fetch returns: bars with the schema's columns, and one outcome for each requested symbol.

    `details` says in words why a symbol has another outcome than `ok`. `actions` are the splits and dividends that
    the source names for these bars, columns `ACTIONS`; None where it names none, which does not say there were none. A
    symbol may have several rows on a day: they are put together, and equal ones count once: equal payments that the
    source tells apart it adds up itself. Events before the range of
    the request may be among them, of sources that name some late: a stored symbol that has a new one is fetched whole.
    `named_since` tells, of symbols, from which day before the request on all events are among them: one that was named
    there, and is named no more or otherwise, was taken back or corrected.
    `foreign` are dividends in another currency than that of the prices, and spin-offs, columns `FOREIGN`: they are
    kept, and adjust nothing.
    `rejected` are rows that the source itself could not read, in the schema as far as they go, with `reasons`; `notes`
    tell how it understood what it has; `set_aside` names what it could not read as a whole, such as a file.
    """

    frame: pl.DataFrame
    outcomes: Mapping[str, Outcome]
    details: Mapping[str, str] = field(default_factory=dict[str, str])
    actions: pl.DataFrame | None = None
    rejected: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    foreign: pl.DataFrame | None = None
    named_since: Mapping[str, date] = field(default_factory=dict[str, date])


@dataclass(frozen=True)
class Coverage:
    """The first and last date a source has data for; `last` None means up to the last closed session."""

    first: date
    last: date | None = None


class Unit(StrEnum):
    """What one request to a source brings."""

    SYMBOL = "symbol"  # one symbol, over any range
    PAGE = "page"  # many symbols, over any range, page by page
    DAY = "day"  # the whole market on one day


@dataclass(frozen=True)
class Capabilities:
    """What a source can be asked for, and at what price; the fetch plan and the documentation go by it.

    Attributes:
        units: the ways it can be asked, the usual one first.
        symbols_per_request: how many symbols one request of the usual way may name.
        adjusted: what `open` to `close` and `volume` are adjusted for, in words; empty: nothing.
        adj_close: whether it delivers `adj_close`.
        actions: whether it delivers splits and dividends.
        universe: whether `members` knows its symbols.
        limit: how much may be asked, as in "50/hour"; empty: no limit known.
        variables: the environment variables that hold its keys.
    """

    units: tuple[Unit, ...] = (Unit.SYMBOL,)
    symbols_per_request: int = 1
    adjusted: str = ""
    adj_close: bool = True
    actions: bool = False
    universe: bool = False
    limit: str = ""
    variables: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceInfo:
    """What a source says of itself.

    Attributes:
        name: the value of the setting `source`.
        version: of the client or the data, for the manifest.
        adjustment: the price basis it delivers, in words, for the manifest.
        coverage: None where the source cannot say.
        point_in_time: whether `members` answers for the past without survivorship.
        split_adjusted: whether its open, high, low, close and volume are adjusted for splits already.
        capabilities: how it can be asked; None where the source does not say.
        plan: what the account is found out not to be given, in words; `coverage` says the same of dates.
        events_late: so many days after its ex-date an event is usually named for the first time, at the latest: until
            then one that `adj_close` alone shows is nothing to warn of.
    """

    name: str
    version: str
    adjustment: str
    coverage: Coverage | None = None
    point_in_time: bool = False
    split_adjusted: bool = False
    capabilities: Capabilities | None = None
    plan: str = ""
    events_late: int = 0

    def fingerprint(self) -> str:
        """A short hash that changes when data from this source may no longer be comparable."""
        facts = json.dumps([self.name, self.adjustment])
        return hashlib.sha256(facts.encode()).hexdigest()[:16]


class PriceFetcher(Protocol):
    """The least a source must do: anything with this method can fill the store."""

    def get_daily_prices(self, symbols: Sequence[str], start_date: date, end_date: date) -> pl.DataFrame:
        """Daily bars for `symbols` from `start_date` to `end_date`, both included; columns as in `SCHEMA`."""
        ...


class PriceSource(Protocol):
    """A full source: states what it is, gives an outcome for each symbol, knows its universe."""

    @property
    def info(self) -> SourceInfo:
        """What the source is and covers."""
        ...

    def fetch(self, request: FetchRequest) -> FetchResult:
        """Bars and one outcome per symbol.

        Raises:
            ProviderError: nothing could be fetched at all.
            SchemaDriftError: what was fetched has not the columns or types it must have.
            DataQualityError: what was fetched cannot be read without guessing.
            StorageError: a local copy could not be written.
        """
        ...

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Symbols that exist on any day from `start` to `end`, both included, sorted; None means unbounded."""
        ...


def check_coverage(info: SourceInfo, request: FetchRequest) -> None:
    """Raise `CoverageError` if no day of the request lies inside what the source covers.

    A range that lies partly inside is served as far as it goes: calendar years seldom begin with the data.
    """
    covered = info.coverage
    if covered is None or (request.end >= covered.first and (covered.last is None or request.start <= covered.last)):
        return
    raise CoverageError(
        f"{request.start} to {request.end} lies outside what {info.name!r} covers: "
        f"{covered.first} to {covered.last or 'the last closed session'}{f'; {info.plan}' if info.plan else ''}",
        where=info.name,
        todo="ask for a range inside it, or choose another source with HISTORICAL_ETL_SOURCE",
    )


def outcomes_from_rows(frame: pl.DataFrame, symbols: Sequence[str]) -> dict[str, Outcome]:
    """`ok` for symbols that have rows, `empty` for the others: all that rows alone can tell."""
    present = set(symbols_in(frame)) if "symbol" in frame.columns else set[str]()
    return {symbol: Outcome.OK if symbol in present else Outcome.EMPTY for symbol in symbols}
