"""Adopt: take files of prices that somebody has into the store, through the same gate as any backfill.

Every row of the files is accounted for: it is in the store as it is in the file, or it is reported why not. This is
found by looking at the store afterwards, not by counting on the way.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.clock import Clock, system_clock
from historical_etl.errors import ConfigurationError, HistoricalETLError
from historical_etl.etl.fetch import BEFORE_CALENDAR
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.etl.runs import YearEvent
from historical_etl.etl.symbology import Move, Names, mapped
from historical_etl.models import ETLResult
from historical_etl.quality.batch_verdict import collapse_duplicates, judge_batch
from historical_etl.quality.cells import clean_cells
from historical_etl.schema import ORDER, SCHEMA, ordered, symbols_in
from historical_etl.settings import Settings
from historical_etl.sources.base import FetchRequest
from historical_etl.sources.files import UNREADABLE, FilesSource
from historical_etl.sources.files.listing import path_of
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_ledger
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.verified_files import collected
from historical_etl.symbols import normalize_symbols

__all__ = ["Adoption", "RowCounts", "adopt", "opened_for"]

_VALUES: Final = [name for name in SCHEMA if name != "ret"]
_REASONS: Final = "reasons"
#: Rows that no rule has judged, since they could not be read.
_UNREAD: Final = pl.col(_REASONS).list.eval(pl.element().is_in(list(UNREADABLE))).list.any()


@dataclass
class RowCounts:
    """What became of the rows of files: `read` is the sum of all others but `by_reason`.

    Attributes:
        read: rows in the files.
        taken: rows that the store now holds as they stand in the files, with what it had where those have nothing; in
            a rehearsal, rows that would pass.
        repeated: rows that were fetched again with equal values.
        refused: rows that broke a rule, cannot be read, or belong to a refused batch; they are in quarantine.
        held: rows that do not fit what is stored, or each other: `holds` tells why.
        not_asked: rows of symbols that were not asked for.
        not_closed: rows of sessions that have not closed yet.
        not_session: rows before the first or after the last session of their year, on days without trading.
        before_calendar: rows of days before the first that the calendar knows; the run keeps them aside.
        after_calendar: rows of days after the last that the calendar knows.
        by_reason: refused rows for each reason; a row may have several.
    """

    read: int = 0
    taken: int = 0
    repeated: int = 0
    refused: int = 0
    held: int = 0
    not_asked: int = 0
    not_closed: int = 0
    not_session: int = 0
    before_calendar: int = 0
    after_calendar: int = 0
    by_reason: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def outside(self) -> int:
        """Rows that nobody asked for, or that are of no session."""
        return self.not_asked + self.not_closed + self.not_session + self.before_calendar + self.after_calendar


@dataclass(frozen=True)
class Adoption:
    """What an adoption did, or would do.

    Attributes:
        row_counts: of all rows.
        files: how many files were read.
        year_files: how many of them are year files of a store like this one; their `ret` is computed anew.
        symbols: the symbols of the rows taken.
        years: the years of the rows taken.
        result: of the run; None in a rehearsal.
        messages: how the files are understood.
        set_aside: files, or symbols of files, that could not be taken as a whole.
    """

    row_counts: RowCounts
    files: int
    year_files: int
    symbols: tuple[str, ...]
    years: tuple[int, ...]
    result: ETLResult | None
    reading: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every row that was asked for is taken."""
        row_counts = self.row_counts
        lacking = row_counts.refused or row_counts.held or row_counts.before_calendar or row_counts.after_calendar
        return not lacking and not self.set_aside


def opened_for(settings: Settings, *, clock: Clock = system_clock, writer_id: str = "historical_etl") -> HistoricalETL:
    """The store of the settings with the files of its group `files` as the source, for `adopt`.

    Args:
        settings: say where the store is, where the files are, and how they are written.
        clock: as in `HistoricalETL`.
        writer_id: likewise.

    The price basis of year files that lie in a store is the one that the store tells, unless the settings say one.

    Raises:
        ConfigurationError: a setting is wrong, the path has no files, lies in the store, or is a whole store.
    """
    layout = Layout(settings.data_dir)
    if not settings.files.path.strip():
        raise ConfigurationError("There is no path to adopt", where="path", todo="name a folder, a file or a glob")
    path = path_of(settings.files.path)
    if path.resolve().is_relative_to(layout.root.resolve()):
        raise ConfigurationError(
            "The files lie inside the data folder", where=path, todo="name files outside the store that takes them"
        )
    if Layout(path).manifest_file().exists():
        raise ConfigurationError(
            "This folder is a whole store, with all its versions",
            where=path,
            todo=f"`historical-etl import` takes it into an empty store; or adopt {Layout(path).daily}, its year files",
        )
    changes: dict[str, object] = {"max_empty_share": 1.0}  # symbols that the files do not have in a year are no outage
    if basis := _basis_of_store(path):
        changes["files"] = basis | settings.files.model_dump(exclude_unset=True)
    changed = settings.changed(changes)
    source = FilesSource(changed.files, exchange=changed.exchange)
    return HistoricalETL.open(changed.data_dir, source, settings=changed, clock=clock, writer_id=writer_id)


def _basis_of_store(path: Path) -> dict[str, object]:
    """What a store tells of the price basis of the year files in its `daily/`, as settings; nothing elsewhere."""
    layouts = [Layout(above) for above in path.parents[1:3]]  # of `daily`, and of the folder that it points to
    layout = next((each for each in layouts if _is_same_folder(each.daily, path)), None)
    if layout is None:
        return {}
    try:
        manifest = ManifestManager(layout).load_manifest()
        symbols = read_ledger(layout, manifest, "symbols")
    except HistoricalETLError:
        return {}
    basis: dict[str, object] = {}
    if manifest and manifest.adjustment:
        basis["adjustment"] = manifest.adjustment
    ways = symbols.get_column("split_adjusted").unique()
    if len(ways) == 1 and ways[0] is not None:
        basis["split_adjusted"] = ways[0]
    return basis


def _is_same_folder(one: Path, other: Path) -> bool:
    return one.is_dir() and other.is_dir() and one.samefile(other)


def adopt(
    etl: HistoricalETL,
    symbols: Iterable[str] | str | None = None,
    *,
    rehearse: bool = False,
    progress: Callable[[YearEvent], None] | None = None,
) -> Adoption:
    """Take all rows of files into the store, as far as their sessions have closed.

    Args:
        etl: a store whose source is a `FilesSource`; see `opened_for`.
        symbols: None takes all that the files have.
        rehearse: only judge the rows, and write nothing; what is stored is not looked at.
        progress: as in `HistoricalETL.run_full_etl`.

    Raises:
        ConfigurationError: the files hold none of the symbols, or no session that has closed.
        DataQualityError: a file cannot be read, or all rows of a year were refused; the message names it.
        As `HistoricalETL.run_full_etl`.
    """
    source = etl.source
    if not isinstance(source, FilesSource):
        raise ConfigurationError("Only files can be adopted", where=source.info.name, todo="open it by `opened_for`")
    members = source.members(None, None)
    wanted = members if symbols is None else normalize_symbols(symbols)
    start, end = _span(etl, source, members, set(wanted))
    result = None
    if not rehearse:
        result = etl.run_full_etl(wanted, start, end, resume=False, progress=progress, command="adopt")
    names = etl.store.state.names_of(etl.manifest())
    members = source.members(None, None)  # the run has looked at the folder anew
    look = _Look(etl, source, members, set(names.over(wanted, start, end)), result, names)
    for year in _years(source):
        look.at(year)
    return Adoption(
        look.row_counts,
        len(source.paths),
        source.year_files,
        tuple(sorted(look.symbols)),
        tuple(look.years),
        result,
        (*source.reading, *(source.notes if result is None else ())),
        source.set_aside,
    )


def _span(etl: HistoricalETL, source: FilesSource, members: Sequence[str], wanted: set[str]) -> tuple[date, date]:
    """The first and last session of the files that has closed."""
    coverage = source.info.coverage
    if coverage is not None and wanted & set(members):
        closed = etl.last_closed_session()
        sessions = etl.calendar.between(coverage.first, min(coverage.last or closed, closed))
        if len(sessions):
            return min(sessions[0], coverage.first) if coverage.first < etl.calendar.known_from else sessions[
                0
            ], sessions[-1]
    lacks = "no session that has closed" if wanted & set(members) else "none of the symbols"
    span = f"rows from {coverage.first} to {coverage.last}" if coverage else "no rows"
    some = f", such as {', '.join(members[:5])}" if members else ""
    raise ConfigurationError(
        f"The files have {lacks}",
        where=etl.settings.files.path,
        todo=f"they have {span}, and {len(members):,} symbol(s){some}",
    )


def _years(source: FilesSource) -> range:
    coverage = source.info.coverage
    return range(coverage.first.year, (coverage.last or coverage.first).year + 1) if coverage else range(0)


class _Look:
    """Looks at what became of the rows of files, year by year."""

    def __init__(
        self,
        etl: HistoricalETL,
        source: FilesSource,
        members: Sequence[str],
        wanted: set[str],
        result: ETLResult | None,
        names: Names,
    ) -> None:
        self.row_counts = RowCounts(read=source.rows)
        self.symbols: set[str] = set()
        self.years: list[int] = []
        self._etl = etl
        self._source = source
        self._members = tuple(members)
        self._wanted = wanted
        self._result = result
        self._moves = [Move(*owner) for owner in names.owners(by_day=True)]
        self._closed = etl.last_closed_session()
        self._count_unreadable()

    def at(self, year: int) -> None:
        """Account for the rows of a year."""
        row_counts = self.row_counts
        rows = self._source.fetch(FetchRequest(self._members, date(year, 1, 1), date(year, 12, 31))).frame
        rows = mapped(rows, self._moves, pl.col("date")).select(rows.columns) if self._moves else rows
        mine = rows.filter(pl.col("symbol").is_in(list(self._wanted)))
        row_counts.not_asked += rows.height - mine.height
        calendar = self._etl.calendar
        ended = calendar.has_ended(self._etl.clock())  # until then, such a day has not come yet
        late = mine.filter(pl.col("date") > calendar.known_through).height if ended else 0
        row_counts.after_calendar += late
        row_counts.before_calendar += mine.filter(pl.col("date") < calendar.known_from).height
        due = mine.filter(pl.col("date") <= self._closed)
        row_counts.not_closed += mine.height - due.height - late
        due = due.filter(pl.col("date") >= calendar.known_from)
        sessions = self._sessions(year)
        inside = due.filter(pl.col("date").is_between(sessions[0], sessions[-1])) if len(sessions) else due.clear()
        row_counts.not_session += due.height - inside.height
        good = self._without_refused(inside, year, sessions)
        distinct, _ = collapse_duplicates(ordered(clean_cells(good).rows))
        row_counts.repeated += good.height - distinct.height
        taken = distinct if self._result is None else self._stored(distinct, year)
        row_counts.taken += taken.height
        row_counts.held += distinct.height - taken.height
        self.symbols |= set(symbols_in(taken))
        self.years += [year] if taken.height else []

    def _count_unreadable(self) -> None:
        """Rows that cannot be read are refused, whatever the year; those of symbols that nobody asked for are not."""
        rows = self._source.unreadable
        others = pl.col("symbol").is_in(list(set(self._members) - self._wanted))
        mine = rows.filter(~others.fill_null(value=False))
        self.row_counts.not_asked += rows.height - mine.height
        self._add_refused(mine)

    def _add_refused(self, rows: pl.DataFrame) -> None:
        self.row_counts.refused += rows.height
        for reason, count in rows.get_column(_REASONS).explode().value_counts().iter_rows():
            self.row_counts.by_reason[reason] = self.row_counts.by_reason.get(reason, 0) + count

    def _sessions(self, year: int) -> pl.Series:
        """Those that the run has asked for."""
        coverage = self._source.info.coverage
        first = max(date(year, 1, 1), coverage.first) if coverage else date(year, 1, 1)
        last = min(date(year, 12, 31), self._closed, (coverage and coverage.last) or self._closed)
        return self._etl.calendar.between(first, last)

    def _without_refused(self, rows: pl.DataFrame, year: int, sessions: pl.Series) -> pl.DataFrame:
        if rows.is_empty():
            return rows
        refused = self._judged(rows, sessions) if self._result is None else self._quarantined_rows(self._result, year)
        if refused is None:
            return rows
        refused = refused.filter(~_UNREAD)
        self._add_refused(refused)
        others = rows.join(refused, on=_VALUES, how="anti", nulls_equal=True)
        self.row_counts.repeated += rows.height - others.height - refused.height  # refused once, and again in the files
        return others

    def _judged(self, rows: pl.DataFrame, sessions: pl.Series) -> pl.DataFrame:
        share = self._etl.settings.max_rejected_share
        symbols = sorted(self._wanted)
        start, end = sessions[0], sessions[-1]
        return judge_batch(
            rows, symbols=symbols, start=start, end=end, sessions=sessions, max_rejected_share=share
        ).rejected

    def _quarantined_rows(self, result: ETLResult, year: int) -> pl.DataFrame | None:
        """The rows of a year that the run has put in quarantine."""
        quarantined = {path for path in result.quarantine_paths if path.endswith(f"_{year}.rows.parquet")}
        files = [Path(path) / f"{year}.rows.parquet" for path in sorted(quarantined)]
        frames = [collected(pl.scan_parquet(file, glob=False), file) for file in files]
        known = ~pl.col(_REASONS).list.contains(BEFORE_CALENDAR)  # those are of earlier years, and counted there
        return pl.concat(frames).filter(known) if frames else None

    def _stored(self, rows: pl.DataFrame, year: int) -> pl.DataFrame:
        """Of some rows, those that the store holds with the same values, or with more: a null takes nothing away."""
        manifest = self._etl.manifest()
        if manifest is None or manifest.partition(year) is None or rows.is_empty():
            return rows.clear()
        stored = self._etl.store.prices.bars(None, date(year, 1, 1), date(year, 12, 31)).select(_VALUES)
        same = [pl.col(name).is_null() | (pl.col(name) == pl.col(f"{name}_s")) for name in _VALUES if name not in ORDER]
        both = rows.join(stored, on=ORDER, suffix="_s", maintain_order="left")
        return both.filter(pl.all_horizontal(same)).select(rows.columns)
