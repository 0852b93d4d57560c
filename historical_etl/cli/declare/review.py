"""The commands with which a person decides: on holds, gaps and names."""

from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.declare.common import ANYWHERE, Context, Symbol, terminal_of

__all__ = ["accept", "gaps", "holds", "rename"]

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the ledger.", show_default=False)]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who decides. Default: your user name.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="Also those that are closed.")]

holds = typer.Typer(help="Show the symbols that are held, and why; accept one, or split it.", epilog=ANYWHERE)
gaps = typer.Typer(help="Show sessions that are missing, and what happens next; waive some.", epilog=ANYWHERE)


@holds.callback(invoke_without_command=True)
def _holds(context: Context, every: All = False) -> int:
    """Show the symbols that are held, and why; accept one that is right, or split one that is two.

    Nothing new of a held symbol is stored: what was fetched does not fit what is stored, and no event
    explains it. Each update asks for it again, and releases it once what comes fits.
    """
    if context.invoked_subcommand is not None:
        return 0
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import holds as command
    return command.show(terminal, every=every)


@holds.command("accept", epilog=ANYWHERE)
def accept(context: Context, symbol: Symbol, reason: Reason, by: By = None) -> int:
    """Let a held symbol pass: record who decided and why, then bring it up to date.

    What is accepted is what was seen: if something else looks wrong later, the symbol is held anew.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import holds as command
    return command.accept(terminal, symbol, reason, by)


@holds.command("split", epilog=ANYWHERE)
def _split(
    context: Context,
    symbol: Symbol,
    reason: Reason,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="DATE",
            help="First date of the other security. Default: the session that is held.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="What the one before is called from now on. Default: SYMBOL-YEAR, of its last bar.",
            show_default=False,
        ),
    ] = None,
    by: By = None,
) -> int:
    """Say that a ticker is another security from a session on: the bars before it get a name of their own.

    Nothing joins the two, and what was before is not asked for any more. The next update brings the
    history of the other one. With --on also for one that was joined before.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import identity as command
    return command.split(terminal, symbol, on, name, reason, by)


def rename(
    context: Context,
    old: Annotated[str | None, typer.Argument(metavar="[OLD]", help="The name until then.", show_default=False)] = None,
    new: Annotated[str | None, typer.Argument(metavar="[NEW]", help="The name since then.", show_default=False)] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="DATE", help="First date of the new name.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="A CSV of renames: old,new,date[,reason].", show_default=False),
    ] = None,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the ledger.", show_default=False)
    ] = "",
    by: By = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Join histories that contradict each other: NEW's bars win. Needs a reason."),
    ] = False,
) -> int:
    """Go on with the history of OLD as NEW: one history, found by either name.

    All years move in one commit, and the ledger aliases has the former name. Updates ask for NEW. What
    OLD has from that date on stays: it is another security's.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import identity as command
    return command.rename(terminal, old, new, on, file, reason, by, force=force)


@gaps.callback(invoke_without_command=True)
def _gaps(
    context: Context,
    every: All = False,
    symbol: Annotated[
        str | None, typer.Option("--symbol", metavar="SYMBOL", help="Only of this one.", show_default=False)
    ] = None,
) -> int:
    """Show sessions that are missing, and what happens next; waive some.

    A missing session is asked for again by later updates. After updates on three sessions without a
    bar, where others have one, it is confirmed: there was none.
    """
    if context.invoked_subcommand is not None:
        return 0
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import gaps as command
    return command.show(terminal, symbol, every=every)


@gaps.command("waive", epilog=ANYWHERE)
def _waive(
    context: Context,
    first: Annotated[str, typer.Option("--from", metavar="DATE", help="First session.", show_default=False)],
    reason: Reason,
    symbol: Annotated[str | None, typer.Argument(metavar="[SYMBOL]", help="The symbol.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Of every symbol: the whole market was closed.")] = False,
    last: Annotated[
        str | None,
        typer.Option("--to", metavar="DATE", help="Last session. Default: that one.", show_default=False),
    ] = None,
    by: By = None,
) -> int:
    """Let missing sessions stay missing.

    They are not asked for again, and the symbol counts as complete without them. --all is for days on
    which the exchange was closed and its calendar does not know it, as for a typhoon.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import gaps as command
    return command.waive(terminal, command.whose(symbol, every=every), first, last, reason, by)
