"""Which files the `files` source reads, and whether its settings can work. No file is opened here."""

import glob
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from historical_etl.errors import ConfigurationError
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.files_columns import COLUMNS
from historical_etl.symbols import normalize_symbols

__all__ = ["SUFFIXES", "check_settings", "find_files", "version_of"]

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")


def check_settings(settings: FilesSettings) -> None:
    """Raise `ConfigurationError` for the first setting that cannot work, whatever the files hold."""
    unknown = [name for name in settings.columns if name not in COLUMNS]
    if unknown:
        raise ConfigurationError(
            f"{', '.join(unknown)} cannot be mapped",
            where=f"{PREFIX}FILES_COLUMNS",
            todo=f"map only {', '.join(COLUMNS)}",
        )
    separator = settings.separator
    if not separator.isascii() or separator in '"\r\n' or separator == settings.decimal:
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
                f"{settings.symbol!r} is not a symbol", where=f"{PREFIX}FILES_SYMBOL", todo=error.todo
            ) from None


def find_files(setting: str) -> list[Path]:
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
        raise ConfigurationError(f"{setting[:100]!a} is no path", where=where, todo=todo) from None
    if path.is_file():
        found, base = [path], path.parent
    elif path.is_dir():
        found, base = list(path.rglob("*")), path
    elif glob.has_magic(str(path)):
        found, base = [Path(hit) for hit in glob.glob(str(path), recursive=True)], Path(path.anchor)  # noqa: PTH207
    else:
        raise ConfigurationError(f"{path} does not exist", where=where, todo=todo)
    readable = sorted(hit for hit in found if _is_dump(hit, base))
    if not readable:
        raise ConfigurationError(
            f"{path} has no file ending in {', '.join(SUFFIXES)}", where=where, todo="correct the path"
        )
    return readable


def version_of(paths: Sequence[Path]) -> str:
    """A hash of the files' names below the folder they share, and of their sizes."""
    base = os.path.commonpath([path.parent for path in paths])
    facts = "".join(f"{path.relative_to(base).as_posix()}\0{path.stat().st_size}\n" for path in paths)
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _is_dump(path: Path, base: Path) -> bool:
    # Hidden ones are leftovers of other tools: ._a.csv, .ipynb_checkpoints/a.csv.
    hidden = any(part.startswith(".") for part in path.relative_to(base).parts)
    return not hidden and path.name.lower().endswith(SUFFIXES) and path.is_file()
