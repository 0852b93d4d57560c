"""How one file is read: Polars expressions that give its rows the schema's columns and mark what cannot be read.

A plan sees one file, of CSV or Parquet; what the files hold together, and which rows are asked for, is the source's.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError
from historical_etl.schema import SCHEMA
from historical_etl.sources.display_text import CELL
from historical_etl.sources.files.column_spellings import NULLS
from historical_etl.sources.files.columns import NUMBERS
from historical_etl.sources.files.csv_lines import bad_lines, check_quotes, lines_of
from historical_etl.sources.files.date_order import to_come
from historical_etl.sources.files.dates import DateRule, Order
from historical_etl.sources.files.file_symbols import NAME
from historical_etl.sources.files.layouts import FilesLayout
from historical_etl.sources.files.unsupported_formats import other_than_parquet
from historical_etl.sources.files.values import cut
from historical_etl.symbols import SYMBOL_PATTERN

__all__ = [
    "BROKEN",
    "DIVIDEND_COLUMN",
    "NO_SYMBOL",
    "REASONS",
    "SPLIT_COLUMN",
    "ReadPlan",
    "Source",
    "is_no_symbol",
    "unreadable",
]

#: What Polars raises on broken files; a panic is no `Exception`, hence named.
BROKEN: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)
SPLIT_COLUMN, DIVIDEND_COLUMN = "_split", "_dividend"
_EVENTS: Final = (SPLIT_COLUMN, DIVIDEND_COLUMN)
#: Marks in which capitals mean something: GBp.
_WITH_CASE: Final = frozenset({"currency", "unit", "security"})
NO_SYMBOL: Final = "unreadable_symbol"
_FIELDS: Final = "unreadable_line"
#: Why a row of a file is refused, as the column `reasons` of refused rows names it.
REASONS: Final = (
    NO_SYMBOL,
    _FIELDS,
    *(f"unreadable_{name}" for name in ("date", "close", "split", "dividend", "gains")),
)


@dataclass(frozen=True)
class Source:
    """What is known of a CSV file's form: where its records are, and how they are parted."""

    separator: str
    width: int
    header: int


@dataclass(frozen=True)
class ReadPlan:
    """How one file is read.

    Attributes:
        path: of the file.
        csv: its form; None for Parquet.
        scan: its rows as they stand there.
        keep: which of them are rows at all.
        values: the schema's columns without `ret`, and events.
        raw: columns of ours, as they stand in the file.
        marks: columns that tell one series from another, as they stand in the file, by the name of the mark.
        mark_names: what these are called there.
        faults: by column, true where a value cannot be read without which there is no bar.
        cells: likewise of the others: they are null then, and the bar stays.
        lines: what is wrong with rows as a whole, in words → those rows.
        short: true for rows that may lack fields.
        tidy: true for rows whose symbol already is in the file as we write it.
        layout: of the export it is from.
        symbol: that of the file; None where a column has them.
        symbol_from: where symbols come from.
        shortened: whether something was taken off the file's name for it.
        suffixed: whether its symbols may end in a market.
        timed: whether it may hold several rows for a day.
        has_events: whether it has columns of splits or dividends.
        split_adjusted: whether its prices are adjusted for splits; None where nothing tells.
        ignored: columns that are not read.
        notes: what was understood that somebody may want to know.
        bad: records that have not the header's number of fields → their line, and how many they have.
        decimal: its decimal sign.
        fast: whether its numbers are read the fast way.
        date_wanted: what a date has to be.
        date_shown: what a message shows beside a date that is none.
        ragged: its rows with lines of another width cut or filled, for a scan that leaves them out.
        order: what its dates have first, if the file shows it and it could be either.
        days: how its dates are read, where they are text.
        of_store: whether it has the columns of a year file of a store like this one.
    """

    path: Path
    csv: Source | None
    scan: pl.LazyFrame
    keep: pl.Expr
    values: Mapping[str, pl.Expr]
    raw: Mapping[str, pl.Expr]
    faults: Mapping[str, pl.Expr]
    short: pl.Expr
    tidy: pl.Expr
    layout: FilesLayout
    cells: Mapping[str, pl.Expr] = field(default_factory=dict[str, pl.Expr])
    lines: Mapping[str, pl.Expr] = field(default_factory=dict[str, pl.Expr])
    symbol: str | None = None
    symbol_from: str = NAME
    shortened: bool = False
    suffixed: bool = False
    timed: bool = False
    has_events: bool = False
    split_adjusted: bool | None = None
    ignored: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    bad: Mapping[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    decimal: str = "."
    fast: bool = False
    date_wanted: str = "a day"
    date_shown: pl.Expr | None = None
    ragged: Callable[[], pl.LazyFrame] | None = None
    order: Order | None = None
    days: DateRule | None = None
    marks: Mapping[str, pl.Expr] = field(default_factory=dict[str, pl.Expr])
    mark_names: Mapping[str, str] = field(default_factory=dict[str, str])
    of_store: bool = False

    @property
    def is_csv(self) -> bool:
        """Whether it is CSV."""
        return self.csv is not None

    def typed(self, *, marks: Collection[str] = ()) -> pl.LazyFrame:
        """Rows with typed columns, and `_split`, `_dividend`, `_fault`, `_cell`, `_short`, `_tidy`, `_turns`, marks."""
        rows = self._rows().select(
            *(expr.alias(name) for name, expr in self.values.items()),
            self._is_faulty().alias("_fault"),
            (pl.any_horizontal(*self.cells.values()) & ~self._is_faulty() if self.cells else pl.lit(value=False)).alias(
                "_cell"
            ),
            self.short.alias("_short"),
            self.tidy.alias("_tidy"),
            self._turns().alias("_turns"),
            *(self._mark(mark).alias(mark) for mark in marks),
        )
        return self.layout.bars(rows)

    def first_with(self, mark: str, value: str, symbol: str) -> int:
        """The first row of a symbol, from 0 behind the header, that has some value of a mark."""
        wanted = (self.values["symbol"] == symbol) & (self._mark(mark) == value)
        return int(self._rows(numbered=True).filter(wanted).select("_row").head(1).collect().item())

    def in_two_orders(self) -> list[tuple[int, str]]:
        """A row whose date is read, and one that has day and month in another order; empty if there is none.

        Rows count from 0 behind the header.
        """
        others = self.days.otherwise(self._date_text()) if self.days else []
        if not others:
            return []
        fault, otherwise = self.faults["date"], pl.coalesce(pl.when(~to_come(other)).then(other) for other in others)
        rows = self._rows(numbered=True).select(
            "_row",
            self._date_text().alias("text"),
            ((fault & otherwise.is_not_null()) | self._turns()).alias("other"),
            fault.alias("fault"),
            # A date that can be read in one order only shows more than others.
            (~fault & otherwise.is_not_null()).alias("either"),
        )
        found = rows.filter(pl.col("other") | ~pl.col("fault")).sort("either", maintain_order=True).collect()
        other, one = found.filter("other").head(1), found.filter(~pl.col("other")).head(1)
        if other.is_empty() or one.is_empty():
            return []
        return [part.select("_row", "text").row(0) for part in (one, other)]

    def with_tidy_symbols(self) -> "ReadPlan":
        """The plan for a file all of whose symbols are tidy."""
        # A filter on the bare column lets Polars skip row groups: 6 ms instead of 480 for 1 of 2,000 symbols.
        return replace(self, values={**self.values, "symbol": self.raw["symbol"]})

    def without(self, symbol: str, first: date, last: date, words: str) -> "ReadPlan":
        """The plan that leaves out the rows of a symbol from one day to another; `words`: what they are."""
        inside = (self.values["symbol"] == symbol) & self.values["date"].is_between(first, last)
        reason = f"the rows of {symbol} from {first} to {last} are {words}, not daily"
        return replace(self, lines={**self.lines, reason: inside.fill_null(value=False)})

    def without_bad_lines(self) -> "ReadPlan":
        """The plan that leaves out lines with another number of fields than the header; itself if there are none.

        Raises:
            DataQualityError: the file is no CSV, or has too many of them.
        """
        if self.csv is None or self.ragged is None or self.bad:
            return self
        bad = bad_lines(self.path, self.csv.separator, self.csv.width, self.csv.header)
        return replace(self, bad=bad, scan=self.ragged()) if bad else self

    def trouble(self, error: BaseException) -> DataQualityError:
        """What is wrong with a file that Polars cannot read, by its line where one can be named."""
        if self.csv is not None:
            try:
                bad = bad_lines(self.path, self.csv.separator, self.csv.width, self.csv.header)
                check_quotes(self.path)
            except DataQualityError as found:
                return found
            for line, width in bad.values():
                what = f"The line has {width} fields where the header has {self.csv.width}"
                return DataQualityError(what, where=f"{self.path}, line {line}", todo="correct it or export again")
        return unreadable(self.path, error)

    def check(self) -> None:
        """Read the file to its end.

        Raises:
            DataQualityError: it cannot be read; names the line (CSV) or the file (Parquet).
        """
        try:
            self.typed().select(pl.all().null_count()).collect(engine="streaming")
        except BROKEN as error:
            raise self.trouble(error) from None

    def faulty(self) -> pl.DataFrame:
        """The rows that hold a fault or a symbol that is none: the schema's columns, `reasons`, `_row` and `_what`.

        `_row` counts from 0 behind the header; `_what` says of the first thing what is wrong with it; `_close` is the
        text of its close.

        Raises:
            DataQualityError: they cannot be read.
        """
        faults = {**self.faults, "symbol": is_no_symbol(self.values["symbol"])}
        lines = [pl.when(rows).then(pl.lit(_FIELDS)) for rows in self.lines.values()]
        names = [f"unreadable_{name}" for name in faults]
        reasons = [pl.when(fault).then(pl.lit(name)) for name, fault in zip(names, faults.values(), strict=True)]
        rows = (
            self._rows(numbered=True)
            .filter(pl.any_horizontal(*faults.values(), *self.lines.values()))
            .select(
                "_row",
                pl.when(~self.faults["date"]).then(self.values["date"]).alias("date"),
                _marked(self.values["symbol"]).alias("symbol"),
                *(self.values[name].alias(name) for name in SCHEMA if name not in {"date", "symbol", "ret"}),
                pl.lit(None, pl.Float64).alias("ret"),
                pl.concat_list(*reasons, *lines).list.drop_nulls().alias("reasons"),
                self._reasons(faults).alias("_what"),
                self._text("close").alias("_close"),
            )
        )
        try:
            return rows.collect()
        except BROKEN as error:
            raise self.trouble(error) from None

    def blank(self) -> pl.DataFrame:
        """The rows with a cell that cannot be read beside a good close: `_row` and `_what`, as `faulty` gives them."""
        rows = self._rows(numbered=True).filter(pl.any_horizontal(*self.cells.values()), ~self._is_faulty())
        return rows.select("_row", self._reasons(self.cells).alias("_what")).collect()

    def bad_rows(self) -> pl.DataFrame:
        """What is known of lines with another number of fields than the header, as `faulty` gives it."""
        width = self.csv.width if self.csv else 0
        empty = {name: [None] * len(self.bad) for name in SCHEMA}
        return pl.DataFrame(
            {
                "_row": list(self.bad),
                **empty,
                "reasons": [[_FIELDS]] * len(self.bad),
                "_what": [
                    f"the line has {fields} fields where the header has {width}" for _, fields in self.bad.values()
                ],
            },
            schema={"_row": pl.UInt32(), **SCHEMA, "reasons": pl.List(pl.String()), "_what": pl.String()},
        )

    def places(self, rows: list[int]) -> list[str]:
        """Where some rows are, for messages: by line, or by row in Parquet."""
        if self.csv is None:
            return [f"row {row + 1}" for row in rows]
        known = {row: line for row, (line, _) in self.bad.items()}
        others = [row for row in rows if row not in known]
        found = dict[int, int]()
        if others:
            found |= lines_of(self.path, self.csv.separator, others, self.csv.header)
        return [f"line {known.get(row, found.get(row, 0))}" for row in rows]

    def _wants(self, column: str) -> str:
        if column == "symbol":
            return f", not a symbol ({SYMBOL_PATTERN})"
        if column in NUMBERS:
            return f", not a number with {self.decimal!r} as its decimal sign"
        if column == "date":
            return f", not {self.date_wanted}"
        return ", not a number"

    def _is_faulty(self) -> pl.Expr:
        return pl.any_horizontal(*self.faults.values(), *self.lines.values())

    def _text(self, name: str) -> pl.Expr:
        return _marked(cut(self.raw.get(name, self.values.get(name, pl.lit(""))))).fill_null("None")

    def _reasons(self, faults: Mapping[str, pl.Expr]) -> pl.Expr:
        """What is wrong with the first of some columns that cannot be read."""
        reasons: list[pl.Expr] = []
        for name, fault in faults.items():
            wants: pl.Expr = pl.lit(self._wants(name))
            if name == "date":
                shown = pl.lit("") if self.date_shown is None else self.date_shown
                coming = to_come(self.values["date"])
                wants = pl.when(coming).then(pl.lit(", which is to come")).otherwise(shown + wants)
            reasons.append(
                pl.when(fault).then(pl.concat_str(pl.lit(f"{name} is '"), self._text(name), pl.lit("'"), wants))
            )
        reasons += [pl.when(rows).then(pl.lit(words)) for words, rows in self.lines.items()]
        return pl.coalesce(reasons)

    def _mark(self, mark: str) -> pl.Expr:
        """A mark as it is compared: without blanks, null for no value. GBp is another currency than GBP, usd is USD."""
        if mark not in self.marks:
            return pl.lit(None, pl.String)
        text = cut(self.marks[mark]).str.strip_chars().str.replace(r"^(\d+)\.0$", "${1}")
        in_small = text == text.str.to_lowercase() if mark in _WITH_CASE else pl.lit(value=True)
        return pl.when(text.is_in(NULLS)).then(None).when(in_small).then(text.str.to_uppercase()).otherwise(text)

    def _date_text(self) -> pl.Expr:
        return cut(self.raw["date"]).str.strip_chars()

    def _turns(self) -> pl.Expr:
        symbol = self.values["symbol"] if self.symbol is None else None
        turns = self.days.turns(self._date_text(), symbol) if self.days else None
        return pl.lit(value=False) if turns is None else turns

    def _rows(self, *, numbered: bool = False) -> pl.LazyFrame:
        rows = self.scan.with_row_index("_row") if numbered or self.bad else self.scan
        if self.bad:
            rows = rows.filter(~pl.col("_row").is_in(list(self.bad)))
        return rows.filter(self.keep)


def _marked(text: pl.Expr) -> pl.Expr:
    """A text, with an ellipsis if it was cut."""
    return pl.when(text.str.len_chars() < CELL).then(text).otherwise(text + "…")


def is_no_symbol(text: pl.Expr) -> pl.Expr:
    """True where a symbol is missing or malformed."""
    return ~text.str.contains(SYMBOL_PATTERN).fill_null(value=False)


def unreadable(path: Path, error: BaseException) -> DataQualityError:
    """The error for a file that Polars cannot read, when no line of it can be named."""
    if not path.exists():
        return DataQualityError("The file is gone", where=path, todo="leave the files alone while they are read")
    if path.stat().st_size == 0:
        return DataQualityError("The file is empty", where=path, todo="remove it, or export it again")
    kind = "Parquet" if path.name.lower().endswith(".parquet") else "CSV"
    if kind == "Parquet" and (other := other_than_parquet(path)):
        return other
    reason = str(error).partition("\n")[0][:200]
    what = f"This is not whole, readable {kind} (cut off, damaged, or something else): {reason}"
    return DataQualityError(what, where=path, todo="copy or export the file again")
