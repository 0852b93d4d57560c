"""The `files` source: a folder, a glob or one file of CSV (.csv, .csv.gz) or Parquet dumps.

Column names are matched ignoring case, spaces and underscores ("Adj Close" is adj_close), or mapped by
`FilesSettings.columns`. Needed: date, close, volume. Missing optional columns are null; a `ret` column is ignored.
The symbol is the setting `symbol`, else the column, else the file's name without its suffix (aapl.csv is AAPL).
A file that cannot be read as a whole and to the letter refuses the dump: no line is skipped, no date is guessed.

CSV is parsed and checked once per instance, into a scratch copy with one Parquet folder for each year; Parquet files
are read where they lie. So asking year by year reads each byte of CSV once. An instance sees the files as they
were when it was made. Row rules (duplicates, price bounds, sessions) are not applied here: see `quality`.
"""

import csv
import glob
import gzip
import hashlib
import os
import re
import shutil
import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, time
from pathlib import Path
from typing import Final, NoReturn

import polars as pl

from historical_etl.errors import ConfigurationError, DataQualityError, SchemaDriftError, StorageError
from historical_etl.models import Outcome
from historical_etl.schema import PRIMARY_KEYS, SCHEMA, empty_frame
from historical_etl.sessions import get_calendar
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.base import Coverage, FetchRequest, FetchResult, SourceInfo
from historical_etl.symbols import SYMBOL_PATTERN, normalize_symbols

__all__ = ["FilesSource"]

_SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
_COLUMNS: Final = tuple(name for name in SCHEMA if name != "ret")
_NUMBERS: Final = tuple(name for name in _COLUMNS if name not in PRIMARY_KEYS)
_REQUIRED: Final = ("date", "close", "volume")
#: Header names that mean a symbol. Found without a mapping, the file's name would be a wrong guess.
_SYMBOL_LOOKALIKES: Final = frozenset({"ticker", "tickers", "tickersymbol", "tic", "sym", "instrument", "code", "ric"})
_NULLS: Final = ("", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "null", "NULL", "Null", "None")
#: A two-digit year read with %Y becomes year 20: outside these bounds a date is a misread one.
_FIRST_DAY, _LAST_DAY = date(1700, 1, 1), date(2200, 12, 31)
_TIME_DIRECTIVE: Final = re.compile(r"%[-_0#:.3-9]*[HIklMSfTRXrcsz+]")
_CHUNK: Final = 32
#: What Polars raises on broken files; a panic is no `Exception`, hence named.
_BROKEN: Final = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


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
        if not (settings.symbol or "").strip():
            # `HISTORICAL_ETL_FILES_SYMBOL=` in a .env file means "not set".
            settings = settings.model_copy(update={"symbol": None})
        _check_settings(settings)
        self._settings = settings
        self._exchange = exchange
        self._scratch = scratch
        self._base, self._paths = _find_files(settings.path)
        self._version = _version(self._base, self._paths)
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    @property
    def info(self) -> SourceInfo:
        """What the source is; `version` is a hash of the files' names and sizes, `coverage` spans all their rows.

        Raises:
            DataQualityError: a file cannot be read (the first call reads them).
        """
        index = self._load().index
        first, last = index.select(pl.col("first").min(), pl.col("last").max()).row(0)
        coverage = Coverage(first, last) if index.height else None
        return SourceInfo("files", self._version, self._settings.adjustment, coverage)

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Symbols whose first to last row meets `start` to `end`, both included, sorted; None means unbounded.

        Raises:
            DataQualityError: a file cannot be read.
        """
        return sorted(
            symbol
            for symbol, (first, last) in self._spans().items()
            if (end is None or first <= end) and (start is None or start <= last)
        )

    def universe(self, as_of: date | None) -> list[str]:
        """The members on one day; None asks for every symbol in the files. Raises as `members` does."""
        return self.members(as_of, as_of)

    def fetch(self, request: FetchRequest) -> FetchResult:
        """Bars sorted by (date, symbol), `ret` null; outcomes `ok`, `empty` or `not_found`.

        Keys that are twice in the files come twice: judging them is the quality rules' work.

        Raises:
            SchemaDriftError: a file lacks a column, or a column's type cannot serve.
            DataQualityError: a file cannot be read; names the file and the line or row (both count from 1).
        """
        frame = self._read(request)
        present, spans = set(frame.get_column("symbol").unique()), self._spans()
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
            frame = pl.concat(wanted).collect(engine="streaming")
        except _BROKEN as error:
            for number in numbers:
                loaded.plans[number].check()
            raise _scratch_error(loaded.scratch, error) from None
        frame = frame.sort(PRIMARY_KEYS)
        if _has_twins(frame):
            # Twins would come in the order threads happened to read them: their values decide instead.
            frame = frame.sort(SCHEMA.names())
        return frame

    def _spans(self) -> dict[str, tuple[date, date]]:
        """First and last date of each symbol, over all files."""
        index = self._load().index
        rows = index.group_by("symbol").agg(pl.col("first").min(), pl.col("last").max()).iter_rows()
        return {symbol: (first, last) for symbol, first, last in rows}

    def _load(self) -> "_Loaded":
        with self._lock:
            if self._loaded is None:
                plans = [_plan(path, self._settings, self._exchange) for path in self._paths]
                try:
                    scratch = Path(tempfile.mkdtemp(prefix="historical-etl-files-", dir=self._scratch))
                except OSError as error:
                    raise _scratch_error(self._scratch, error) from None
                discard = weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
                try:
                    index = _index(plans, scratch)
                except BaseException:
                    discard()
                    raise
                tidy = set(index.group_by("file").agg(pl.col("_tidy").all()).filter("_tidy").get_column("file"))
                plans = [plan.with_tidy_symbols() if number in tidy else plan for number, plan in enumerate(plans)]
                self._loaded = _Loaded(plans, scratch, index)
            return self._loaded


@dataclass(frozen=True)
class _Loaded:
    """What one pass over the files found.

    `index` has a row for each file and symbol: file (position in `plans`), symbol, first, last, _tidy.
    """

    plans: "Sequence[_Plan]"
    scratch: Path
    index: pl.DataFrame


@dataclass(frozen=True)
class _Plan:
    """How one file is read.

    `values` gives the schema's columns without `ret`, `raw` the same as they stand in the file, and `faults` is
    true, by column, where a value cannot be read. `short` is true for rows that may lack fields, `tidy` for rows
    whose symbol already stands in the file as we write it.
    """

    path: Path
    is_csv: bool
    scan: pl.LazyFrame
    keep: pl.Expr
    values: Mapping[str, pl.Expr]
    raw: Mapping[str, pl.Expr]
    faults: Mapping[str, pl.Expr]
    short: pl.Expr
    tidy: pl.Expr
    width: int
    settings: FilesSettings

    def typed(self) -> pl.LazyFrame:
        """Rows with typed columns, and `_fault`, `_short`, `_tidy`."""
        return self.scan.filter(self.keep).select(
            *(expr.alias(name) for name, expr in self.values.items()),
            pl.any_horizontal(*self.faults.values()).alias("_fault"),
            self.short.alias("_short"),
            self.tidy.alias("_tidy"),
        )

    def with_tidy_symbols(self) -> "_Plan":
        """The plan for a file all of whose symbols are tidy."""
        # A filter on the bare column lets Polars skip row groups: 6 ms instead of 480 for 1 of 2,000 symbols.
        return replace(self, values={**self.values, "symbol": self.raw["symbol"]}) if "symbol" in self.raw else self

    def check(self) -> None:
        """Read the file to its end.

        Raises:
            DataQualityError: it cannot be read; names the line (CSV) or the file (Parquet).
        """
        try:
            self.typed().select(pl.all().null_count()).collect(engine="streaming")
        except _BROKEN as error:
            if self.is_csv:
                _check_lines(self.path, self.settings.separator, self.width)
                _check_quotes(self.path)
            raise _unreadable(self.path, error) from None

    def refuse_first_fault(self) -> NoReturn:
        """Raise for the first row that holds a fault or a symbol that is none."""
        bad_symbol = ~self.values["symbol"].str.contains(SYMBOL_PATTERN).fill_null(value=False)
        faults = {**self.faults, "symbol": bad_symbol}
        query = (
            self.scan.with_row_index("_row")
            .filter(self.keep, pl.any_horizontal(*faults.values()))
            .head(1)
            .select(
                "_row",
                *(expr.cast(pl.String).alias(f"raw_{name}") for name, expr in self.raw.items() if name in faults),
                *(expr.alias(f"bad_{name}") for name, expr in faults.items()),
            )
        )
        try:
            row = query.collect().row(0, named=True)
        except _BROKEN as error:
            raise _unreadable(self.path, error) from None
        column = next(name for name in faults if row[f"bad_{name}"])
        if self.is_csv:
            where = f"{self.path}, line {_line_of(self.path, self.settings.separator, row['_row'])}"
        else:
            where = f"{self.path}, row {row['_row'] + 1}"
        raise _bad_value(column, row[f"raw_{column}"], where, self)


# --- finding the files -----------------------------------------------------------------------------------------------


def _check_settings(settings: FilesSettings) -> None:
    unknown = [name for name in settings.columns if name not in _COLUMNS]
    if unknown:
        raise _wrong_setting("COLUMNS", f"{', '.join(unknown)} cannot be mapped", f"map only {', '.join(_COLUMNS)}")
    separator = settings.separator
    if not separator.isascii() or separator in '"\r\n' or separator == settings.decimal:
        raise _wrong_setting(
            "SEPARATOR",
            f"{separator!r} cannot separate fields where {settings.decimal!r} is the decimal sign",
            "use ; with decimal commas, else one of , ; | or a tab",
        )
    if settings.symbol is not None:
        try:
            normalize_symbols([settings.symbol])
        except ConfigurationError as error:
            raise _wrong_setting("SYMBOL", f"{settings.symbol!r} is not a symbol", error.todo) from None


def _find_files(setting: str) -> tuple[Path, list[Path]]:
    """The folder that holds all files, and the files in order of name; both absolute."""
    if not setting.strip():
        raise _wrong_setting("PATH", "The source `files` has no path", "set it to a folder, a file or a glob")
    # Absolute at once: a later change of the working directory must not change what is read.
    path = Path(setting.strip()).expanduser().absolute()
    if path.is_file():
        found, base = [path], path.parent
    elif path.is_dir():
        found, base = list(path.rglob("*")), path
    elif glob.has_magic(str(path)):
        found, base = [Path(hit) for hit in glob.glob(str(path), recursive=True)], Path(path.anchor)  # noqa: PTH207
    else:
        raise _wrong_setting("PATH", f"{path} does not exist", "set it to a folder, a file or a glob")
    readable = sorted(hit for hit in found if _is_dump(hit, base))
    if not readable:
        raise _wrong_setting("PATH", f"{path} has no file ending in {', '.join(_SUFFIXES)}", "correct the path")
    return Path(os.path.commonpath([hit.parent for hit in readable])), readable


def _is_dump(path: Path, base: Path) -> bool:
    # Hidden ones are leftovers of other tools: ._a.csv, .ipynb_checkpoints/a.csv.
    hidden = any(part.startswith(".") for part in path.relative_to(base).parts)
    return not hidden and path.name.lower().endswith(_SUFFIXES) and path.is_file()


def _version(base: Path, paths: Sequence[Path]) -> str:
    facts = "".join(f"{path.relative_to(base).as_posix()}\0{path.stat().st_size}\n" for path in paths)
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:12]


# --- what is in the files --------------------------------------------------------------------------------------------


def _index(plans: Sequence[_Plan], scratch: Path) -> pl.DataFrame:
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
            except _BROKEN as error:
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
        _check_lines(plans[number].path, plans[number].settings.separator, plans[number].width)
    return index.select("file", "symbol", "first", "last", "_tidy")


def _summary(rows: pl.LazyFrame) -> pl.LazyFrame:
    return (
        rows.group_by("file", "symbol")
        .agg(
            pl.col("date").min().alias("first"),
            pl.col("date").max().alias("last"),
            pl.col("_fault").any(),
            pl.col("_short").any(),
            pl.col("_tidy").all(),
        )
        .with_columns(pl.col("_fault") | ~pl.col("symbol").str.contains(SYMBOL_PATTERN).fill_null(value=False))
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


# --- one file --------------------------------------------------------------------------------------------------------


def _plan(path: Path, settings: FilesSettings, exchange: str) -> _Plan:
    if path.name.lower().endswith(".parquet"):
        return _parquet_plan(path, settings, exchange)
    return _csv_plan(path, settings, exchange)


def _parquet_plan(path: Path, settings: FilesSettings, exchange: str) -> _Plan:
    try:
        dtypes = pl.read_parquet_schema(path)
    except _BROKEN as error:
        raise _unreadable(path, error) from None
    names = list(dtypes)
    at = {ours: names[place] for ours, place in _match_columns(names, settings, str(path)).items()}
    raw = {ours: pl.col(theirs) for ours, theirs in at.items()}
    day, fault = _session(pl.col(at["date"]), dtypes[at["date"]], exchange, path)
    values = {"date": day, "symbol": _symbol_of(raw, settings, path)}
    for ours in _NUMBERS:
        theirs = at.get(ours)
        values[ours] = pl.lit(None, pl.Float64) if theirs is None else pl.col(theirs).cast(pl.Float64).fill_nan(None)
    wrong = [f"{ours} is {dtypes[at[ours]]}" for ours in at if not _can_serve(ours, dtypes[at[ours]])]
    if wrong:
        raise SchemaDriftError(
            f"Wrong column types: {', '.join(wrong)}",
            where=path,
            todo="write symbol as String and the others, but for date, as numbers",
        )
    symbol_dtype = dtypes[at["symbol"]] if "symbol" in at else None
    return _Plan(
        path=path,
        is_csv=False,
        scan=pl.scan_parquet(path, glob=False, hive_partitioning=False),
        keep=pl.lit(value=True),
        values=values,
        raw=raw,
        faults={"date": fault},
        short=pl.lit(value=False),
        tidy=pl.col(at["symbol"]) == values["symbol"] if isinstance(symbol_dtype, pl.String) else pl.lit(value=False),
        width=len(names),
        settings=settings,
    )


def _can_serve(ours: str, dtype: pl.DataType) -> bool:
    if ours == "date":
        return True
    if ours == "symbol":
        return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    return dtype.is_numeric() or isinstance(dtype, pl.Null)


def _csv_plan(path: Path, settings: FilesSettings, exchange: str) -> _Plan:
    names, line = _header(path, settings.separator)
    at = {ours: f"c{place}" for ours, place in _match_columns(names, settings, f"{path}, line {line}").items()}
    if any('"' in name for name in names):
        # Polars would take all lines up to the next quotation mark for the header, and find no rows.
        raise _refused("The header has a stray quotation mark", path, line)
    raw = {ours: pl.col(column).str.strip_chars() for ours, column in at.items()}
    day, fault = _parsed_date(raw["date"], settings.date_format, exchange, path)
    values, faults = {"date": day, "symbol": _symbol_of(raw, settings, path)}, {"date": fault}
    for ours in _NUMBERS:
        if ours in raw:
            values[ours], faults[ours] = _parsed_number(raw[ours], settings.decimal)
        else:
            values[ours] = pl.lit(None, pl.Float64)
    # Blank lines are skipped by a filter that names every column. It is more than that: Polars notices lines that are
    # too long only where all columns are read.
    columns = [f"c{place}" for place in range(len(names))]
    try:
        scan = pl.scan_csv(
            path,
            separator=settings.separator,
            infer_schema=False,
            empty_string_is_null=False,
            glob=False,
            # By place, not by name: names of the file may be repeated or padded.
            with_column_names=lambda found: [f"c{place}" for place in range(len(found))],
        )
    except _BROKEN as error:
        _check_lines(path, settings.separator, len(names))
        raise _unreadable(path, error) from None
    return _Plan(
        path=path,
        is_csv=True,
        scan=scan,
        keep=~pl.all_horizontal(pl.col(*columns) == ""),
        values=values,
        raw=raw,
        faults=faults,
        short=pl.col(columns[-1]) == "",
        tidy=pl.lit(value=False),
        width=len(names),
        settings=settings,
    )


def _match_columns(names: Sequence[str], settings: FilesSettings, where: str) -> dict[str, int]:
    """The place in `names` of each column of ours that the file has."""
    places: dict[str, int] = {}
    missing: list[str] = []
    # Mapped ones first: what a mapping claims is not found again by its name.
    for ours in sorted(_COLUMNS, key=lambda name: name not in settings.columns):
        theirs = settings.columns.get(ours, ours)
        free = [place for place in range(len(names)) if ours in settings.columns or place not in places.values()]
        hits = [place for place in free if names[place] == theirs]
        hits = hits or [place for place in free if _plain(names[place]) == _plain(theirs)]
        if len(hits) > 1:
            raise SchemaDriftError(
                f"{len(hits)} columns could be {ours}: {', '.join(repr(names[place]) for place in hits)}",
                where=where,
                todo=f"name one, as in {PREFIX}FILES_COLUMNS={ours}=<name in the file>",
            )
        if hits:
            places[ours] = hits[0]
        elif ours in settings.columns or ours in _REQUIRED:
            missing.append(theirs if theirs == ours else f"{theirs} (as {ours})")
    lookalikes = [name for name in names if _plain(name) in _SYMBOL_LOOKALIKES]
    if "symbol" not in places and settings.symbol is None and lookalikes:
        missing.append(f"symbol (is it {lookalikes[0]!r}?)")
    if missing:
        raise _missing_columns(missing, names, settings, where)
    if "symbol" in places and settings.symbol is not None:
        raise _wrong_setting("SYMBOL", f"{where} has symbols of its own", "unset it, or read files without symbols")
    return places


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).casefold()


def _symbol_of(raw: Mapping[str, pl.Expr], settings: FilesSettings, path: Path) -> pl.Expr:
    if "symbol" in raw:
        return raw["symbol"].cast(pl.String).str.strip_chars().str.to_uppercase()
    if settings.symbol is not None:
        return pl.lit(normalize_symbols([settings.symbol])[0])
    suffix = next(suffix for suffix in _SUFFIXES[::-1] if path.name.lower().endswith(suffix))
    try:
        return pl.lit(normalize_symbols([path.name[: -len(suffix)]])[0])
    except ConfigurationError:
        raise SchemaDriftError(
            "There is no symbol column, and the file's name is not a symbol",
            where=path,
            todo=f"map the column, as in {PREFIX}FILES_COLUMNS=symbol=<name in the file>, or set {PREFIX}FILES_SYMBOL",
        ) from None


def _session(moment: pl.Expr, dtype: pl.DataType, exchange: str, path: Path) -> tuple[pl.Expr, pl.Expr]:
    """The session a date or a midnight names, and whether it cannot be told."""
    if isinstance(dtype, pl.Date):
        day, early = moment, pl.lit(value=False)
    elif isinstance(dtype, pl.Datetime):
        # Another zone's midnight is another hour at the exchange: taking its date would shift some days.
        local = moment.dt.convert_time_zone(get_calendar(exchange).timezone) if dtype.time_zone else moment
        day, early = local.dt.date(), local.dt.time() != time()
    else:
        raise SchemaDriftError(f"Wrong column types: date is {dtype}", where=path, todo="write it as Date or Datetime")
    return day, day.is_null() | early | ~day.is_between(_FIRST_DAY, _LAST_DAY)


def _parsed_date(text: pl.Expr, form: str, exchange: str, path: Path) -> tuple[pl.Expr, pl.Expr]:
    if not _TIME_DIRECTIVE.search(form):
        return _session(text.str.to_date(form, strict=False), pl.Date(), exchange, path)
    dtype = pl.Datetime("us", "UTC" if re.search(r"%[#:]*z|%\+", form) else None)
    moment = text.str.to_datetime(form, time_unit="us", time_zone=dtype.time_zone, strict=False)
    return _session(moment, dtype, exchange, path)


def _parsed_number(text: pl.Expr, decimal: str) -> tuple[pl.Expr, pl.Expr]:
    clean = text
    if decimal == ",":
        # With decimal commas, 1.234 is a thousand and some: it must not pass as one and a bit.
        clean = pl.when(~text.str.contains(".", literal=True)).then(text.str.replace(",", ".", literal=True))
    value = clean.cast(pl.Float64, strict=False).fill_nan(None)
    return value, value.is_null() & ~text.is_in(_NULLS)


# --- lines of CSV: slow, and only walked where something is wrong ----------------------------------------------------


def _header(path: Path, separator: str) -> tuple[list[str], int]:
    """The header's names, and its line."""
    reader = csv.reader(_lines(path), delimiter=separator, strict=True)
    try:
        names = next((row for row in reader if row), None)
    except csv.Error as error:
        raise _refused(f"The header is not CSV: {error}", path, reader.line_num) from None
    if names is None:
        raise DataQualityError("The file is empty", where=f"{path}, line 1", todo="remove it, or export it again")
    if names[0].lstrip().startswith("<"):
        raise _refused("This is HTML or XML, not CSV", path, reader.line_num, "download it again: it may be a web page")
    return names, reader.line_num


def _check_lines(path: Path, separator: str, width: int) -> None:
    """Raise for the first line that is not CSV in UTF-8 with `width` fields."""
    line = 0
    reader = csv.reader(_lines(path), delimiter=separator, strict=True)
    try:
        for row in reader:
            if row and len(row) != width:
                raise _refused(f"The line has {len(row)} fields where the header has {width}", path, line + 1)
            line = reader.line_num
    except csv.Error as error:
        raise _refused(f"The line is not CSV: {error}", path, line + 1) from None


def _check_quotes(path: Path) -> None:
    """Raise for the first line with an odd number of quotation marks: what is left when Polars finds no end."""
    for number, line in enumerate(_lines(path), 1):
        if line.count('"') % 2:
            raise _refused("The line has a quotation mark without its partner", path, number)


def _line_of(path: Path, separator: str, record: int) -> int:
    """The line on which a record after the header starts; the first record is 0."""
    reader = csv.reader(_lines(path), delimiter=separator)
    try:
        next(row for row in reader if row)
        for _ in range(record):
            next(reader)
    except csv.Error as error:
        raise _refused(f"The line is not CSV: {error}", path, reader.line_num) from None
    return reader.line_num + 1


def _lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            with gzip.open(plain) if packed else plain as stream:
                for number, line in enumerate(stream, 1):
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    if "\0" in text:
                        raise _refused("The line holds NUL: binary, or UTF-16", path, number, "save it as UTF-8")
                    yield text
    except UnicodeDecodeError as error:
        raise _refused(f"The line is not UTF-8: {error.reason}", path, number, "save the file as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise _refused("The gzip stream is cut off or damaged", path, number + 1, "copy the file again") from None
    except OSError as error:
        raise ConfigurationError(f"The file cannot be read: {error.strerror or error}", where=path) from None


# --- refusals --------------------------------------------------------------------------------------------------------


def _wrong_setting(name: str, what: str, todo: str) -> ConfigurationError:
    return ConfigurationError(what, where=f"{PREFIX}FILES_{name}", todo=todo)


def _refused(what: str, path: Path, line: int, todo: str = "correct the line or export again") -> DataQualityError:
    return DataQualityError(what, where=f"{path}, line {line}", todo=todo)


def _missing_columns(
    missing: Sequence[str], names: Sequence[str], settings: FilesSettings, where: str
) -> SchemaDriftError:
    todo = f"map it, as in {PREFIX}FILES_COLUMNS={missing[0].split()[0]}=<name in the file>"
    other = next((sign for sign in ";,|\t" if len(names) == 1 and sign in names[0]), None)
    if other is not None:
        todo = f"set {PREFIX}FILES_SEPARATOR to {other!r}; it is {settings.separator!r}"
    elif any("(as " in name for name in missing):
        todo = f"correct {PREFIX}FILES_COLUMNS"
    listed = ", ".join(names)[:300]
    return SchemaDriftError(f"No column for {', '.join(missing)}; the header has: {listed}", where=where, todo=todo)


def _unreadable(path: Path, error: BaseException) -> DataQualityError:
    if not path.exists():
        return DataQualityError("The file is gone", where=path, todo="leave the files alone while they are read")
    if path.stat().st_size == 0:
        return DataQualityError("The file is empty", where=path, todo="remove it, or export it again")
    kind = "Parquet" if path.name.lower().endswith(".parquet") else "CSV"
    reason = str(error).partition("\n")[0][:200]
    what = f"This is not whole, readable {kind} (cut off, damaged, or something else): {reason}"
    return DataQualityError(what, where=path, todo="copy or export the file again")


def _scratch_error(scratch: Path | None, error: BaseException) -> StorageError:
    reason = str(error).partition("\n")[0][:200]
    what = f"The files are sound, but their scratch copy failed: {reason}"
    return StorageError(what, where=scratch or tempfile.gettempdir(), todo="free some space there, or set TMPDIR")


def _bad_value(column: str, raw: str | None, where: str, plan: _Plan) -> DataQualityError:
    settings = plan.settings
    if column == "symbol":
        return DataQualityError(f"symbol is {raw!r}, not a symbol ({SYMBOL_PATTERN})", where=where, todo="correct it")
    if column in _NUMBERS:
        what = f"{column} is {raw!r}, not a number with {settings.decimal!r} as its decimal sign"
        todo = f"check {PREFIX}FILES_DECIMAL; thousands separators and units are refused"
        return DataQualityError(what, where=where, todo=todo)
    if plan.is_csv:
        what = f"date is {raw!r}, not a day written as {settings.date_format!r}"
        todo = f"set {PREFIX}FILES_DATE_FORMAT; a time must be midnight, at the exchange if it has a zone"
        return DataQualityError(what, where=where, todo=todo)
    what = f"date is {raw}, not a day: a time must be midnight, at the exchange if it has a zone"
    return DataQualityError(what, where=where, todo="write dates as Date")
