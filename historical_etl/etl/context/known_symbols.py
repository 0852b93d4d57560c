"""Which symbols a read may ask for: a typing error must not look like an empty answer."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

import polars as pl

from historical_etl.errors import ConfigurationError
from historical_etl.etl.completeness import load_completeness
from historical_etl.models import SyncManifest
from historical_etl.sessions import SessionCalendar
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_undamaged

__all__ = ["known_symbols", "refuse_unknown"]

_SAMPLE: Final = 5
#: Ledgers that name symbols of which no bar was ever stored.
_ALSO_NAMED: Final = ("closed_holds", "rejected_rows", "replaced_rows")


def known_symbols(layout: Layout, manifest: SyncManifest, calendar: SessionCalendar) -> frozenset[str]:
    """The symbols that a version has asked for or holds, with or without bars, and their former names."""
    symbols = load_completeness(layout, manifest, calendar).symbols.get_column("symbol")
    held = read_undamaged(layout, manifest, "open_holds").get_column("symbol")
    return frozenset([*symbols, *held, *read_undamaged(layout, manifest, "aliases").get_column("alias")])


def refuse_unknown(layout: Layout, manifest: SyncManifest, symbols: Iterable[str], known: frozenset[str]) -> None:
    """Refuse symbols that no ledger of a version has heard of.

    Raises:
        ConfigurationError: there are some; the nearest known names are reported.
    """
    unknown = [symbol for symbol in symbols if symbol not in known]
    for name in _ALSO_NAMED if unknown else ():
        named = read_undamaged(layout, manifest, name)
        recorded = set(named.filter(pl.col("symbol").is_in(unknown)).get_column("symbol"))
        unknown = [symbol for symbol in unknown if symbol not in recorded]
    if not unknown:
        return
    stored = sorted(known)
    near = list(dict.fromkeys(name for symbol in unknown[:_SAMPLE] for name in _nearest(symbol, stored)))
    listed = f"did you mean {', '.join(near)}" if near else f"{len(stored):,} symbol(s) are known: {_some(stored)}"
    raise ConfigurationError(
        f"The store does not know {_some(unknown)}",
        where="symbols",
        todo=f"{listed}? What is new comes with `historical-etl update --symbols …`"
        if near
        else f"{listed}. What is new comes with `historical-etl update --symbols …`",
    )


def _nearest(symbol: str, stored: Sequence[str]) -> list[str]:
    return difflib.get_close_matches(symbol, stored, n=3, cutoff=0.5)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SAMPLE:,} more" if len(names) > _SAMPLE else ""
    return ", ".join(names[:_SAMPLE]) + more
