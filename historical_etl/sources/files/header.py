"""Where a CSV file's header is and what separates its fields: as set, else as its first lines show.

Vendors' sheets begin with lines about the sheet, and pandas writes headers of several rows (`levels`). Both are read by
their form.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from historical_etl.errors import SchemaDriftError
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.files.column_spellings import SPELLINGS, plain
from historical_etl.sources.files.columns import score
from historical_etl.sources.files.csv_lines import read_head, refused_line
from historical_etl.sources.files.multi_level_header import Levels, levels_of_names, levels_of_rows

__all__ = ["AUTO", "Header", "read_header"]

#: A setting that is left to the file.
AUTO: Final = "auto"
_SEPARATORS: Final = ",;\t|"
#: So many columns of ours make a line a header.
_ENOUGH: Final = 2
_LINES: Final = 21
#: Rows that a header has at most.
_ROWS: Final = 3
#: So many numbers in a line make it no header.
_NUMBERS: Final = 3


@dataclass(frozen=True)
class Header:
    """The header of one CSV file.

    Attributes:
        names: of all columns.
        line: on which its (last) row starts.
        separator: between fields.
        skip_lines: lines before it.
        skip_rows: rows of it behind the first.
        levels: where it is one of fields and tickers; None for a plain one.
        records: the first rows behind it, as wide as it is.
    """

    names: tuple[str, ...]
    line: int
    separator: str
    skip_lines: int
    skip_rows: int
    levels: Levels | None
    records: tuple[tuple[str, ...], ...]

    def values(self, place: int) -> list[str]:
        """What the first rows have in one column, without blanks around it."""
        return [record[place].strip() for record in self.records]

    def of(self, places: Sequence[int]) -> "Header":
        """The header of some columns alone."""
        records = tuple(tuple(record[place] for place in places) for record in self.records)
        return replace(self, names=tuple(self.names[place] for place in places), records=records)


def read_header(path: Path, settings: FilesSettings) -> Header:
    """Find the header of a file.

    Raises:
        DataQualityError: the file is empty, no text, or no CSV.
        SchemaDriftError: its first line has values.
    """
    separators = settings.separator if settings.separator != AUTO else _SEPARATORS
    if settings.decimal == ",":
        separators = "".join(sorted(separators, key=",".__eq__))  # a comma parts fields where nothing else does
    head = read_head(path, separators)
    options = [(separator, head.records(separator)) for separator in separators]
    separator, records = max(options, key=lambda option: _score_of(option[1], settings))
    if not records:
        raise refused_line("The header is not CSV", path, 1)
    levels = levels_of_rows([row for _, row in records[:_ROWS]])
    if levels is None:
        at = _position(records, settings)
        line, names = records[at]
        _check_names(names, path, line)
        levels = levels_of_names(names)
        fields = levels.fields if levels else tuple(names)
        found = Header(fields, line, separator, line - 1 if at else 0, 0, levels, ())
    else:
        at = levels.rows - 1
        found = Header(levels.fields, records[at][0], separator, records[0][0] - 1, at, levels, ())
    width = len(found.names)
    rows = tuple(tuple(row) for _, row in records[at + 1 :] if len(row) == width and any(map(str.strip, row)))
    return replace(found, records=rows)


def _score_of(records: Sequence[tuple[int, list[str]]], settings: FilesSettings) -> int:
    """How well a separator serves: by the columns of ours, and where there are none by the number of fields."""
    if not records:
        return -1
    wanted = {plain(name) for name in settings.columns.values()}
    rows = [row for _, row in records[:_LINES]]
    best = score(rows[0]) + len(wanted & {plain(name) for name in rows[0]})
    if best < _ENOUGH:  # as in most files it is not: their first line is the header
        best = max(score(row) + len(wanted & {plain(name) for name in row}) for row in rows)
    return best * 1000 + min(len(rows[0]), 99)


def _position(records: Sequence[tuple[int, list[str]]], settings: FilesSettings) -> int:
    """Which record is the header: the first, unless it names nothing of ours and a later one does."""
    mapped = {plain(name) for name in settings.columns.values()}

    def known(row: Sequence[str]) -> int:
        return score(row) + len(mapped & {plain(name) for name in row})

    if known(records[0][1]) >= _ENOUGH:
        return 0
    if records[0][1][0].casefold().startswith("sep=") and len(records) > 1:  # Excel's own first line
        return 1
    for at, (_, row) in enumerate(records[1:_LINES], 1):
        names = {plain(name) for name in row}
        dated = not names.isdisjoint(SPELLINGS["date"]) or not row[0].strip()
        if dated and known(row) > _ENOUGH:
            return at
    return 0


def _check_names(names: Sequence[str], path: Path, line: int) -> None:
    bracketed = all(name.strip().endswith(">") for name in names) and len(names) > 1  # Stooq's headers
    if names[0].lstrip().startswith("<") and not bracketed:
        raise refused_line("This is HTML or XML, not CSV", path, line, "download it again: it may be a web page")
    numbers = sum(_is_number(name) for name in names)
    if numbers >= _NUMBERS and numbers * 2 > len(names):
        raise SchemaDriftError(
            f"The first line has values where names are expected: {', '.join(names)[:100]}",
            where=f"{path}, line {line}",
            todo=f"write a header such as date,open,high,low,close,volume as its first line; see {PREFIX}FILES_COLUMNS",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
