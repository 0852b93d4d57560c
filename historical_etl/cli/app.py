"""The commands and their options; what each one does is in its own module, imported when it runs.

`--help` and `status` must start fast: nothing here may import Polars, DuckDB or a calendar.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from historical_etl.cli import history, inspect, keep, review
from historical_etl.cli.commands import ANYWHERE, Command, Symbols
from historical_etl.cli.terminal import PROGRAM, Failure, Terminal
from historical_etl.errors import ConfigurationError

__all__ = ["main"]

_FAILED, _USAGE, _INTERRUPTED, _READER_LEFT = 1, 2, 130, 141
_EXITS = (
    "Exit codes: 0 fine, 1 failed, 2 wrong usage or settings, 3 finished, but some data is held, was "
    "refused or did not come."
)

app = typer.Typer(
    name=PROGRAM,
    help="A store of daily equity prices that a researcher can trust: fill it, keep it current, query it with SQL.",
    epilog=_EXITS,
    add_completion=False,
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


def _year(name: str, text: str) -> Any:  # noqa: ANN401 - as `typer.Option` itself
    return typer.Option(name, help=text, min=1900, max=2050, metavar="YEAR", show_default=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"{PROGRAM} {version(PROGRAM)}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            _DATA_DIR,
            metavar="DIR",
            help="The data folder. Default: HISTORICAL_ETL_DATA_DIR, else ./data.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, errors too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only data, warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log, and tracebacks.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    terminal = cast("Terminal", context.obj)
    terminal.as_json, terminal.quiet, terminal.verbose, terminal.data_dir = as_json, quiet, verbose, data_dir
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
        raise typer.Exit(_USAGE)


@app.command(epilog=ANYWHERE)
def backfill(
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
) -> Command:
    """Fetch years of prices and commit them, one year at a time.

    What is stored stays: rows of other symbols are left as they are, and a year that comes out the same is not written
    again. Without --symbols, the source's universe in those years is fetched.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import runs
        return runs.backfill(terminal, first, last, symbols, resume=resume, rebuild=rebuild)

    return run


@app.command(epilog=ANYWHERE)
def update(symbols: Symbols = None) -> Command:
    """Bring every stored symbol up to the last closed session, in one commit."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import runs
        return runs.update(terminal, symbols)

    return run


@app.command(epilog=ANYWHERE)
def replay(
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
) -> Command:
    """Live through some days of the embedded sample, as if each session had just closed.

    An empty store is filled with the history before the first day. Then each session is an update on its own evening,
    with splits and dividends that restate what is stored, a bar that is late, and a value that is corrected.
    Needs no account and no network.
    """

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import replay as command
        return command.replay(terminal, first, days, since, symbols)

    return run


@app.command(epilog=ANYWHERE)
def query(
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
        str | None, typer.Option("--as-of", metavar="TIME", help="The version that stood then, e.g. 2026-11-24.")
    ] = None,
) -> Command:
    """Answer one SQL question about the views of the store.

    The views: daily_prices with the columns date, symbol, open, high, low, close, volume, ret and
    adj_close; partitions, with a row for each year; and what happened to the data, in additions,
    corrections, restatements, replaced_rows, rejected_rows, flagged_rows, stale_bars, withheld, gaps,
    holds, actions, symbols, aliases and runs.

    "SHOW TABLES" lists them, "DESCRIBE gaps" the columns of one; those named column and by need
    double quotes.
    """

    def run(terminal: Terminal) -> int:
        from historical_etl.cli import query as command

        return command.query(terminal, sql, form.value if form else None, output, limit, version, as_of)

    return run


@app.command(epilog=ANYWHERE)
def status(
    check: Annotated[
        bool, typer.Option("--check", help="Count the sessions that are missing: asks the calendar and the source.")
    ] = False,
) -> Command:
    """Show what is stored, how current it is, and what needs attention."""

    def run(terminal: Terminal) -> int:
        from historical_etl.cli import status as command

        return command.status(terminal, check=check)

    return run


@app.command(epilog=ANYWHERE)
def verify(
    quick: Annotated[bool, typer.Option("--quick", help="Sizes and links only: no file of data is opened.")] = False,
) -> Command:
    """Check that what lies on disk is what was committed. Writes nothing; exits 1 if something is damaged."""

    def run(terminal: Terminal) -> int:
        with terminal.busy("Loading"):
            from historical_etl.cli import verify as command
        return command.verify(terminal, quick=quick)

    return run


app.command(epilog=ANYWHERE)(inspect.compare)
app.command(epilog=ANYWHERE)(inspect.doctor)
app.add_typer(review.holds, name="holds")
app.add_typer(review.gaps, name="gaps")
app.command(epilog=ANYWHERE)(review.explain)
app.command(epilog=ANYWHERE)(review.rename)
app.add_typer(keep.quarantine, name="quarantine")
app.command(epilog=ANYWHERE)(history.repair)
app.command(epilog=ANYWHERE)(history.versions)
app.command(epilog=ANYWHERE)(history.cite)
app.command(epilog=ANYWHERE)(history.pin)
app.command(epilog=ANYWHERE)(history.unpin)
app.command(epilog=ANYWHERE)(history.diff)
app.command(epilog=ANYWHERE)(history.rollback)
app.command(epilog=ANYWHERE)(history.vacuum)
app.command(epilog=ANYWHERE)(keep.export)
app.command("import", epilog=ANYWHERE)(keep.import_)
app.command(epilog=ANYWHERE)(keep.adopt)
app.command("accept", hidden=True, epilog=ANYWHERE)(review.accept)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Whatever happens, the reader gets a message and not a traceback."""
    _mend_streams()
    arguments = _globals_first(list(sys.argv[1:] if argv is None else argv))
    # For errors in the options themselves; later the callback sets these.
    terminal = Terminal(as_json="--json" in arguments, verbose=not {"-v", "--verbose"}.isdisjoint(arguments))
    try:
        with terminal.listening():
            code = _guarded(arguments, terminal)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        return _READER_LEFT
    except OSError as error:  # a full disk behind the redirection
        _drop_stdout()
        terminal.as_json = False
        terminal.fail(Failure("OSError", f"The output cannot be written: {error.strerror}", "stdout"))
        return _FAILED
    return code


def _guarded(arguments: list[str], terminal: Terminal) -> int:
    try:
        parsed: object = app(args=arguments, prog_name=PROGRAM, standalone_mode=False, obj=terminal)
        return cast("Command", parsed)(terminal) if callable(parsed) else cast("int", parsed)
    except typer.TyperException as error:
        context: typer.Context | None = getattr(error, "ctx", None)
        todo = f"see `{context.command_path if context else PROGRAM} --help`"
        terminal.fail(Failure("UsageError", error.format_message(), None, todo))
        return _USAGE
    except BrokenPipeError:
        raise
    except SystemExit:
        return _READER_LEFT  # so ends the console that prints the help, when nobody reads it
    except KeyboardInterrupt:
        todo = "run the same command again: what was committed stands, and it goes on from there"
        terminal.fail(Failure("KeyboardInterrupt", "Interrupted", None, todo))
        return _INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - Polars' panics are no `Exception`
        if terminal.verbose:
            terminal.trace()
        terminal.fail(Failure.of(error))
        return _USAGE if isinstance(error, ConfigurationError) else _FAILED


def _globals_first(arguments: list[str]) -> list[str]:
    """The global options moved before the command, since people write them after it as well."""
    first: list[str] = []
    rest: list[str] = []
    queue = iter(arguments)
    for argument in queue:
        if argument == "--":
            rest += [argument, *queue]
        elif argument in _FLAGS or argument.startswith(f"{_DATA_DIR}="):
            first.append(argument)
        elif argument == _DATA_DIR:
            first += [argument, *islice(queue, 1)]
        else:
            rest.append(argument)
    return first + rest


def _mend_streams() -> None:
    """A stream that was closed swallows all, one that knows few characters escapes the others."""
    if sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for the life of the process
    if sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - likewise
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_stdout() -> None:
    # Else the interpreter's own flush at exit fails again, and prints about it.
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
