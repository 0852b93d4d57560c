"""Files that are skipped as a whole: by what was summed up of their rows they hold no daily bars, or were misread.

Each function takes a file's plan and its table, a row for each symbol as `survey` sums it up, and gives the error that
that is the reason, or None.
"""

from datetime import date
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError
from historical_etl.settings import PREFIX
from historical_etl.sources.files.date_order import latest_day
from historical_etl.sources.files.numbers import advice
from historical_etl.sources.files.read_plan import ReadPlan

__all__ = ["crowded", "hopeless", "misread_days"]

#: So many rows of one symbol, and so many for each day from its first to its last, are no daily bars; nor do so many
#: symbols trade anywhere.
_CROWD, _CROWD_A_DAY, _MOST_SYMBOLS = 100_000, 400, 1_000_000
_DATE_FORMAT: Final = f"{PREFIX}FILES_DATE_FORMAT"


def crowded(plan: ReadPlan, table: pl.DataFrame) -> DataQualityError | None:
    """A file with so many rows for the days that it spans, or symbols, that it holds no daily bars."""
    days = (pl.col("last") - pl.col("first")).dt.total_days().fill_null(0) + 1
    crowd = (pl.col("rows") > _CROWD) & (pl.col("rows") > _CROWD_A_DAY * days)
    crowds = table.filter(crowd).select("symbol", "rows", days=days)
    if table.height > _MOST_SYMBOLS:
        what = f"It has {table.height:,} symbols"
    elif crowds.height:
        symbol, rows, span = crowds.row(0)
        what = f"{rows:,} rows of {plan.symbol or symbol or 'no symbol'} lie within {span:,} day(s)"
    else:
        return None
    todo = "export it again as daily bars, one row for each symbol and session"
    return DataQualityError(f"{what}: it holds no daily bars", where=plan.path, todo=todo)


def misread_days(plan: ReadPlan, table: pl.DataFrame) -> DataQualityError | None:
    """A file whose dates are in two orders, or have years of two digits that are to come."""
    last = table.get_column("last").max()
    if plan.days and plan.days.has_short_years and isinstance(last, date) and last > latest_day():
        return DataQualityError(
            f"Years of two digits are read as {last.year}, which is to come",
            where=plan.path,
            todo=f"write years in full, or say with {_DATE_FORMAT} how they are written",
        )
    turns, faults = (int(table.get_column(name).sum()) for name in ("_turns", "_faults"))
    rows = plan.in_two_orders() if turns or faults else ()
    if not rows:
        return None
    (one, text), (other, other_text) = rows
    places = plan.places([one, other])
    gap = "" if faults else f", or set {_DATE_FORMAT} if it is a gap"
    return DataQualityError(
        f"Its dates are written in two orders: {text!r} ({places[0]}) and {other_text!r} ({places[1]})",
        where=plan.path,
        todo=f"export it again with all dates in one order; if one date is a slip, correct it{gap}",
    )


def hopeless(plan: ReadPlan, table: pl.DataFrame, faulty: pl.DataFrame) -> DataQualityError | None:
    """A file most of whose rows cannot be read: the settings do not fit it; `faulty` holds its rows with faults."""
    rows, faults = int(table.get_column("rows").sum()), int(table.get_column("_faults").sum())
    if faults * 2 <= rows:
        return None
    first = faulty.filter(pl.col("reasons").list.eval(pl.element() != "unreadable_symbol").list.any())
    row, what, close = first.select("_row", "_what", "_close").row(0)
    todo = f"set {_DATE_FORMAT} to how the file writes it, or correct the file"
    if "midnight of the next day" in what:
        todo = f"set {PREFIX}EXCHANGE to the exchange that these are of, write days without a time, or {todo}"
    elif "date is" not in what:
        todo = advice(close, plan.decimal)
    return DataQualityError(
        f"{what}{f'; {faults:,} of {rows:,} rows cannot be read' if rows > 1 else ''}",
        where=f"{plan.path}, {plan.places([row])[0]}",
        todo=todo,
    )
