"""CSV files line by line: the header, and the line that is wrong. What columns and values mean is not known here.

Slow: behind the header, lines are only walked once Polars, which names no line, has found that something is wrong.
"""

import csv
import gzip
import zlib
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from historical_etl.errors import ConfigurationError, DataQualityError

__all__ = ["check_lines", "check_quotes", "line_of", "read_header", "refused_line"]


def read_header(path: Path, separator: str) -> tuple[list[str], int]:
    """The header's names, and its line."""
    with closing(_lines(path)) as lines:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            names = next((row for row in reader if row), None)
        except csv.Error as error:
            raise refused_line(f"The header is not CSV: {error}", path, reader.line_num) from None
    if names is None:
        raise DataQualityError("The file is empty", where=f"{path}, line 1", todo="remove it, or export it again")
    bracketed = all(name.strip().endswith(">") for name in names) and len(names) > 1  # Stooq's headers
    if names[0].lstrip().startswith("<") and not bracketed:
        raise refused_line(
            "This is HTML or XML, not CSV", path, reader.line_num, "download it again: it may be a web page"
        )
    return names, reader.line_num


def check_lines(path: Path, separator: str, width: int) -> None:
    """Raise for the first line that is not CSV in UTF-8 with `width` fields."""
    line = 0
    with closing(_lines(path)) as lines:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            for row in reader:
                if row and len(row) != width:
                    raise refused_line(f"The line has {len(row)} fields where the header has {width}", path, line + 1)
                line = reader.line_num
        except csv.Error as error:
            raise refused_line(f"The line is not CSV: {error}", path, line + 1) from None


def check_quotes(path: Path) -> None:
    """Raise for the first line with an odd number of quotation marks: what is left when Polars finds no end."""
    with closing(_lines(path)) as lines:
        for number, line in enumerate(lines, 1):
            if line.count('"') % 2:
                raise refused_line("The line has a quotation mark without its partner", path, number)


def line_of(path: Path, separator: str, record: int) -> int:
    """The line on which a record after the header starts; the first record is 0."""
    with closing(_lines(path)) as lines:
        reader = csv.reader(lines, delimiter=separator)
        try:
            next(row for row in reader if row)
            for _ in range(record):
                next(reader)
        except csv.Error as error:
            raise refused_line(f"The line is not CSV: {error}", path, reader.line_num) from None
    return reader.line_num + 1


def refused_line(what: str, path: Path, line: int, todo: str = "correct the line or export again") -> DataQualityError:
    """The error for one line of a file."""
    return DataQualityError(what, where=f"{path}, line {line}", todo=todo)


def _lines(path: Path) -> Generator[str]:
    """The lines of a file, unpacked and decoded; close it, or the file stays open until garbage is collected."""
    number = 0
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            with gzip.open(plain) if packed else plain as stream:
                for number, line in enumerate(stream, 1):
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    if "\0" in text:
                        raise refused_line("The line holds NUL: binary, or UTF-16", path, number, "save it as UTF-8")
                    yield text
    except UnicodeDecodeError as error:
        raise refused_line(f"The line is not UTF-8: {error.reason}", path, number, "save the file as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise refused_line("The gzip stream is cut off or damaged", path, number + 1, "copy the file again") from None
    except OSError as error:
        raise ConfigurationError(f"The file cannot be read: {error.strerror or error}", where=path) from None
