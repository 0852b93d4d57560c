"""The commands and their options; what each one does is in its own module, imported when it runs.

`--help` and `status` must start fast: nothing here may import Polars, DuckDB or a calendar.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer

from historical_etl.cli.terminal import Failure, Terminal
from historical_etl.errors import ConfigurationError

__all__ = ["main"]

_PROGRAM = "historical-etl"
_FAILED, _USAGE, _INTERRUPTED, _READER_LEFT = 1, 2, 130, 141
_ANYWHERE = (
    "The global options --data-dir, --json, --quiet and --verbose may stand before or after the command; "
    f"see `{_PROGRAM} --help`."
)
_EXITS = (
    "Exit codes: 0 fine, 1 failed, 2 wrong usage or settings, 3 finished, but some data was refused or did not come."
)

app = typer.Typer(
    name=_PROGRAM,
    help="A store of daily equity prices that a researcher can trust: fill it, keep it current, query it with SQL.",
    epilog=_EXITS,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_FLAGS = frozenset({"--json", "--quiet", "-q", "--verbose", "-v"})
_DATA_DIR = "--data-dir"


class Format(StrEnum):
    """How `query` writes its answer."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


Symbols = Annotated[
    str | None, typer.Option("--symbols", metavar="AAPL,MSFT", help="Symbols, separated by commas.", show_default=False)
]
Year = typer.Option(min=1900, max=2050, metavar="YEAR", show_default=False)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{_PROGRAM} {version(_PROGRAM)}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            _DATA_DIR, metavar="DIR", help="The data folder. Default: HISTORICAL_ETL_DATA_DIR, else ./data."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, errors too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes, only data and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log, and tracebacks.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=lambda wanted: _print_version(wanted=wanted))
    ] = False,
) -> None:
    if quiet and verbose:
        raise ConfigurationError("--quiet and --verbose exclude each other", where="options", todo="give one of them")
    terminal = _terminal(context)
    terminal.as_json, terminal.quiet, terminal.verbose, terminal.data_dir = as_json, quiet, verbose, data_dir


@app.command(epilog=_ANYWHERE)
def backfill(
    context: typer.Context,
    first: Annotated[int | None, typer.Option("--from", help="First year. Default: where the source begins.", min=1900, max=2050, metavar="YEAR", show_default=False)] = None,
    last: Annotated[int | None, typer.Option("--to", help="Last year. Default: where the source ends.", min=1900, max=2050, metavar="YEAR", show_default=False)] = None,
    symbols: Symbols = None,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Leave out years that an interrupted run of this very request has committed.")] = True,
) -> int:
    """Fetch years of prices and commit them, one year at a time.

    What is stored already stays: rows of other symbols are left as they are, and years that come out the same are not
    written again. Interrupted, it goes on where it stopped when called again.
    """
    terminal = _terminal(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import runs
    return runs.backfill(terminal, first, last, symbols, resume=resume)


@app.command(epilog=_ANYWHERE)
def update(context: typer.Context, symbols: Symbols = None) -> int:
    """Bring every stored symbol up to the last closed session, in one commit."""
    terminal = _terminal(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import runs
    return runs.update(terminal, symbols)


@app.command(epilog=_ANYWHERE)
def query(
    context: typer.Context,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT; - reads it from stdin.", show_default=False)],
    form: Annotated[
        Format | None,
        typer.Option(
            "--format", "-f", help="Default: by the name of --output, else a table.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, metavar="ROWS", help="Rows of a table; 0 shows all.")] = 50,
) -> int:
    """Answer one SQL question about the views daily_prices and partitions.

    Columns of daily_prices: date, symbol, open, high, low, close, volume, ret, adj_close.
    """
    from historical_etl.cli import query as command

    return command.query(_terminal(context), sql, form.value if form else None, output, limit)


@app.command(epilog=_ANYWHERE)
def status(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Count the sessions that are missing; asks the calendar and the source.")
    ] = False,
) -> int:
    """Show what is stored, how current it is, and what needs attention."""
    from historical_etl.cli import status as command

    return command.status(_terminal(context), check=check)


@app.command(epilog=_ANYWHERE)
def verify(
    context: typer.Context,
    quick: Annotated[
        bool, typer.Option("--quick", help="Sizes and structure only: no checksums, and no rows are read.")
    ] = False,
) -> int:
    """Check that what lies on disk is what was committed. Writes nothing; exits 1 if something is damaged."""
    terminal = _terminal(context)
    with terminal.busy("Loading"):
        from historical_etl.cli import verify as command
    return command.verify(terminal, quick=quick)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Whatever happens, the reader gets a message and not a traceback."""
    arguments = _globals_first(list(sys.argv[1:] if argv is None else argv))
    # For errors in the options themselves; otherwise the callback sets these.
    terminal = Terminal(as_json="--json" in arguments, verbose=bool({"-v", "--verbose"} & {*arguments}))
    try:
        code = _run(arguments, terminal)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        return _READER_LEFT
    except OSError as error:  # of the flush: a full disk behind the redirection
        _drop_stdout()
        terminal.as_json = False
        terminal.fail(Failure.of(ConfigurationError(f"The output cannot be written: {error.strerror}", where="stdout")))
        return _FAILED
    return code


def _run(arguments: list[str], terminal: Terminal) -> int:
    try:
        with terminal.listening_later():
            result: object = app(args=arguments, prog_name=_PROGRAM, standalone_mode=False, obj=terminal)
        return result if isinstance(result, int) else 0
    except typer.TyperException as error:
        terminal.fail(_usage(error))
        return _USAGE
    except typer.Abort:
        return _INTERRUPTED
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        return _interrupted(terminal)
    except SystemExit:
        raise
    except BaseException as error:  # noqa: BLE001 - Polars' panics are no `Exception`
        if terminal.verbose:
            terminal.trace()
        terminal.fail(Failure.of(error))
        return _USAGE if isinstance(error, ConfigurationError) else _FAILED


def _terminal(context: typer.Context) -> Terminal:
    return cast("Terminal", context.obj)


def _drop_stdout() -> None:
    # Else the interpreter's own flush at exit fails again, and prints about it.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
