"""`backfill` and `update`: a run of the pipeline, watched while it goes on, and told of at the end."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import date, timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from historical_etl.cli.terminal import Terminal, cleaned, duration, size_text
from historical_etl.errors import ConfigurationError
from historical_etl.etl import pipeline
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.etl.tally import YearEvent
from historical_etl.models import ETLResult, Outcome, Partition, SyncManifest
from historical_etl.sources.base import FetchRequest, check_coverage
from historical_etl.symbols import normalize_symbols

__all__ = ["backfill", "update"]

_FAILED, _INCOMPLETE = 1, 3
_SAMPLE = 10
_WHY = {
    Outcome.EMPTY: "no rows in this range",
    Outcome.NOT_FOUND: "unknown to the source",
    Outcome.RATE_LIMITED: "the source asked to slow down; run the same command again later",
    Outcome.ERROR: "the source failed",
    Outcome.REFUSED: "the rows that came were refused",
}


def backfill(terminal: Terminal, first: int | None, last: int | None, symbols: str | None, *, resume: bool) -> int:
    """Fill the store with years; see the command's help."""
    with terminal.busy("Planning"):
        etl = _open(terminal, "backfill")
        start, end = _range(etl, first, last)
        wanted = _named(symbols) if symbols is not None else _universe(etl, start, end)
    years: list[YearEvent] = []
    with _year_by_year(terminal, years) as progress:
        result = etl.run_full_etl(wanted, start, end, resume, progress=progress)
    manifest = etl.manifest()
    partitions = [p for p in manifest.partitions if start.year <= p.year <= end.year] if manifest else []
    resumed = [event.year for event in years if event.step == "resumed"]
    if terminal.as_json:
        terminal.json(
            {
                **_document(result),
                "years_resumed": resumed,
                "partitions": [partition.model_dump(mode="json") for partition in partitions],
            }
        )
    else:
        if partitions:
            terminal.out.print(_years_table(partitions, result, resumed))
        _summarize(terminal, result, manifest)
        if not _code(result):
            terminal.say('next: historical-etl query "SELECT * FROM daily_prices LIMIT 5", or historical-etl status')
    return _code(result)


def update(terminal: Terminal, symbols: str | None) -> int:
    """Bring the store up to the last closed session; see the command's help."""
    with terminal.busy("Updating"):
        etl = _open(terminal, "update")
        before = etl.manifest()
        result = etl.run_incremental_etl(_named(symbols) if symbols is not None else None)
        after = etl.manifest()
        sessions = _new_sessions(etl, before, after)
    added = (after.row_count if after else 0) - (before.row_count if before else 0)
    if terminal.as_json:
        through = after.end_date.isoformat() if after else None
        facts = {"rows_added": added, "new_sessions": [day.isoformat() for day in sessions], "current_through": through}
        terminal.json({**_document(result), **facts})
        return _code(result)
    asked = f"{len(result.outcomes):,} symbol(s), {result.start_date} to {result.end_date}"
    terminal.out.print(Text(f"Asked for {asked}: {result.rows_fetched:,} row(s) came"), soft_wrap=True)
    if sessions:
        span = f"{sessions[0]} to {sessions[-1]}" if len(sessions) > 1 else f"{sessions[0]}"
        terminal.out.print(Text(f"{len(sessions):,} new session(s), {span}"), soft_wrap=True)
    counted = f"{added:,} row(s) added, {result.corrections:,} stored value(s) corrected"
    terminal.out.print(Text(counted if result.changed else "Nothing new: what is stored is what the source has"))
    _summarize(terminal, result, after)
    return _code(result)


def _open(terminal: Terminal, command: str) -> HistoricalETL:
    # Its failures come as events, and as the error raised: logged, they would be said twice.
    terminal.shown_elsewhere.add(pipeline.__name__)
    settings = terminal.settings
    return HistoricalETL.open(settings.data_dir, settings=settings, writer_id=f"historical-etl {command}")


def _named(symbols: str) -> list[str]:
    return normalize_symbols([part for part in symbols.split(",") if part.strip()])


def _range(etl: HistoricalETL, first: int | None, last: int | None) -> tuple[date, date]:
    """The years asked for; without any, all that the source covers."""
    coverage = etl.source.info.coverage
    if first is None:
        first = (coverage.first if coverage else etl.settings.start).year
    if last is None:
        last = (coverage.last if coverage and coverage.last else etl.last_closed_session()).year
    if last < first:
        raise ConfigurationError(
            f"The range is reversed: {first} to {last}", where="--from, --to", todo="put the earlier year first"
        )
    return date(first, 1, 1), date(last, 12, 31)


def _universe(etl: HistoricalETL, start: date, end: date) -> list[str]:
    symbols = etl.source.members(start, end)
    if not symbols:
        check_coverage(etl.source.info, FetchRequest(("ANY",), start, end))
        raise ConfigurationError(
            f"The source {etl.source.info.name!r} names no symbols from {start} to {end}",
            where="--symbols",
            todo="name symbols, or set HISTORICAL_ETL_SYMBOLS or HISTORICAL_ETL_UNIVERSE",
        )
    return symbols


@contextmanager
def _year_by_year(terminal: Terminal, heard: list[YearEvent]) -> Generator[Callable[[YearEvent], None], None, None]:
    """A bar on a terminal, a line for each year elsewhere."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
        console=terminal.err,
        transient=True,
        disable=terminal.quiet or not terminal.err.is_terminal,
    )
    with bar:
        task = bar.add_task("Preparing", total=None, rows=0)

        def hear(event: YearEvent) -> None:
            heard.append(event)
            doing = f"{event.year}" if event.step == "started" else "Finishing"
            bar.update(task, description=doing, completed=event.done, total=event.total, rows=event.rows)
            if event.error is not None:
                terminal.warn(f"{event.year} was not committed: {event.error.what}")
            elif event.step == "resumed":
                terminal.say(f"{event.year}: committed before the interruption")
            elif event.step == "committed" and bar.disable:
                terminal.say(f"{event.year}: committed ({event.done} of {event.total})")

        yield hear


def _new_sessions(etl: HistoricalETL, before: SyncManifest | None, after: SyncManifest | None) -> list[date]:
    if before is None or after is None or after.end_date <= before.end_date:
        return []
    return etl.calendar.between(before.end_date + timedelta(days=1), after.end_date).to_list()


def _code(result: ETLResult) -> int:
    if result.catalog_error:
        return _FAILED
    return 0 if result.complete else _INCOMPLETE


def _document(result: ETLResult) -> dict[str, object]:
    return {**result.model_dump(mode="json"), "changed": result.changed, "complete": result.complete}


def _years_table(partitions: list[Partition], result: ETLResult, resumed: list[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("year", "rows", "symbols"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("first", "last"):
        table.add_column(name, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for p in partitions:
        what = "written" if p.year in result.years_written else "resumed" if p.year in resumed else "unchanged"
        days = str(p.first_session), str(p.last_session)
        table.add_row(str(p.year), f"{p.rows:,}", f"{p.symbols:,}", *days, size_text(p.size_bytes), what)
    return table


def _summarize(terminal: Terminal, result: ETLResult, manifest: SyncManifest | None) -> None:
    """What stands now, what was refused and did not come, and what to do about it."""
    if manifest is None:
        terminal.out.print(Text("Nothing is stored: no row came"))
    else:
        stands = f"Version {manifest.version}{'' if result.changed else ' (as before)'}: {manifest.row_count:,} rows"
        size = size_text(sum(partition.size_bytes for partition in manifest.partitions))
        span = f"{manifest.start_date} to {manifest.end_date}"
        terminal.out.print(Text(f"{stands}, {span}, {size}; took {duration(result.duration_seconds)}"), soft_wrap=True)
    _tell_refused(terminal, result)
    for warning in result.disk_warnings:
        terminal.warn(f"disk {warning}")
    if result.catalog_error:
        terminal.warn(f"the data is committed, the catalog is not up to date: {result.catalog_error}")
    if not result.complete:
        terminal.say(
            "next: look at what was refused or missing; correct the list of symbols or the source, then repeat"
        )


def _tell_refused(terminal: Terminal, result: ETLResult) -> None:
    if result.rows_rejected:
        terminal.warn(f"{result.rows_rejected:,} row(s) refused")
        for reason, count in result.rejected_by_reason.items():
            terminal.say(f"  {count:>9,}  {reason}")
        for path in result.quarantine_paths:
            terminal.say(f"  kept in {path}")
    for outcome, why in _WHY.items():
        symbols = [symbol for symbol, came in result.outcomes.items() if came is outcome]
        if symbols:
            terminal.warn(f"{len(symbols):,} symbol(s) did not come, {why}: {_shortened(symbols)}")
            for symbol in symbols[:_SAMPLE]:
                if detail := result.details.get(symbol):
                    terminal.say(f"  {symbol}: {detail}")


def _shortened(symbols: list[str]) -> str:
    more = f" and {len(symbols) - _SAMPLE:,} more" if len(symbols) > _SAMPLE else ""
    return cleaned(", ".join(symbols[:_SAMPLE]) + more)
