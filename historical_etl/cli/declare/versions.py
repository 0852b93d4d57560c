"""The commands about the versions of a store."""

from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.declare.common import Context, terminal_of
from historical_etl.retention import Retention

__all__ = ["cite", "diff", "pin", "repack", "rollback", "unpin", "vacuum", "versions"]

Version = Annotated[str, typer.Argument(metavar="VERSION", help="A number, or the name of a pin.", show_default=False)]
Chosen = Annotated[
    str | None,
    typer.Option(
        "--version",
        metavar="VERSION",
        help="A number, or the name of a pin. Default: the current one.",
        show_default=False,
    ),
]


def versions(context: Context) -> int:
    """List the versions that are kept: when, by whom, what changed, how large, and what keeps them."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import versions as command
    return command.versions(terminal)


def cite(context: Context, version: Chosen = None) -> int:
    """Print what names a version in papers and backtests: dataset, version and checksum.

    In Python, HistoricalETL.open(..., expect="...") then refuses anything else.
    """
    from historical_etl.cli import versions as command

    return command.cite(terminal_of(context), version)


def pin(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)],
    version: Chosen = None,
) -> int:
    """Keep a version under a name, until it is unpinned: no vacuum removes it."""
    from historical_etl.cli import versions as command

    return command.pin(terminal_of(context), name, version)


def unpin(
    context: Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the pin.", show_default=False)],
) -> int:
    """Remove a pin: its version goes once nothing else keeps it."""
    from historical_etl.cli import versions as command

    return command.unpin(terminal_of(context), name)


def diff(
    context: Context,
    old: Version,
    new: Annotated[
        str | None,
        typer.Argument(metavar="[VERSION]", help="Default: the current one.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write every differing bar to this Parquet file.", show_default=False
        ),
    ] = None,
) -> int:
    """Compare two versions: bars added, removed and changed, by year and symbol."""
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import versions as command
    return command.diff(terminal, old, new, output)


def rollback(
    context: Context,
    version: Version,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the ledger of runs.", show_default=False)
    ] = "",
) -> int:
    """Make an older version current again, under a new number: data, ledgers and cursors together.

    What was committed after it is kept as any other version: rolling back to that brings it back. The next
    update fetches again what the older version lacks.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import versions as command
    return command.rollback(terminal, version, reason)


def repack(context: Context) -> int:
    """Write every year in the layout of this release; no row changes.

    A year that an earlier release wrote is rewritten when its rows next change. Until then it is only read more slowly.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import versions as command
    return command.repack(terminal)


def vacuum(
    context: Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    keep_versions: Annotated[
        int | None,
        typer.Option(
            min=Retention.VERSIONS[0],
            max=Retention.VERSIONS[1],
            metavar="N",
            help="Keep the last N. Default: HISTORICAL_ETL_KEEP_VERSIONS.",
            show_default=False,
        ),
    ] = None,
    keep_days: Annotated[
        int | None,
        typer.Option(
            min=Retention.DAYS[0],
            max=Retention.DAYS[1],
            metavar="DAYS",
            help="Keep those that were current within so many days. Default: HISTORICAL_ETL_KEEP_DAYS.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Remove versions that nothing keeps, and the files that only they name.

    Every commit does so, by the settings. What a pin names, the catalog shows or a reader has open stays.
    """
    terminal = terminal_of(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import versions as command
    return command.vacuum(terminal, dry_run=dry_run, keep_versions=keep_versions, keep_days=keep_days)
