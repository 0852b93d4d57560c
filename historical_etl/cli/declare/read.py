"""The commands that show what is stored."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.declare.common import Context, Symbol, terminal_of

__all__ = ["explain", "query", "status"]


class Format(StrEnum):
    """How `query` writes its answer."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def query(
    context: Context,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT; - reads it from stdin.", show_default=False)],
    form: Annotated[
        Format | None,
        typer.Option("--format", "-f", help="Default: by the name of --output, else a table.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(min=0, metavar="ROWS", help="Rows of a table; 0 shows all.")] = 50,
    version: Annotated[
        str | None,
        typer.Option("--version", metavar="VERSION", help="A kept version or a pin. Default: the current one."),
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="TIME", help="The version that was current then, e.g. 2026-11-24.")
    ] = None,
) -> int:
    """Answer one SQL question about the views of the store.

    The views: daily_prices with the columns date, symbol, open, high, low, close, volume, ret and
    adj_close; partitions, with a row for each year; and what happened to the data, in additions,
    corrections, restatements, replaced_rows, rejected_rows, flagged_rows, stale_bars, withheld, gaps,
    holds, actions, symbols, aliases and runs.

    "SHOW TABLES" lists them, "DESCRIBE gaps" the columns of one; those named column and by need
    double quotes.
    """
    from historical_etl.cli import query as command

    return command.query(terminal_of(context), sql, form.value if form else None, output, limit, version, as_of)


def status(
    context: Context,
    check: Annotated[
        bool, typer.Option("--check", help="Count the sessions that are missing: asks the calendar and the source.")
    ] = False,
) -> int:
    """Show what is stored, how current it is, and what needs attention."""
    from historical_etl.cli import status as command

    return command.status(terminal_of(context), check=check)


def explain(
    context: Context,
    symbol: Symbol,
    day: Annotated[str, typer.Argument(metavar="DATE", help="The session, e.g. 2005-02-25.", show_default=False)],
) -> int:
    """Tell the story of one bar: every value it ever had, when, and why it changed; or why there is none."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import explain as command
    return command.explain(terminal, symbol, day)
