"""The plan of one Parquet file: its types say what CSV has to be asked for."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import SchemaDriftError
from historical_etl.schema import SCHEMA
from historical_etl.sessions import get_calendar
from historical_etl.settings import FilesSettings
from historical_etl.sources.files.column_spellings import is_unnamed
from historical_etl.sources.files.columns import NUMBERS, match_columns
from historical_etl.sources.files.date_order import swapped, to_come
from historical_etl.sources.files.dates import EXCEL, FIRST_DAY, LAST_DAY, DateRule, Order, are_days, date_rule
from historical_etl.sources.files.file_symbols import COLUMN, Named
from historical_etl.sources.files.header import AUTO
from historical_etl.sources.files.layouts import for_file, split_basis
from historical_etl.sources.files.multi_level_header import levels_of_names
from historical_etl.sources.files.read_plan import BROKEN, DIVIDEND_COLUMN, SPLIT_COLUMN, ReadPlan, unreadable
from historical_etl.sources.files.timestamps import day_of, doubt_of
from historical_etl.sources.files.values import cut, dividend_of, in_capitals, split_of, symbol_of

__all__ = ["parquet_plans"]

_SAMPLE: Final = 40


def parquet_plans(
    path: Path, settings: FilesSettings, exchange: str, named: Named, hint: Order | None = None
) -> list[ReadPlan]:
    """Read a file's schema and decide how its rows are read: one plan, or one for each ticker of a wide table.

    Args:
        path: of the file.
        settings: what they say goes before what the file shows.
        exchange: gives the time zone.
        named: what the path tells of its symbol.
        hint: what other files have first in dates that are text, day or month.

    Raises:
        SchemaDriftError: it lacks a column, or a column's type cannot serve.
        DataQualityError: it cannot be read.
        ConfigurationError: a symbol is set for a file that has symbols.
    """
    try:
        dtypes = pl.read_parquet_schema(path)
    except BROKEN as error:
        raise unreadable(path, error) from None
    levels = levels_of_names(list(dtypes))
    if levels is None:
        return [_plan(path, settings, exchange, named, hint, dtypes, dict(zip(dtypes, dtypes, strict=True)))]
    columns = list(dtypes)
    plans: list[ReadPlan] = []
    for ticker, shared, own in levels.parts(settings, path):
        fields = {levels.fields[place]: columns[place] for place in [*shared, *own]}
        plan = _plan(path, settings, exchange, ticker, hint, dtypes, fields)
        keep = pl.any_horizontal(pl.col([columns[place] for place in own]).is_not_null())
        plans.append(replace(plan, keep=keep))
    return plans


def _plan(
    path: Path,
    settings: FilesSettings,
    exchange: str,
    named: Named,
    hint: Order | None,
    dtypes: Mapping[str, pl.DataType],
    fields: Mapping[str, str],
) -> ReadPlan:
    """The plan of one table; `fields`: names as they are understood → as they stand in the file."""
    names, columns = list(fields), list(fields.values())
    settings, layout = for_file(names, settings)

    def values(place: int) -> list[str]:
        if dtypes[columns[place]].is_nested():
            return []  # one may hold millions of values
        try:
            texts = pl.scan_parquet(path, glob=False, hive_partitioning=False).select(columns[place]).head(_SAMPLE)
            return [str(text) for text in texts.collect().to_series().to_list() if text is not None]
        except BROKEN as error:
            raise unreadable(path, error) from None

    matched = match_columns(names, settings, str(path), values, are_days, is_named=named.symbol is not None)
    at = {ours: columns[place] for ours, place in matched.places.items()}
    wrong = [f"{ours} is {dtypes[at[ours]]}" for ours in at if not _can_serve(ours, dtypes[at[ours]])]
    if wrong:
        raise SchemaDriftError(
            f"Wrong column types: {', '.join(wrong)}",
            where=path,
            todo="write symbol as String and the others, but for date, as numbers",
        )
    raw = {ours: pl.col(theirs) for ours, theirs in at.items()}
    scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
    date_type, order, words = dtypes[at["date"]], None, ""
    shown: pl.Expr | None = None
    rule: DateRule | None = None
    if isinstance(date_type, pl.String) or date_type.is_numeric():
        first = values(matched.places["date"])
        rule = _written(scan, at["date"], first, settings, exchange, path, hint, alone="symbol" not in at)
        day, fault = rule.parsed(_text(at["date"]))
        timed, words, order = rule.timed, rule.words(), rule.order if rule.proven else None
        wanted, shown = rule.wanted(), rule.shown(_text(at["date"]))
    else:
        day, fault, timed = _session(scan, at["date"], date_type, exchange, path)
        wanted = DateRule("", get_calendar(exchange), "zoned" if timed else "none").wanted() if timed else "a day"
    numbers = {ours: pl.col(theirs).cast(pl.Float64).fill_nan(None) for ours, theirs in at.items() if _is_number(ours)}
    symbol = symbol_of(raw, settings, path, named, matched.ignored)
    nothing = pl.lit(None, pl.Float64)
    symbol_dtype = dtypes[at["symbol"]] if "symbol" in at else None
    is_text = isinstance(symbol_dtype, pl.String) and not settings.symbols
    return ReadPlan(
        path=path,
        csv=None,
        scan=scan,
        keep=pl.lit(value=True),
        values={
            "date": day,
            "symbol": symbol,
            **{ours: numbers.get(ours, nothing) for ours in NUMBERS},
            SPLIT_COLUMN: split_of(numbers),
            DIVIDEND_COLUMN: dividend_of(numbers),
        },
        raw=raw,
        faults={"date": fault if rule and rule.has_short_years else fault | to_come(day)},
        short=pl.lit(value=False),
        tidy=pl.col(at["symbol"]) == in_capitals(cut(raw["symbol"])) if is_text else pl.lit(value=False),
        layout=layout,
        symbol=None if "symbol" in at else named.symbol,
        symbol_from=COLUMN if "symbol" in at else named.source,
        shortened=named.shortened,
        suffixed=layout.suffixed,
        timed=timed,
        has_events=not {"split", "dividend", "gains"}.isdisjoint(at),
        split_adjusted=split_basis(names, layout),
        ignored=tuple(name for name in matched.ignored if not is_unnamed(name)),
        notes=(words,) if words else (),
        date_wanted=wanted,
        date_shown=shown,
        order=order,
        days=rule,
        marks={mark: pl.col(columns[place]) for mark, place in matched.marks.items()},
        mark_names={mark: names[place] for mark, place in matched.marks.items()},
        of_store=list(dtypes.items()) == list(SCHEMA.items()),
    )


def _is_number(ours: str) -> bool:
    return ours not in {"date", "symbol"}


def _can_serve(ours: str, dtype: pl.DataType) -> bool:
    if ours == "date":
        return True
    if ours == "symbol":
        return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    return dtype.is_numeric() or isinstance(dtype, pl.Null)


def _text(name: str) -> pl.Expr:
    return cut(pl.col(name)).str.strip_chars()


def _written(
    scan: pl.LazyFrame,
    name: str,
    first: list[str],
    settings: FilesSettings,
    exchange: str,
    path: Path,
    hint: Order | None,
    *,
    alone: bool,
) -> DateRule:
    """How days are written that have no type of their own: as text, as 20240102, or as moments since 1970."""

    def everything() -> pl.Series:
        try:
            return scan.select(_text(name).alias("text")).collect(engine="streaming").to_series()
        except BROKEN as error:
            raise unreadable(path, error) from None

    if settings.date_format not in {AUTO, EXCEL}:
        return DateRule(settings.date_format, get_calendar(exchange), others=swapped(settings.date_format))
    excel = settings.date_format == EXCEL
    return date_rule(first, everything, str(path), get_calendar(exchange), hint, alone=alone, excel=excel)


def _session(
    scan: pl.LazyFrame, name: str, dtype: pl.DataType, exchange: str, path: Path
) -> tuple[pl.Expr, pl.Expr, bool]:
    """The session a date or a moment names, whether it is unknown, and whether times are written."""
    moment, odd, timed = pl.col(name), pl.lit(value=False), False
    if isinstance(dtype, pl.Date):
        day = moment
    elif isinstance(dtype, pl.Datetime):
        written = moment.dt.replace_time_zone(None) if dtype.time_zone else moment
        moments = scan.select((moment.dt.convert_time_zone("UTC") if dtype.time_zone else moment).alias("m"))
        try:
            timed = not scan.select((written.dt.time() == time()).all()).collect(engine="streaming").item()
            zoned = timed and dtype.time_zone is not None
            some = _naive(moments.head(_SAMPLE)) if zoned else None
        except BROKEN as error:
            raise unreadable(path, error) from None
        day, odd = written.dt.date(), written.dt.time() != time()
        if some is not None:
            calendar = get_calendar(exchange)
            doubt = doubt_of(some, lambda: _naive(moments), calendar, zoned=True)
            day, odd = day_of(moment.dt.convert_time_zone("UTC").dt.replace_time_zone(None), calendar, doubt)
    else:
        raise SchemaDriftError(f"Wrong column types: date is {dtype}", where=path, todo="write it as Date or Datetime")
    return day, day.is_null() | odd | ~day.is_between(FIRST_DAY, LAST_DAY), timed


def _naive(moments: pl.LazyFrame) -> pl.Series:
    return moments.collect(engine="streaming").to_series().dt.replace_time_zone(None).dt.cast_time_unit("us")
