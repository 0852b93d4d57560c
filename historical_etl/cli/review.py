"""The commands that look into the ledgers, and those with which a person decides; declared here, each imported late.

As in `app`, nothing here may import Polars, DuckDB or a calendar.
"""

from typing import Annotated

import typer

from historical_etl.cli.commands import ANYWHERE, Command
from historical_etl.cli.terminal import Terminal

__all__ = ["accept", "explain", "gaps", "holds"]

Symbol = Annotated[str, typer.Argument(metavar="SYMBOL", help="The symbol.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the ledger.", show_default=False)]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who decides. Default: your user name.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Also those that are closed.")]

holds = typer.Typer(help="Show the symbols that are held, and why; accept one that is right.", epilog=ANYWHERE)
gaps = typer.Typer(help="Show sessions that are missing, and what happens next; waive some.", epilog=ANYWHERE)


@holds.callback(invoke_without_command=True)
def _holds(every: All = False) -> Command:  # noqa: FBT002 - Typer's options are parameters
    """Show the symbols that are held, and why; accept one that is right.

    Nothing new of a held symbol is stored: what came does not fit what is stored, and no event
    explains it. Each update asks for it again, and releases it once what comes fits.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import holds as command
        return command.show(terminal, every=every)

    return run


@holds.command("accept", epilog=ANYWHERE)
def accept(symbol: Symbol, reason: Reason, by: By = None) -> Command:
    """Let a held symbol pass: record who decided and why, then bring it up to date.

    What is accepted is what was seen: if something else looks wrong later, the symbol is held anew.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import holds as command
        return command.accept(terminal, symbol, reason, by)

    return run


@gaps.callback(invoke_without_command=True)
def _gaps(
    every: All = False,  # noqa: FBT002 - Typer's options are parameters
    symbol: Annotated[
        str | None, typer.Option("--symbol", metavar="SYMBOL", help="Only of this one.", show_default=False)
    ] = None,
) -> Command:
    """Show sessions that are missing, and what happens next; waive some.

    A missing session is asked for again by later updates. After updates on three sessions without a
    bar, where others have one, it is confirmed: there was none.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import gaps as command
        return command.show(terminal, symbol, every=every)

    return run


@gaps.command("waive", epilog=ANYWHERE)
def _waive(
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="First session.", show_default=False)],
    reason: Reason,
    symbol: Annotated[str | None, typer.Argument(metavar="[SYMBOL]", help="The symbol.", show_default=False)] = None,
    every: Annotated[  # noqa: FBT002 - Typer's options are parameters
        bool, typer.Option("--all", help="Of every symbol: the whole market was closed.")
    ] = False,
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="DATE", help="Last session. Default: that one.", show_default=False),
    ] = None,
    by: By = None,
) -> Command:
    """Let missing sessions stay missing.

    They are not asked for again, and the symbol counts as complete without them. --all is for days on
    which the exchange was closed and its calendar does not know it, as for a typhoon.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import gaps as command
        return command.waive(terminal, command.whose(symbol, every=every), first, last, reason, by)

    return run


def explain(
    symbol: Symbol,
    day: Annotated[str, typer.Argument(metavar="DATE", help="The session, e.g. 2005-02-25.", show_default=False)],
) -> Command:
    """Tell the story of one bar: every value it ever had, when, and why it changed; or why there is none."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import explain as command
        return command.explain(terminal, symbol, day)

    return run
