"""How a ticker symbol is written: normalised once, on entry, and the same everywhere after."""

import re
from collections.abc import Iterable
from typing import Final

from historical_etl.arguments import is_table
from historical_etl.errors import ConfigurationError
from historical_etl.masking import display_value, looks_secret

__all__ = ["SYMBOL_PATTERN", "is_symbol", "normalize_symbols", "resembling"]

#: What can be written: at most 32 characters, with one slash at most and no dot behind it, so that no symbol leads out
#: of a folder, opens a formula in a sheet, or ends a word of a shell's glob. Python and Polars read it alike.
_SIGNS: Final = r"[A-Z0-9.\-^=&_]"
SYMBOL_PATTERN: Final = (
    rf"^(?:\^?[A-Z0-9]{_SIGNS}{{0,30}}|[A-Z0-9]{_SIGNS}{{31}}|\^?[A-Z0-9]{_SIGNS}{{0,14}}/[A-Z0-9]{_SIGNS}{{0,14}})$"
)
_SYMBOL: Final = re.compile(SYMBOL_PATTERN[:-1] + r"\Z")
_SHOWN: Final = 60  # characters of a symbol that is refused
_NAMED: Final = 10  # symbols that an error names
#: Preferred shares as some exchanges write them. In capitals it would be another symbol.
_PREFERRED: Final = re.compile(r"([A-Z]+)p([A-Z]?)")
_RULE: Final = "write symbols as 1 to 32 of A-Z 0-9 . - ^ = & _ and one /, beginning with a letter or digit, or with ^"


def is_symbol(text: str) -> bool:
    """Whether a text is a symbol as it is stored."""
    return _SYMBOL.match(text) is not None


def normalize_symbols(symbols: Iterable[str] | str) -> list[str]:
    """Strip, upper-case and de-duplicate symbols, keeping the order of first mention.

    Args:
        symbols: an iterable of symbols, or one string with symbols separated by commas.

    Raises:
        ConfigurationError: the list is empty or a table, or a symbol does not match `SYMBOL_PATTERN`.
    """
    if is_table(symbols):
        raise ConfigurationError(
            "A table is no list of symbols", where="symbols", todo="give one column of it, as in table['symbol']"
        )
    given = [part for part in symbols.split(",") if part.strip()] if isinstance(symbols, str) else list(symbols)
    clean = list(dict.fromkeys(_written(symbol) for symbol in given))
    refused = [symbol for symbol in clean if not is_symbol(symbol)]
    if refused:
        raise ConfigurationError(
            f"{len(refused)} symbol(s) refused: {', '.join(map(resembling, refused[:_NAMED]))}",
            where="symbols",
            todo=_RULE,
        )
    if not clean:
        raise ConfigurationError(
            "The list of symbols is empty", where="symbols", todo="name at least one symbol, or leave the list out"
        )
    return clean


def resembling(text: str) -> str:
    """A text that is no symbol, in quotes, with the symbols that it may stand for; not one that may be a key."""
    if looks_secret(text):
        return display_value(text)
    parts = text.upper().split() if text.isascii() else []
    likely = [name for name in (".".join(parts), "-".join(parts)) if len(parts) > 1 and is_symbol(name)]
    likely += [_PREFERRED.sub(r"\1.PR\2", text)] if _PREFERRED.fullmatch(text) else []
    return f"{text[:_SHOWN]!r}" + (f" (is it {' or '.join(likely)}?)" if likely else "")


def _written(symbol: object) -> str:
    if not isinstance(symbol, str):
        return f"({symbol!r})"  # never a symbol, whatever it is: 1.5 and None would be some
    text = symbol.strip()
    # Elsewhere some small letters have capitals that are ours: ß is SS, and a long s an S.
    return text.upper() if text.isascii() and not _PREFERRED.fullmatch(text) else text
