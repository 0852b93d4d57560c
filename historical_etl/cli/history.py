"""The commands about versions, and the one that mends a store; declared here, each imported late.

As in `app`, nothing here may import Polars, DuckDB or a calendar.
"""

from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.commands import Command
from historical_etl.cli.terminal import Terminal

__all__ = ["cite", "diff", "pin", "repair", "rollback", "unpin", "vacuum", "versions"]

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


def versions() -> Command:
    """List the versions that are kept: when, by whom, what changed, how large, and what keeps them."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import versions as command
        return command.versions(terminal)

    return run


def cite(version: Chosen = None) -> Command:
    """Print what names a version in papers and backtests: dataset, version and checksum.

    In Python, HistoricalETL.open(..., expect="...") then refuses anything else.
    """

    def run(terminal: Terminal) -> int:
        from historical_etl.cli import versions as command

        return command.cite(terminal, version)

    return run


def pin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)],
    version: Chosen = None,
) -> Command:
    """Keep a version under a name, until it is unpinned: no vacuum removes it."""

    def run(terminal: Terminal) -> int:
        from historical_etl.cli import versions as command

        return command.pin(terminal, name, version)

    return run


def unpin(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the pin.", show_default=False)],
) -> Command:
    """Remove a pin: its version goes once nothing else keeps it."""

    def run(terminal: Terminal) -> int:
        from historical_etl.cli import versions as command

        return command.unpin(terminal, name)

    return run


def diff(
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
) -> Command:
    """Compare two versions: bars added, removed and changed, by year and symbol."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import versions as command
        return command.diff(terminal, old, new, output)

    return run


def rollback(
    version: Version,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the ledger of runs.", show_default=False)
    ] = "",
) -> Command:
    """Let an older version stand again, under a new number: data, ledgers and cursors together.

    What came after it is kept as any other version: rolling back to that brings it back. The next
    update fetches again what the older version lacks.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import versions as command
        return command.rollback(terminal, version, reason)

    return run


def vacuum(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,  # noqa: FBT002 - Typer's options are parameters
    keep_versions: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Keep the last N. Default: HISTORICAL_ETL_KEEP_VERSIONS.", show_default=False
        ),
    ] = None,
    keep_days: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Keep those that stood so lately. Default: HISTORICAL_ETL_KEEP_DAYS.",
            show_default=False,
        ),
    ] = None,
) -> Command:
    """Remove versions that nothing keeps, and the files that only they name.

    Every commit does so, by the settings. What a pin names, the catalog shows or a reader has open stays.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import versions as command
        return command.vacuum(terminal, dry_run=dry_run, keep_versions=keep_versions, keep_days=keep_days)

    return run


def repair(
    refetch: Annotated[bool, typer.Option("--refetch", help="Fetch the years that cannot be mended.")] = False,  # noqa: FBT002 - likewise
) -> Command:
    """Mend what can be mended with certainty, and say which years and symbols to fetch again.

    Files are restored from equal bytes, links are made again, progress and the catalog are rebuilt.
    Nothing is deleted: what is replaced goes to quarantine. Exits 3 if something is still damaged.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import repair as command
        return command.repair(terminal, refetch=refetch)

    return run
