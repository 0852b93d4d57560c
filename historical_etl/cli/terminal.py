"""How the command line speaks: two streams, one JSON document, errors of one form. No command is known here."""

import json
import logging
import shlex
import sys
import traceback
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.text import Text

from historical_etl.errors import HistoricalETLError, ProviderError, StorageError

if TYPE_CHECKING:
    from historical_etl.settings import Settings

__all__ = ["PROGRAM", "Failure", "Terminal", "cleaned", "duration", "ranges", "size_text", "some"]

PROGRAM = "historical-etl"

#: Wide enough that a table in a pipe or a file is never cut.
_PIPE_WIDTH = 10_000
#: The logger of waits that a person should know of.
_PROGRESS = "historical_etl.progress"
_AGAIN = "run the same command again later: what was committed is unchanged"
#: Names of the library's arguments and methods, as the command line calls them.
_HERE: Final = {"query_sql": "SQL", "as_of": "--as-of", "on": "--on", "as": "--as", "reason": "--reason"}


@dataclass(frozen=True)
class Failure:
    """An error as it is shown: what, where, and the next step."""

    kind: str
    message: str
    where: str | None = None
    todo: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """How an error of ours, or an unexpected one, is shown."""
        notes = tuple(getattr(error, "__notes__", ()))
        kind = type(error).__name__
        if isinstance(error, HistoricalETLError):
            again = _AGAIN if isinstance(error, ProviderError) else ""
            where = _HERE.get(error.where, error.where) if error.where else None
            return cls(kind, error.what, where, error.todo or again, notes)
        todo = "run it again with --verbose to see the traceback, and report it"
        return cls(kind, f"Unexpected {kind}: {error}"[:1000], None, todo, notes)


class _Console(Console):
    """One that does not end the process by itself when its reader has left."""

    def on_broken_pipe(self) -> None:
        """Called by Rich while it handles the error."""
        raise BrokenPipeError


@dataclass
class Terminal:
    """The two streams of one call, and what its global options say."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    data_dir: Path | None = None
    shown_elsewhere: set[str] = field(default_factory=set[str])

    @cached_property
    def out(self) -> Console:
        """Data."""
        return _Console(
            file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH
        )

    @cached_property
    def err(self) -> Console:
        """Everything that is not data."""
        return _Console(file=sys.stderr, highlight=False, markup=False)

    @cached_property
    def settings(self) -> "Settings":
        """From the environment; `--data-dir` goes before it.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        from historical_etl.settings import load_settings  # `--help` does without

        return load_settings().changed({"data_dir": self.data_dir} if self.data_dir else {})

    @property
    def program(self) -> str:
        """How to call the program for the same store, to be copied from a hint."""
        return f"{PROGRAM} --data-dir {shlex.quote(str(self.data_dir))}" if self.data_dir else PROGRAM

    def say(self, text: str, style: str = "") -> None:
        """A line for the reader, on stderr; not with --quiet."""
        if not self.quiet:
            self.err.print(Text(cleaned(text), style=style), soft_wrap=True)

    def warn(self, text: str) -> None:
        """A line that even --quiet shows, on stderr."""
        self.err.print(Text.assemble(("warning: ", "yellow"), cleaned(text)), soft_wrap=True)

    def json(self, document: object) -> None:
        """One JSON document on stdout."""
        sys.stdout.write(json.dumps(document, indent=2, default=str, ensure_ascii=False) + "\n")

    def data(self, content: bytes) -> None:
        """Bytes on stdout.

        Raises:
            BrokenPipeError: the reader has left.
            StorageError: what is behind stdout refused.
        """
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StorageError(
                f"The output cannot be written: {error.strerror}", where="stdout", todo="redirect it to another place"
            ) from error

    def fail(self, failure: Failure) -> None:
        """Show why the command failed: as JSON on stdout with --json, else on stderr."""
        if self.as_json:
            document: dict[str, object] = {
                "error": failure.kind,
                "message": failure.message,
                "where": failure.where,
                "next": failure.todo or None,
            }
            self.json(document | ({"notes": list(failure.notes)} if failure.notes else {}))
            return
        self.err.print(Text.assemble(("error: ", "bold red"), cleaned(failure.message)), soft_wrap=True)
        for note in failure.notes:
            self.err.print(Text(f"       {cleaned(note)}"), soft_wrap=True)
        if failure.where:
            self.err.print(Text.assemble(("where: ", "bold"), cleaned(failure.where)), soft_wrap=True)
        if failure.todo:
            self.err.print(Text.assemble(("next:  ", "bold green"), cleaned(failure.todo)), soft_wrap=True)

    def trace(self) -> None:
        """The traceback of the error being handled, on stderr."""
        self.err.print(Text(traceback.format_exc()), soft_wrap=True)

    @contextmanager
    def busy(self, doing: str) -> Generator[None, None, None]:
        """A spinner on stderr while the block works; nothing where nobody looks."""
        if self.quiet or not self.err.is_terminal:
            yield
            return
        with self.err.status(Text(doing)):
            yield

    @contextmanager
    def listening(self) -> Generator[None, None, None]:
        """Show what the library logs, on stderr: warnings and long waits, with --verbose everything."""
        logger = logging.getLogger("historical_etl")
        level, propagate = logger.level, logger.propagate
        handler = _Handler(self)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


class _Handler(logging.Handler):
    """Prints through the console, which knows of progress bars."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        is_progress = record.name == _PROGRESS and not self._terminal.quiet
        if record.levelno < (logging.DEBUG if self._terminal.verbose or is_progress else logging.WARNING):
            return
        if record.levelno >= logging.ERROR and record.name in self._terminal.shown_elsewhere:
            return
        style = "red" if record.levelno >= logging.ERROR else "yellow" if record.levelno >= logging.WARNING else "dim"
        text = Text.assemble((f"{record.levelname.lower()}: ", style), cleaned(record.getMessage()))
        self._terminal.err.print(text, soft_wrap=True)


def cleaned(text: str) -> str:
    """`text` without what could steer a terminal; line breaks and tabs stay."""
    return "".join(char if char.isprintable() or char in "\n\t" else f"\\x{ord(char):02x}" for char in text)


def size_text(size: int) -> str:
    """A size for people, in powers of ten."""
    amount = float(size)
    for unit in ("bytes", "KB", "MB"):
        if amount < 1000:  # noqa: PLR2004 - where the next unit begins
            return f"{amount:.0f} {unit}" if unit != "MB" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} GB"


def duration(seconds: float) -> str:
    """A duration for people."""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))  # noqa: PLR2004 - a minute


def some(items: Collection[str], most: int) -> str:
    """The first of some words, and how many more there are."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(islice(items, most)) + more


def ranges(years: list[int]) -> str:
    """Years as people write them: 2000-2004, 2007."""
    parts: list[list[int]] = []
    for year in sorted(years):
        if parts and parts[-1][-1] == year - 1:
            parts[-1].append(year)
        else:
            parts.append([year])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in parts)
