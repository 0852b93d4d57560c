"""Which column of a file is which of the schema's: by mapping, by known spelling, or asked for. Never by chance.

Types are the plan's. Values are looked at only where a name alone cannot tell: an index without a name, `Name`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from historical_etl.errors import ConfigurationError, SchemaDriftError
from historical_etl.schema import PRIMARY_KEYS, SCHEMA
from historical_etl.settings import PREFIX, FilesSettings
from historical_etl.sources.files.column_spellings import (
    EVENT_SPELLINGS,
    MARKS,
    SPELLINGS,
    is_unnamed,
    looks_like,
    plain,
)

__all__ = ["COLUMNS", "NUMBERS", "Matched", "match_columns", "score"]

#: What files may give; `ret` is computed.
COLUMNS: Final = tuple(name for name in SCHEMA if name != "ret")
NUMBERS: Final = tuple(name for name in COLUMNS if name not in PRIMARY_KEYS)
_REQUIRED: Final = ("date", "close", "volume")
#: A ticker, as a column called `Name` may hold: `all_stocks_5yr.csv` of Kaggle does.
_TICKER: Final = re.compile(r"[A-Z][A-Z0-9]{0,5}([.\-][A-Z]{1,2})?")
_INVESTING: Final = ("price", "change%")
#: Letters that stand for a bar's columns only together: C alone is a ticker, in a table with a column for each.
_LETTERS: Final = frozenset("tohlcv")
_BAR: Final = frozenset("ohlc")
#: The values of a column in the first lines, by its place.
Values = Callable[[int], Sequence[str]]


@dataclass(frozen=True)
class Matched:
    """The columns of one file.

    Attributes:
        places: column of ours, or event, → its place in the header.
        marks: what tells one series from another → its place.
        ignored: names of the columns that are not read.
    """

    places: Mapping[str, int]
    marks: Mapping[str, int]
    ignored: tuple[str, ...]


def score(names: Sequence[str]) -> int:
    """How many columns of ours a line names: whether it is a header."""
    known = {plain(name) for name in names}
    found = sum(not known.isdisjoint(spellings) for spellings in SPELLINGS.values())
    return found + (set(_INVESTING) <= known) + any(is_unnamed(name) for name in names[:1] if len(names) > 1)


def match_columns(
    names: Sequence[str],
    settings: FilesSettings,
    where: str,
    values: Values,
    is_day: Callable[[Sequence[str]], bool],
    *,
    is_named: bool,
) -> Matched:
    """The place in `names` of each column of ours that the file has; `is_named`: whether its path names its symbol.

    Raises:
        SchemaDriftError: a column is missing, several could be the same one of ours, or one may be ours.
        ConfigurationError: a symbol is set for a file that has symbols.
    """
    found = _Match(names, settings, where)
    found.mapped()
    found.by_spelling()
    if found.lacks("date"):
        unnamed = [place for place in found.free() if is_unnamed(names[place])]
        found.take("date", [place for place in unnamed if is_day(values(place))][:1])
    known = {plain(name) for name in names}
    if found.lacks("close") and set(_INVESTING) <= known:
        found.take("close", [place for place in found.free() if plain(names[place]) == "price"])
    if found.lacks("symbol") and settings.symbol is None:
        found.symbol_in_name(values)
    found.check(is_named=is_named)
    if "symbol" in found.places and settings.symbol is not None:
        raise ConfigurationError(
            f"{where} has symbols of its own",
            where=f"{PREFIX}FILES_SYMBOL",
            todo="unset it, or read files without symbols",
        )
    marks = found.marks()
    left = [place for place in found.free() if place not in marks.values() and plain(names[place]) != "ret"]
    return Matched(found.places, marks, tuple(names[place].strip() or "(no name)" for place in left))


class _Match:
    """The columns that are found, step by step."""

    def __init__(self, names: Sequence[str], settings: FilesSettings, where: str) -> None:
        self.places: dict[str, int] = {}
        self._names = names
        self._settings = settings
        self._where = where
        self._missing: list[str] = []
        self._left_out = {plain(name) for name in settings.ignore}
        letters = [plain(name) for name in names if plain(name) in _LETTERS]
        self._are_letters = set(letters) >= _BAR and len(letters) * 2 >= len(names)

    def lacks(self, ours: str) -> bool:
        """Whether no column is found for it yet, and none is mapped."""
        return ours not in self.places and ours not in self._settings.columns

    def free(self) -> list[int]:
        """The places that are no column of ours so far."""
        return [place for place in range(len(self._names)) if place not in self.places.values()]

    def take(self, ours: str, hits: Sequence[int]) -> None:
        """Take the only hit.

        Raises:
            SchemaDriftError: there are several.
        """
        if len({self._names[place].strip() for place in hits}) < len(hits) > 1:
            raise SchemaDriftError(
                f"{len(hits)} columns are called {self._names[hits[0]].strip()!r}; which is {ours}?",
                where=self._where,
                todo="is there a block of columns for each symbol? Then write one row for each date and symbol: date, "
                "symbol, close, volume; else give each column a name of its own",
            )
        if len(hits) > 1:
            raise SchemaDriftError(
                f"{len(hits)} columns could be {ours}: {', '.join(repr(self._names[place]) for place in hits)}",
                where=self._where,
                todo=f"name one, as in {PREFIX}FILES_COLUMNS={ours}=<name in the file>",
            )
        if hits:
            self.places[ours] = hits[0]

    def mapped(self) -> None:
        """What the settings map goes first: what a mapping claims is not found again by its name."""
        for ours, theirs in self._settings.columns.items():
            exact = [place for place, name in enumerate(self._names) if name == theirs]
            self.take(ours, exact or self._named(range(len(self._names)), plain(theirs)))
            if ours not in self.places:
                self._missing.append(theirs if theirs == ours else f"{theirs} (as {ours})")

    def by_spelling(self) -> None:
        """Our own name goes before other spellings, and those of a symbol have an order; all else must be one.

        `close` does not go before `Close`: two columns of one name are two answers.
        """
        for ours, spellings in {**SPELLINGS, **EVENT_SPELLINGS}.items():
            if not self.lacks(ours):
                continue
            free = [place for place in self.free() if plain(self._names[place]) not in self._left_out]
            known = [spelling for spelling in spellings if self._are_letters or spelling not in _LETTERS]
            ranks = [(spelling,) for spelling in known] if ours == "symbol" else [known[:1], known[1:]]
            hits = [self._named(free, *rank) for rank in ranks]
            self.take(ours, next((found for found in hits if found), list[int]()))

    def symbol_in_name(self, values: Values) -> None:
        """A column called `Name` is one of symbols if all its values are written like tickers."""
        for place in self._named(self.free(), "name"):
            texts = [text for text in values(place) if text]
            if texts and all(_TICKER.fullmatch(text) for text in texts):
                self.take("symbol", [place])
            elif len(set(texts)) > 1:
                self._missing.append(f"symbol (is it {self._names[place]!r}?)")

    def marks(self) -> dict[str, int]:
        """The place of each mark of a series that the file has and nobody has left out."""
        free = {plain(self._names[place]): place for place in self.free()[::-1]}
        known = {
            mark: [free[name] for name in spellings if name in free and name not in self._left_out]
            for mark, spellings in MARKS.items()
        }
        return {mark: places[0] for mark, places in known.items() if places}

    def check(self, *, is_named: bool) -> None:
        """Refuse what is missing, and what may be ours: a look-alike is never left out in silence."""
        lacking = [ours for ours in COLUMNS if self.lacks(ours)]
        if self._settings.symbol is not None:
            lacking = [ours for ours in lacking if ours != "symbol"]
        marks = self.marks().values()
        alike: dict[str, list[str]] = {}
        for place in self.free() if len(self._names) > 1 else ():
            name = self._names[place]
            if plain(name) in self._left_out or is_unnamed(name) or plain(name) == "name":
                continue
            ours = looks_like(name, lacking)
            if place in marks and (ours != "symbol" or is_named):
                continue  # then it has to be the same in all rows
            if ours is not None:
                alike.setdefault(ours, []).append(name)
        for ours in lacking:
            if ours in alike:
                self._missing.append(f"{ours} (is it {' or '.join(repr(name) for name in alike[ours])}?)")
            elif ours in _REQUIRED and (ours != "volume" or not {"date", "close"} & self.places.keys()):
                self._missing.append(ours)
        if self._missing:
            raise self._events_alone() or self._refusal()

    def _events_alone(self) -> SchemaDriftError | None:
        """The refusal of a file of splits or dividends, which has nothing of a bar."""
        events = [self._names[self.places[name]] for name in EVENT_SPELLINGS if name in self.places]
        if not events or not {"open", "high", "low", "close", "adj_close", "volume"}.isdisjoint(self.places):
            return None
        if any("is it" in name for name in self._missing):
            return None
        return SchemaDriftError(
            f"This file has events and no prices: {', '.join(events)}",
            where=self._where,
            todo="events are read where they stand beside the bars: download the history with them, or take the file "
            "out of the folder",
        )

    def _is_wide(self) -> bool:
        """Whether all columns but the date are written like tickers."""
        free = self.free()
        return len(free) > 1 and all(_TICKER.fullmatch(self._names[place].strip()) for place in free)

    def _named(self, places: Sequence[int], *spellings: str) -> list[int]:
        return [place for place in places if plain(self._names[place]) in spellings]

    def _refusal(self) -> SchemaDriftError:
        names, missing = self._names, self._missing
        first = missing[0].split()[0]
        guess = re.search(r"\(is it '([^']*)'\?\)", missing[0])  # of several, any would be by chance
        todo = f"map it, as in {PREFIX}FILES_COLUMNS={first}={guess.group(1) if guess else '<name in the file>'}"
        if guess:
            todo += f", or name it in {PREFIX}FILES_IGNORE if it is not"
        other = next((sign for sign in ";,|\t" if len(names) == 1 and sign in names[0]), None)
        if other is not None:
            todo = f"set {PREFIX}FILES_SEPARATOR to {other!r}; it is {self._settings.separator!r}"
        elif len(names) == 1:
            return SchemaDriftError(
                f"This is no table of prices; it begins with {names[0].strip()[:100]!r}",
                where=self._where,
                todo="is it a message of the vendor's? Then download the file again",
            )
        elif missing == ["close"] and "adj_close" in self.places:
            name = names[self.places["adj_close"]].strip()
            todo = (
                f"it has an adjusted close only: export the close as well; or, if all its prices are adjusted, set "
                f"{PREFIX}FILES_COLUMNS=close={name}"
            )
        elif any("(as " in name for name in missing):
            todo = f"correct {PREFIX}FILES_COLUMNS"
        elif missing == ["close"] and self._is_wide():
            todo = "is each column a symbol? Then write one row for each date and symbol: date, symbol, close"
        listed = ", ".join(names)[:300]
        return SchemaDriftError(
            f"No column for {', '.join(missing)}; the header has: {listed}", where=self._where, todo=todo
        )
