"""`backfill` and `update`: a run of the pipeline, watched while it goes on; `run_summary` prints its end."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import date, timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from historical_etl.cli.run_summary import RunSummary
from historical_etl.cli.terminal import PROGRAM, Terminal, cleaned, size_text
from historical_etl.errors import ConfigurationError
from historical_etl.etl.fetch import forget_plan
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.etl.runs import RUNS_LOG, YearEvent
from historical_etl.models import ETLResult, Partition, SyncManifest
from historical_etl.sources.base import FetchRequest, check_coverage
from historical_etl.symbols import normalize_symbols

__all__ = ["backfill", "opened", "report_update", "update", "year_by_year"]

_QUESTION = '"SELECT * FROM daily_prices LIMIT 5"'


def backfill(
    terminal: Terminal, first: int | None, last: int | None, symbols: str | None, *, resume: bool, rebuild: bool
) -> int:
    """Fill the store with years; see the command's help."""
    with terminal.busy("Planning"):
        etl = opened(terminal, "backfill")
        before = etl.manifest()
        if rebuild:
            forget_plan(etl.source)  # it bounds the years, too
        start, end = _range(etl, first, last)
        wanted = _named(symbols) if symbols is not None else _universe(etl, start, end)
    years: list[YearEvent] = []
    with year_by_year(terminal, years) as progress:
        result = etl.run_full_etl(wanted, start, end, resume, rebuild=rebuild, progress=progress)
    manifest = etl.manifest()
    partitions = [p for p in manifest.partitions if start.year <= p.year <= end.year] if manifest else []
    resumed = [event.year for event in years if event.step == "resumed"]
    summary = RunSummary(etl, before, result)
    if terminal.as_json:
        facts = {"years_resumed": resumed, "partitions": [p.model_dump(mode="json") for p in partitions]}
        terminal.json({**summary.document(), **facts})
    else:
        if partitions:
            terminal.out.print(_years_table(partitions, result, resumed))
        summary.report(terminal)
        summary.report_next_steps(terminal, f"{terminal.program} query {_QUESTION}, or {terminal.program} status")
    return summary.code


def update(terminal: Terminal, symbols: str | None) -> int:
    """Bring the store up to the last closed session; see the command's help."""
    with terminal.busy("Updating"):
        etl = opened(terminal, "update")
        before = etl.manifest()
        result = etl.run_incremental_etl(_named(symbols) if symbols is not None else None)
    return report_update(terminal, etl, before, result)


def report_update(
    terminal: Terminal, etl: HistoricalETL, before: SyncManifest | None, result: ETLResult, headline: str = ""
) -> int:
    """Tell of an increment since the version `before`; returns the exit code."""
    summary = RunSummary(etl, before, result)
    after = summary.after
    sessions = _new_sessions(etl, before, after)
    added = (after.row_count if after else 0) - (before.row_count if before else 0)
    if terminal.as_json:
        through = after.end_date.isoformat() if after and after.end_date else None
        facts = {"rows_added": added, "new_sessions": [day.isoformat() for day in sessions], "current_through": through}
        terminal.json({**summary.document(), **facts})
        return summary.code
    if headline:
        terminal.out.print(Text(cleaned(headline)), soft_wrap=True)
    asked = f"{len(result.outcomes):,} symbol(s), {result.start_date} to {result.end_date}"
    terminal.out.print(Text(f"Requested {asked}: {result.rows_fetched:,} row(s) fetched"), soft_wrap=True)
    if sessions:
        span = f"{sessions[0]} to {sessions[-1]}" if len(sessions) > 1 else f"{sessions[0]}"
        terminal.out.print(Text(f"{len(sessions):,} new session(s), {span}"), soft_wrap=True)
    rows = f"{added:,} row(s) added" if added >= 0 else f"{-added:,} row(s) fewer"
    counted = f"{rows}, {result.corrections:,} stored value(s) corrected"
    if result.changed:
        terminal.out.print(Text(counted))
    elif summary.complete:
        given = "gives to the plan of this account" if etl.source.info.plan else "has"
        terminal.out.print(Text(f"Nothing new: what is stored is what the source {given}"))
    else:
        terminal.out.print(Text("Nothing new could be stored"))
    summary.report(terminal)
    summary.report_next_steps(terminal, f"nothing; {terminal.program} status shows what is stored")
    return summary.code


def opened(terminal: Terminal, command: str) -> HistoricalETL:
    """The store and its configured source, for a run."""
    # Its failures come as events, and as the error raised: logged, they would be said twice.
    terminal.shown_elsewhere.add(RUNS_LOG)
    settings = terminal.settings
    return HistoricalETL.open(settings.data_dir, settings=settings, writer_id=f"{PROGRAM} {command}")


def _named(symbols: str) -> list[str]:
    return normalize_symbols([part for part in symbols.split(",") if part.strip()])


def _range(etl: HistoricalETL, first: int | None, last: int | None) -> tuple[date, date]:
    """The years asked for; without any, all that the source covers."""
    coverage = etl.source.info.coverage
    if first is None:
        first = (coverage.first if coverage else etl.settings.start).year
    if last is None:
        closed = etl.last_closed_session()
        ends = min(coverage.last, closed) if coverage and coverage.last else closed  # none has what is to come
        last = max(ends, etl.clock().date()).year if etl.calendar_has_ended() else ends.year
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
def year_by_year(terminal: Terminal, events: list[YearEvent]) -> Generator[Callable[[YearEvent], None], None, None]:
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
            events.append(event)
            doing = {"fetching": "Fetching", "started": f"{event.year}"}.get(event.step, "Finishing")
            bar.update(task, description=doing, completed=event.done, total=event.total, rows=event.rows)
            if event.error is not None:
                terminal.warn(f"{event.year} was not committed: {event.error.what}")
            elif event.step == "resumed":
                terminal.say(f"{event.year}: committed before the interruption")
            elif event.step == "fetching" and bar.disable and event.done in {event.total, event.total // 2}:
                terminal.say(f"fetched {event.done:,} of {event.total:,} symbols")
            elif event.step == "committed" and bar.disable:
                terminal.say(f"{event.year}: committed ({event.done} of {event.total})")

        yield hear


def _new_sessions(etl: HistoricalETL, before: SyncManifest | None, after: SyncManifest | None) -> list[date]:
    if before is None or after is None or before.end_date is None or after.end_date is None:
        return []
    if after.end_date <= before.end_date:
        return []
    return etl.calendar.between(before.end_date + timedelta(days=1), after.end_date).to_list()


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
