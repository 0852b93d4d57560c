"""What the path of a file says beside the symbol: the place that it is from, and the basis of its prices.

Years, dates, numbers and words such as `archive` or `data` are no places: a history may lie there in pieces.
"""

import re
from pathlib import Path
from typing import Final

from historical_etl.sources.files.file_symbols import EXCHANGE, HIVE_SYMBOL, NAME, SETTING, WORDS
from historical_etl.sources.files.read_plan import ReadPlan

__all__ = ["basis_of", "place_of"]

_TIMES: Final = re.compile(r"(?:year|yyyy|month|mm|date|day|dt|quarter|week)=", re.IGNORECASE)
_PIECES: Final = WORDS | {
    "archive", "archives", "archived", "new", "old", "older", "recent", "current", "backup", "update", "updates",
    "updated", "delta", "increment", "incremental", "initial", "full", "copy", "copies", "of", "more", "rest", "extra",
    "got", "from", "to", "until", "since", "year", "years", "month", "months", "week", "day", "days", "q", "h", "v",
    "drop", "run", "folder", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    "january", "february", "march", "april", "june", "july", "august", "september", "october", "november", "december",
    "raw", "adj", "adjusted", "unadj", "unadjusted", "input", "in", "csvs", "gz", "tsv", "txt",
}  # fmt: skip
#: Words in the names of files of many symbols that tell their market.
_MARKETS: Final = frozenset([
    "us", "usa", "de", "germany", "uk", "gb", "london", "lse", "nyse", "nasdaq", "amex", "xetra", "frankfurt", "fr",
    "paris", "tsx", "canada", "jp", "japan", "tokyo", "tse", "hk", "hkex", "nse", "bse", "india", "asx", "australia",
    "europe",
])  # fmt: skip
#: Words of a basis → its words in messages.
_BASES: Final = {
    "adj": "adjusted",
    "adjusted": "adjusted",
    "adjclose": "adjusted",
    "adjustedclose": "adjusted",
    "unadj": "unadjusted",
    "unadjusted": "unadjusted",
    "nonadjusted": "unadjusted",
    "raw": "raw",
    "split": "split",
    "splits": "split",
    "splitadjusted": "split adjusted",
    "dividendadjusted": "dividend adjusted",
    "divadj": "dividend adjusted",
    "totalreturn": "total return",
}


def place_of(plan: ReadPlan, base: Path) -> str:
    """The place that a file is from; the same for pieces of one history. `base`: the folder that all have."""
    if plan.symbol_from == SETTING:
        return ""  # the setting says that all of it is one symbol
    parts = [
        words
        for part in _folders(plan, base)
        if not HIVE_SYMBOL.fullmatch(part) and (words := _bare(part, plan.symbol))
    ]
    if plan.symbol is None:
        parts += sorted(_MARKETS & set(re.findall(r"[a-z]+", plan.path.name.casefold())))
    prefix = EXCHANGE.match(plan.path.name) if plan.symbol_from == NAME and plan.symbol else None
    return "/".join([*parts, *([prefix.group().casefold()] if prefix else [])])


def basis_of(plan: ReadPlan, base: Path) -> str:
    """The basis of prices that the name of a file and its folders say; empty where they say none."""
    stem = plan.path.name.casefold()
    if plan.symbol and plan.symbol_from == NAME:
        stem = stem.replace(plan.symbol.casefold(), "", 1)  # a symbol may be RAW
    words = [word for text in (*_folders(plan, base), stem) for word in re.findall(r"[a-z]+", text.casefold())]
    return " ".join(sorted({_BASES[word] for word in words if word in _BASES}))


def _folders(plan: ReadPlan, base: Path) -> tuple[str, ...]:
    return plan.path.parent.relative_to(base).parts


def _bare(folder: str, symbol: str | None) -> str:
    """A folder's name without what tells no place: times, numbers, the symbol, common words."""
    if symbol is not None and folder.casefold() == symbol.casefold():
        return ""
    words = re.findall(r"[^\W\d_]+", _TIMES.sub("", folder).casefold())
    return " ".join(word for word in words if word not in _PIECES)
