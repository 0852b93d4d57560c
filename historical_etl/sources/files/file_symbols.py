"""Which symbol a file is of, by its folder and its name, where no column tells.

A folder `symbol=AAPL` tells it. So does a file's name, once what exports and browsers add to it is taken off. A name
that is a date, a number or a word such as `prices` is no symbol: then a folder in capitals is, as in AAPL/2023.csv.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from historical_etl.errors import ConfigurationError
from historical_etl.symbols import normalize_symbols

__all__ = [
    "COLUMN",
    "EXCHANGE",
    "FOLDER",
    "HIVE",
    "HIVE_SYMBOL",
    "NAME",
    "SETTING",
    "WORDS",
    "Named",
    "name_of",
    "writable",
]

#: Where a symbol comes from.
SETTING, COLUMN, HIVE, FOLDER, NAME = (
    "the setting symbol",
    "a column",
    "a folder such as symbol=AAPL",
    "the folder's name",
    "the file's name",
)
#: A folder that names the symbol of its files.
HIVE_SYMBOL: Final = re.compile(r"(?:symbol|ticker|tic|sym|ric|code)=(.+)", re.IGNORECASE)
#: Words that name what a file is, not whose it is.
WORDS: Final = frozenset(
    [
        "part",
        "table",
        "tables",
        "data",
        "dataset",
        "export",
        "exports",
        "download",
        "downloads",
        "price",
        "prices",
        "quote",
        "quotes",
        "output",
        "result",
        "results",
        "dump",
        "history",
        "historical",
        "historicaldata",
        "historicalquotes",
        "ohlc",
        "ohlcv",
        "eod",
        "daily",
        "bars",
        "candles",
        "market",
        "marketdata",
        "stock",
        "stocks",
        "file",
        "files",
        "sheet",
        "book",
        "untitled",
        "csv",
        "parquet",
        "train",
        "test",
        "chunk",
        "batch",
        "snapshot",
        "latest",
        "merged",
        "combined",
        "final",
        "sample",
        "default",
        "query",
        "daily_prices",
        "stock_prices",
    ]
)
_NO_SYMBOL: Final = re.compile(
    r"""
    \d+ | \d{4}[-_.]?\d{2}([-_.]?\d{2})?([-_ ]\d+)* | (19|20)\d\d([-_ ]+(to[-_ ])?(19|20)\d\d)+
    | part[-_.]?[0-9a-f][-0-9a-f_.a-z]* | all_?stocks.* | .*prices?[-_ ].* | .*[-_ ](prices|stocks|quotes)
    | [0-9a-f]{8}-[0-9a-f]{4}-.* | data[-_.]\d+ | (year|month|date|day)=.*
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: An exchange before the symbol.
EXCHANGE: Final = re.compile(
    r"(?:NASDAQ|NYSE|AMEX|BATS|ARCA|LSE|XETR|TSE|HKEX|NSE|BSE|TSX|CBOE)[_:](?=.)", re.IGNORECASE
)
_ADDED: Final = re.compile(
    r"""
    (?:[,_\-. ]+(?:1d|1day|daily|day|d1|prices?|quotes?|historical|history|hist|ohlcv?|eod|stock|data|bars|max|\d{1,2}y
    |adj|adjusted|unadj|unadjusted|raw|split|splits|full|download|export|updated|backup|bak)
    | [,_\- ]+(?:19|20)\d\d(?:[-_.]?\d\d(?:[-_.]?\d\d(?:\d{4})?)?)?
    (?:[-_ ]+(?:to[-_ ]+)?(?:19|20)\d\d(?:[-_.]?\d\d){0,2}(?:\d{4})?)?)$
    """,
    re.VERBOSE | re.IGNORECASE,
)
_COPY: Final = re.compile(
    r"^(copy of|kopie von)\s+|\s*[(\[]\d{1,3}[)\]]$|\s+\d{1,2}$"
    r"|(\s+-\s+|[-_. ])(copy|kopie)([-_ ]?\d{1,3}|\s*\(\d{1,3}\))?$",
    re.IGNORECASE,
)
#: A word behind a dash that is no class of shares.
_WORDED: Final = re.compile(r"(.+?)-([a-z]{4,}|\d{1,2}|new|old|tmp|out|csv|avg)", re.IGNORECASE)
#: Exchanges whose tickers are numbers.
_NUMBERED: Final = frozenset({"XTKS", "XHKG", "XSHG", "XSHE", "XKRX", "XTAI", "XKLS", "XSAU"})
#: A class of shares behind an underscore, as in RDS_A; other names with one are made of words.
_CLASS: Final = re.compile(r"[A-Za-z0-9]{1,6}_[A-Za-z]{1,2}")
#: Stooq's downloads, such as sap_de_d.csv, and Alpha Vantage's, such as daily_adjusted_IBM.csv.
_STOOQ: Final = re.compile(r"^(\^?[a-z0-9.\-]+)(?:_([a-z]{2}))?_d$")
_ALPHA: Final = re.compile(r"^daily_(?:adjusted_)?(?=[A-Z0-9.\-]+$)")
_CODE: Final = re.compile(r"\d{4,6}")
#: Longer words than this are names of vendors and companies.
_SHORT: Final = 6
_FOLDER: Final = re.compile(r"[A-Z][A-Z0-9]{0,5}([.\-][A-Z]{1,3})?")


@dataclass(frozen=True)
class Named:
    """What a path tells of a symbol.

    Attributes:
        symbol: None where it tells none.
        source: where it comes from.
        shortened: whether something was taken off the file's name.
        guess: what it may be, where it is not sure.
    """

    symbol: str | None
    source: str = NAME
    shortened: bool = False
    guess: str = ""


def writable(text: str) -> str | None:
    """A text as a symbol in our one way; None if it cannot be one."""
    if "," in text:
        return None
    try:
        return normalize_symbols([text])[0]
    except ConfigurationError:
        return None


def name_of(path: Path, suffix: str, exchange: str, mapped: Collection[str]) -> Named:
    """The symbol that a path names.

    Args:
        path: of the file.
        suffix: its ending, such as ".csv.gz".
        exchange: on some, tickers are numbers.
        mapped: names that the settings map to symbols, in capitals.
    """
    for part in reversed(path.parts[:-1]):
        hive = HIVE_SYMBOL.fullmatch(part)
        if hive:
            given = unquote(hive.group(1))
            return Named(writable(given), HIVE, guess=given)
    stem = path.name[: -len(suffix)] if suffix else path.name
    if stem.strip().upper() in mapped:
        return Named(stem.strip().upper())
    short = _shortened(stem.strip())
    is_none = _is_no_symbol(short, exchange)
    worded = None if is_none else _WORDED.fullmatch(short)
    if worded or ("_" in short and not _CLASS.fullmatch(short)):
        return Named(None, NAME, guess=_likely(worded.group(1) if worded else short))
    if not is_none:
        symbol = writable(short)
        return Named(symbol, NAME, symbol is not None and short != stem.strip(), "" if symbol else _likely(short))
    folder = path.parent.name
    if _FOLDER.fullmatch(folder) and folder.casefold() not in WORDS:
        return Named(writable(folder), FOLDER)
    return Named(None, NAME)


def _shortened(stem: str) -> str:
    text = _COPY.sub("", stem)
    # TradingView: "NASDAQ_AAPL, 1D" and, with a hash, "NASDAQ_AAPL, 1D_3fa2c".
    text = re.sub(r"(, ?1D)_[0-9a-f]{4,6}$", r"\1", text)
    text = EXCHANGE.sub("", text, count=1) if EXCHANGE.match(text) else text
    text = _STOOQ.sub(lambda found: ".".join(filter(None, found.groups())), text)
    text = _ALPHA.sub("", text)
    while not _is_word(text) and (shorter := _ADDED.sub("", text)) and shorter != text:
        text = shorter
    return text


def _is_word(text: str) -> bool:
    return text.casefold() in WORDS or re.sub(r"[-_. ]+", "", text).casefold() in WORDS


def _is_no_symbol(text: str, exchange: str) -> bool:
    if exchange in _NUMBERED and _CODE.fullmatch(text) and not re.fullmatch(r"(19|20)\d\d", text):
        return False
    bare = re.sub(r"[-_. ]?\d*$", "", text)
    return _is_word(text) or _is_word(bare) or _NO_SYMBOL.fullmatch(text) is not None


def _likely(text: str) -> str:
    """The word of a name that could be a symbol: one in capitals, first or last; else the first, if it is short."""
    words = [word for word in re.split(r"[^A-Za-z0-9.\-^=]+", text) if word]
    capitals = [word for word in words if _FOLDER.fullmatch(word) and not _is_word(word)]
    first = words[0] if words and (words[0] in capitals or not capitals) else capitals[-1] if capitals else ""
    short = first in capitals or len(first) <= _SHORT
    return first.upper() if first and short and writable(first) and not _is_word(first) else ""
