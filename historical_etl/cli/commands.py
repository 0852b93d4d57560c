"""What the declarations of all commands share. Nothing here may import Polars, DuckDB or a calendar."""

from collections.abc import Callable
from typing import Annotated

import typer

from historical_etl.cli.terminal import PROGRAM, Terminal

__all__ = ["ANYWHERE", "Command", "Symbols"]

ANYWHERE = (
    "The global options --data-dir, --json, --quiet and --verbose may stand before or after the command; "
    f"see `{PROGRAM} --help`."
)

#: What a parsed command line comes to. It runs outside Typer, whose own handlers would swallow a broken pipe.
Command = Callable[[Terminal], int]

Symbols = Annotated[
    str | None, typer.Option("--symbols", metavar="AAPL,MSFT", help="Symbols, separated by commas.", show_default=False)
]
