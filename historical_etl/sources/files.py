"""The `files` source: a folder, a glob or one file of CSV (.csv, .csv.gz) or Parquet dumps.

Column names are matched ignoring case, spaces and underscores ("Adj Close" is adj_close), or mapped by
`FilesSettings.columns`. Needed: date, close, volume. Missing optional columns are null; a `ret` column is ignored.
The symbol is the setting `symbol`, else the column, else the file's name without its suffix (aapl.csv is AAPL).
A file that cannot be read as a whole and to the letter refuses the dump: no line is skipped, no date is guessed.

CSV is parsed and checked once per instance, into a scratch copy with one Parquet folder for each year; Parquet files
are read where they lie. So asking year by year reads each byte of CSV once. An instance sees the files as they
were when it was made. Row rules (duplicates, price bounds, sessions) are not applied here: see `quality`.
"""

import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import StorageError
from historical_etl.models import Outcome
from historical_etl.schema import PRIMARY_KEYS, SCHEMA, empty_frame
from historical_etl.settings import FilesSettings
from historical_etl.sources.base import Coverage, FetchRequest, FetchResult, SourceInfo
from historical_etl.sources.files_layouts import laid_out, layout_of
from historical_etl.sources.files_listing import check_settings, find_files, version_of
from historical_etl.sources.files_plan import BROKEN, Plan, is_no_symbol, make_plan

__all__ = ["FilesSource"]

#: Files read in one query: enough to keep all cores busy, few enough to name the broken one soon.
_CHUNK: Final = 32


class FilesSource:
    """Daily bars from CSV and Parquet files; a `PriceSource`.

    Args:
        settings: where the files are and how they are written.
        exchange: its time zone turns zoned timestamps of the files into sessions.
        scratch: folder for the scratch copy of CSV files (about a third of their size); None: the system's.
            The copy goes away with the instance.

    Raises:
        ConfigurationError: a setting is wrong, or the path is unset, missing or without readable files.
    """

    def __init__(self, settings: FilesSettings, *, exchange: str = "XNYS", scratch: Path | None = None) -> None:
        check_settings(settings)
        self._settings = settings = laid_out(settings)
        self._layout = layout_of(settings)
        self._exchange = exchange
        self._scratch = scratch
        self._paths = find_files(settings.path)
        self._version = version_of(self._paths)
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def info(self) -> SourceInfo:
        """What the source is; `version` is a hash of the files' names and sizes, `coverage` spans all their rows.

        Raises:
            DataQualityError: a file cannot be read (the first call reads them).
        """
        spans = self._load().spans.values()
        coverage = Coverage(min(first for first, _ in spans), max(last for _, last in spans)) if spans else None
        return SourceInfo(
            "files",
            self._version,
            self._settings.adjustment,
            coverage,
            split_adjusted=self._layout.split_adjusted,
        )

    @property
    def rows(self) -> int:
        """How many rows all files have together, repeated ones included, blank lines not.

        Raises:
            DataQualityError: a file cannot be read.
        """
        return int(self._load().index.get_column("rows").sum())

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, in order of name."""
        return tuple(self._paths)

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Symbols whose first to last row meets `start` to `end`, both included, sorted; None means unbounded.

        Raises:
            DataQualityError: a file cannot be read.
        """
        return sorted(
            symbol
            for symbol, (first, last) in self._load().spans.items()
            if (end is None or first <= end) and (start is None or start <= last)
        )

    def fetch(self, request: FetchRequest) -> FetchResult:
        """Bars sorted by (date, symbol), `ret` null; outcomes `ok`, `empty` or `not_found`.

        Keys that are twice in the files come twice: judging them is the quality rules' work.

        Raises:
            SchemaDriftError: a file lacks a column, or a column's type cannot serve.
            DataQualityError: a file cannot be read; names the file and the line or row (both count from 1).
        """
        frame = self._read(request)
        present, spans = set(frame.get_column("symbol").unique()), self._load().spans
        outcomes: dict[str, Outcome] = {}
        details: dict[str, str] = {}
        for symbol in request.symbols:
            if symbol in present:
                outcomes[symbol] = Outcome.OK
            elif symbol in spans:
                first, last = spans[symbol]
                outcomes[symbol] = Outcome.EMPTY
                details[symbol] = f"no rows from {request.start} to {request.end}; the files have {first} to {last}"
            else:
                outcomes[symbol] = Outcome.NOT_FOUND
                details[symbol] = f"in none of the {len(self._paths)} file(s) of {self._settings.path}"
        return FetchResult(frame, outcomes, details)

    def _read(self, request: FetchRequest) -> pl.DataFrame:
        loaded = self._load()
        hits = loaded.index.filter(
            pl.col("symbol").is_in(request.symbols),
            pl.col("first") <= request.end,
            pl.col("last") >= request.start,
        )
        numbers: list[int] = hits.get_column("file").unique().sort().to_list()
        parts = [loaded.plans[number].typed() for number in numbers if not loaded.plans[number].is_csv]
        if any(loaded.plans[number].is_csv for number in numbers):
            parts += _scratch_years(loaded.scratch, request.start, request.end)
        if not parts:
            return empty_frame()
        wanted = [
            part.filter(pl.col("date").is_between(request.start, request.end), pl.col("symbol").is_in(request.symbols))
            .with_columns(pl.lit(None, pl.Float64).alias("ret"))
            .select(SCHEMA.names())
            for part in parts
        ]
        try:
            frame = self._layout.bars(pl.concat(wanted)).collect(engine="streaming")
        except BROKEN as error:
            for number in numbers:
                loaded.plans[number].check()
            raise _scratch_error(loaded.scratch, error) from None
        frame = frame.sort(PRIMARY_KEYS)
        if _has_twins(frame):
            # Twins would come in the order threads happened to read them: their values decide instead.
            frame = frame.sort(SCHEMA.names())
        return frame

    def _load(self) -> "_Loaded":
        with self._lock:
            if self._loaded is None:
                plans = [make_plan(path, self._settings, self._exchange) for path in self._paths]
                try:
                    scratch = Path(tempfile.mkdtemp(prefix="historical-etl-files-", dir=self._scratch))
                except OSError as error:
                    raise _scratch_error(self._scratch, error) from None
                discard = weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
                try:
                    self._loaded = _survey(plans, scratch)
                except BaseException:
                    discard()
                    raise
            return self._loaded


@dataclass(frozen=True)
class _Loaded:
    """What one pass over the files found.

    `index` has a row for each file and symbol: file (position in `plans`), symbol, first, last, rows. `spans` has the
    first and last date of each symbol over all files.
    """

    plans: Sequence[Plan]
    scratch: Path
    index: pl.DataFrame
    spans: Mapping[str, tuple[date, date]]


def _survey(plans: Sequence[Plan], scratch: Path) -> _Loaded:
    index = _index(plans, scratch)
    tidy = set(index.group_by("file").agg(pl.col("_tidy").all()).filter("_tidy").get_column("file"))
    rows = index.group_by("symbol").agg(pl.col("first").min(), pl.col("last").max()).iter_rows()
    return _Loaded(
        plans=[plan.with_tidy_symbols() if number in tidy else plan for number, plan in enumerate(plans)],
        scratch=scratch,
        index=index.drop("_tidy"),
        spans={symbol: (first, last) for symbol, first, last in rows},
    )


def _index(plans: Sequence[Plan], scratch: Path) -> pl.DataFrame:
    """File, symbol, first and last date; the whole of every CSV file and the keys of every Parquet file are checked."""
    tables: list[pl.DataFrame] = []
    for kind in (True, False):
        numbers = [number for number, plan in enumerate(plans) if plan.is_csv is kind]
        for start in range(0, len(numbers), _CHUNK):
            chunk = numbers[start : start + _CHUNK]
            rows = pl.concat(
                [plans[number].typed().with_columns(pl.lit(number, pl.UInt32).alias("file")) for number in chunk]
            )
            try:
                if kind:
                    rows = _copy_by_year(rows, scratch / f"{start:06d}")
                tables.append(_summary(rows).collect(engine="streaming"))
            except BROKEN as error:
                for number in chunk:
                    plans[number].check()
                raise _scratch_error(scratch, error) from None
    index = pl.concat(tables).sort("file", "symbol")
    faulty: list[int] = index.filter("_fault").get_column("file").to_list()
    if faulty:
        plans[faulty[0]].refuse_first_fault()
    short: list[int] = index.filter("_short").get_column("file").unique(maintain_order=True).to_list()
    for number in short:
        # A line without its last fields looks to Polars like one that ends in empty fields.
        plans[number].check_lines()
    return index.select("file", "symbol", "first", "last", "rows", "_tidy")


def _summary(rows: pl.LazyFrame) -> pl.LazyFrame:
    return (
        rows.group_by("file", "symbol")
        .agg(
            pl.col("date").min().alias("first"),
            pl.col("date").max().alias("last"),
            pl.len().alias("rows"),
            pl.col("_fault").any(),
            pl.col("_short").any(),
            pl.col("_tidy").all(),
        )
        .with_columns(pl.col("_fault") | is_no_symbol(pl.col("symbol")))
    )


def _copy_by_year(rows: pl.LazyFrame, folder: Path) -> pl.LazyFrame:
    target = pl.PartitionBy(folder, key=pl.col("date").dt.year().fill_null(0).alias("year"), include_key=False)
    rows.sink_parquet(target, compression="lz4", mkdir=True, engine="streaming")
    files = sorted(folder.rglob("*.parquet"))
    return pl.scan_parquet(files, glob=False, hive_partitioning=False) if files else rows.clear()


def _scratch_years(scratch: Path, start: date, end: date) -> list[pl.LazyFrame]:
    years = {f"year={year}" for year in range(start.year, end.year + 1)}
    files = sorted(file for file in scratch.glob("*/year=*/*.parquet") if file.parent.name in years)
    return [pl.scan_parquet(files, glob=False, hive_partitioning=False)] if files else []


def _has_twins(sorted_frame: pl.DataFrame) -> bool:
    same = [pl.col(key) == pl.col(key).shift() for key in PRIMARY_KEYS]
    return bool(sorted_frame.select(pl.all_horizontal(*same).any()).item())


def _scratch_error(scratch: Path | None, error: BaseException) -> StorageError:
    reason = str(error).partition("\n")[0][:200]
    what = f"The files are sound, but their scratch copy failed: {reason}"
    return StorageError(what, where=scratch or tempfile.gettempdir(), todo="free some space there, or set TMPDIR")
