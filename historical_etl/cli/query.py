"""`query`: an answer as a table for people, or as CSV, JSON or Parquet for programs."""

import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import polars as pl
from rich.table import Table
from rich.text import Text

from historical_etl.catalog.query import prepare
from historical_etl.cli.files import target_of, write_file
from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.clock import system_clock
from historical_etl.errors import ConfigurationError
from historical_etl.etl.context import StoreContext
from historical_etl.etl.price_store import PriceStore
from historical_etl.store.layout import Layout

__all__ = ["query"]

_SUFFIXES: Final = {".csv": "csv", ".json": "json", ".parquet": "parquet", ".pq": "parquet", ".txt": "table"}
#: A text column may be cut down to this; numbers and dates are shown whole or not at all.
_TEXT_WIDTH: Final = 24
_GAP: Final = 2
_DECIMALS: Final = 6
_SMALL, _LARGE = 1e-3, 1e15


def query(  # the options of the command
    terminal: Terminal,
    sql: str,
    form: str | None,
    output: Path | None,
    limit: int,
    version: str | None,
    as_of: str | None,
) -> int:
    """Run one SQL statement and write its answer; see the command's help."""
    prepare()
    layout = Layout(terminal.settings.data_dir)
    target = None if output is None or str(output) == "-" else target_of(output, layout)
    form = _format(form, target, as_json=terminal.as_json)
    if form == "parquet" and target is None and sys.stdout.isatty():
        raise ConfigurationError(
            "Parquet is binary and is not written to a terminal", where="--format", todo="add --output FILE, or a pipe"
        )
    store = PriceStore(StoreContext(layout, terminal.settings, system_clock, "historical-etl query"))
    asked = sys.stdin.read() if sql == "-" else sql
    answer = _whole_numbers(store.prices.query_sql(asked, version=version, as_of=as_of))
    if form == "table" and target is None:
        _print_table(terminal, answer, limit)
        return 0
    content = _table_text(answer, limit) if form == "table" else _encoded(answer, form)
    if target is None:
        terminal.data(content)
        return 0
    write_file(target, content)
    if terminal.as_json:
        terminal.json({"output": str(target), "format": form, "rows": answer.height, "bytes": len(content)})
    else:
        terminal.say(f"{answer.height:,} row(s) written to {target}")
    return 0


def _format(form: str | None, target: Path | None, *, as_json: bool) -> str:
    if as_json and target is None:
        if form not in (None, "json"):
            raise ConfigurationError(
                f"--json and --format {form} exclude each other on stdout", where="--format", todo="leave one out"
            )
        return "json"
    if form is not None:
        return form
    if target is None:
        return "table"
    if target.suffix.lower() not in _SUFFIXES:
        raise ConfigurationError(
            f"{target.name!r} does not tell the format", where="--output", todo="add --format csv, json or parquet"
        )
    return _SUFFIXES[target.suffix.lower()]


def _whole_numbers(answer: pl.DataFrame) -> pl.DataFrame:
    """Sums of integers as integers: DuckDB makes them HUGEINT, which arrives as a decimal."""
    for name, dtype in answer.schema.items():
        if isinstance(dtype, pl.Decimal) and dtype.scale == 0:
            column = answer.get_column(name)
            whole = column.cast(pl.Int64, strict=False)
            if whole.null_count() == column.null_count():
                answer = answer.with_columns(whole)
    return answer


def _encoded(answer: pl.DataFrame, form: str) -> bytes:
    buffer = io.BytesIO()
    if form == "parquet":
        answer.write_parquet(buffer)
    elif form == "csv":
        _flat(answer, nested=True).write_csv(buffer)
    else:
        _flat(answer, nested=False).write_json(buffer)
        buffer.write(b"\n")
    return buffer.getvalue()


def _flat(answer: pl.DataFrame, *, nested: bool) -> pl.DataFrame:
    """Columns that CSV (`nested`) or JSON cannot hold, as text."""
    changed: list[pl.Series | pl.Expr] = []
    for name, dtype in answer.schema.items():
        if dtype == pl.Binary:
            changed.append(pl.col(name).bin.encode("hex"))
        elif nested and dtype.is_nested():
            texts = [None if v is None else json.dumps(v, default=str) for v in answer.get_column(name).to_list()]
            changed.append(pl.Series(name, texts, pl.String))
        elif not nested and isinstance(dtype, pl.Decimal):
            changed.append(pl.col(name).cast(pl.Float64))
    return answer.with_columns(changed)


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _print_table(terminal: Terminal, answer: pl.DataFrame, limit: int) -> None:
    shown = answer.head(limit) if limit else answer
    cells = [_column(series) for series in shown.get_columns()]
    fitting = _fitting(answer.columns, cells, terminal.out.width)
    terminal.out.print(_table(answer.columns[:fitting], cells[:fitting], shown))
    if fitting < answer.width:
        hidden = ", ".join(answer.columns[fitting:])
        terminal.say(f"{answer.width - fitting} column(s) do not fit this terminal: {hidden} (--format csv has them)")
    if not answer.height:
        terminal.say("no rows")
    if shown.height < answer.height:
        terminal.say(f"{shown.height:,} of {answer.height:,} rows shown (--limit 0 shows all, --format csv writes all)")


def _table_text(answer: pl.DataFrame, limit: int) -> bytes:
    from rich.console import Console

    shown = answer.head(limit) if limit else answer
    text = io.StringIO()
    table = _table(answer.columns, [_column(series) for series in shown.get_columns()], shown)
    Console(file=text, width=100_000, highlight=False, markup=False).print(table)
    return text.getvalue().encode()


def _table(names: Sequence[str], cells: Sequence[Sequence[str]], shown: pl.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for name in names:
        numeric = shown.schema[name].is_numeric()
        text = shown.schema[name] == pl.String
        table.add_column(
            Text(cleaned(name)),
            justify="right" if numeric else "left",
            overflow="fold" if text else "ellipsis",
            no_wrap=not text,
        )
    for row in zip(*cells, strict=True):
        table.add_row(*(Text(cell) for cell in row))
    return table


def _fitting(names: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> int:
    """How many columns fit, from the left; at least one."""
    used = 0
    for count, (name, column) in enumerate(zip(names, cells, strict=True)):
        widest = max((len(line) for cell in (name, *column) for line in cell.splitlines()), default=0)
        used += min(widest, max(_TEXT_WIDTH, len(name))) + (_GAP if count else 0)
        if used > width:
            return max(1, count)
    return len(names)


def _column(series: pl.Series) -> list[str]:
    values = series.to_list()
    if series.dtype.is_float():
        return _floats(values)
    return ["" if value is None else _cell(value) for value in values]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.hex()
    return cleaned(str(value))


def _floats(values: Sequence[float | None]) -> list[str]:
    """One number of decimals for the column: as many as its values need, six at most."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    largest = max((abs(value) for value in finite), default=0.0)
    if largest >= _LARGE or 0 < largest < _SMALL:
        return ["" if value is None else f"{value:.6g}" for value in values]
    places = next((n for n in range(_DECIMALS) if all(_is_exact(value, n) for value in finite)), _DECIMALS)
    return ["" if value is None else f"{value:.{places}f}" for value in values]


def _is_exact(value: float, places: int) -> bool:
    return math.isclose(round(value, places), value, rel_tol=1e-9, abs_tol=1e-9)
