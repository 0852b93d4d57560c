"""Which files the `files` source reads, and whether its settings can work.

Only of a `.txt` the first bytes are looked at: it may be a table, as in Stooq's database, or a note.
"""

import glob
import gzip
import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from historical_etl.errors import ConfigurationError
from historical_etl.masking import hidden, told
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.files.columns import COLUMNS, score
from historical_etl.sources.files.header import AUTO
from historical_etl.sources.files.kinds import ENDINGS, steps
from historical_etl.sources.files.spellings import EVENTS
from historical_etl.symbols import normalize_symbols

__all__ = ["SUFFIXES", "Listing", "check_settings", "find_files", "suffix_of", "version_of"]

SUFFIXES: Final = (".csv", ".txt", ".tsv", ".csv.gz", ".txt.gz", ".tsv.gz", ".parquet")
_PEEK: Final = 4096


@dataclass(frozen=True)
class Listing:
    """The files of a path, in order of name, and those beside them that are not read."""

    paths: list[Path]
    others: list[Path]


def check_settings(settings: FilesSettings) -> None:
    """Raise `ConfigurationError` for the first setting that cannot work, whatever the files hold."""
    known = (*COLUMNS, *EVENTS)
    unknown = [name for name in settings.columns if name not in known]
    if unknown:
        raise ConfigurationError(
            f"{', '.join(told(name, known) for name in unknown)} cannot be mapped",
            where=f"{PREFIX}FILES_COLUMNS",
            todo=f"map only {', '.join(known)}",
        )
    separator = settings.separator
    if separator != AUTO and (not separator.isascii() or separator in '"\r\n' or separator == settings.decimal):
        raise ConfigurationError(
            f"{separator!r} cannot separate fields where {settings.decimal!r} is the decimal sign",
            where=f"{PREFIX}FILES_SEPARATOR",
            todo="use ; with decimal commas, else one of , ; | or tab",
        )
    if settings.symbol is not None:
        try:
            normalize_symbols([settings.symbol])
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{told(settings.symbol)} is not a symbol", where=f"{PREFIX}FILES_SYMBOL", todo=error.todo
            ) from None


def suffix_of(path: Path) -> str:
    """The ending of a file that this source reads, such as ".csv.gz"."""
    return next((suffix for suffix in SUFFIXES[::-1] if path.name.lower().endswith(suffix)), "")


def find_files(setting: str) -> Listing:
    """The readable files of a folder, a glob or one file; absolute, in order of name.

    Raises:
        ConfigurationError: the path is unset, missing or without readable files.
    """
    where, todo = f"{PREFIX}FILES_PATH", "set it to a folder, a file or a glob"
    if not setting.strip():
        raise ConfigurationError("The source `files` has no path", where=where, todo=todo)
    # Absolute at once: a later change of the working directory must not change what is read.
    try:
        path = Path(setting.strip()).expanduser().absolute()
        path.exists()
    except (OSError, RuntimeError, ValueError):  # too long, or the home of nobody, or half a character
        shown = "What it holds" if hidden(setting) else f"{setting[:100]!a}"
        raise ConfigurationError(f"{shown} is no path", where=where, todo=todo) from None
    if path.is_file():
        found, base = [path], path.parent
    elif path.is_dir():
        found, base = list(path.rglob("*")), path
    elif glob.has_magic(str(path)):
        found, base = [Path(hit) for hit in glob.glob(str(path), recursive=True)], Path(path.anchor)  # noqa: PTH207
    else:
        shown = "What it names" if hidden(setting) else str(path)
        state = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise ConfigurationError(f"{shown} {state}", where=where, todo=todo)
    seen = sorted(hit for hit in found if not _is_hidden(hit, base))
    readable = [hit for hit in seen if _is_dump(hit)]
    taken = set(readable)
    others = [hit for hit in seen if hit not in taken and hit.name.lower().endswith(tuple(ENDINGS)) and hit.is_file()]
    if not readable:
        there = f", but {steps(others)}" if others else ""
        raise ConfigurationError(
            f"{path} has no file ending in {', '.join(SUFFIXES)}{there}",
            where=where,
            todo=f"{'do that, then set the path' if others else 'set it'} to a folder with such files",
        )
    return Listing(readable, others)


def version_of(paths: Sequence[Path]) -> str:
    """A hash of the files' names below the folder they share, and of their sizes."""
    base = os.path.commonpath([path.parent for path in paths])
    sizes = (path.stat().st_size if path.is_file() else 0 for path in paths)
    facts = "".join(f"{path.relative_to(base).as_posix()}\0{size}\n" for path, size in zip(paths, sizes, strict=True))
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _is_hidden(path: Path, base: Path) -> bool:
    # Hidden ones are leftovers of other tools: ._a.csv, .ipynb_checkpoints/a.csv.
    return any(part.startswith(".") for part in path.relative_to(base).parts)


def _is_dump(path: Path) -> bool:
    if path.is_symlink() and not os.path.exists(path):  # noqa: PTH110 - also of one that leads in a circle
        return True  # what lay there is missed: a disk that is not mounted, perhaps
    suffix = suffix_of(path)
    if not suffix or path.is_dir():
        return False
    if not path.is_file():
        return True  # a pipe under the name of prices is told of
    return not suffix.startswith(".txt") or _is_table(path)


def _is_table(path: Path) -> bool:
    """Whether a text is a table of prices, by its first lines. An empty one counts: it may have been one."""
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
            start = file.read(_PEEK)
    except (OSError, EOFError):
        return True  # what reads it tells what is wrong with it
    if not start:
        return True
    lines = start.decode("utf-8-sig", "replace").splitlines()[:3]
    return any(score(re.split(r"[,;\t|]", line.replace('"', ""))) > 1 for line in lines)
