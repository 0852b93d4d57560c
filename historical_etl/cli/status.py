"""`status` on one screen. Imports nothing heavy unless `--check` asks for it."""

from datetime import date, timedelta

from rich.table import Table
from rich.text import Text

from historical_etl.cli.terminal import Terminal, cleaned, ranges, size_text
from historical_etl.clock import system_clock
from historical_etl.etl.status import StoreStatus, read_status
from historical_etl.store.layout import Layout

__all__ = ["status"]

_SAMPLE = 5
_DAYS_SHOWN, _YEAR = 60, 365.25


def status(terminal: Terminal, *, check: bool) -> int:
    """Show the state of the store; see the command's help."""
    found = read_status(Layout(terminal.settings.data_dir), system_clock)
    if check and found.current_through is not None:
        with terminal.busy("Asking the calendar and the source"):
            missing, until = _missing(terminal, found.current_through)
        found = found.model_copy(update={"sessions_missing": missing, "available_through": until})
    if terminal.as_json:
        terminal.json(found.model_dump(mode="json"))
    else:
        _show(terminal, found)
    return 0


def _missing(terminal: Terminal, through: date) -> tuple[int, date]:
    """How many sessions have closed since, as far as the source has them; and the last one of those."""
    from historical_etl.etl.pipeline import HistoricalETL

    settings = terminal.settings
    etl = HistoricalETL.open(settings.data_dir, settings=settings)
    coverage, closed = etl.source.info.coverage, etl.last_closed_session()
    until = min(closed, coverage.last) if coverage and coverage.last else closed
    return len(etl.calendar.between(through + timedelta(days=1), until)), until


def _show(terminal: Terminal, found: StoreStatus) -> None:
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text, style in _facts(found):
        facts.add_row(name, Text(cleaned(text), style=style))
    terminal.out.print(facts)
    if found.years:
        terminal.out.print()
        terminal.out.print(_years(found))
    for entry in found.quarantine_newest:
        terminal.out.print(Text(f"quarantined: {cleaned(entry.entry)}\n  {cleaned(entry.reason)}"), soft_wrap=True)
    for problem in found.problems:
        terminal.warn(problem)
    if found.version is None:
        terminal.say("next: historical-etl backfill")


def _facts(found: StoreStatus) -> list[tuple[str, str, str]]:
    facts = [("data", found.data_dir, "")]
    if found.version is None:
        facts.append(("version", "nothing committed yet; run `historical-etl backfill`", "yellow"))
    else:
        by = f" by {found.committed_by}" if found.committed_by else ""
        facts += [
            ("version", f"{found.version}, committed {found.committed_at:%Y-%m-%d %H:%M:%S} UTC{by}", ""),
            ("source", " ".join(filter(None, [found.source, f"({found.source_version})"])), ""),
            ("prices", found.adjustment, ""),
            ("rows", f"{found.rows:,} rows in {len(found.years)} year(s), {size_text(found.size_bytes)}", ""),
            ("current", *_current(found)),
            ("symbols", *_symbols(found)),
            ("catalog", *_catalog(found)),
        ]
    if found.unfinished:
        left = ranges(list(found.unfinished.years_remaining))
        text = f"a backfill ({found.unfinished.status}, {found.unfinished.since:%Y-%m-%d %H:%M} UTC) lacks {left}"
        facts.append(("unfinished", f"{text}; run the same command again to go on", "yellow"))
    if found.writer:
        facts.append(("writing now", str(found.writer), "cyan"))
    if found.quarantine_entries:
        facts.append(("quarantine", f"{found.quarantine_entries:,} entries, the newest below", "yellow"))
    facts.append(("disk", *_disk(found)))
    return facts


def _current(found: StoreStatus) -> tuple[str, str]:
    assert found.current_through is not None  # noqa: S101 - there is a version
    days = found.days_ago or 0
    ago = f"{days} day(s) ago" if days <= _DAYS_SHOWN else f"{days / _YEAR:.1f} years ago"
    text = f"through {found.current_through:%a %Y-%m-%d}, {ago}"
    if found.available_through is None:
        return f"{text}; `status --check` counts the sessions missing", ""
    if not found.sessions_missing:
        return f"{text}; nothing newer is to be had (the source has {found.available_through})", "green"
    missing = f"{found.sessions_missing:,} session(s) missing up to {found.available_through}"
    return f"{text}; {missing}: run `historical-etl update`", "yellow"


def _symbols(found: StoreStatus) -> tuple[str, str]:
    if found.symbols is None or found.lagging is None:
        return "not known: progress is behind the data; the next run counts them", "yellow"
    if not found.lagging:
        return f"{found.symbols:,}, all current", ""
    behind = sorted(found.lagging.items(), key=lambda item: (item[1], item[0]))
    named = ", ".join(f"{symbol} ({day})" for symbol, day in behind[:_SAMPLE])
    more = f" and {len(behind) - _SAMPLE:,} more" if len(behind) > _SAMPLE else ""
    return f"{found.symbols:,}, of which {len(behind):,} end earlier or have a gap: {named}{more}", ""


def _catalog(found: StoreStatus) -> tuple[str, str]:
    if found.catalog_version == found.version:
        return f"shows version {found.version}", ""
    shown = f"shows version {found.catalog_version}" if found.catalog_version else "is not published"
    return f"{shown}; run `historical-etl update`", "yellow"


def _disk(found: StoreStatus) -> tuple[str, str]:
    if found.disk_level == "full":
        return "full: nothing more is written; free space on this volume", "bold red"
    text = f"{found.disk_level}, {found.disk_used_share:.0%} used, {size_text(found.disk_free_bytes)} free"
    return text, {"warning": "yellow", "critical": "bold red"}.get(found.disk_level, "")


def _years(found: StoreStatus) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("year", "rows", "symbols"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("first", "last"):
        table.add_column(name, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for p in found.years:
        days = str(p.first_session), str(p.last_session)
        table.add_row(str(p.year), f"{p.rows:,}", f"{p.symbols:,}", *days, size_text(p.size_bytes))
    return table
