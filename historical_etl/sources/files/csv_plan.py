"""The plan of one CSV file: what its header and its first rows show, and what the settings say."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError, SchemaDriftError
from historical_etl.sessions import get_calendar
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.files.column_spellings import is_unnamed, plain
from historical_etl.sources.files.columns import NUMBERS, match_columns
from historical_etl.sources.files.csv_lines import bad_lines, check_quotes, refused_line
from historical_etl.sources.files.date_order import swapped, to_come
from historical_etl.sources.files.dates import EXCEL, FIRST_DAY, LAST_DAY, DateRule, Order, are_days, date_rule
from historical_etl.sources.files.file_symbols import COLUMN, Named
from historical_etl.sources.files.header import AUTO, Header, read_header
from historical_etl.sources.files.layouts import for_file, split_basis
from historical_etl.sources.files.numbers import NumberRule, number_rule, question
from historical_etl.sources.files.read_plan import BROKEN, DIVIDEND_COLUMN, SPLIT_COLUMN, ReadPlan, Source, unreadable
from historical_etl.sources.files.truncation import cut_row
from historical_etl.sources.files.values import cut, dividend_of, split_of, symbol_of

__all__ = ["csv_plans"]

_TIME_DIRECTIVE: Final = re.compile(r"%[-_0#:.3-9]*[HIklMSfTRXrcsz+]")
#: Column of a bar's period, as in Stooq's database: D for daily.
_PERIOD: Final = "per"
_TIMES: Final = frozenset({"time", "tradetime", "hour"})


def csv_plans(
    path: Path, settings: FilesSettings, exchange: str, named: Named, *, hint: Order | None = None, rich: bool = False
) -> list[ReadPlan]:
    """Read a file's first lines and decide how its rows are read: one plan, or one for each ticker of a wide table.

    Args:
        path: of the file.
        settings: what they say goes before what the file shows.
        exchange: gives the time zone.
        named: what the path tells of its symbol.
        hint: what other files have first in their dates, day or month.
        rich: read numbers the slow way, also where the first rows have plain ones.

    Raises:
        SchemaDriftError: the file lacks a column, or may have one of ours under an unknown name.
        DataQualityError: its first lines cannot be read, or are of no daily bars.
        ConfigurationError: a symbol is set for a file that has symbols.
    """
    header = read_header(path, settings)
    if header.levels is None:
        return [_Reader(path, settings, exchange, header, hint, rich=rich).plan(named)]
    plans: list[ReadPlan] = []
    for ticker, shared, own in header.levels.parts(settings, path):
        part = header.of([*shared, *own])
        plans.append(_Reader(path, settings, exchange, part, hint, rich=rich).plan(ticker, [*shared, *own], own))
    return plans


class _Reader:
    """One table of a file on its way to a plan."""

    def __init__(
        self, path: Path, settings: FilesSettings, exchange: str, header: Header, hint: Order | None, *, rich: bool
    ) -> None:
        self._path = path
        self._header = header
        self._settings, self._layout = for_file(header.names, settings)
        self._calendar = get_calendar(exchange)
        self._hint: Order | None = hint
        self._rich = rich
        self._where = f"{path}, line {header.line}"

    def plan(self, named: Named, places: list[int] | None = None, own: Sequence[int] = ()) -> ReadPlan:
        """The plan; `places` tells where the columns of a wide table are in the file, `own` those of one ticker."""
        header, settings = self._header, self._settings
        names = header.names
        matched = match_columns(
            names, settings, self._where, header.values, are_days, is_named=named.symbol is not None
        )
        if any('"' in name for name in names):
            # Polars would take all lines up to the next quotation mark for the header, and find no rows.
            raise refused_line("The header has a stray quotation mark", self._path, header.line)
        width = len(names) if places is None else max(places) + 1
        columns = [f"c{place}" for place in (places or range(width))]
        raw = {ours: cut(pl.col(columns[place])).str.strip_chars() for ours, place in matched.places.items()}
        scan = self._scan()
        symbol = symbol_of(raw, settings, self._path, named, matched.ignored)
        days = self._days(matched.places["date"], lambda: self._all(scan, raw["date"]), alone="symbol" not in raw)
        day, fault = self._parsed(days, raw["date"])
        if not (days and days.has_short_years):  # these are judged by the file
            fault |= to_come(day)
        numbers = self._numbers(matched.places)
        values, cells = self._values(numbers, raw)
        needed = {"close", "split", "dividend", "gains"} & cells.keys()  # an event that is lost is lost for good
        faults = {"date": fault, **{ours: cells.pop(ours) for ours in raw if ours in needed}}
        self._check_period(names)
        drops = self._drops_dividends(raw, scan)
        data = pl.all_horizontal(pl.col([f"c{place}" for place in own] or columns) == "")
        return ReadPlan(
            path=self._path,
            csv=Source(header.separator, self._file_width, header.line),
            scan=scan,
            # Blank lines are skipped by a filter that names every column. It is more than that: Polars notices lines
            # that are too long only where all columns are read.
            keep=~data,
            values={
                "date": day,
                "symbol": symbol,
                **{ours: values.get(ours, pl.lit(None, pl.Float64)) for ours in NUMBERS},
                SPLIT_COLUMN: split_of(values),
                DIVIDEND_COLUMN: pl.lit(None, pl.Float64) if drops else dividend_of(values),
            },
            raw=raw,
            faults=faults,
            cells=cells,
            lines=self._cut(matched.places, columns, raw),
            short=pl.col(columns[-1]) == "",
            tidy=pl.lit(value=False),
            layout=self._layout,
            symbol=None if "symbol" in raw else named.symbol,
            symbol_from=COLUMN if "symbol" in raw else named.source,
            shortened=named.shortened,
            suffixed=self._layout.suffixed
            or (self._path.name.lower().removesuffix(".gz").endswith(".txt") and "symbol" not in raw),
            timed=(days is not None and days.timed) or not _TIMES.isdisjoint(map(plain, matched.ignored)),
            has_events=not {"split", "dividend", "gains"}.isdisjoint(matched.places),
            split_adjusted=split_basis(names, self._layout),
            ignored=tuple(name for name in matched.ignored if not is_unnamed(name) and name != "(no name)"),
            notes=self._notes(days, numbers, dropped=drops),
            decimal=numbers.decimal,
            fast=numbers.plain,
            ragged=lambda: self._scan(ragged=True),
            date_wanted=days.wanted() if days else f"a day written as {settings.date_format!r}",
            date_shown=days.shown(raw["date"]) if days else None,
            order=days.order if days and days.proven else None,
            days=days or DateRule(settings.date_format, self._calendar, others=swapped(settings.date_format)),
            marks={mark: pl.col(columns[place]) for mark, place in matched.marks.items()},
            mark_names={mark: names[place].strip() for mark, place in matched.marks.items()},
        )

    @property
    def _file_width(self) -> int:
        return len(self._header.levels.fields) if self._header.levels else len(self._header.names)

    def _scan(self, *, ragged: bool = False) -> pl.LazyFrame:
        header = self._header
        try:
            return pl.scan_csv(
                self._path,
                separator=header.separator,
                infer_schema=False,
                empty_string_is_null=False,
                glob=False,
                skip_lines=header.skip_lines,
                skip_rows_after_header=header.skip_rows,
                truncate_ragged_lines=ragged,
                # By place, not by name: names of the file may be repeated or padded.
                with_column_names=lambda found: [f"c{place}" for place in range(len(found))],
            )
        except BROKEN as error:
            bad_lines(self._path, header.separator, self._file_width, header.line)
            check_quotes(self._path)
            raise unreadable(self._path, error) from None

    def _all(self, scan: pl.LazyFrame, column: pl.Expr) -> pl.Series:
        try:
            return scan.select(cut(column).alias("text")).collect(engine="streaming").to_series()
        except BROKEN:
            return pl.Series("text", [], pl.String)  # what reads all columns names the line

    def _days(self, place: int, everything: Callable[[], pl.Series], *, alone: bool) -> DateRule | None:
        """How days are written; None where the settings say it."""
        if self._settings.date_format not in {AUTO, EXCEL}:
            return None
        times = next((at for at, name in enumerate(self._header.names) if plain(name) in _TIMES and at != place), None)
        texts = self._header.values(place)
        if times is not None and alone:
            self._check_times(texts, self._header.values(times))
        return date_rule(
            texts,
            everything,
            self._where,
            self._calendar,
            self._hint,
            alone=alone,
            excel=self._settings.date_format == EXCEL,
        )

    def _cut(self, places: Mapping[str, int], columns: Sequence[str], raw: Mapping[str, pl.Expr]) -> dict[str, pl.Expr]:
        """The last row, if the file was cut inside it and a column of ours is the last."""
        row = cut_row(self._path, self._header.separator, self._file_width)
        if row is None or f"c{self._file_width - 1}" not in {columns[place] for place in places.values()}:
            return {}
        reason = "the file ends in it without a line end, and its last field is cut"
        return {reason: pl.all_horizontal(raw[ours] == row[int(columns[place][1:])] for ours, place in places.items())}

    def _check_times(self, days: list[str], times: list[str]) -> None:
        """Refuse a file that has a day several times with several times of day."""
        by_day: dict[str, set[str]] = {}
        for day, clock in zip(days, times, strict=True):
            by_day.setdefault(day, set()).add(clock)
        day, clocks = max(by_day.items(), key=lambda item: len(item[1]), default=("", set[str]()))
        if len(clocks) > 1:
            raise not_daily(f"{day} has rows at {' and '.join(sorted(clocks)[:2])}", self._where)

    def _check_period(self, names: tuple[str, ...]) -> None:
        place = next((at for at, name in enumerate(names) if plain(name) == _PERIOD), None)
        periods = set(self._header.values(place)) - {"D", "d", ""} if place is not None else set[str]()
        if periods:
            raise not_daily(f"their period is {', '.join(sorted(periods))}", self._where)

    def _parsed(self, days: DateRule | None, text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
        if days is not None:
            return days.parsed(text)
        form = self._settings.date_format
        if not _TIME_DIRECTIVE.search(form):
            day = text.str.to_date(form, strict=False)
            return day, day.is_null() | ~day.is_between(FIRST_DAY, LAST_DAY)
        zone = "UTC" if re.search(r"%[#:]*z|%\+", form) else None
        moment = text.str.to_datetime(form, time_unit="us", time_zone=zone, strict=False)
        # Another zone's midnight is another hour at the exchange: taking its date would shift some days.
        local = moment.dt.convert_time_zone(self._calendar.timezone) if zone else moment
        day = local.dt.date()
        return day, day.is_null() | (local.dt.time() != pl.time(0)) | ~day.is_between(FIRST_DAY, LAST_DAY)

    def _numbers(self, places: Mapping[str, int]) -> NumberRule:
        header, said = self._header, self._settings.decimal
        prices = [
            text
            for ours, place in places.items()
            if ours in NUMBERS and ours != "volume"
            for text in header.values(place)
        ]
        volumes = header.values(places["volume"]) if "volume" in places else []
        rule = number_rule(prices, volumes, None if said == AUTO else said)
        if said == AUTO and not rule.proven and (asked := question(prices, volumes)):
            raise DataQualityError(asked[0], where=self._where, todo=asked[1])
        return replace(rule, plain=False) if self._rich else rule

    def _values(self, rule: NumberRule, raw: Mapping[str, pl.Expr]) -> tuple[dict[str, pl.Expr], dict[str, pl.Expr]]:
        values: dict[str, pl.Expr] = {}
        faults: dict[str, pl.Expr] = {}
        for ours, text in raw.items():
            if ours == "split":
                values[ours], faults[ours] = rule.split(text)
            elif ours not in {"date", "symbol"}:
                values[ours], faults[ours] = rule.parsed(text, volume=ours == "volume")
        return values, faults

    def _drops_dividends(self, raw: Mapping[str, pl.Expr], scan: pl.LazyFrame) -> bool:
        """Whether the close of a file contains its dividends: yfinance adjusts it, and then writes no Adj Close.

        Prices that Yahoo gives are single floats or rounded; those that were multiplied by a factor are neither.
        """
        if (
            "dividend" not in raw
            or "adj_close" in raw
            or "stocksplits" not in {plain(name) for name in self._header.names}
        ):
            return False
        paid = raw["dividend"].cast(pl.Float64, strict=False).fill_null(0) > 0
        close = raw["close"].cast(pl.Float64, strict=False)
        day = raw["date"]
        try:
            rows = scan.select(day.alias("day"), close.alias("close"), paid.alias("paid")).collect(engine="streaming")
        except BROKEN:
            return False  # what reads all columns names the line
        last = rows.filter("paid").get_column("day").max()
        before = rows.filter(pl.col("day") < last) if last is not None else rows.clear()
        price = pl.col("close")
        given = (price.cast(pl.Float32).cast(pl.Float64) == price) | (price.round(6) == price)
        return before.height > 0 and float(before.select(given.mean()).item() or 0) < 1 / 2

    def _notes(self, days: DateRule | None, numbers: NumberRule, *, dropped: bool) -> tuple[str, ...]:
        found = [days.words()] if days else []
        if self._settings.separator == AUTO and self._header.separator != ",":
            found.append(f"fields are separated by {self._header.separator!r}")
        if self._settings.decimal == AUTO and numbers.decimal == ",":
            found.append("the decimal sign is a comma")
        if self._header.skip_lines:
            found.append("the lines before the header are left out")
        if dropped:
            found.append(
                "the close of a file from yfinance without Adj Close contains its dividends: they are not taken again"
            )
        if self._settings.layout == "generic" and self._layout.suffixed:
            found.append("this is Stooq's layout")
        return tuple(note for note in found if note)


def not_daily(evidence: str, where: str | Path) -> SchemaDriftError:
    """The error for a file whose rows are no days."""
    return SchemaDriftError(
        f"These are not daily bars: {evidence}",
        where=where,
        todo=f"export daily bars; a file that is no part of them can be left out of {PREFIX}FILES_PATH",
    )
