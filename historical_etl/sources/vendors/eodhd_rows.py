"""Rows of EODHD: what their dates, ratios, amounts, codes and warnings say. No network here."""

import re
from calendar import isleap
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from historical_etl.sources.vendors.event_rows import VendorEvent
from historical_etl.sources.vendors.frames import VendorRow

__all__ = ["Paid", "cash_of", "code_of", "first_given", "ours_of", "parted", "split_event"]

#: Symbol (None: of nobody who was asked for), row, amount, and whether that is adjusted for later splits.
Paid = tuple[str | None, VendorRow, object, bool]
_SPLIT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*[/:]\s*(\d+(?:\.\d+)?)\s*")
_FORMER: Final = re.compile(r"_OLD(?=\d*$)")
_COUNTS: Final = {word: at + 1 for at, word in enumerate(("one", "two", "three", "four", "five"))}
_REACH: Final = re.compile(rf"limited\b.*?\b(\d{{1,4}}|{'|'.join(_COUNTS)})[ -](day|month|year)", re.IGNORECASE)


def parted(answer: Sequence[VendorRow]) -> tuple[list[VendorRow], list[str]]:
    """The rows of an answer, and the warnings in it: on the last row itself, or in one that holds nothing else."""
    warnings = [str(row["warning"]) for row in answer if row.get("warning")]
    return [row for row in answer if set(row) != {"warning"}], list(dict.fromkeys(warnings))


def first_given(warning: str, today: date) -> date | None:
    """The oldest day that a plan gives by its words, as in "limited by one year"; None where they do not say."""
    found = _REACH.search(warning)
    if found is None:
        return None
    count = _COUNTS.get(found[1].lower()) or int(found[1])
    match found[2].lower():
        case "year":
            year = today.year - count
            leap = (today.month, today.day) == (2, 29) and not isleap(year)
            return today.replace(year=year, day=28 if leap else today.day) if year > 0 else date.min
        case "month":
            return today - timedelta(days=31 * count)  # rather too far: the vendor cuts what is beyond
        case _:
            return today - timedelta(days=count)


def code_of(symbol: str) -> str:
    """BRK.B is BRK-B here, and the company that had a ticker before has a suffix in small letters."""
    return _FORMER.sub("_old", symbol.replace(".", "-").replace("/", "-"))


def ours_of(row: VendorRow, ours: Mapping[str, str]) -> str | None:
    """The symbol of ours that a row of a whole day is of; None: of nobody who was asked for."""
    code = row.get("code")
    return ours.get(code) if isinstance(code, str) else None


def _ratio(text: object) -> object:
    """4.000000/1.000000 is four new shares for each old one; what is written otherwise stays as it is."""
    found = _SPLIT.fullmatch(text) if isinstance(text, str) else None
    return (float(found[1]), float(found[2])) if found else str(text)


def split_event(symbol: str | None, row: VendorRow) -> VendorEvent:
    """A row of splits as an event."""
    return symbol, row.get("date"), _ratio(row.get("split")), None


def cash_of(row: VendorRow, adjusted: str) -> tuple[object, bool]:
    """What was paid for a share of that day; or, where that lacks, the same adjusted for later splits, with a note."""
    paid, value = _number(row.get("unadjustedValue")), _number(row.get(adjusted))
    lacks = paid in (None, "") or (paid == 0 and isinstance(value, int | float) and value > 0)
    return (value, isinstance(value, int | float)) if lacks else (paid, False)


def _number(value: object) -> object:
    """In bulk answers numbers are texts; what is none stays as it is, and true is none."""
    if isinstance(value, bool):
        return str(value)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
