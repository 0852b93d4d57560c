"""`explain`: the story of one bar, an event on each line; or why there is no such bar."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import groupby
from shlex import quote

import polars as pl
from rich.table import Table
from rich.text import Text

from historical_etl.cli.gaps import happens_next
from historical_etl.cli.ledgers import Row, documents, moment, number, opened
from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.clock import as_date
from historical_etl.etl.completeness import ENDED, FILLED
from historical_etl.etl.price_store import PriceStore
from historical_etl.schema import SCHEMA
from historical_etl.sources.vendors.subscription import book_of
from historical_etl.symbols import normalize_symbols

__all__ = ["explain"]

_VALUES = [name for name in SCHEMA if name not in ("date", "symbol")]


def explain(terminal: Terminal, symbol: str, day: str) -> int:
    """Tell the story of one bar; see the command's help."""
    [symbol], session = normalize_symbols([symbol]), as_date(day, "DATE")
    with terminal.busy("Reading the ledgers"):
        store = opened(terminal)
        manifest = store.context.require_manifest()
        name = store.state.meant(symbol, session)
        story = store.prices.explain(name, session)
        rows = store.prices.bars(name, session, session)
        now: Row | None = rows.row(0, named=True) if rows.height else None
        reasons = [] if now else list(_why_not(store, name, session))
    if terminal.as_json:
        document = {
            "symbol": name,
            "date": session,
            "version": manifest.version,
            "now": {column: now[column] for column in _VALUES} if now else None,
            "not_stored_because": reasons,
            "events": documents(story),
        }
        terminal.json(document)
        return 0
    lines = [*_lines(story.to_dicts())]
    if now:
        lines.append(("now", f"in v{manifest.version}", "", ", ".join(_cells(now, _VALUES))))
    if lines:
        _print(terminal, f"{name} {session:%a %Y-%m-%d}", lines)
    elif not reasons:
        terminal.out.print(Text(f"{name} {session}: nothing is recorded"))
    for reason in reasons:
        terminal.out.print(Text(cleaned(reason)), soft_wrap=True)
    return 0


def _lines(events: Sequence[Row]) -> Iterator[tuple[str, str, str, str]]:
    """(event, version, when, what): one for each event, with all the cells that it set."""
    for (version, event, why), rows in groupby(events, key=lambda row: (row["version"], row["event"], row["why"])):
        cells = list(rows)
        at = moment(cells[0]["committed_at"])
        named = f"v{version}" if version else "before"
        if event == "stored":
            what = ", ".join(_cells({cell["column"]: cell["new"] for cell in cells}, _VALUES))
            yield event, named, at, what
        else:
            changes = [_change(cell) for cell in cells if cell["column"] is not None]
            yield event, named, at, f"{', '.join(changes)}: {why}" if changes else str(why)


def _cells(values: Row, names: Sequence[str]) -> list[str]:
    return [f"{name} {number(values[name])}" for name in names if values.get(name) is not None]


def _change(cell: Row) -> str:
    if cell["event"] == "refused":
        return f"{cell['column']} {number(cell['new'])}"
    return f"{cell['column']} {number(cell['old'])} -> {number(cell['new'])}"


def _print(terminal: Terminal, title: str, lines: Sequence[tuple[str, str, str, str]]) -> None:
    terminal.out.print(Text(title, style="bold"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    styles = {"now": "bold", "held": "yellow", "refused": "yellow", "flagged": "yellow", "gap": "yellow"}
    for event, version, at, what in lines:
        table.add_row(version, at, Text(event, style=styles.get(event, "")), Text(cleaned(what)))
    terminal.out.print(table)


def _why_not(store: PriceStore, symbol: str, day: date) -> Iterator[str]:
    """Why a bar is not stored, the nearest reason first, and what to do about it."""
    calendar = store.context.calendar
    if calendar.between(day, day).is_empty():
        if not calendar.known_from <= day <= calendar.known_through:
            span = f"{calendar.known_from} to {calendar.known_through}"
            yield f"Whether {day} was a session of {calendar.name} is not known: its calendar has the days from {span}"
            return
        before, after = calendar.back(day, 1), calendar.after(day)
        nearest = f"the nearest are {before} and {after}" if after else f"the last one known is {before}"
        yield f"{day:%a %Y-%m-%d} is no session of {calendar.name}: {nearest}"
        return
    lives = store.prices.ledger("symbols").filter(pl.col("symbol") == symbol)
    if lives.is_empty():
        yield from _never_stored(store, symbol)
        return
    life = lives.row(0, named=True)
    gaps = store.prices.gaps(closed=True).filter(
        pl.col("symbol") == symbol,
        pl.col("first_session") <= day,
        pl.col("last_session") >= day,
        pl.col("status") != FILLED,
    )
    held = (
        store.prices.holds().filter(pl.col("symbol") == symbol).to_dicts() if day > life["contiguous_through"] else []
    )
    for gap in gaps.to_dicts() if not held else ():
        if gap["status"] == ENDED:
            yield f"The last bar of {symbol} is of {life['last_session']}: it counts as ended; {happens_next(gap)}"
            continue
        yield f"Not stored: {gap['why']}, asked for on {gap['attempts']} session(s); {happens_next(gap)}"
    if held:
        yield f"Not stored: {symbol} is held since v{held[0]['version']}, {held[0]['code']}: {held[0]['evidence']}"
        yield "next: historical-etl holds"
    elif day < life["first_session"]:
        first = f"The first bar of {symbol} is of {life['first_session']}"
        yield f"{first}; {_beyond_plan(store, day) or 'earlier ones: backfill from an earlier year'}"
    elif day > life["last_session"] and gaps.is_empty():
        yield _after_last(store, life, day)


def _beyond_plan(store: PriceStore, day: date) -> str:
    """The account's plan in words, if it does not reach back to a day; else nothing."""
    book = book_of(store.context.settings, store.context.clock)
    plan = book.known if book else None
    first = plan.first(book.today) if book and plan else None
    return f"{day} is not to be had: {plan.in_words(book.today)}" if book and plan and first and day < first else ""


def _never_stored(store: PriceStore, symbol: str) -> Iterator[str]:
    held = store.prices.holds().filter(pl.col("symbol") == symbol).to_dicts()
    if held:
        yield f"No bar of {symbol} is stored: it is held, {held[0]['code']}: {held[0]['evidence']}"
        return
    yield f"No bar of {symbol} was ever stored"
    yield f"next: historical-etl update --symbols {quote(symbol)}"


def _after_last(store: PriceStore, life: Row, day: date) -> str:
    last = f"The last bar of {life['symbol']} is of {life['last_session']}"
    if life["status"] == ENDED:
        return f"{last}: it counts as ended, and was not asked for since"
    closed = store.context.calendar.last_closed(
        store.context.clock(), timedelta(minutes=store.context.settings.settle_minutes)
    )
    if day > closed:
        return f"{last}; {day} has not closed yet, or not long enough ago to be settled"
    return f"{last}; later ones were not asked for yet: run `historical-etl update`"
