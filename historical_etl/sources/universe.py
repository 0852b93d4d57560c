"""Who belonged to an index, and when: point-in-time universes without survivorship. No prices here.

A symbol is a member on day t iff `start <= t < end`; an open end means "still in". Symbols are taken as the table
has them. The packaged S&P 500 is not of one mind: Facebook is FB until 2022-06-08 and META after it, but Lehman is
LEHMQ, Yahoo AABA and Priceline BKNG in all years.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

from historical_etl.errors import ConfigurationError
from historical_etl.masking import display_path, display_value
from historical_etl.regular_files import TEXTS, read_regular
from historical_etl.symbols import normalize_symbols

__all__ = ["PACKAGED_UNIVERSES", "Interval", "MembershipTable", "packaged_universe"]

_DATA: Final = Path(__file__).resolve().parent.parent / "data"
#: Names that `packaged_universe` knows, with the file of each.
PACKAGED_UNIVERSES: Final[Mapping[str, Path]] = {"sp500": _DATA / "sp500_membership.csv"}
_HEADER_HELP: Final = "the header must be ticker,start_date,end_date (symbol may stand for ticker)"


@dataclass(frozen=True, order=True)
class Interval:
    """A stay in an index: from `start` (included) to `end` (excluded; None = still in)."""

    start: date
    end: date | None = None

    def overlaps(self, start: date | None, end: date | None) -> bool:
        """Whether the stay has a day from `start` to `end`, both included; None means unbounded."""
        return (end is None or self.start <= end) and (start is None or self.end is None or start < self.end)


class MembershipTable:
    """The stays of every symbol that ever belonged to an index.

    Args:
        intervals: the stays by symbol (normalised); those of one symbol must not overlap.
        name: what to call the table in messages.
    """

    def __init__(self, intervals: Mapping[str, Iterable[Interval]], name: str = "universe") -> None:
        self.name = name
        self._intervals: dict[str, tuple[Interval, ...]] = {
            symbol: tuple(sorted(stays, key=lambda stay: stay.start)) for symbol, stays in sorted(intervals.items())
        }

    @classmethod
    def from_csv(cls, path: str | Path) -> Self:
        """Read a table from a CSV file in UTF-8 with the columns ticker (or symbol), start_date, end_date.

        Other columns are ignored. Dates are ISO (2012-05-18); an empty end_date means "still in".

        Raises:
            ConfigurationError: the file is missing, unreadable or malformed; names the file and the line.
        """
        path = Path(path)
        stays: dict[str, list[tuple[Interval, int]]] = {}
        for line, symbol, stay in _rows(path):
            stays.setdefault(symbol, []).append((stay, line))
        if not stays:
            raise _malformed(path, 1, "no interval in this file", _HEADER_HELP)
        overlaps = [(*lines, symbol) for symbol, found in stays.items() for lines in _overlaps(found)]
        if overlaps:
            line, other, symbol = min(overlaps)
            raise _malformed(path, line, f"{symbol}'s interval overlaps the one of line {other}")
        return cls({symbol: [stay for stay, _ in found] for symbol, found in stays.items()}, name=path.stem)

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Symbols that are members on any day from `start` to `end`, both included, sorted; None means unbounded."""
        return [symbol for symbol, stays in self._intervals.items() if any(stay.overlaps(start, end) for stay in stays)]

    def intervals(self, symbol: str) -> tuple[Interval, ...]:
        """The stays of `symbol` in order of time; empty if it never was a member.

        Raises:
            ConfigurationError: `symbol` cannot be a symbol.
        """
        return self._intervals.get(normalize_symbols([symbol])[0], ())


@lru_cache(maxsize=4)
def packaged_universe(name: str) -> MembershipTable:
    """A table that comes with this package; "sp500" is the only one.

    Raises:
        ConfigurationError: there is no such table; names those there are.
    """
    path = PACKAGED_UNIVERSES.get(name.strip().lower())
    if path is None:
        raise ConfigurationError(
            f"There is no packaged universe {display_value(name, PACKAGED_UNIVERSES)}",
            where="HISTORICAL_ETL_UNIVERSE",
            todo=f"use one of: {', '.join(PACKAGED_UNIVERSES)}; or give the path of a CSV file",
        )
    return MembershipTable.from_csv(path)


def _rows(path: Path) -> Iterator[tuple[int, str, Interval]]:
    """Line number, symbol and stay of each row."""
    reader = csv.reader(_lines(path), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader)]
        symbol_at, start_at, end_at = _positions(header, path)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise _malformed(path, reader.line_num, f"{len(row)} fields where the header has {len(header)}")
            yield reader.line_num, *_parse(row[symbol_at], row[start_at], row[end_at], path, reader.line_num)
    except csv.Error as error:
        raise _malformed(path, reader.line_num, f"not CSV: {error}") from None


def _lines(path: Path) -> list[str]:
    try:
        content = read_regular(path, TEXTS)
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(
            f"The universe cannot be read: {reason}",
            where=display_path(path, "HISTORICAL_ETL_UNIVERSE"),
            todo="correct the path, or write sp500 for the packaged one",
        ) from None
    lines: list[str] = []
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        try:
            lines.append(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            raise _malformed(path, number, "not UTF-8", "save the file as UTF-8") from None
    if not content.strip():
        raise _malformed(path, 1, "the file is empty", _HEADER_HELP)
    return lines


def _positions(header: list[str], path: Path) -> tuple[int, int, int]:
    symbol_names = [name for name in header if name in ("ticker", "symbol")]
    wanted = [*symbol_names, "start_date", "end_date"]
    if len(symbol_names) != 1 or any(header.count(name) != 1 for name in wanted):
        raise _malformed(path, 1, f"the header is {','.join(header)[:200]!r}", _HEADER_HELP)
    symbol_at, start_at, end_at = (header.index(name) for name in wanted)
    return symbol_at, start_at, end_at


def _parse(symbol: str, start: str, end: str, path: Path, line: int) -> tuple[str, Interval]:
    try:
        (clean,) = normalize_symbols([symbol])
    except ConfigurationError as error:
        raise _malformed(path, line, f"{symbol!r} is not a symbol", error.todo) from None
    first = _day(start, "start_date", path, line)
    last = _day(end, "end_date", path, line) if end.strip() else None
    if last is not None and last <= first:
        raise _malformed(path, line, f"{clean}'s end_date {last} is not after its start_date {first}")
    return clean, Interval(first, last)


def _day(text: str, column: str, path: Path, line: int) -> date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise _malformed(path, line, f"{column} {text!r} is not a date", "write it as YYYY-MM-DD") from None


def _overlaps(stays: list[tuple[Interval, int]]) -> Iterator[tuple[int, int]]:
    """The lines, later one first, of stays that overlap the next one in order of time."""
    in_order = sorted(stays, key=lambda item: (item[0].start, item[1]))
    for (one, line), (following, other_line) in pairwise(in_order):
        if one.end is None or following.start < one.end:
            yield max(line, other_line), min(line, other_line)


def _malformed(path: Path, line: int, what: str, todo: str = "correct this line") -> ConfigurationError:
    return ConfigurationError(f"The universe is malformed: {what}", where=f"{path}, line {line}", todo=todo)
