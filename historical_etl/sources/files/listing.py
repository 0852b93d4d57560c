"""Which files the `files` source reads, and whether its settings can work.

Only of a `.txt` the first bytes are looked at: it may be a table, as in Stooq's database, or a note.
"""

import glob
import gzip
import hashlib
import io
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from historical_etl.errors import ConfigurationError
from historical_etl.masking import display_value, hidden
from historical_etl.regular_files import facts_of, open_regular
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.display_text import displayed
from historical_etl.sources.files.column_spellings import EVENT_SPELLINGS
from historical_etl.sources.files.columns import COLUMNS, score
from historical_etl.sources.files.header import AUTO
from historical_etl.sources.files.unsupported_formats import ENDINGS, steps
from historical_etl.symbols import normalize_symbols

__all__ = ["SUFFIXES", "Listing", "check_settings", "find_files", "path_of", "suffix_of", "version_of"]

SUFFIXES: Final = (".csv", ".txt", ".tsv", ".csv.gz", ".txt.gz", ".tsv.gz", ".parquet")
_WHERE: Final = f"{PREFIX}FILES_PATH"
_TODO: Final = "set it to a folder, a file or a glob"
_PEEK: Final = 4096
#: Of a packed one.
_PACKED_PEEK: Final = 1 << 16


@dataclass(frozen=True)
class Listing:
    """The files of a path.

    Attributes:
        files: those that are read, in order of name, each with what tells whether it is another by now.
        others: those beside them that are not.
        shut: folders that cannot be listed, and why.
    """

    files: Mapping[Path, tuple[int, ...]]
    others: list[Path]
    shut: Mapping[Path, str] = field(default_factory=dict[Path, str])

    @property
    def paths(self) -> list[Path]:
        """The files that are read, in order of name."""
        return list(self.files)


def check_settings(settings: FilesSettings) -> None:
    """Raise `ConfigurationError` for the first setting that cannot work, whatever the files hold."""
    known = (*COLUMNS, *EVENT_SPELLINGS)
    unknown = [name for name in settings.columns if name not in known]
    if unknown:
        raise ConfigurationError(
            f"{', '.join(display_value(name, known) for name in unknown)} cannot be mapped",
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
                f"{display_value(settings.symbol)} is not a symbol", where=f"{PREFIX}FILES_SYMBOL", todo=error.todo
            ) from None


def suffix_of(path: Path) -> str:
    """The ending of a file that this source reads, such as ".csv.gz"."""
    return next((suffix for suffix in SUFFIXES[::-1] if path.name.lower().endswith(suffix)), "")


def path_of(setting: str) -> Path:
    """The path of a folder, a glob or a file; absolute at once, so that no change of the working directory matters.

    Raises:
        ConfigurationError: it is unset, or can be none.
    """
    if not setting.strip():
        raise ConfigurationError("The source `files` has no path", where=_WHERE, todo=_TODO)
    try:
        path = Path(setting.strip()).expanduser().absolute()
        path.resolve().exists()
    except (OSError, RuntimeError, ValueError):  # too long, a circle, the home of nobody, or half a character
        named = "What it holds" if hidden(setting) else f"{setting[:100]!a}"
        raise ConfigurationError(f"{named} is no path", where=_WHERE, todo=_TODO) from None
    return path


def find_files(setting: str) -> Listing:
    """The readable files of a folder, a glob or one file; absolute, in order of name.

    Raises:
        ConfigurationError: the path is unset, missing or without readable files.
    """
    path = path_of(setting)
    shut: dict[Path, str] = {}
    if path.is_file():
        found = [] if _is_hidden(path.name) else [path]
    elif path.is_dir():
        found, shut = _below(path)
    elif glob.has_magic(str(path)):
        found = _matching(path)
    else:
        named = "What it names" if hidden(setting) else str(path)
        state = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise ConfigurationError(f"{named} {state}", where=_WHERE, todo=_TODO)
    seen = sorted(found)
    readable = [hit for hit in seen if _is_dump(hit)]
    taken = set(readable)
    others = [hit for hit in seen if hit not in taken and hit.name.lower().endswith(tuple(ENDINGS)) and _is_file(hit)]
    if not readable:
        there = f", but {steps(others)}" if others else ""
        there += "".join(
            f"; {displayed(str(folder))} cannot be listed: {why}" for folder, why in list(shut.items())[:1]
        )
        raise ConfigurationError(
            f"{path} has no file ending in {', '.join(SUFFIXES)}{there}",
            where=_WHERE,
            todo=f"{'do that, then set the path' if others else 'set it'} to a folder with such files",
        )
    return Listing({hit: facts_of(hit) for hit in readable}, others, shut)


def version_of(files: Mapping[Path, tuple[int, ...]]) -> str:
    """A hash of the files' names below the folder they share, and of their sizes."""
    base = os.path.commonpath([path.parent for path in files])
    sizes = (facts[0] if facts else 0 for facts in files.values())
    facts = "".join(f"{path.relative_to(base).as_posix()}\0{size}\n" for path, size in zip(files, sizes, strict=True))
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _below(top: Path) -> tuple[list[Path], dict[Path, str]]:
    """All that is below a folder, and the folders that cannot be listed, with the reason; links are not followed."""
    found: list[Path] = []
    shut: dict[Path, str] = {}
    folders = [top]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not _is_hidden(entry.name):
                        found.append(folder / entry.name)
                        folders += found[-1:] if entry.is_dir(follow_symlinks=False) else []
        except OSError as error:
            shut[folder] = error.strerror or str(error)
    return found, shut


def _matching(pattern: Path) -> list[Path]:
    """What a glob finds.

    Raises:
        ConfigurationError: it leads too deep.
    """
    try:
        hits = [Path(hit) for hit in glob.glob(str(pattern), recursive=True)]  # noqa: PTH207 - it may be absolute
    except RecursionError:
        what = f"Folders lie too deep for {displayed(str(pattern))}"
        raise ConfigurationError(what, where=_WHERE, todo="name a folder without **") from None
    return [hit for hit in hits if not any(map(_is_hidden, hit.parts))]


def _is_hidden(name: str) -> bool:
    return name.startswith(".")  # leftovers of other tools: ._a.csv, .ipynb_checkpoints/a.csv


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - False also where a path is too long to be looked at


def _is_dump(path: Path) -> bool:
    # Those of os.path take a path that is too long, and a circle, for nothing; Path's raise.
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
        return True  # what lay there is missed: a disk that is not mounted, perhaps
    suffix = suffix_of(path)
    if not suffix or os.path.isdir(path):  # noqa: PTH112 - likewise
        return False
    if not _is_file(path):
        return True  # a pipe under the name of prices is reported
    return not suffix.startswith(".txt") or _is_table(path)


def _is_table(path: Path) -> bool:
    """Whether a text is a table of prices, by its first lines. An empty one counts: it may have been one."""
    try:
        with open_regular(path) as file:
            start = file.read(_PACKED_PEEK if path.name.lower().endswith(".gz") else _PEEK)
        if path.name.lower().endswith(".gz"):
            with gzip.open(io.BytesIO(start)) as unpacked:
                start = unpacked.read1(_PEEK)
    except (OSError, EOFError, zlib.error):
        return True  # what reads it tells what is wrong with it
    if not start:
        return True
    lines = start.decode("utf-8-sig", "replace").splitlines()[:3]
    return any(score(re.split(r"[,;\t|]", line.replace('"', ""))) > 1 for line in lines)
