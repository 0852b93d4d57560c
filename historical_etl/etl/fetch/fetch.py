"""Fetching for a run: any fetcher becomes one frame in the schema and one outcome for each symbol."""

import inspect
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from types import FunctionType
from typing import cast

import polars as pl

from historical_etl.errors import (
    AccessDeniedError,
    ConfigurationError,
    CoverageError,
    HistoricalETLError,
    NotPublishedError,
    ProviderUnavailableError,
    RateLimitedError,
    SchemaDriftError,
)
from historical_etl.models import UNSTATED, Outcome
from historical_etl.quality.rules import conform
from historical_etl.schema import empty_frame
from historical_etl.sources.base import (
    ACTIONS,
    FetchRequest,
    FetchResult,
    PriceFetcher,
    PriceSource,
    SourceInfo,
    outcomes_from_rows,
)

__all__ = ["Fetcher", "as_source", "fetch_all", "fetch_one", "in_batches", "is_final", "outcome_of"]

_log = logging.getLogger(__name__)
#: What can fill a store: a full source, or anything with `get_daily_prices`.
Fetcher = PriceFetcher | PriceSource


class _PlainSource:
    """A plain fetcher as a source: known by its class only, without coverage or universe."""

    def __init__(self, fetcher: PriceFetcher) -> None:
        self._fetcher = fetcher
        self.info = SourceInfo(name=type(fetcher).__name__, version="", adjustment=UNSTATED)

    def fetch(self, request: FetchRequest) -> FetchResult:
        """`ok` for symbols that were fetched, `empty` for the others.

        Raises:
            ConfigurationError: the fetcher is none.
        """
        if not callable(getattr(self._fetcher, "get_daily_prices", None)):  # for reading, any object will do
            raise ConfigurationError(
                f"{self.info.name} is no source of prices: it has no method get_daily_prices",
                where="fetcher",
                todo="give an object that has it, or a PriceSource, or None for the source that is configured",
            )
        return FetchResult(self._fetcher.get_daily_prices(list(request.symbols), request.start, request.end), {})

    def members(self, start: date | None, end: date | None) -> list[str]:
        """None: a plain fetcher has no universe."""
        del start, end
        return []


def as_source(fetcher: Fetcher) -> PriceSource:
    """Any fetcher as a full source.

    Raises:
        ConfigurationError: it is a full source that does not say what it is.
    """
    # Not isinstance: a runtime protocol would evaluate `info`, which may read files.
    if hasattr(type(fetcher), "fetch") and hasattr(type(fetcher), "members"):
        _require_info(fetcher)
        return cast("PriceSource", fetcher)
    return _PlainSource(cast("PriceFetcher", fetcher))


def _require_info(source: object) -> None:
    """Refuse a source whose `info` can be none, without evaluating one that is a property."""
    name = type(source).__name__
    info: object = inspect.getattr_static(source, "info", None)
    if isinstance(info, SourceInfo) or (info is None and hasattr(type(source), "__getattr__")):
        return
    if isinstance(info, FunctionType | staticmethod | classmethod):
        what, todo = f"The info of {name} is a method, which nobody calls", "write @property above it"
    elif info is None:
        what, todo = f"{name} has no info", "give it a SourceInfo of that name, which says what the source is"
    elif not hasattr(type(info), "__get__"):
        what, todo = f"The info of {name} is of the type {type(info).__name__}", "give it a SourceInfo"
    else:
        return
    raise ConfigurationError(what, where="fetcher", todo=todo)


def in_batches(symbols: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    """`symbols` in tuples of at most `size`."""
    for start in range(0, len(symbols), size):
        yield tuple(symbols[start : start + size])


def fetch_all(source: PriceSource, requests: Iterable[FetchRequest]) -> FetchResult:
    """Carry out requests one after the other, and put their answers together.

    Only rows of symbols with the outcome `ok` are returned. A request that fails as a whole gives all its
    symbols the outcome `error`, and the others go on; after a rate limit the rest is not asked at all.

    Raises:
        HistoricalETLError: every request failed: the first failure.
    """
    frames: list[pl.DataFrame] = []
    actions: list[pl.DataFrame] = []
    rejected: list[pl.DataFrame] = []
    foreign: list[pl.DataFrame] = []
    notes: list[str] = []
    set_aside: list[str] = []
    outcomes: dict[str, Outcome] = {}
    details: dict[str, str] = {}
    named_since: dict[str, date] = {}
    failures: list[HistoricalETLError] = []
    limited = False
    for request in requests:
        if limited:
            outcomes |= dict.fromkeys(request.symbols, Outcome.RATE_LIMITED)
            continue
        try:
            answer = fetch_one(source, request)
        except HistoricalETLError as error:
            if is_final(error):
                raise
            limited = isinstance(error, RateLimitedError) and not error.alone
            failures.append(error)
            outcomes |= dict.fromkeys(request.symbols, outcome_of(error))
            details |= dict.fromkeys(request.symbols, error.what)
            _log.warning("%d symbols were not fetched: %s", len(request.symbols), error)
            continue
        frames.append(answer.frame)
        actions += [answer.actions] if answer.actions is not None else []
        rejected += [answer.rejected] if answer.rejected is not None and answer.rejected.height else []
        foreign += [answer.foreign] if answer.foreign is not None and answer.foreign.height else []
        notes += answer.notes
        set_aside += answer.set_aside
        outcomes |= answer.outcomes
        details |= answer.details
        named_since |= answer.named_since
    if failures and not frames:
        raise failures[0]
    # In one piece: what looks at the row before is twice as fast then, and all that judges and merges does.
    rows = pl.concat(frames, rechunk=True) if frames else empty_frame()
    return FetchResult(
        rows,
        outcomes,
        details,
        pl.concat(actions) if actions else None,
        pl.concat(rejected) if rejected else None,
        tuple(dict.fromkeys(notes)),
        tuple(dict.fromkeys(set_aside)),
        pl.concat(foreign) if foreign else None,
        named_since,
    )


def outcome_of(error: HistoricalETLError) -> Outcome:
    """What became of the symbols of a request that failed as a whole."""
    match error:
        case RateLimitedError():
            return Outcome.RATE_LIMITED
        case NotPublishedError():
            return Outcome.NOT_PUBLISHED
        case CoverageError() | AccessDeniedError():
            return Outcome.NOT_COVERED
        case _:
            return Outcome.ERROR


def is_final(error: HistoricalETLError) -> bool:
    """Whether an error of one request is one of all others: another symbol may be one that the account has."""
    return isinstance(error, ConfigurationError) and not isinstance(error, AccessDeniedError)


def fetch_one(source: PriceSource, request: FetchRequest) -> FetchResult:
    """Carry out one request; only rows of symbols with the outcome `ok` are returned, in the schema.

    Raises:
        HistoricalETLError: the request failed as a whole; whatever the source raised.
    """
    name = source.info.name
    try:
        answer = source.fetch(request)
    except HistoricalETLError:
        raise
    except Exception as error:
        raise ProviderUnavailableError(
            f"{name} failed for {len(request.symbols)} symbols, {request.start} to {request.end}:"
            f" {type(error).__name__}: {error}",
            where=name,
            todo="see the cause in the log; nothing of this request was stored",
        ) from error
    frame = conform(answer.frame, where=name)
    outcomes = outcomes_from_rows(frame, request.symbols) | dict(answer.outcomes)
    refused = [symbol for symbol, outcome in outcomes.items() if outcome is not Outcome.OK]
    if refused and not frame.is_empty():
        frame = frame.filter(~pl.col("symbol").is_in(refused))
    return replace(answer, frame=frame, outcomes=outcomes, actions=_conform_actions(answer.actions, name))


def _conform_actions(actions: pl.DataFrame | None, where: str) -> pl.DataFrame | None:
    if actions is None:
        return None
    try:
        if actions.schema != ACTIONS:
            actions = actions.select(pl.col(name).cast(dtype) for name, dtype in ACTIONS.items())
        return actions.drop_nulls(["symbol", "date"])
    except pl.exceptions.PolarsError as error:
        raise SchemaDriftError(
            f"The corporate actions of {where} are not readable: {error}"[:300],
            where=where,
            todo=f"give the columns {', '.join(ACTIONS)}",
        ) from None
