"""What the declarations of all commands share."""

from typing import Annotated, cast

import typer
from typer import Context

from historical_etl.cli.terminal import PROGRAM, Terminal

__all__ = ["ANYWHERE", "Context", "Symbol", "Symbols", "terminal_of"]

ANYWHERE = (
    "The global options --data-dir, --json, --quiet and --verbose may stand before or after the command; "
    f"see `{PROGRAM} --help`."
)

Symbol = Annotated[str, typer.Argument(metavar="SYMBOL", help="The symbol.", show_default=False)]
Symbols = Annotated[
    str | None, typer.Option("--symbols", metavar="AAPL,MSFT", help="Symbols, separated by commas.", show_default=False)
]


def terminal_of(context: Context) -> Terminal:
    """The terminal that `main` gave to this command line."""
    return cast("Terminal", context.obj)
