"""Expressions that CSV and Parquet share: symbols in our one way, and the events beside the bars."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import SchemaDriftError
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.display_text import CELL
from historical_etl.sources.files.column_spellings import is_unnamed
from historical_etl.sources.files.file_symbols import Named, writable

__all__ = ["cut", "dividend_of", "in_capitals", "split_of", "symbol_of"]

_MOST: Final = 20


def symbol_of(
    raw: Mapping[str, pl.Expr], settings: FilesSettings, path: Path, named: Named, others: Sequence[str]
) -> pl.Expr:
    """The symbol of each row: a column's, or the one of the whole file; `others`: columns that are none of ours.

    Raises:
        SchemaDriftError: there is no column, and nothing else that is a symbol.
    """
    if "symbol" in raw:
        text = in_capitals(cut(raw["symbol"]).str.strip_chars())
        return text.replace(settings.symbols) if settings.symbols else text
    if named.symbol is not None:
        return pl.lit(named.symbol)
    guess = f"; is it {named.guess!r}?" if named.guess else ""
    value = named.guess if named.guess and writable(named.guess) else "<symbol>"
    stem = path.name.split(".")[0]
    column = " or ".join([name for name in others if not is_unnamed(name)][:_MOST]) or "name in the file"
    raise SchemaDriftError(
        f"There is no symbol column, and the file's name is not a symbol{guess}",
        where=path,
        todo="if it is of one symbol, call the file by it, such as AAPL.csv, or set "
        f"{PREFIX}FILES_SYMBOLS={stem}={value} ({PREFIX}FILES_SYMBOL where all files are of one); if it is of several, "
        f"name their column, as in {PREFIX}FILES_COLUMNS=symbol=<{column}>",
    )


def cut(cells: pl.Expr) -> pl.Expr:
    """Cells as texts, without what nothing has that could be read: some hold megabytes in each row."""
    return cells.cast(pl.String).str.head(CELL)


def in_capitals(text: pl.Expr) -> pl.Expr:
    """In capitals, where the text is of ASCII."""
    # Elsewhere some small letters have capitals that are ours, as ß has SS: these rows would be another symbol's.
    ascii_only = text.str.len_bytes() == text.str.len_chars()
    return pl.when(ascii_only).then(text.str.to_uppercase()).otherwise(text)


def split_of(numbers: Mapping[str, pl.Expr]) -> pl.Expr:
    """The ratio of a split; null where there is none, which vendors write as 0 or 1."""
    ratio = numbers.get("split")
    return pl.lit(None, pl.Float64) if ratio is None else pl.when((ratio > 0) & (ratio != 1)).then(ratio)


def dividend_of(numbers: Mapping[str, pl.Expr]) -> pl.Expr:
    """Cash for each share; null where there is none. Gains that are paid out are cash as well.

    Yahoo often names a gain twice, alone and inside the dividend: a dividend that is no smaller contains it.
    """
    paid, gains = (numbers[name].fill_null(0) if name in numbers else None for name in ("dividend", "gains"))
    if paid is None and gains is None:
        return pl.lit(None, pl.Float64)
    if paid is None or gains is None:
        cash = paid if gains is None else gains
    else:
        cash = pl.when(paid >= gains).then(paid).otherwise(paid + gains)
    return pl.when(cash != 0).then(cash)  # pyright: ignore[reportOptionalOperand]
