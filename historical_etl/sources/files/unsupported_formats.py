"""What a file is that is no CSV or Parquet, by its ending or its first bytes, and the step that makes it readable."""

import gzip
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from historical_etl.errors import DataQualityError

__all__ = ["ENDINGS", "other_than_csv", "other_than_parquet", "steps"]

_SAVE: Final = "open it and save it as CSV"
_UNPACK: Final = "unpack it (python -m zipfile -e FILE FOLDER)"
_PANDAS: Final = "write it as CSV or Parquet, as in pandas.{}({}).to_csv('prices.csv')"
#: Endings of files that prices are kept in as well, and this source does not read → what to do with one.
ENDINGS: Final = {
    ".zip": _UNPACK,
    ".7z": "unpack it",
    ".tar.gz": "unpack it (tar -xzf FILE)",
    ".csv.bz2": "unpack it (bunzip2 FILE)",
    ".csv.xz": "unpack it (unxz FILE)",
    ".csv.zst": "unpack it (unzstd FILE)",
    ".xlsx": _SAVE,
    ".xls": _SAVE,
    ".ods": _SAVE,
    ".json": "write its rows as CSV, one row for each session",
    ".feather": _PANDAS.format("read_feather", "FILE"),
    ".arrow": _PANDAS.format("read_feather", "FILE"),
    ".pkl": _PANDAS.format("read_pickle", "FILE"),
    ".pickle": _PANDAS.format("read_pickle", "FILE"),
    ".h5": _PANDAS.format("read_hdf", "FILE"),
    ".orc": _PANDAS.format("read_orc", "FILE"),
    ".db": "write its table of prices as CSV",
    ".sqlite": "write its table of prices as CSV",
    ".dat": "name it .csv if it is one",
    ".txt": "it has no header of prices",
}
#: First bytes → what such a file is, and what to do with it.
_MAGIC: Final = (
    (b"PK\x03\x04", "a zip, or a workbook of Excel (.xlsx)", "unpack it, or open it in Excel and save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook (.xls)", _SAVE),
    (b"PAR1", "Parquet", "rename it to {stem}.parquet"),
    (b"SQLite format 3", "a SQLite database", "write its table of prices as CSV"),
    (b"ARROW1", "an Arrow file", _PANDAS.format("read_feather", "FILE")),
    (b"BZh", "packed by bzip2", "unpack it (bunzip2)"),
    (b"\xfd7zXZ", "packed by xz", "unpack it (unxz)"),
    (b"\x28\xb5\x2f\xfd", "packed by zstd", "unpack it (unzstd)"),
    (b"\xff\xfe", "UTF-16", "save it as UTF-8"),
    (b"\xfe\xff", "UTF-16", "save it as UTF-8"),
    (b"%PDF", "PDF", "export the prices as CSV"),
    (b"\x80\x04\x95", "a pickle of Python", _PANDAS.format("read_pickle", "FILE")),
    (b"\x89HDF", "HDF5", _PANDAS.format("read_hdf", "FILE")),
    (b"{", "JSON", "if it is a message of the vendor's, download it again; else write its rows as CSV"),
    (b"[", "JSON", "write its rows as CSV"),
)
_SHOWN: Final = 100


def steps(paths: Iterable[Path]) -> str:
    """How many files of each kind there are, and what to do with them."""
    endings = Counter(next(end for end in ENDINGS if path.name.lower().endswith(end)) for path in paths)
    return "; ".join(f"{count:,} {ending}: {ENDINGS[ending]}" for ending, count in endings.most_common())


def other_than_csv(path: Path) -> DataQualityError | None:
    """The error for a file that is called CSV and is something else; None if its first bytes do not tell."""
    start = _start(path)
    for magic, kind, todo in _MAGIC:
        if start.startswith(magic):
            shown = f": {start.decode('utf-8', 'replace').splitlines()[0][:_SHOWN]}" if kind == "JSON" else ""
            step = todo.format(stem=path.name.split(".")[0])
            return DataQualityError(f"This is {kind}, not CSV{shown}", where=f"{path}, line 1", todo=step)
    return None


def other_than_parquet(path: Path) -> DataQualityError | None:
    """The error for a file that is called Parquet and is text or something else."""
    start = _start(path)
    if start.startswith(b"PAR1") or not start:
        return None
    other = other_than_csv(path)
    if other is not None:
        return DataQualityError(other.what.replace("not CSV", "not Parquet"), where=path, todo=other.todo)
    if b"\0" in start or not start.isascii():
        return None
    return DataQualityError("This is text, not Parquet", where=path, todo=f"rename it to {path.stem}.csv")


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            with gzip.open(file) if packed else file as stream:
                return stream.read(_SHOWN * 2)
    except (OSError, EOFError, zlib.error):
        return b""
