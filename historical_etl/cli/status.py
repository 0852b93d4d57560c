"""`status` on one screen. Imports nothing heavy unless `--check` or a replay asks for it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from textwrap import shorten
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from historical_etl.cli.terminal import Terminal, cleaned, ranges, size_text, some
from historical_etl.clock import Clock, system_clock
from historical_etl.etl.context import is_untouched, nothing_stored
from historical_etl.etl.health import StoreStatus, read_status
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager

if TYPE_CHECKING:
    from historical_etl.settings import Settings

__all__ = ["status"]

_SAMPLE = 5
_DAYS_SHOWN, _YEAR = 60, 365.25
_SATURDAY = 5
_MESSAGE = 120
_NEXT = " Next: "
_UNKNOWN: tuple[str, str] = ("not known: a ledger is damaged, see below", "red")
#: So that all fits on one screen.
_YEARS_SHOWN = 10


def status(terminal: Terminal, *, check: bool) -> int:
    """Show the state of the store; see the command's help."""
    layout = Layout(terminal.settings.data_dir)
    clock = _clock(terminal.settings, layout)
    found = read_status(layout, clock, terminal.settings)
    if found.version is None and is_untouched(layout):
        raise nothing_stored(layout)
    if check and found.current_through is not None:
        with terminal.busy("Asking the calendar and the source"):
            missing, until = _missing(terminal, found.current_through)
        found = found.model_copy(update={"sessions_missing": missing, "available_through": until})
    if terminal.as_json:
        terminal.json(found.model_dump(mode="json"))
    else:
        _show(terminal, found, clock())
    return 0


def _clock(settings: "Settings", layout: Layout) -> Clock:
    """The machine's clock, or that of a replay."""
    if settings.replay_from is None:
        return system_clock
    from historical_etl.sources.replay import clock_for

    def stored_through() -> date | None:
        manifest = ManifestManager(layout).load_manifest()
        return manifest.end_date if manifest else None

    return clock_for(settings, stored_through)


def _missing(terminal: Terminal, through: date) -> tuple[int, date]:
    """How many sessions have closed since, as far as the source has them; and the last one of those."""
    from historical_etl.etl.pipeline import HistoricalETL

    settings = terminal.settings
    etl = HistoricalETL.open(settings.data_dir, settings=settings)
    until = etl.available_through()
    return len(etl.calendar.between(through + timedelta(days=1), until)), until


def _show(terminal: Terminal, found: StoreStatus, now: datetime) -> None:
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text, style in _facts(found, now):
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
        terminal.say(f"next: {terminal.program} backfill")
    elif todo := _failed_todo(found):
        terminal.say(f"next: {cleaned(todo)}")
    elif found.holds:
        terminal.say(f"next: {terminal.program} holds")


def _facts(found: StoreStatus, now: datetime) -> list[tuple[str, str, str]]:
    facts = [("data", found.data_dir, "")]
    if found.version is None:
        facts.append(("version", "nothing committed yet; run `historical-etl backfill`", "yellow"))
    else:
        by = f" by {found.committed_by}" if found.committed_by else ""
        facts += [
            ("version", f"{found.version}, committed {found.committed_at:%Y-%m-%d %H:%M:%S} UTC{by}", ""),
            ("source", " ".join(filter(None, [found.source, f"({found.source_version})"])), ""),
            *((("plan", found.plan, ""),) if found.plan else ()),
            ("prices", *_prices(found)),
            ("rows", f"{found.rows:,} rows in {len(found.years)} year(s), {size_text(found.size_bytes)}", ""),
            ("current", *_current(found, now)),
            ("symbols", *_symbols(found)),
            ("gaps", *_gaps(found)),
            ("holds", *_holds(found)),
            ("restated", *_restated(found)),
            ("catalog", *_catalog(found)),
            *(("calendar", note, "yellow") for note in found.calendar_notes),
            *(("clock", note, "yellow") for note in found.clock_notes),
        ]
    if found.unfinished:
        left = ranges(list(found.unfinished.years_remaining))
        text = f"a backfill ({found.unfinished.status}, {found.unfinished.since:%Y-%m-%d %H:%M} UTC) lacks {left}"
        facts.append(("unfinished", f"{text}; run the same command again to go on", "yellow"))
    if found.writer:
        facts.append(("writing now", str(found.writer), "cyan"))
    facts += _failures(found)
    if found.quarantine_entries:
        facts.append(("quarantine", f"{found.quarantine_entries:,} entries, the newest below", "yellow"))
    facts.append(("disk", *_disk(found)))
    return facts


def _prices(found: StoreStatus) -> tuple[str, str]:
    others = [f"{count:,} symbol(s) on another basis: {basis}" for basis, count in found.other_bases.items()]
    return "; ".join([found.adjustment, *others]), "yellow" if others else ""


def _current(found: StoreStatus, now: datetime) -> tuple[str, str]:
    if found.current_through is None:
        return "no bar is stored: all that was fetched is held, see below", "yellow"
    text = f"through {found.current_through:%a %Y-%m-%d}, {_behind(found, now)}"
    if found.available_through is None:
        return text if _is_replayed(found) else f"{text}; `status --check` counts the sessions missing", ""
    if not found.sessions_missing:
        return f"{text}; nothing newer is to be had (the source has {found.available_through})", "green"
    missing = f"{found.sessions_missing:,} session(s) missing up to {found.available_through}"
    return f"{text}; {missing}: run `historical-etl update`", "yellow"


def _behind(found: StoreStatus, now: datetime) -> str:
    """How long ago that is. No calendar is asked, so weekdays are counted."""
    if _is_replayed(found):
        return "in a replay of the sample; `historical-etl replay` goes on"
    days = found.days_ago or 0
    if days > _DAYS_SHOWN:
        return f"{days / _YEAR:.1f} years ago"
    first = found.current_through or now.date()
    weekdays = sum((first + timedelta(days=n)).weekday() < _SATURDAY for n in range(1, days + 1))
    return f"{days} day(s) ago, {weekdays} of them weekdays" if days else "today"


def _is_replayed(found: StoreStatus) -> bool:
    return found.source_version.endswith("(replay)")


def _symbols(found: StoreStatus) -> tuple[str, str]:
    if found.symbols is None or found.lagging is None:
        return "not known: progress is behind the data; the next run counts them", "yellow"
    if not found.lagging:
        return f"{found.symbols:,}, all current", ""
    behind = sorted(found.lagging.items(), key=lambda item: (item[1], item[0]))
    named = ", ".join(f"{symbol} ({day})" for symbol, day in behind[:_SAMPLE])
    more = f" and {len(behind) - _SAMPLE:,} more" if len(behind) > _SAMPLE else ""
    return f"{found.symbols:,}, of which {len(behind):,} end earlier or have a gap: {named}{more}", ""


def _gaps(found: StoreStatus) -> tuple[str, str]:
    if found.gap_sessions is None:
        return _UNKNOWN
    if not found.gap_sessions:
        return "none", ""
    return f"{found.gap_sessions:,} session(s) of {found.gap_symbols:,} symbol(s); see `historical-etl gaps`", "yellow"


def _holds(found: StoreStatus) -> tuple[str, str]:
    if found.holds is None:
        return _UNKNOWN
    if not found.holds:
        return "none", ""
    named = [f"{hold.symbol} {hold.code}{f' of {hold.session}' if hold.session else ''}" for hold in found.holds]
    symbols = len({hold.symbol for hold in found.holds})
    return f"{symbols:,} symbol(s): {some(named, _SAMPLE)}; see `historical-etl holds`", "yellow"


def _restated(found: StoreStatus) -> tuple[str, str]:
    if found.restatements is None:
        return _UNKNOWN
    if not found.restatements:
        return "never", ""
    named = [
        f"{r.symbol}{f' x{r.ratio:.6g}' if r.ratio is not None else ''} (v{r.version}, {r.committed_at:%Y-%m-%d})"
        for r in found.restated_newest
    ]
    earlier = found.restatements - len(named)
    return ", ".join(named) + (f"; {earlier:,} earlier" if earlier else ""), ""


def _failed_todo(found: StoreStatus) -> str:
    """What the newest run that failed says is to be done, unless one has gone through since."""
    newest = next(iter(found.failed_newest), None)
    return "" if newest is None or newest.since_then else newest.message.partition(_NEXT)[2]


def _failures(found: StoreStatus) -> Iterator[tuple[str, str, str]]:
    for run in found.failed_newest:
        since = "; a later run has committed" if run.since_then else ""
        words = (
            shorten(run.message.partition(_NEXT)[0], _MESSAGE, placeholder=" ...").rstrip(".") or "no reason is noted"
        )
        at = f"{run.finished.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        yield "failed", f"{at} {run.command}: {words}{since}", "" if run.since_then else "yellow"


def _catalog(found: StoreStatus) -> tuple[str, str]:
    if found.catalog_reads:
        text = f"reads {found.catalog_reads}, not this store: it was copied or moved; run `historical-etl repair`"
        return text, "yellow"
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
    if earlier := found.years[:-_YEARS_SHOWN]:
        rows, size = sum(p.rows for p in earlier), sum(p.size_bytes for p in earlier)
        days = str(earlier[0].first_session), str(earlier[-1].last_session)
        table.add_row(ranges([p.year for p in earlier]), f"{rows:,}", "", *days, size_text(size))
    for p in found.years[-_YEARS_SHOWN:]:
        days = str(p.first_session), str(p.last_session)
        table.add_row(str(p.year), f"{p.rows:,}", f"{p.symbols:,}", *days, size_text(p.size_bytes))
    return table
