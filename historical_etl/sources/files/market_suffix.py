"""Symbols that end in a market, as in SAP.DE: the ending is left out only where all symbols have the same."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

__all__ = ["Suffix", "renamed"]

Suffix = Literal["auto", "keep", "strip"]
_MARKET: Final = re.compile(r"(.+)\.([A-Z]{2})")
_CLASS: Final = re.compile(r"([A-Z]+)-([A-Z])(\.US)?")


def renamed(symbols: Iterable[str], suffixed: Iterable[str], how: Suffix) -> tuple[Mapping[str, str], str]:
    """Symbols as they are in files → as they are written here, and the note on it.

    Args:
        symbols: all of them.
        suffixed: those of files that write markets behind symbols; of others only .US is a market.
        how: `strip` the market, `keep` it, or `auto`: strip it where it is the same for all.
    """
    stooq = set(suffixed)
    everything = set(symbols)
    ended = {s: match for s in everything if (match := _MARKET.fullmatch(s)) and (s in stooq or match.group(2) == "US")}
    markets = {match.group(2) for match in ended.values()}
    # One without a market beside those with one would be joined with its namesake.
    clear = len(markets) == 1 and not (everything - set(ended)) & {match.group(1) for match in ended.values()}
    strip = bool(ended) and (how == "strip" or (how == "auto" and clear))
    names = {symbol: match.group(1) for symbol, match in ended.items()} if strip else {}
    names |= {s: _dotted(names.get(s, s)) for s in stooq if _dotted(names.get(s, s)) != s}
    if strip:
        some = ", ".join(f"{theirs} is {ours}" for theirs, ours in sorted(names.items())[:1])
        return names, f"the market behind symbols, .{', .'.join(sorted(markets))}, is left out: {some}"
    if len(markets) > 1:
        first = ", ".join(sorted(ended)[:3])
        return names, f"symbols of {len(markets)} markets keep their endings: {first}"
    return names, ""


def _dotted(symbol: str) -> str:
    """A class of shares in our one way: BRK-B.US is BRK.B.US."""
    return _CLASS.sub(r"\1.\2\3", symbol) if _CLASS.fullmatch(symbol) else symbol
