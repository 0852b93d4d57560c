"""What one pass over all files finds: which can be read, whose rows they hold, what is skipped, and why.

Whatever is wrong with a file or a row is found and kept apart here, all at once; the rest goes on. A later pass reads
what has changed since, and keeps what it knows of the other files.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import ConfigurationError, DataQualityError, HistoricalETLError, StorageError
from historical_etl.schema import SCHEMA
from historical_etl.settings import FilesSettings
from historical_etl.sources.file_probe import probed
from historical_etl.sources.files.column_spellings import MARKS
from historical_etl.sources.files.csv_plan import csv_plans
from historical_etl.sources.files.dates import AmbiguousDatesError, Order
from historical_etl.sources.files.file_symbols import SETTING, Named, name_of, writable
from historical_etl.sources.files.frequency import parts_not_daily, plans_not_daily
from historical_etl.sources.files.listing import suffix_of
from historical_etl.sources.files.parquet_plan import parquet_plans
from historical_etl.sources.files.read_plan import BROKEN, ReadPlan, is_no_symbol
from historical_etl.sources.files.rejected_files import crowded, hopeless, misread_days

__all__ = ["SkippedFile", "Survey", "Surveyed", "scratch_error"]

#: Files read in one query: enough to keep all cores busy, few enough to name the broken one soon.
_CHUNK: Final = 32
UNREADABLE: Final = pl.Schema(
    {"file": pl.UInt32(), "_row": pl.UInt32(), **SCHEMA, "reasons": pl.List(pl.String()), "_what": pl.String()}
)


@dataclass(frozen=True)
class SkippedFile:
    """A file, or a symbol of it, that is skipped as a whole; without `symbols` it may hold any."""

    path: Path
    error: HistoricalETLError
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surveyed:
    """The files after one pass.

    Attributes:
        plans: of all files that were ever tried; only those in `index` count.
        current: the numbers of those that were tried of the files as they are.
        index: a row for each file and symbol: file (position in `plans`), symbol, first, last, rows.
        skipped: what is skipped as a whole.
        unreadable: refused rows, columns `UNREADABLE`.
        folders: where the rows of CSV files are, by year, with the number of their file.
        empty: files that have a header and no rows.
    """

    plans: list[ReadPlan]
    current: list[int]
    index: pl.DataFrame
    skipped: list[SkippedFile]
    unreadable: pl.DataFrame
    folders: list[Path]
    empty: list[Path]

    @property
    def alive(self) -> list[int]:
        """The numbers of the plans that count, in order of their files' names."""
        return sorted(self.index.get_column("file").unique().to_list(), key=lambda n: (self.plans[n].path, n))

    def rows(self, numbers: Sequence[int]) -> pl.LazyFrame:
        """Readable rows of some files, with the number of their file."""
        parts = [
            self.plans[number].typed().with_columns(pl.lit(number, pl.UInt32).alias("file"))
            for number in numbers
            if not self.plans[number].is_csv
        ]
        if any(self.plans[number].is_csv for number in numbers):
            copies = sorted(file for folder in self.folders for file in folder.rglob("*.parquet"))
            copied = pl.scan_parquet(copies, glob=False, hive_partitioning=False)
            parts.append(copied.filter(pl.col("file").is_in(numbers)))
        columns = ("file", *(name for name in SCHEMA if name != "ret"))
        return pl.concat([part.filter(~pl.col("_fault")).select(columns) for part in parts])


class Survey:
    """The files of a source, in one pass after the other.

    Args:
        settings: how they are written.
        exchange: see `FilesSource`.
        scratch: the folder for the folder of copies, which goes away with this object; None: the system's.

    Raises:
        StorageError: the scratch copy cannot be written.
    """

    def __init__(self, settings: FilesSettings, exchange: str, scratch: Path | None) -> None:
        try:
            self._scratch = Path(tempfile.mkdtemp(prefix="historical-etl-files-", dir=scratch))
        except OSError as error:
            raise scratch_error(scratch, error) from None
        weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        self._settings = settings
        self._exchange = exchange
        self._mapped = frozenset(settings.symbols)
        self._files: Mapping[Path, tuple[int, ...]] = {}
        self._left_bytes = 0
        # By the numbers of plans, which only grow. What a file was read as before it changed is in none of the tables.
        self._plans: list[ReadPlan] = []
        self._forgotten: set[int] = set()
        self._first_new = 0
        self._tables: dict[int, pl.DataFrame] = {}
        self._faulty: dict[int, pl.DataFrame] = {}
        self._not_daily: dict[int, list[str | None]] = {}
        self._folders: list[Path] = []
        self._marks: tuple[str, ...] = ()
        # By file.
        self._skipped: list[SkippedFile] = []
        self._named: dict[Path, Named] = {}
        self._orders: dict[Path, set[Order]] = {}
        self._unsure: set[Path] = set()
        self._hint: Order | None = None

    def can_go_on(self, files: Mapping[Path, tuple[int, ...]]) -> bool:
        """Whether most of what this has copied is of files that are as they were; else a new one reads less."""
        known = sum(facts[0] for path, facts in files.items() if facts and self._files.get(path) == facts)
        return self._left_bytes + sum(facts[0] for facts in self._files.values() if facts) <= 2 * known

    def of(self, files: Mapping[Path, tuple[int, ...]]) -> Surveyed | None:
        """Plan, copy and check the files that are not as they were in the pass before.

        Args:
            files: all of them, each with what tells whether it is another (`facts_of`).

        Returns:
            What is known of all; None if none of it can be used any more, and a new survey has to be made.

        Raises:
            ConfigurationError: a setting does not fit the files. This survey is not used any more then.
            StorageError: the scratch copy cannot be written. Likewise.
        """
        changed = [path for path, facts in files.items() if not facts or self._files.get(path) != facts]
        self._first_new = len(self._plans)
        self._forget({*changed, *(self._files.keys() - files.keys())})
        self._files = files
        self._plan_all(changed)
        marks = tuple(mark for mark in MARKS if any(mark in plan.marks for plan in self._plans[self._first_new :]))
        if self._tables and not set(marks) <= set(self._marks):
            return None  # what was summed up of the others lacks a column
        self._marks = self._marks if self._tables else marks
        for kind in (True, False):
            numbers = [n for n, plan in enumerate(self._plans) if n >= self._first_new and plan.is_csv is kind]
            for start in range(0, len(numbers), _CHUNK):
                self._read(numbers[start : start + _CHUNK], f"{'c' if kind else 'p'}{numbers[start]:06d}")
        self._refuse_each(crowded)
        self._second_look()
        self._refuse_each(misread_days)
        self._look_at_faults()
        self._leave_out_parts()
        index = self._index()
        unreadable = self._unreadable(index)
        self._look_at_distances(index)
        for number, gone in self._not_daily.items():
            index = index.filter((pl.col("file") != number) | ~pl.col("symbol").is_in(gone))
        empty = [self._plans[number].path for number, table in self._tables.items() if table.is_empty()]
        current = [number for number in range(len(self._plans)) if number not in self._forgotten]
        skipped = sorted(self._with_owners(), key=lambda one: one.path)
        return Surveyed(list(self._plans), current, index, skipped, unreadable, list(self._folders), sorted(set(empty)))

    def _forget(self, paths: Collection[Path]) -> None:
        """Leave out what is known of files."""
        for number, plan in enumerate(self._plans):
            if plan.path in paths and number not in self._forgotten:
                self._forgotten.add(number)
                self._drop(number)
                self._faulty.pop(number, None)
                self._not_daily.pop(number, None)
        for path in paths:
            facts = self._files.get(path, ())
            self._left_bytes += facts[0] if facts else 0
            self._orders.pop(path, None)
        self._unsure = self._unsure.difference(paths)  # not in place: it may be what is given
        self._skipped = [skipped for skipped in self._skipped if skipped.path not in paths]

    def _plan_all(self, paths: Sequence[Path]) -> None:
        later: dict[Path, AmbiguousDatesError | None] = {}
        found = probed(paths, self._settings.memory)
        for path, error in found.refused.items():
            self._named[path] = self._name_of(path)
            self._skip(path, error)
        for path in (path for path in paths if path not in found.refused):
            try:
                plans = self._plans_of(path)
                for plan in plans if path in found.failed else ():
                    plan.check()  # summing up reads the columns that it needs, and no others
                self._plans += plans
                self._orders[path] = {plan.order for plan in plans if plan.order}
            except AmbiguousDatesError as error:
                later[path] = error
            except HistoricalETLError as error:
                self._skip(path, error)
        orders = set[Order]().union(*self._orders.values())
        hint = next(iter(orders)) if len(orders) == 1 else None
        if hint != self._hint:
            later = {**dict.fromkeys(sorted(self._unsure)), **later}
            self._forget(self._unsure)
        self._hint = hint
        self._unsure |= later.keys()
        for path, error in later.items():
            try:
                # Without a hint a file that was read by one says again what is wrong with it.
                if hint is None and error is not None:
                    self._skip(path, error)
                else:
                    self._plans += self._plans_of(path, hint)
            except HistoricalETLError as other:
                self._skip(path, other)

    def _plans_of(self, path: Path, hint: Order | None = None, *, rich: bool = False) -> list[ReadPlan]:
        self._named[path] = named = self._name_of(path)
        if suffix_of(path) == ".parquet":
            return parquet_plans(path, self._settings, self._exchange, named, hint)
        return csv_plans(path, self._settings, self._exchange, named, hint=hint, rich=rich)

    def _name_of(self, path: Path) -> Named:
        if self._settings.symbol is not None:
            return Named(writable(self._settings.symbol), SETTING)
        named = name_of(path, suffix_of(path), self._exchange, self._mapped)
        if named.symbol in self._settings.symbols:
            return replace(named, symbol=self._settings.symbols[named.symbol])
        return named

    def _skip(self, path: Path, error: HistoricalETLError, plan: ReadPlan | None = None) -> None:
        if isinstance(error, StorageError) or (isinstance(error, ConfigurationError) and error.where != str(path)):
            raise error
        symbol = plan.symbol if plan else None
        self._skipped.append(SkippedFile(path, error, (symbol,) if symbol else ()))

    def _read(self, numbers: Sequence[int], name: str) -> None:
        """Copy and sum up some files at once; if that fails, each alone, and the bad ones are skipped."""
        try:
            self._sum_up(numbers, self._scratch / name)
        except BROKEN as error:
            shutil.rmtree(self._scratch / name, ignore_errors=True)
            if len(numbers) > 1:
                for number in numbers:
                    self._read([number], f"{name}-{number}")
                return
            self._read_again(numbers[0], name, error)

    def _read_again(self, number: int, name: str, error: BaseException) -> None:
        plan = self._plans[number]
        try:
            better = plan.without_bad_lines()
            if better is not plan:
                self._plans[number] = better
                self._read([number], f"{name}-again")
                return
            plan.check()
        except DataQualityError as found:
            self._skip(plan.path, found, plan)
            return
        raise scratch_error(self._scratch, error) from None

    def _sum_up(self, numbers: Sequence[int], folder: Path) -> None:
        rows = pl.concat(
            [
                self._plans[number].typed(marks=self._marks).with_columns(pl.lit(number, pl.UInt32).alias("file"))
                for number in numbers
            ]
        )
        if self._plans[numbers[0]].is_csv:
            rows = _copy_by_year(rows, folder)
        table = _summary(rows, self._marks).collect(engine="streaming")
        # What a failed copy has written, even after its error was raised, is never looked at: it is in none of these.
        self._folders += [folder] if self._plans[numbers[0]].is_csv else []
        parts = {int(key[0]): part for key, part in table.partition_by("file", as_dict=True).items()}  # pyright: ignore[reportArgumentType]
        self._tables |= {number: parts.get(number, table.clear()) for number in numbers}

    def _new(self) -> list[int]:
        """The numbers of plans of this pass that count."""
        return [number for number in self._tables if number >= self._first_new]

    def _second_look(self) -> None:
        """Read again what has faults, with more care: numbers the slow way, lines of a wrong width left out."""
        for number in self._new():
            table, plan = self._tables[number], self._plans[number]
            short = bool(table.get_column("_short").any()) and not plan.bad
            faulty = bool(table.get_column("_faults").sum() or table.get_column("_cells").sum())
            if plan.csv is None or not (short or faulty):
                continue
            try:
                better = plan.without_bad_lines() if short else plan
                if faulty and plan.fast:
                    rich = self._plans_of(plan.path, plan.order, rich=True)
                    same = [other for other in rich if other.symbol == plan.symbol]
                    better = replace(same[0], bad=better.bad, scan=better.scan) if same else better
            except DataQualityError as error:
                self._refuse(number, error)
                continue
            if better is not plan:
                self._again(number, better)

    def _again(self, number: int, plan: ReadPlan) -> None:
        self._drop(number)
        self._plans.append(plan)
        self._read([len(self._plans) - 1], f"again-{number}-{len(self._plans)}")

    def _drop(self, number: int) -> None:
        self._tables.pop(number, None)

    def _refuse(self, number: int, error: HistoricalETLError) -> None:
        plan = self._plans[number]
        self._drop(number)
        self._skip(plan.path, error, plan)

    def _refuse_each(self, judge: Callable[[ReadPlan, pl.DataFrame], DataQualityError | None]) -> None:
        for number in self._new():
            if (error := judge(self._plans[number], self._tables[number])) is not None:
                self._refuse(number, error)

    def _look_at_faults(self) -> None:
        """Read the rows with faults; skip a file most of whose rows have one, or that breaks Polars with them."""
        for number in self._new():
            plan, table = self._plans[number], self._tables[number]
            strange = table.filter((pl.col("_faults") > 0) | is_no_symbol(pl.col("symbol")))
            if not strange.height and not plan.bad:
                continue
            try:
                self._faulty[number] = plan.faulty()
            except DataQualityError as error:  # a day of 10^9 has no text
                self._refuse(number, error)
                continue
            if (error := hopeless(plan, table, self._faulty[number])) is not None:
                self._refuse(number, error)

    def _leave_out_parts(self) -> None:
        """Read files without what is weekly or monthly in them, where they have daily bars as well."""
        index = self._index().filter(pl.col("file") >= self._first_new)
        for number, plan in parts_not_daily(self._plans, index, self._folders).items():
            self._again(number, plan)

    def _look_at_distances(self, index: pl.DataFrame) -> None:
        """Skip the files, or symbols of them, that are not daily."""
        new = index.filter(pl.col("file") >= self._first_new)
        for number, symbol, error in plans_not_daily(self._plans, new, self._folders):
            symbols = new.filter(pl.col("file") == number).get_column("symbol").unique().to_list()
            gone = symbols if symbol is None else [symbol]
            self._skipped.append(SkippedFile(self._plans[number].path, error, tuple(sorted(filter(None, gone)))))
            self._not_daily.setdefault(number, []).extend(gone)

    def _index(self) -> pl.DataFrame:
        tables = list(self._tables.values()) or [_NO_SUMMARY]
        index = pl.concat(tables).sort("file", "symbol")
        tidy = set(index.group_by("file").agg(pl.col("_tidy").all()).filter("_tidy").get_column("file"))
        self._plans = [plan.with_tidy_symbols() if number in tidy else plan for number, plan in enumerate(self._plans)]
        return index

    def _unreadable(self, index: pl.DataFrame) -> pl.DataFrame:
        bad = (pl.col("_faults") > 0) | is_no_symbol(pl.col("symbol"))
        numbers = set(index.filter(bad).get_column("file")) | {
            number for number in self._tables if self._plans[number].bad
        }
        parts = [part for number in sorted(numbers) for part in self._unreadable_of(number)]
        return pl.concat(parts) if parts else pl.DataFrame(schema=UNREADABLE)

    def _unreadable_of(self, number: int) -> Iterator[pl.DataFrame]:
        plan = self._plans[number]
        if number not in self._faulty:
            self._faulty[number] = plan.faulty()
        for rows in (self._faulty[number], plan.bad_rows()):
            yield rows.with_columns(pl.lit(number, pl.UInt32).alias("file")).select(
                pl.col(name).cast(dtype) for name, dtype in UNREADABLE.items()
            )

    def _with_owners(self) -> list[SkippedFile]:
        """Whose a file is that could not be read so far as to tell: its name tells it where names tell it elsewhere."""
        plans = [self._plans[number] for number in self._tables]
        if plans and all(plan.symbol is None for plan in plans):
            return self._skipped
        return [
            replace(skipped, symbols=(symbol,))
            if not skipped.symbols and (symbol := self._named[skipped.path].symbol) and self._may_be_named(skipped)
            else skipped
            for skipped in self._skipped
        ]

    def _may_be_named(self, skipped: SkippedFile) -> bool:
        return not any(
            plan.path == skipped.path and plan.symbol is None
            for number, plan in enumerate(self._plans)
            if number not in self._forgotten
        )


_NO_SUMMARY: Final = pl.DataFrame(
    schema={
        "file": pl.UInt32(),
        "symbol": pl.String(),
        "first": pl.Date(),
        "last": pl.Date(),
        "rows": pl.UInt32(),
        "_faults": pl.UInt32(),
        "_cells": pl.UInt32(),
        "_short": pl.Boolean(),
        "_tidy": pl.Boolean(),
        "_turns": pl.UInt32(),
    }
)


def _summary(rows: pl.LazyFrame, marks: Iterable[str]) -> pl.LazyFrame:
    good = pl.col("date").filter(~pl.col("_fault"))
    return rows.group_by("file", "symbol").agg(
        good.min().alias("first"),
        good.max().alias("last"),
        pl.len().cast(pl.UInt32).alias("rows"),
        pl.col("_fault").sum().cast(pl.UInt32).alias("_faults"),
        pl.col("_cell").sum().cast(pl.UInt32).alias("_cells"),
        pl.col("_short").any(),
        pl.col("_tidy").all(),
        pl.col("_turns").sum().cast(pl.UInt32),
        *(pl.col(mark).min().alias(f"{mark}_low") for mark in marks),
        *(pl.col(mark).max().alias(f"{mark}_high") for mark in marks),
    )


def _copy_by_year(rows: pl.LazyFrame, folder: Path) -> pl.LazyFrame:
    target = pl.PartitionBy(folder, key=pl.col("date").dt.year().fill_null(0).alias("year"), include_key=False)
    rows.sink_parquet(target, compression="lz4", mkdir=True, engine="streaming")
    files = sorted(folder.rglob("*.parquet"))
    return pl.scan_parquet(files, glob=False, hive_partitioning=False) if files else rows.clear()


def scratch_error(scratch: Path | None, error: BaseException) -> StorageError:
    """The error for a scratch copy that failed though the files are sound."""
    reason = str(error).partition("\n")[0][:200]
    what = f"The files are sound, but their scratch copy failed: {reason}"
    return StorageError(
        what, where=scratch or "the system's folder for temporary files", todo="free some space there, or set TMPDIR"
    )
