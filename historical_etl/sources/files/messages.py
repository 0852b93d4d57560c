"""What is reported of files, in words: how they are understood, what is not read, what is skipped and why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError, HistoricalETLError
from historical_etl.schema import PRIMARY_KEYS, SCHEMA
from historical_etl.settings import PREFIX
from historical_etl.sources.display_text import LINE, displayed
from historical_etl.sources.files.read_plan import NO_SYMBOL, ReadPlan
from historical_etl.sources.files.survey import SkippedFile, Surveyed
from historical_etl.sources.files.unsupported_formats import steps

__all__ = ["contradictions", "everything_wrong", "notes_of", "printable", "reading_of"]

_SAMPLE: Final = 5
#: Relative difference of two values that say the same.
_SAME: Final = 1e-6
_LINES: Final = 20
#: Characters of a path.
_PLACE: Final = 500


def printable(skipped: SkippedFile) -> SkippedFile:
    """What is skipped, with an error that can be shown: it may quote a cell, a column or a path of any length."""
    error = skipped.error
    where = None if error.where is None else displayed(error.where, _PLACE)
    return replace(
        skipped, error=type(error)(displayed(error.what, LINE), where=where, todo=displayed(error.todo, LINE))
    )


def notes_of(found: Surveyed, others: Sequence[Path], markets: str) -> tuple[str, ...]:
    """What somebody who reads the files should know."""
    plans = [found.plans[number] for number in found.alive]
    ignored = Counter(name for plan in plans for name in dict.fromkeys(plan.ignored))
    notes: list[str] = []
    if ignored:
        counted = ", ".join(
            name if count == len(plans) else f"{name} ({count:,} of {len(plans):,} files)"
            for name, count in ignored.items()
        )
        notes.append(f"columns that are not read: {counted}")
    notes += [markets] if markets else []
    shortened = [plan for plan in plans if plan.symbol and plan.symbol_from == "the file's name" and plan.shortened]
    if shortened:
        some = ", ".join(f"{plan.path.name} is {plan.symbol}" for plan in shortened[:_SAMPLE])
        notes.append(f"symbols are the names of files, without what was added to them: {some}{_more(shortened)}")
    said = Counter(note for plan in plans for note in plan.notes)
    notes += [note if count == len(plans) else f"{note} ({count:,} file(s))" for note, count in said.items()]
    if found.empty:
        names = ", ".join(path.name for path in found.empty[:_SAMPLE])
        notes.append(f"{len(found.empty):,} file(s) have a header and no rows: {names}{_more(found.empty)}")
    if others:
        names = ", ".join(path.name for path in others[:_SAMPLE])
        listed = f"{names}{_more(others)} ({steps(others)})"
        notes.append(f"{len(others):,} file(s) are not read, since they are no CSV or Parquet: {listed}")
    return (*notes, *_unreadable(found), *_blank(found))


def reading_of(found: Surveyed) -> tuple[str, ...]:
    """How the files are understood: where symbols come from first."""
    plans = [found.plans[number] for number in found.alive]
    sources = Counter(plan.symbol_from for plan in plans)
    lines = [f"symbols come from {source} ({count:,} file(s))" for source, count in sources.most_common()]
    said = Counter(note for plan in plans for note in plan.notes)
    return (*lines, *(f"{note} ({count:,} file(s))" for note, count in said.items()))


def contradictions(found: Surveyed, names: Mapping[str, str], frame: pl.DataFrame) -> list[str]:
    """Symbols of which files say different things of one day, each with the files; `frame` has them as fetched."""
    values = [name for name in SCHEMA if name not in {*PRIMARY_KEYS, "ret"}]
    # As the row rules have it: a row without a close is none, and a null is no other value.
    bars = frame.filter(pl.col("close") > 0)
    twins = bars.filter(pl.struct(PRIMARY_KEYS).is_duplicated())
    ranges = twins.group_by(PRIMARY_KEYS).agg(
        (pl.col(name).max() - pl.col(name).min()) / pl.col(name).max() for name in values
    )
    unequal = ranges.filter(pl.any_horizontal(pl.col(name) > _SAME for name in values)).sort("symbol", "date")
    lines: list[str] = []
    for (symbol,), days in unequal.partition_by("symbol", as_dict=True, maintain_order=True).items():
        theirs = [name for name, ours in names.items() if ours == symbol] or [symbol]
        first, last = days.get_column("date").min(), days.get_column("date").max()
        files = found.index.filter(pl.col("symbol").is_in(theirs), pl.col("first") <= last, pl.col("last") >= first)
        numbers: list[int] = files.get_column("file").unique().sort().head(3).to_list()
        places = " and ".join(str(found.plans[number].path) for number in numbers)
        lines.append(
            f"{symbol} has {days.height:,} day(s) with different values, the first {first}, in {places}: are these of "
            f"one security? Nothing of it is taken"
        )
    return lines


def everything_wrong(found: Surveyed, path: str) -> HistoricalETLError:
    """The error for files of which not a row can be read: all that is wrong with them."""
    errors = [skipped.error for skipped in found.skipped]
    if len(errors) == 1 and found.unreadable.is_empty():
        return errors[0]
    lines = [f"{error.what} [{error.where}]" for error in errors] + list(_unreadable(found))
    kinds = {type(error) for error in errors}
    kind = kinds.pop() if len(kinds) == 1 else DataQualityError
    if not errors and len(lines) == 1:
        return DataQualityError(f"No row can be read: {lines[0]}", where=path, todo="correct the files or the settings")
    listed = "\n  ".join(lines[:_LINES])
    rest = f"\n  and {len(lines) - _LINES:,} more" if len(lines) > _LINES else ""
    todo = next((error.todo for error in errors if error.todo), "correct the files or the settings")
    return kind(f"Nothing of these files can be read:\n  {listed}{rest}\n", where=path, todo=todo)


def _unreadable(found: Surveyed) -> list[str]:
    """Rows that are refused: the symbols that cannot be written, and the first lines of each file."""
    rows = found.unreadable
    if rows.is_empty():
        return []
    lines: list[str] = []
    of_symbols = pl.col("reasons").list.contains(NO_SYMBOL)
    nameless = rows.filter(of_symbols)
    if nameless.height:
        counts = nameless.group_by(pl.col("symbol").fill_null("")).len().sort("len", "symbol", descending=[True, False])
        listed = ", ".join(f"{symbol!r} ({count:,})" for symbol, count in counts.head(_LINES).iter_rows())
        rest = f" and {counts.height - _LINES:,} more" if counts.height > _LINES else ""
        first = next((symbol for symbol, _ in counts.iter_rows() if symbol), "BRK B")
        lines.append(
            f"{nameless.height:,} row(s) of symbols that cannot be written are refused: {listed}{rest}; "
            f"{PREFIX}FILES_SYMBOLS={first}=… names them otherwise"
        )
    for (number,), part in (
        rows.filter(~of_symbols | (pl.col("symbol").fill_null("") == ""))
        .partition_by("file", as_dict=True, maintain_order=True)
        .items()
    ):
        plan = found.plans[int(number)]  # pyright: ignore[reportArgumentType]
        lines.append(f"{plan.path}: {part.height:,} row(s) cannot be read and are refused: {_lines(plan, part)}")
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"rows of {len(lines) - _LINES:,} more files are refused"]
    return lines


def _blank(found: Surveyed) -> list[str]:
    """Cells that are taken for none beside a good close: the first lines of each file."""
    numbers: list[int] = found.index.filter(pl.col("_cells") > 0).get_column("file").unique().sort().to_list()
    lines: list[str] = []
    for plan in (found.plans[number] for number in numbers[:_LINES]):
        rows = plan.blank()
        lines.append(f"{plan.path}: {rows.height:,} bar(s) have cells that cannot be read: {_lines(plan, rows)}")
    return [*lines, f"bars of {len(numbers) - _LINES:,} more files have such cells"] if len(numbers) > _LINES else lines


def _lines(plan: ReadPlan, rows: pl.DataFrame) -> str:
    """Where the first of some rows are, and what is wrong with each."""
    some = rows.head(_SAMPLE)
    places = plan.places(some.get_column("_row").to_list())
    lines = "; ".join(f"{place}: {what}" for place, what in zip(places, some.get_column("_what"), strict=True))
    return lines + (f"; and {rows.height - _SAMPLE:,} more" if rows.height > _SAMPLE else "")


def _more(items: Sequence[object]) -> str:
    return f" and {len(items) - _SAMPLE:,} more" if len(items) > _SAMPLE else ""
