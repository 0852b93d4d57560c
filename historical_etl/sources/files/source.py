"""The `files` source as the rest of the project sees it: asked for symbols and a range, it gives bars and events."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl

from historical_etl.errors import ConfigurationError, DataQualityError
from historical_etl.models import Outcome
from historical_etl.schema import PRIMARY_KEYS, SCHEMA, empty_frame
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.base import ACTIONS, Coverage, FetchRequest, FetchResult, SourceInfo
from historical_etl.sources.display_text import LINE, displayed
from historical_etl.sources.files.layouts import laid_out, layout_of
from historical_etl.sources.files.listing import check_settings, find_files, version_of
from historical_etl.sources.files.market_suffix import renamed
from historical_etl.sources.files.messages import contradictions, everything_wrong, notes_of, printable, reading_of
from historical_etl.sources.files.mixed_symbols import separated
from historical_etl.sources.files.read_plan import BROKEN, DIVIDEND_COLUMN, SPLIT_COLUMN, is_no_symbol
from historical_etl.sources.files.survey import SkippedFile, Survey, Surveyed, scratch_error
from historical_etl.symbols import is_symbol

__all__ = ["FilesSource"]

_BARS = (*SCHEMA, SPLIT_COLUMN, DIVIDEND_COLUMN)


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
        layout_of(settings)
        self._exchange = exchange
        self._scratch = scratch
        self._lock = threading.Lock()
        self._listing = find_files(settings.path)
        self._survey: Survey | None = None
        self._loaded: _Loaded | None = None

    def look_anew(self) -> None:
        """Take the files as they are now. What was read of those that have not changed is kept.

        Raises:
            ConfigurationError: the path is missing or without readable files. All is as it was before.
        """
        listing = find_files(self._settings.path)
        with self._lock:
            if listing != self._listing:
                self._listing, self._loaded = listing, None

    @property
    def info(self) -> SourceInfo:
        """What the source is; `version` is a hash of the files' names and sizes, `coverage` spans all their rows.

        Raises:
            DataQualityError: no file can be read (the first call reads them).
        """
        loaded = self._load()
        spans = loaded.spans.values()
        coverage = Coverage(min(first for first, _ in spans), max(last for _, last in spans)) if spans else None
        return SourceInfo(
            "files", loaded.version, self._settings.adjustment, coverage, split_adjusted=loaded.split_adjusted
        )

    @property
    def rows(self) -> int:
        """How many rows all readable files have together, repeated and unreadable ones included, blank lines not.

        Raises:
            DataQualityError: no file can be read.
        """
        loaded = self._load()
        return int(loaded.found.index.get_column("rows").sum()) + loaded.bad_lines

    @property
    def unreadable(self) -> pl.DataFrame:
        """The rows that are refused since they cannot be read: columns of `SCHEMA`, and `reasons`."""
        return self._load().unreadable.select(*SCHEMA, "reasons")

    @property
    def notes(self) -> tuple[str, ...]:
        """What somebody who reads the files should know: columns that are not read, rows that are refused."""
        return self._load().notes

    @property
    def set_aside(self) -> tuple[str, ...]:
        """The files, and symbols of files, that are skipped as a whole, each with the reason."""
        return self._load().set_aside

    @property
    def reading(self) -> tuple[str, ...]:
        """How the files are understood: where symbols come from, what dates and numbers look like."""
        loaded = self._load()
        return tuple(displayed(line, LINE) for line in reading_of(loaded.found))

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, in order of name."""
        return tuple(self._listing.paths)

    @property
    def year_files(self) -> int:
        """How many of the files are year files of a store like this one, by their columns.

        Raises:
            DataQualityError: no file can be read.
        """
        found = self._load().found
        return len({found.plans[number].path for number in found.current if found.plans[number].of_store})

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Symbols whose first to last row meets `start` to `end`, both included, sorted; None means unbounded.

        Those of files that are skipped are among them, whatever the range: nobody knows what is in these.

        Raises:
            DataQualityError: no file can be read.
        """
        loaded = self._load()
        inside = {
            symbol
            for symbol, (first, last) in loaded.spans.items()
            if (end is None or first <= end) and (start is None or start <= last)
        }
        return sorted(inside | set(loaded.claimed))

    def fetch(self, request: FetchRequest) -> FetchResult:
        """Bars sorted by (date, symbol), `ret` null; outcomes `ok`, `empty`, `not_found`, `refused` or `error`.

        Keys that are twice in the files come twice: judging them is the quality rules' work. A symbol is `error` if a
        file of it is skipped, and also if it has no rows and may be in such a file; it is `refused` if all its rows
        are unreadable.

        Raises:
            SchemaDriftError: no file has the columns, or their types.
            DataQualityError: no file can be read; names files and lines or rows (both count from 1).
        """
        loaded = self._load()
        bars = self._read(loaded, request)
        frame = bars.select(SCHEMA.names())
        rejected = loaded.rejected(request)
        notes = list(loaded.notes)
        if _has_twins(frame):
            notes += [displayed(note, LINE) for note in contradictions(loaded.found, loaded.names, frame)]
        present = set(frame.get_column("symbol").unique())
        dated = pl.col("date").is_not_null() | ~pl.col("symbol").is_in(list(loaded.spans))
        refused = set(rejected.filter(dated).get_column("symbol"))
        outcomes: dict[str, Outcome] = {}
        details: dict[str, str] = {}
        for symbol in request.symbols:
            outcomes[symbol], detail = self._outcome(loaded, symbol, request, present, refused)
            if detail:
                details[symbol] = detail
        actions = _actions(bars) if loaded.has_events(request.symbols) else None
        return FetchResult(frame, outcomes, details, actions, rejected, tuple(notes), loaded.set_aside)

    def _outcome(
        self, loaded: "_Loaded", symbol: str, request: FetchRequest, present: set[str], refused: set[str | None]
    ) -> tuple[Outcome, str]:
        if symbol in loaded.claimed:
            return Outcome.ERROR, loaded.claimed[symbol]
        if symbol in present:
            return Outcome.OK, ""
        if symbol in refused:
            return Outcome.REFUSED, "none of its rows in this range can be read"
        if loaded.unknown:
            return Outcome.ERROR, f"it may be in a skipped file: {loaded.unknown}"
        if symbol in loaded.spans:
            first, last = loaded.spans[symbol]
            return Outcome.EMPTY, f"no rows from {request.start} to {request.end}; the files have {first} to {last}"
        return Outcome.NOT_FOUND, f"in none of the {len(self.paths)} file(s) of {self._settings.path}"

    def _read(self, loaded: "_Loaded", request: FetchRequest) -> pl.DataFrame:
        found = loaded.found
        theirs = loaded.as_stored(request.symbols)
        hits = found.index.filter(
            pl.col("symbol").is_in(theirs), pl.col("first") <= request.end, pl.col("last") >= request.start
        )
        numbers: list[int] = hits.get_column("file").unique().sort().to_list()
        parts = [found.plans[number].typed() for number in numbers if not found.plans[number].is_csv]
        if any(found.plans[number].is_csv for number in numbers):
            copies = _scratch_years(found.folders, request.start, request.end)
            # Some files may have been skipped, or read again, after they had been copied.
            all_count = len(loaded.alive) == len(found.plans)
            parts += copies if all_count else [part.filter(pl.col("file").is_in(loaded.alive)) for part in copies]
        if not parts:
            return empty_frame().with_columns(
                pl.lit(None, pl.Float64).alias(name) for name in (SPLIT_COLUMN, DIVIDEND_COLUMN)
            )
        wanted = [
            part.filter(
                pl.col("date").is_between(request.start, request.end), pl.col("symbol").is_in(theirs), ~pl.col("_fault")
            )
            .with_columns(pl.lit(None, pl.Float64).alias("ret"))
            .select(_BARS)
            for part in parts
        ]
        try:
            frame = pl.concat(wanted).collect(engine="streaming")
        except BROKEN as error:
            for number in numbers:
                found.plans[number].check()
            raise scratch_error(self._scratch, error) from None
        if loaded.names:
            frame = frame.with_columns(pl.col("symbol").replace(loaded.names))
        frame = frame.sort(PRIMARY_KEYS)
        if _has_twins(frame):
            # Twins would come in the order threads happened to read them: their values decide instead.
            frame = frame.sort(SCHEMA.names())
        return frame

    def _load(self) -> "_Loaded":
        with self._lock:
            if self._loaded is None:
                survey, self._survey = self._survey, None  # one that fails is not used again
                survey, found = self._surveyed(survey)
                self._loaded = self._made(found)
                # What was read goes with the last who reads it: its scratch copy is the survey's.
                self._loaded.survey = self._survey = survey
            return self._loaded

    def _surveyed(self, survey: Survey | None) -> tuple[Survey, Surveyed]:
        files = self._listing.files
        if survey is not None and survey.can_go_on(files) and (found := survey.of(files)) is not None:
            return survey, found
        survey = Survey(self._settings, self._exchange, self._scratch)
        found = survey.of(files)
        assert found is not None  # noqa: S101 - nothing was read before that could be of no use
        return survey, found

    def _made(self, found: Surveyed) -> "_Loaded":
        known = _known(found)
        suffixed = {number for number in found.alive if found.plans[number].suffixed}
        market = known.filter(pl.col("file").is_in(suffixed)).get_column("symbol").unique().to_list()
        claims = [symbol for skipped in found.skipped for symbol in skipped.symbols]
        txt = [s for skipped in found.skipped for s in skipped.symbols if skipped.path.name.lower().endswith(".txt")]
        names, market_notes = renamed(
            [*known.get_column("symbol").unique(), *claims], [*market, *txt], self._settings.market_suffix
        )
        found = separated(found, names)
        found = replace(found, skipped=[*map(_unlisted, self._listing.shut.items()), *map(printable, found.skipped)])
        symbols = _known(found).group_by("symbol").agg(pl.col("first").min(), pl.col("last").max())
        spans: dict[str, tuple[date, date]] = {}
        for symbol, first, last in symbols.iter_rows():
            ours = names.get(symbol, symbol)
            span = spans.get(ours, (first, last))
            spans[ours] = min(span[0], first), max(span[1], last)
        unreadable = found.unreadable
        if names:
            unreadable = unreadable.with_columns(pl.col("symbol").replace(names))
        if not spans and (found.skipped or unreadable.height):
            raise everything_wrong(found, self._settings.path)
        notes = tuple(displayed(note, LINE) for note in notes_of(found, self._listing.others, market_notes))
        return _Loaded(
            found, names, spans, unreadable, notes, self._split_adjusted(found), version_of(self._listing.files)
        )

    def _split_adjusted(self, found: Surveyed) -> bool:
        """Whether prices are adjusted for splits: as set, else as files tell that name splits.

        Raises:
            ConfigurationError: some of them are, others are not.
        """
        if self._settings.split_adjusted is not None:
            return self._settings.split_adjusted
        plans = [found.plans[number] for number in found.alive]
        by_basis = {plan.split_adjusted: plan.path for plan in plans if plan.has_events} or {
            plan.split_adjusted: plan.path for plan in plans
        }
        if True in by_basis and False in by_basis:
            raise ConfigurationError(
                f"Prices of {by_basis[True].name} are adjusted for splits, those of {by_basis[False].name} are not",
                where=f"{PREFIX}FILES_SPLIT_ADJUSTED",
                todo="read them apart, into data folders of their own, or set it if one of them is otherwise",
            )
        return True in by_basis


class _Loaded:
    """What the files hold, by the symbols as they are written here."""

    def __init__(
        self,
        found: Surveyed,
        names: Mapping[str, str],
        spans: Mapping[str, tuple[date, date]],
        unreadable: pl.DataFrame,
        notes: tuple[str, ...],
        split_adjusted: bool,  # noqa: FBT001 - made in one place
        version: str,
    ) -> None:
        self.survey: Survey | None = None
        self.found = found
        self.names = names
        self.spans = spans
        self.unreadable = unreadable
        self.notes = notes
        self.split_adjusted = split_adjusted
        self.version = version
        self.alive = found.alive
        self.set_aside = tuple(str(skipped.error) for skipped in found.skipped)
        self.bad_lines = sum(len(found.plans[number].bad) for number in self.alive)
        claimed = {
            names.get(symbol, symbol): str(skipped.error) for skipped in found.skipped for symbol in skipped.symbols
        }
        self.claimed = {symbol: why for symbol, why in claimed.items() if is_symbol(symbol)}
        self.unknown = next((str(skipped.error) for skipped in found.skipped if not skipped.symbols), "")
        self._with_events = {
            names.get(symbol, symbol)
            for symbol in found.index.filter(
                pl.col("file").is_in([number for number in self.alive if found.plans[number].has_events])
            ).get_column("symbol")
        }
        self._homed = _with_homes(unreadable, spans)

    def as_stored(self, symbols: tuple[str, ...]) -> list[str]:
        """Symbols as the files write them."""
        if not self.names:
            return list(symbols)
        wanted = set(symbols)
        theirs = [symbol for symbol, ours in self.names.items() if ours in wanted]
        return [*theirs, *(symbol for symbol in symbols if symbol not in self.names)]

    def has_events(self, symbols: tuple[str, ...]) -> bool:
        """Whether files of any of them name splits or dividends."""
        return not self._with_events.isdisjoint(symbols)

    def rejected(self, request: FetchRequest) -> pl.DataFrame:
        """The unreadable rows of a request: each of one symbol, its own or the first; without a day they are of any."""
        asked = pl.col("_home").is_null() | pl.col("_home").is_between(request.start, request.end)
        return self._homed.filter(asked, pl.col("_whose").is_in(request.symbols)).select(*SCHEMA, "reasons")


def _unlisted(folder: tuple[Path, str]) -> SkippedFile:
    """A folder that cannot be listed, as a skipped file: it may hold any symbol."""
    path, why = folder
    todo = "let it be listed, move what it holds to a shorter path, or take it out of the folder"
    return printable(
        SkippedFile(path, DataQualityError(f"What is below this folder cannot be listed: {why}", where=path, todo=todo))
    )


def _known(found: Surveyed) -> pl.DataFrame:
    """The index without rows of no symbol and no day."""
    return found.index.filter(pl.col("first").is_not_null(), ~is_no_symbol(pl.col("symbol")))


def _with_homes(unreadable: pl.DataFrame, spans: Mapping[str, tuple[date, date]]) -> pl.DataFrame:
    """Rows with the symbol for which they are reported, and the day, if they have one: what the source is asked for."""
    if unreadable.is_empty() or not spans:
        return unreadable.with_columns(_home=pl.col("date"), _whose=pl.col("symbol")).clear()
    first, last = min(first for first, _ in spans.values()), max(last for _, last in spans.values())
    return unreadable.with_columns(
        pl.col("date").clip(first, last).alias("_home"),
        pl.when(pl.col("symbol").is_in(list(spans))).then("symbol").otherwise(pl.lit(min(spans))).alias("_whose"),
    )


def _actions(bars: pl.DataFrame) -> pl.DataFrame:
    """The events beside the bars; one that is twice in the files is given once."""
    return (
        bars.filter(pl.col(SPLIT_COLUMN).is_not_null() | pl.col(DIVIDEND_COLUMN).is_not_null())
        .select(
            "symbol",
            "date",
            pl.col(SPLIT_COLUMN).fill_null(1.0).alias("split"),
            pl.col(DIVIDEND_COLUMN).fill_null(0.0).alias("dividend"),
        )
        .select(list(ACTIONS))
        .unique(maintain_order=True)
    )


def _scratch_years(folders: Sequence[Path], start: date, end: date) -> list[pl.LazyFrame]:
    years = {f"year={year}" for year in range(start.year, end.year + 1)}
    files = sorted(file for folder in folders for year in years for file in (folder / year).glob("*.parquet"))
    return [pl.scan_parquet(files, glob=False, hive_partitioning=False)] if files else []


def _has_twins(sorted_frame: pl.DataFrame) -> bool:
    same = [pl.col(key) == pl.col(key).shift() for key in PRIMARY_KEYS]
    return bool(sorted_frame.select(pl.all_horizontal(*same).any()).item())
