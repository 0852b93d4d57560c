"""The command line as a whole: its global options, the order of its commands, and what becomes of any error."""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from historical_etl.cli.declare import archive, check, fill, quarantine, read, review, versions
from historical_etl.cli.declare.common import ANYWHERE, terminal_of
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
    terminal = terminal_of(context)
    terminal.as_json, terminal.quiet, terminal.verbose, terminal.data_dir = as_json, quiet, verbose, data_dir
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)
        raise typer.Exit(_USAGE)


app.command(epilog=ANYWHERE)(fill.backfill)
app.command(epilog=ANYWHERE)(fill.update)
app.command(epilog=ANYWHERE)(fill.replay)
app.command(epilog=ANYWHERE)(read.query)
app.command(epilog=ANYWHERE)(read.status)
app.command(epilog=ANYWHERE)(check.verify)
app.command(epilog=ANYWHERE)(check.compare)
app.command(epilog=ANYWHERE)(check.doctor)
app.add_typer(review.holds, name="holds")
app.add_typer(review.gaps, name="gaps")
app.command(epilog=ANYWHERE)(read.explain)
app.command(epilog=ANYWHERE)(review.rename)
app.add_typer(quarantine.quarantine, name="quarantine")
app.command(epilog=ANYWHERE)(check.repair)
app.command(epilog=ANYWHERE)(versions.versions)
app.command(epilog=ANYWHERE)(versions.cite)
app.command(epilog=ANYWHERE)(versions.pin)
app.command(epilog=ANYWHERE)(versions.unpin)
app.command(epilog=ANYWHERE)(versions.diff)
app.command(epilog=ANYWHERE)(versions.rollback)
app.command(epilog=ANYWHERE)(versions.repack)
app.command(epilog=ANYWHERE)(versions.vacuum)
app.command(epilog=ANYWHERE)(archive.export)
app.command("import", epilog=ANYWHERE)(archive.import_)
app.command(epilog=ANYWHERE)(fill.adopt)
app.command("accept", hidden=True, epilog=ANYWHERE)(review.accept)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Whatever happens, the reader gets a message and not a traceback."""
    _prepare_streams()
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
    # Not by calling `app`: Typer's own handlers would swallow a broken pipe and an interrupt.
    try:
        with typer.main.get_command(app).make_context(PROGRAM, arguments, obj=terminal) as parsed:
            return int(parsed.command.invoke(parsed))
    except typer.Exit as answered:  # by --help or --version
        return answered.exit_code
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
        todo = "run the same command again: what was committed is unchanged, and it goes on from there"
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


def _prepare_streams() -> None:
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
