"""Two sources side by side on the same keys: what agrees, and what does not. Nothing is merged or written.

Levels need not agree where the price bases differ, returns should: both are compared, and the bases are reported.
A return is taken from one session to the next that both sides have, so that a bar missing on one side makes none of
the other's look wrong.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Protocol

import polars as pl

from historical_etl.clock import as_date
from historical_etl.errors import ConfigurationError
from historical_etl.etl.fetch import Fetcher, as_source, fetch_all, in_batches, with_names
from historical_etl.etl.price_store import PriceStore
from historical_etl.models import Outcome
from historical_etl.schema import PRIMARY_KEYS
from historical_etl.sources.base import FetchRequest, FetchResult, PriceSource
from historical_etl.symbols import normalize_symbols

__all__ = ["MEASURES", "Comparison", "Side", "Tolerances", "compare"]

#: What is compared, in the order of reports. Returns are made here; the others are columns of the schema.
MEASURES: Final = ("close", "close_return", "adj_close", "adj_close_return", "volume")
_RETURNS: Final = {"close_return": "close", "adj_close_return": "adj_close"}
_COLUMNS: Final = ("close", "adj_close", "volume")
_HERE, _THERE = "_here", "_there"
#: Symbols with these outcomes did not come: whether a source has their bars is not known.
_UNKNOWN: Final = frozenset({Outcome.ERROR, Outcome.RATE_LIMITED, Outcome.NOT_COVERED, Outcome.NOT_PUBLISHED})
_AGREEMENT: Final = pl.Schema(
    {
        "measure": pl.String(),
        "tolerance": pl.String(),
        "compared": pl.Int64(),
        "agreeing": pl.Int64(),
        "share": pl.Float64(),
        "largest": pl.Float64(),
        "only_here": pl.Int64(),
        "only_there": pl.Int64(),
    }
)


@dataclass(frozen=True)
class Tolerances:
    """Up to which difference two values agree.

    Attributes:
        price: of close and adj_close, as a share of the larger one: sources round to a cent, or to less.
        ret: of returns, as they are: 0.001 is a tenth of a per cent.
        volume: as a share of the larger one: vendors count different venues, and correct later.
    """

    price: float = 0.001
    ret: float = 0.001
    volume: float = 0.02

    def of(self, measure: str) -> float:
        """The tolerance of a measure."""
        return self.ret if measure in _RETURNS else self.volume if measure == "volume" else self.price

    def describe(self, measure: str) -> str:
        """The tolerance of a measure in words."""
        return f"{self.of(measure):.2%}" + ("" if measure in _RETURNS else " of the larger one")


@dataclass(frozen=True)
class Side:
    """One of the two: its name, the price basis it says it has, its bars, and why symbols did not come."""

    name: str
    adjustment: str
    split_adjusted: bool | None
    frame: pl.DataFrame
    missing: Mapping[str, str]


@dataclass(frozen=True)
class Comparison:
    """What two sides have in common, and in what they differ. Differences are there minus here.

    Attributes:
        here: what is stored, or the configured source.
        there: the other source.
        start: first date compared.
        end: last date compared.
        symbols: those compared.
        not_compared: symbols that one side failed to give, with the reason.
        duplicates: keys that the other source gave more than once with different rows; the first was taken.
        tolerances: up to which differences values agree.
        agreement: one row for each measure: how many keys have a value on both sides, on how many they agree, the
            share, the largest difference (relative, for returns absolute), and how many have a value on one side only.
        by_symbol: columns symbol, measure, compared, agreeing, share, largest.
        disagreements: columns measure, symbol, date, here, there, difference (relative, for returns absolute); the
            largest of each measure first.
        only_here: keys that the other source does not have.
        only_there: keys that only the other source has.
        rows: every key, with each measure's values (`close_here`, `close_there`, …).
    """

    here: Side
    there: Side
    start: date
    end: date
    symbols: tuple[str, ...]
    not_compared: Mapping[str, str]
    duplicates: int
    tolerances: Tolerances
    agreement: pl.DataFrame
    by_symbol: pl.DataFrame
    disagreements: pl.DataFrame
    only_here: pl.DataFrame
    only_there: pl.DataFrame
    rows: pl.DataFrame

    @property
    def keys(self) -> int:
        """How many keys both sides have."""
        return self.rows.height - self.only_here.height - self.only_there.height

    def largest(self, measure: str, most: int) -> pl.DataFrame:
        """The largest disagreements of a measure."""
        return self.disagreements.filter(pl.col("measure") == measure).head(most)


class HasStore(Protocol):
    """What has a store, as `HistoricalETL` does."""

    @property
    def store(self) -> PriceStore:
        """The store without its source."""
        ...


def compare(
    stored: PriceStore | HasStore,
    other: Fetcher,
    symbols: Iterable[str] | str,
    start: date | datetime | str,
    end: date | datetime | str | None = None,
    *,
    live: Fetcher | None = None,
    tolerances: Tolerances | None = None,
) -> Comparison:
    """Hold what is stored against what another source gives.

    Args:
        stored: what is stored, such as a `HistoricalETL`.
        other: the other source.
        symbols: what to compare.
        start: first date.
        end: last date; default: the last one stored. Sessions that have not closed and settled are left out.
        live: compare what this source gives now, instead of what is stored.
        tolerances: up to which differences values agree.

    Raises:
        ConfigurationError: a malformed symbol or date, a reversed range, nothing stored, or one source twice.
        ProviderError: a source gave nothing at all.
    """
    store = stored if isinstance(stored, PriceStore) else stored.store
    there, source = as_source(other), as_source(live) if live is not None else None
    if source is not None and source.info.name == there.info.name:
        raise ConfigurationError(
            f"{there.info.name!r} would be compared with itself", where="--with", todo="name another source"
        )
    manifest = store.context.manifest()
    if source is None and (manifest is None or manifest.end_date is None):
        raise ConfigurationError(
            "Nothing is stored that could be compared",
            where=store.context.layout.root,
            todo="run `historical-etl backfill` first, or compare the sources themselves with --live",
        )
    closed = store.context.last_closed_session()
    last = min(closed, as_date(end, "end")) if end is not None else closed
    if source is None and manifest is not None and manifest.end_date is not None and end is None:
        last = min(last, manifest.end_date)
    for coverage in (each.info.coverage for each in (source, there) if each is not None):
        if end is None and coverage is not None and coverage.last is not None:
            last = min(last, coverage.last)
    names = store.state.names_of(manifest)
    there = with_names(there, names)
    source = with_names(source, names) if source is not None else None
    request = FetchRequest(tuple(names.resolve(normalize_symbols(symbols))), as_date(start, "start"), last)
    size = store.context.settings.batch_symbols
    if source is not None:
        here = _asked(source, request, size)
    else:
        rows = store.prices.bars(request.symbols, request.start, request.end)
        name, basis = (manifest.provider, manifest.adjustment) if manifest else ("", "")
        here = Side(f"{name} as stored", basis, None, rows, {})
    return _held_together(here, _asked(there, request, size), request, tolerances or Tolerances())


def _asked(source: PriceSource, request: FetchRequest, size: int) -> Side:
    batches = [FetchRequest(batch, request.start, request.end) for batch in in_batches(request.symbols, size)]
    answer = fetch_all(source, batches)
    info = source.info
    return Side(info.name, info.adjustment, info.split_adjusted, answer.frame, _missing(answer))


def _missing(answer: FetchResult) -> dict[str, str]:
    return {
        symbol: answer.details.get(symbol, outcome.value)
        for symbol, outcome in answer.outcomes.items()
        if outcome in _UNKNOWN
    }


def _held_together(here: Side, there: Side, request: FetchRequest, tolerances: Tolerances) -> Comparison:
    left_out = {symbol: f"{side.name}: {why}" for side in (here, there) for symbol, why in side.missing.items()}
    symbols = tuple(symbol for symbol in request.symbols if symbol not in left_out)
    ours, theirs = (_keyed(side.frame, request, symbols) for side in (here, there))
    unique = [_of_side(side, suffix) for side, suffix in ((ours, _HERE), (theirs, _THERE))]
    joined = unique[0].join(unique[1], on=list(PRIMARY_KEYS), how="full", coalesce=True).sort("symbol", "date")
    rows = _with_returns(joined)
    differences = pl.concat([_differences(rows, measure, tolerances) for measure in MEASURES])
    sums = [
        pl.len().cast(pl.Int64).alias("compared"),
        pl.col("agrees").sum().cast(pl.Int64).alias("agreeing"),
        pl.col("agrees").mean().alias("share"),
        pl.col("difference").abs().max().alias("largest"),
    ]
    in_order = pl.col("measure").cast(pl.Enum(MEASURES))
    disagreements = (
        differences.filter(~pl.col("agrees"))
        .drop("agrees")
        .sort(in_order, pl.col("difference").abs(), "symbol", "date", descending=[False, True, False, False])
    )
    keys = list(PRIMARY_KEYS)
    return Comparison(
        here=here,
        there=there,
        start=request.start,
        end=request.end,
        symbols=symbols,
        not_compared=left_out,
        duplicates=theirs.unique().height - theirs.select(keys).unique().height,
        tolerances=tolerances,
        agreement=_agreement(rows, differences.group_by("measure").agg(sums), tolerances),
        by_symbol=differences.group_by("symbol", "measure").agg(sums).sort("symbol", in_order),
        disagreements=disagreements,
        only_here=rows.filter(pl.col("is_here") & ~pl.col("is_there")).select(keys),
        only_there=rows.filter(pl.col("is_there") & ~pl.col("is_here")).select(keys),
        rows=rows.drop("is_here", "is_there"),
    )


def _keyed(frame: pl.DataFrame, request: FetchRequest, symbols: tuple[str, ...]) -> pl.DataFrame:
    """The rows that were asked for, with what is compared of them; what is no number is none."""
    asked = pl.col("symbol").is_in(symbols) & pl.col("date").is_between(request.start, request.end)
    numbers = [pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in _COLUMNS]
    return frame.filter(asked).select(*PRIMARY_KEYS, *numbers)


def _of_side(frame: pl.DataFrame, suffix: str) -> pl.DataFrame:
    present = pl.lit(value=True).alias(f"is{suffix}")
    unique = frame.unique(list(PRIMARY_KEYS), keep="first", maintain_order=True)
    return unique.rename({name: f"{name}{suffix}" for name in _COLUMNS}).with_columns(present)


def _with_returns(joined: pl.DataFrame) -> pl.DataFrame:
    """Returns from one key that both sides have to the next one."""
    flagged = joined.with_columns(pl.col(f"is{side}").fill_null(value=False) for side in (_HERE, _THERE))
    both = flagged.filter(pl.col("is_here") & pl.col("is_there"))
    made: list[pl.Expr] = []
    for name, column in _RETURNS.items():
        for side in (_HERE, _THERE):
            level = pl.col(f"{column}{side}")
            change = level / level.shift(1).over("symbol") - 1
            made.append(pl.when(change.is_finite()).then(change).alias(f"{name}{side}"))
    returns = both.select(*PRIMARY_KEYS, *made)
    columns = [f"{measure}{side}" for measure in MEASURES for side in (_HERE, _THERE)]
    found = flagged.join(returns, on=list(PRIMARY_KEYS), how="left", maintain_order="left")
    return found.select(*PRIMARY_KEYS, *columns, "is_here", "is_there")


def _differences(rows: pl.DataFrame, measure: str, tolerances: Tolerances) -> pl.DataFrame:
    """One row for each key at which both sides have a value."""
    here, there = pl.col(f"{measure}{_HERE}"), pl.col(f"{measure}{_THERE}")
    larger = pl.max_horizontal(here.abs(), there.abs())
    relative = pl.when(larger == 0).then(0.0).otherwise((there - here) / larger)
    difference = there - here if measure in _RETURNS else relative
    return (
        rows.filter(here.is_not_null() & there.is_not_null())
        .select(
            pl.lit(measure).alias("measure"),
            "symbol",
            "date",
            here.alias("here"),
            there.alias("there"),
            difference.alias("difference"),
        )
        .with_columns((pl.col("difference").abs() <= tolerances.of(measure)).alias("agrees"))
    )


def _agreement(rows: pl.DataFrame, sums: pl.DataFrame, tolerances: Tolerances) -> pl.DataFrame:
    found = {row["measure"]: row for row in sums.to_dicts()}
    both = rows.filter(pl.col("is_here") & pl.col("is_there"))
    nothing = {"compared": 0, "agreeing": 0, "share": None, "largest": None}
    table: list[dict[str, object]] = []
    for measure in MEASURES:
        here, there = both.get_column(f"{measure}{_HERE}"), both.get_column(f"{measure}{_THERE}")
        alone = {
            "only_here": (here.is_not_null() & there.is_null()).sum(),
            "only_there": (there.is_not_null() & here.is_null()).sum(),
        }
        row: dict[str, object] = {
            "measure": measure,
            "tolerance": tolerances.describe(measure),
            **found.get(measure, nothing),
            **alone,
        }
        table.append(row)
    return pl.DataFrame(table, schema=_AGREEMENT)
