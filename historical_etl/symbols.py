"""How a ticker symbol is written: normalised once, on entry, and the same everywhere after."""

import re
from collections.abc import Iterable

from historical_etl.errors import ConfigurationError

__all__ = ["SYMBOL_PATTERN", "normalize_symbols"]

SYMBOL_PATTERN = r"^[A-Z0-9][A-Z0-9.\-^=]{0,14}$"
_SYMBOL = re.compile(SYMBOL_PATTERN + r"\Z")
_SHOWN = 60  # characters of a symbol that is refused


def normalize_symbols(symbols: Iterable[str] | str) -> list[str]:
    """Strip, upper-case and de-duplicate symbols, keeping the order of first mention.

    Args:
        symbols: an iterable of symbols, or one string with symbols separated by commas.

    Raises:
        ConfigurationError: the list is empty, or a symbol does not match `SYMBOL_PATTERN`.
    """
    given = [part for part in symbols.split(",") if part.strip()] if isinstance(symbols, str) else list(symbols)
    clean = list(dict.fromkeys(_written(symbol) for symbol in given))
    refused = [symbol for symbol in clean if not _SYMBOL.match(symbol)]
    if refused:
        raise ConfigurationError(
            f"{len(refused)} symbol(s) refused: {', '.join(repr(s[:_SHOWN]) for s in refused[:10])}",
            where="symbols",
            todo=f"write symbols as 1 to 15 of A-Z 0-9 . - ^ =, first a letter or digit ({SYMBOL_PATTERN})",
        )
    if not clean:
        raise ConfigurationError(
            "The list of symbols is empty", where="symbols", todo="name at least one symbol, or leave the list out"
        )
    return clean


def _written(symbol: object) -> str:
    if not isinstance(symbol, str):
        return f"({symbol!r})"  # never a symbol, whatever it is: 1.5 and None would be some
    text = symbol.strip()
    # Elsewhere some small letters have capitals that are ours: ß is SS, and a long s an S.
    return text.upper() if text.isascii() else text
