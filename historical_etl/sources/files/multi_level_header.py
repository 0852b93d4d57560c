"""Tables with a column for each field of each ticker, as pandas, yfinance and quantmod write them.

Known by the form of the header alone: two levels in rows of their own, pairs such as ('Close', 'AAPL'), or AAPL.Close.
Each ticker is then a table of its own, with the columns that belong to none, such as the date.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from historical_etl.errors import ConfigurationError
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.files.column_spellings import EVENT_SPELLINGS, SPELLINGS, is_unnamed, plain
from historical_etl.sources.files.columns import score
from historical_etl.sources.files.file_symbols import Named, writable

__all__ = ["TWO_LEVELS", "Levels", "levels_of_names", "levels_of_rows"]

#: Where symbols come from.
TWO_LEVELS: Final = "a header of two levels"
_PAIR: Final = re.compile(r"""\(\s*(['"])(?P<one>[^'"]*)\1\s*,\s*(['"])(?P<other>[^'"]*)\3\s*\)""")
_TICKER: Final = re.compile(r"\^?[A-Z0-9]{1,12}([.\-=][A-Z0-9]{1,6})?")
#: Written like tickers, and sides of a price.
_SIDES: Final = frozenset(
    ["BID", "ASK", "MID", "ADJ", "RAW", "PX", "PRICE", "TRADE", "DAY", "PREV", "LAST", "NAV", "UNADJ"]
)
_FIELDS: Final = frozenset(
    spelling
    for names in (
        [SPELLINGS[name] for name in ("open", "high", "low", "close", "volume", "adj_close")],
        EVENT_SPELLINGS.values(),
    )
    for spellings in names
    for spelling in spellings
    if len(spelling) > 1
)
_SHARED: Final = frozenset(SPELLINGS["date"])
_ENOUGH: Final = 2


@dataclass(frozen=True)
class Levels:
    """The two levels of a header.

    Attributes:
        fields: of each column.
        tickers: of each column; empty where it belongs to none.
        rows: how many rows of the file they take.
    """

    fields: tuple[str, ...]
    tickers: tuple[str, ...]
    rows: int = 1

    def parts(self, settings: FilesSettings, path: Path) -> Iterator[tuple[Named, list[int], list[int]]]:
        """For each ticker: its symbol, the places of the columns that all share, and of its own.

        Raises:
            ConfigurationError: another symbol is set.
        """
        shared = [place for place, ticker in enumerate(self.tickers) if not ticker]
        for ticker in dict.fromkeys(filter(None, self.tickers)):
            own = [place for place, other in enumerate(self.tickers) if other == ticker]
            written = ticker.strip().upper()
            symbol = settings.symbols.get(written) or writable(ticker) or written
            if settings.symbol is not None and writable(settings.symbol) != symbol:
                raise ConfigurationError(
                    f"{path} has symbols of its own, such as {symbol}",
                    where=f"{PREFIX}FILES_SYMBOL",
                    todo="unset it, or read files without symbols",
                )
            yield Named(symbol, TWO_LEVELS), shared, own


def levels_of_rows(rows: Sequence[Sequence[str]]) -> Levels | None:
    """The levels of a CSV file's first rows, where these are a header of two or three."""
    if len(rows) < _ENOUGH or len({len(row) for row in rows[:_ENOUGH]}) > 1 or len(rows[0]) < _ENOUGH:
        return None
    first, second = (score(["", *row[1:]]) + (plain(row[0]) in _SHARED) for row in rows[:_ENOUGH])
    fields, tickers = (list(row) for row in (rows[:_ENOUGH] if first >= second else rows[1::-1]))
    count = _ENOUGH
    if len(rows) > count and plain(rows[2][0]) in _SHARED and not any(name.strip() for name in rows[2][1:]):
        fields[0], tickers[0], count = rows[2][0], "", count + 1
    elif plain(tickers[0]) in SPELLINGS["symbol"]:
        fields[0], tickers[0] = "", ""  # the name of the level: the column is an index
    fields = [re.sub(r"\.\d{1,3}$", "", name) for name in fields]  # pandas numbers names that it reads twice
    return _checked(fields, [ticker.strip() for ticker in tickers], count)


def levels_of_names(names: Sequence[str]) -> Levels | None:
    """The levels of names that are pairs of a field and a ticker, all of them but the date's."""
    pairs = [_PAIR.fullmatch(name.strip()) for name in names]
    names = [pair["one"] or pair["other"] if pair else name for pair, name in zip(pairs, names, strict=True)]
    others = [pair["other"] if pair and pair["one"] else "" for pair in pairs]
    if any(others):
        alone = ["" if other else name for name, other in zip(names, others, strict=True)]
        ones = [name if other else "" for name, other in zip(names, others, strict=True)]
        fields, tickers = (ones, others) if score(["", *ones]) >= score(["", *others]) else (others, ones)
        return _checked([field or name for field, name in zip(fields, alone, strict=True)], tickers, 1)
    if any(plain(name) in _FIELDS for name in names):
        return None
    joined = [_joined(name) for name in names]
    return _checked([field for field, _ in joined], [ticker for _, ticker in joined], 1)


def _joined(name: str) -> tuple[str, str]:
    """The field and the ticker of a name such as AAPL.Close or Adj Close_AAPL; the name alone where it is none."""
    for cut in re.finditer(r"[._ \-]", name):
        before, after = name[: cut.start()].strip(), name[cut.end() :].strip()
        for field, ticker in ((after, before), (before, after)):
            if plain(field) in _FIELDS and _TICKER.fullmatch(ticker) and ticker not in _SIDES:
                return field, ticker
    return name, ""


def _checked(fields: Sequence[str], tickers: Sequence[str], rows: int) -> Levels | None:
    """Levels that can be nothing else: tickers that may be some, fields for each, and no column but dates beside."""
    by_ticker: dict[str, set[str]] = {}
    for field, ticker in zip(fields, tickers, strict=True):
        if ticker:
            by_ticker.setdefault(ticker, set()).add(plain(field))
        elif plain(field) not in _SHARED and not is_unnamed(field):
            return None
    some = bool(by_ticker) and all(len(names & _FIELDS) >= _ENOUGH for names in by_ticker.values())
    numbers = any(re.fullmatch(r"[\d.,+\-:/ ]+", ticker) for ticker in by_ticker)
    return Levels(tuple(fields), tuple(tickers), rows) if some and not numbers else None
