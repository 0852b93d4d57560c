"""CSV files line by line: the header, the first records, and the lines that are wrong. Values are not known here.

Slow: behind the first records, lines are only walked once Polars, which names no line, has found something wrong.
"""

import csv
import gzip
import zlib
from collections.abc import Collection, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from historical_etl.errors import ConfigurationError, DataQualityError
from historical_etl.sources.file_probe import LONGEST
from historical_etl.sources.files.unsupported_formats import other_than_csv

__all__ = ["Head", "bad_lines", "check_quotes", "lines_of", "read_head", "refused_line"]

#: Records that are looked at to tell how a file is written.
_RECORDS: Final = 40
_PREAMBLE: Final = 20
#: More bad lines than this are a bad file.
MOST_ODD: Final = 1000


@dataclass(frozen=True)
class Head:
    """The first lines of a CSV file.

    Attributes:
        lines: as they stand there, without their ends; blank ones are among them.
    """

    lines: tuple[str, ...]

    def records(self, separator: str) -> list[tuple[int, list[str]]]:
        """Records that are not blank, each with the line on which it starts; up to the first that is not CSV."""
        found: list[tuple[int, list[str]]] = []
        reader, line = csv.reader((f"{line}\n" for line in self.lines), delimiter=separator, strict=True), 1
        try:
            for row in reader:
                if row:
                    found.append((line, row))
                line = reader.line_num + 1
        except csv.Error:
            pass  # what reads the whole file names it
        return found


def read_head(path: Path, separators: str) -> Head:
    """The first lines of a file.

    Raises:
        DataQualityError: it is empty or no text, or its first line is no CSV with any of `separators`.
        ConfigurationError: it cannot be opened.
    """
    lines: list[str] = []
    with closing(_lines(path)) as all_lines:
        try:
            for line in all_lines:
                if (
                    not lines
                    and (not line[:1].isalnum() or line.startswith("PAR1"))
                    and (other := other_than_csv(path))
                ):
                    raise other
                if len(lines) >= _RECORDS + _PREAMBLE:
                    break
                lines.append(line.rstrip("\r\n") if line.endswith("\n") else line)
        except DataQualityError as error:
            if not any(line.strip() for line in lines):
                raise (other_than_csv(path) or error) from None  # else what reads the whole file names it
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise DataQualityError("The file is empty", where=f"{path}, line 1", todo="remove it, or export it again")
    errors = [error for separator in separators if (error := _no_header(lines[first:], separator))]
    if len(errors) == len(separators):
        raise refused_line(f"The header is not CSV: {errors[0]}", path, first + 1)
    return Head(tuple(lines))


def _no_header(lines: list[str], separator: str) -> str:
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=separator, strict=True)
    try:
        next(reader)
    except csv.Error as error:
        return str(error)
    return ""


def bad_lines(path: Path, separator: str, width: int, header: int) -> dict[int, tuple[int, int]]:
    """Records with more or fewer fields than the header: number after the header → its line, and its fields.

    Args:
        path: of the file.
        separator: between fields.
        width: how many fields the header has.
        header: the line on which the last row of the header starts.

    Raises:
        DataQualityError: a line is no CSV in UTF-8, or there are more bad ones than a sound file has.
    """
    found: dict[int, tuple[int, int]] = {}
    line, record = 0, -1
    with closing(_lines(path)) as lines:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            for row in reader:
                start, line = line + 1, reader.line_num
                if start < header:
                    continue
                record += start > header
                if row and len(row) != width and start > header:
                    found[record] = (start, len(row))
                    if len(found) > MOST_ODD:
                        first = next(iter(found.values()))
                        raise refused_line(
                            f"More than {MOST_ODD:,} lines have another number of fields than the header, which has"
                            f" {width}; the first has {first[1]}",
                            path,
                            first[0],
                        )
        except csv.Error as error:
            raise refused_line(f"The line is not CSV: {error}", path, line + 1) from None
    return found


def check_quotes(path: Path) -> None:
    """Raise for the first line with an odd number of quotation marks: what is left when Polars finds no end."""
    with closing(_lines(path)) as lines:
        for number, line in enumerate(lines, 1):
            if line.count('"') % 2:
                raise refused_line("The line has a quotation mark without its partner", path, number)


def lines_of(path: Path, separator: str, records: Collection[int], header: int) -> Mapping[int, int]:
    """The lines on which some records after the header start; the first record is 0."""
    found: dict[int, int] = {}
    wanted, last = set(records), max(records, default=-1)
    line, record = 0, -1
    with closing(_lines(path, nul=True)) as lines:
        reader = csv.reader(lines, delimiter=separator)
        try:
            for _ in reader:
                start, line = line + 1, reader.line_num
                record += start > header
                if start > header and record in wanted:
                    found[record] = start
                if record >= last:
                    break
        except csv.Error as error:
            raise refused_line(f"The line is not CSV: {error}", path, line + 1) from None
    return found


def refused_line(what: str, path: Path, line: int, todo: str = "correct the line or export again") -> DataQualityError:
    """The error for one line of a file."""
    return DataQualityError(what, where=f"{path}, line {line}", todo=todo)


def _lines(path: Path, *, nul: bool = False) -> Generator[str]:
    """The lines of a file, unpacked and decoded; close it, or the file stays open until garbage is collected.

    `nul` lets NUL pass: in a file that has been read it is part of a cell.
    """
    number = 0
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            with gzip.open(plain) if packed else plain as stream:
                for number, line in enumerate(iter(lambda: stream.readline(LONGEST + 1), b""), 1):
                    if len(line) > LONGEST:
                        raise refused_line(f"The line is longer than {LONGEST:,} bytes", path, number)
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    if "\0" in text and not nul:
                        raise refused_line("The line holds NUL: binary, or UTF-16", path, number, "save it as UTF-8")
                    yield text
    except UnicodeDecodeError as error:
        raise refused_line(f"The line is not UTF-8: {error.reason}", path, number, "save the file as UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise refused_line("The gzip stream is cut off or damaged", path, number + 1, "copy the file again") from None
    except OSError as error:
        raise ConfigurationError(
            f"The file cannot be read: {error.strerror or error}",
            where=path,
            todo="let it be read, or take it out of the folder",
        ) from None
