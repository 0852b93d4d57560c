"""How the commands that look into the ledgers open a store, and show rows, moments and decisions."""

import getpass
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any, Final

import polars as pl
from rich.table import Table
from rich.text import Text

from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.clock import system_clock
from historical_etl.errors import ConfigurationError
from historical_etl.etl.context import StoreContext
from historical_etl.etl.price_store import PriceStore
from historical_etl.store.layout import Layout

__all__ = ["CODES", "Row", "decided_by", "documents", "left_out", "moment", "number", "opened", "show_table", "since"]

#: A row of a ledger.
Row = dict[str, Any]
#: Why symbols are held, in words, and what to do about it.
CODES: Final = {
    "level_jump": "the price moved as a wrong split or unit, or a crash, moves it; accept it if it is real",
    "break_after_gap": "the price broke after a long time without bars, as if another company had taken the ticker "
    "over; split it if so, accept it if it is the same one",
    "no_overlap": "no stored session was fetched again, and the price is off; accept it if it is the same security",
    "other_history": "the whole history is another one; accept it if the new one is right: it replaces what is stored",
    "incomplete_history": "the history was restated, but sessions that are stored did not come; accept it to lose them",
    "stale": "the same bar comes every session, volume included; wait until the source moves again, accept it if it is "
    "real",
    "unexplained_event": "an event, adj_close and the price contradict each other, and what is stored does not; wait "
    "until the source adjusts, or accept it if it is right",
    "adj_close": "the rows are stored without adj_close, which contradicts the prices or the events that the source "
    "names; it is filled in once it explains itself; accept it to have it as it comes",
    "refused": "the rows contradict each other or too many are impossible; wait until the source is right",
    "other_basis": "the source adjusts prices in another way than what is stored; `backfill --rebuild` changes over",
}


def opened(terminal: Terminal, writer: str = "historical-etl") -> PriceStore:
    """The store without a source; `writer` is who writes, where something is written."""
    layout = Layout(terminal.settings.data_dir)
    return PriceStore(StoreContext(layout, terminal.settings, system_clock, writer))


def decided_by(name: str | None) -> str:
    """Who decides: the name given, else that of the user.

    Raises:
        ConfigurationError: the user has no name.
    """
    given = name.strip() if name is not None else ""
    if given:
        return given
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # as in a container that runs as a number
        raise ConfigurationError("It is not known who decides", where="--by", todo="add --by NAME") from None


def documents(rows: pl.DataFrame) -> list[Row]:
    """Rows as JSON takes them: dates and times as ISO text."""
    return [{name: v.isoformat() if isinstance(v, date) else v for name, v in row.items()} for row in rows.to_dicts()]


def show_table(terminal: Terminal, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout whose last column takes what room is left, and as many lines as it needs."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names[:-1]:
        table.add_column(name, no_wrap=True)
    table.add_column(names[-1], overflow="fold")
    for row in rows:
        table.add_row(*(Text(cleaned(cell)) for cell in row))
    terminal.out.print(table)


def left_out(terminal: Terminal, shown: int, of: int, others: str) -> None:
    """Say that a table was cut, and how to see the rest."""
    if shown < of:
        terminal.say(f"{shown:,} of {of:,} shown; {others}")


def moment(at: datetime | None) -> str:
    """A time of the ledgers for people, in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}" if at is not None else ""


def since(row: Row) -> str:
    """From which version and day on a row of a ledger is valid."""
    return f"v{row['version']}, {moment(row['committed_at'])[:10]}"


def number(value: float | None) -> str:
    """A stored value as exactly as it needs to be, without an exponent where it can be read without."""
    if value is None:
        return "none"
    if value.is_integer() and abs(value) < 1e15:  # noqa: PLR2004 - from there on a float has no units
        return f"{value:,.0f}"
    return f"{value:.10g}"
