"""The commands that look beyond the store: at another source, and at what the store stands on. Each imported late.

As in `app`, nothing here may import Polars, DuckDB or a calendar.
"""

from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.commands import Command
from historical_etl.cli.terminal import Terminal

__all__ = ["compare", "doctor"]


def compare(
    other: Annotated[str, typer.Option("--with", metavar="SOURCE", help="The other source.", show_default=False)],
    symbols: Annotated[
        str, typer.Option("--symbols", metavar="AAPL,MSFT", help="Symbols, separated by commas.", show_default=False)
    ],
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="First session.", show_default=False)],
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="DATE", help="Last session. Default: the last one stored.", show_default=False),
    ] = None,
    live: Annotated[  # noqa: FBT002 - Typer's options are parameters
        bool, typer.Option("--live", help="Compare what the configured source gives now, not what is stored.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.png", help="Draw the disagreements by symbol.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.parquet", help="Write both sides, row by row.", show_default=False
        ),
    ] = None,
) -> Command:
    """Hold what is stored against what another source gives: how much agrees, and what does not.

    Prices, their returns from one session to the next, and volumes are compared on the sessions that
    both have. Nothing is merged, and nothing is written to the store.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import compare as command
        return command.compare(terminal, other, symbols, first, last, live=live, plot=plot, output=output)

    return run


def doctor(
    offline: Annotated[  # noqa: FBT002 - Typer's options are parameters
        bool, typer.Option("--offline", help="Ask nobody: leave the request to the source out.")
    ] = False,
) -> Command:
    """Check all that the store stands on: settings, keys, the source and its limits, clock, disk, versions.

    Asks the source for one symbol on one session. Keys are never shown. Exits 1 if there is a problem.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import doctor as command
        return command.doctor(terminal, offline=offline)

    return run
