"""The commands that bring prices into a store."""

from typing import Annotated

import typer
from typer.models import OptionInfo

from historical_etl.cli.declare.common import Context, Symbols, terminal_of

__all__ = ["adopt", "backfill", "replay", "update"]


def _year(name: str, text: str) -> OptionInfo:
    return typer.Option(name, help=text, min=1900, max=2050, metavar="YEAR", show_default=False)


def backfill(
    context: Context,
    first: Annotated[int | None, _year("--from", "First year. Default: where the source begins.")] = None,
    last: Annotated[int | None, _year("--to", "Last year. Default: where the source ends.")] = None,
    symbols: Symbols = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on where this very request was interrupted.")
    ] = True,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild", help="Replace the whole history of each symbol that comes: the way to another basis."
        ),
    ] = False,
) -> int:
    """Fetch years of prices and commit them, one year at a time.

    What is stored stays: rows of other symbols are left as they are, and a year that comes out the same is not written
    again. Without --symbols, the source's universe in those years is fetched.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import runs
    return runs.backfill(terminal, first, last, symbols, resume=resume, rebuild=rebuild)


def update(context: Context, symbols: Symbols = None) -> int:
    """Bring every stored symbol up to the last closed session, in one commit."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import runs
    return runs.update(terminal, symbols)


def replay(
    context: Context,
    first: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DATE",
            help="First session. Default: the one after what is stored; in an empty store 2005-02-01.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, metavar="N", help="How many sessions.")] = 20,
    since: Annotated[
        int | None, _year("--since", "Where the history of an empty store begins. Default: the year before.")
    ] = None,
    symbols: Symbols = None,
) -> int:
    """Live through some days of the embedded sample, as if each session had just closed.

    An empty store is filled with the history before the first day. Then each session is an update on its own evening,
    with splits and dividends that restate what is stored, a bar that is late, and a value that is corrected.
    Needs no account and no network.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import replay as command
    return command.replay(terminal, first, days, since, symbols)


def adopt(
    context: Context,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="A folder, a file, or a glob in quotes: CSV or Parquet.", show_default=False
        ),
    ],
    layout: Annotated[
        str | None,
        typer.Option("--layout", metavar="NAME", help="stooq, sharadar, crsp, or generic.", show_default=False),
    ] = None,
    adjustment: Annotated[
        str | None,
        typer.Option("--adjustment", metavar="TEXT", help="The price basis, in words.", show_default=False),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="date=Date,...", help="Ours=theirs, where names differ.", show_default=False),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(
            "--separator", metavar="CHAR", help="Between fields of CSV; tab is spelled out.", show_default=False
        ),
    ] = None,
    symbols: Symbols = None,
    rehearse: Annotated[bool, typer.Option("--dry-run", help="Judge the rows, and write nothing.")] = False,
) -> int:
    """Take prices that you have in files into the store, through the same checks as any other source.

    Every row is accounted for: taken, refused and kept in quarantine, or outside of what can be
    stored. What is stored stays; rows must be on its price basis. Defaults: HISTORICAL_ETL_FILES_...
    """
    named = {
        "path": path,
        "layout": layout,
        "adjustment": adjustment,
        "columns": columns,
        "separator": separator,
    }
    given = {name: value for name, value in named.items() if value is not None}

    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import adopt as command
    return command.adopt(terminal, given, symbols, rehearse=rehearse)
