"""Which column of a file is which of the schema's, by name alone. Types and values are the plan's."""

import re
from collections.abc import Sequence
from typing import Final

from historical_etl.errors import ConfigurationError, SchemaDriftError
from historical_etl.schema import PRIMARY_KEYS, SCHEMA
from historical_etl.settings import PREFIX, FilesSettings

__all__ = ["COLUMNS", "NUMBERS", "match_columns"]

#: What files may give; `ret` is computed.
COLUMNS: Final = tuple(name for name in SCHEMA if name != "ret")
NUMBERS: Final = tuple(name for name in COLUMNS if name not in PRIMARY_KEYS)
_REQUIRED: Final = ("date", "close", "volume")
#: Header names that mean a symbol. Found without a mapping, the file's name would be a wrong guess.
_SYMBOL_LOOKALIKES: Final = frozenset({"ticker", "tickers", "tickersymbol", "tic", "sym", "instrument", "code", "ric"})


def match_columns(names: Sequence[str], settings: FilesSettings, where: str) -> dict[str, int]:
    """The place in `names` of each column of ours that the file has.

    Raises:
        SchemaDriftError: a column is missing, or several could be the same one of ours.
        ConfigurationError: a symbol is set for a file that has symbols.
    """
    places: dict[str, int] = {}
    missing: list[str] = []
    # Mapped ones first: what a mapping claims is not found again by its name.
    for ours in sorted(COLUMNS, key=lambda name: name not in settings.columns):
        mapped = ours in settings.columns
        theirs = settings.columns.get(ours, ours)
        free = [place for place in range(len(names)) if mapped or place not in places.values()]
        hits = [place for place in free if names[place] == theirs]
        hits = hits or [place for place in free if _plain(names[place]) == _plain(theirs)]
        if len(hits) > 1:
            raise SchemaDriftError(
                f"{len(hits)} columns could be {ours}: {', '.join(repr(names[place]) for place in hits)}",
                where=where,
                todo=f"name one, as in {PREFIX}FILES_COLUMNS={ours}=<name in the file>",
            )
        if hits:
            places[ours] = hits[0]
        elif mapped or ours in _REQUIRED:
            missing.append(theirs if theirs == ours else f"{theirs} (as {ours})")
    lookalikes = [name for name in names if _plain(name) in _SYMBOL_LOOKALIKES]
    if "symbol" not in places and settings.symbol is None and lookalikes:
        missing.append(f"symbol (is it {lookalikes[0]!r}?)")
    if missing:
        raise _missing_columns(missing, names, settings, where)
    if "symbol" in places and settings.symbol is not None:
        raise ConfigurationError(
            f"{where} has symbols of its own",
            where=f"{PREFIX}FILES_SYMBOL",
            todo="unset it, or read files without symbols",
        )
    return places


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "", name).casefold()


def _missing_columns(
    missing: Sequence[str], names: Sequence[str], settings: FilesSettings, where: str
) -> SchemaDriftError:
    todo = f"map it, as in {PREFIX}FILES_COLUMNS={missing[0].split()[0]}=<name in the file>"
    other = next((sign for sign in ";,|\t" if len(names) == 1 and sign in names[0]), None)
    if other is not None:
        todo = f"set {PREFIX}FILES_SEPARATOR to {other!r}; it is {settings.separator!r}"
    elif any("(as " in name for name in missing):
        todo = f"correct {PREFIX}FILES_COLUMNS"
    listed = ", ".join(names)[:300]
    return SchemaDriftError(f"No column for {', '.join(missing)}; the header has: {listed}", where=where, todo=todo)
