"""Names: which security a ticker means, by what the ledger `aliases` of a version says.

A row of it says that `alias` was the name of what is now stored as `symbol`, up to `last_session`; so the rows of one
symbol are its former names in order of time. What becomes of the alias itself is its `kind`:

- `renamed`: whoever asks for it means `symbol`;
- `reused`: since `reused_from` it is the ticker of another security, and means that one;
- `split`: likewise, and `symbol` is a name that a person has made up: no source knows it. Without `reused_from` the
  ticker is the other security's on all days: no source has the former one any more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Final, Self

import polars as pl

from historical_etl.models import SyncManifest
from historical_etl.store.layout import Layout
from historical_etl.store.ledger_schemas import empty_ledger
from historical_etl.store.ledgers import read_ledger

__all__ = ["RENAMED", "REUSED", "SPLIT", "Alias", "Names"]

RENAMED, REUSED, SPLIT = "renamed", "reused", "split"
_FOREVER: Final = 2**62
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Alias:
    """A former name of a symbol: from `first` (None: ever) to `last`, moved by `version`."""

    alias: str
    symbol: str
    kind: str
    first: date | None
    last: date
    reused_from: date | None
    version: int

    @property
    def by_day(self) -> bool:
        """Whether the name meant the symbol on those days for a source, too, and not another security on all days."""
        return self.kind != SPLIT or self.reused_from is not None

    def within(self, start: date, end: date) -> tuple[date, date] | None:
        """The part of a range in which this name was in use; None if there is none."""
        low, high = max(start, self.first or start), min(end, self.last)
        return (low, high) if low <= high else None


@dataclass(frozen=True)
class Names:
    """The names of one version; `aliases` is its ledger."""

    aliases: pl.DataFrame

    @classmethod
    def none(cls) -> Self:
        """Where nothing was ever renamed: every name means itself."""
        return cls(empty_ledger("aliases"))

    @classmethod
    def of(cls, layout: Layout, manifest: SyncManifest | None) -> Self:
        """Those of a version.

        Raises:
            ChecksumMismatchError: the ledger is damaged, so that it is not known what is whose.
        """
        return cls(read_ledger(layout, manifest, "aliases"))

    def resolve(self, symbols: Iterable[str]) -> list[str]:
        """The symbols that names mean today, each once, in order of first mention."""
        return list(dict.fromkeys(self._newest(name) for name in symbols))

    def over(self, symbols: Iterable[str], start: date, end: date) -> list[str]:
        """The symbols whose bars a range of these names consists of: also what was called so then, and is not now."""
        found: dict[str, None] = {}
        for name in symbols:
            aliases = self._by_alias.get(name, ())
            others = [a.symbol for a in aliases if a.kind != RENAMED and a.by_day and a.within(start, end)]
            begins = self.begins.get(name)
            is_own = not others or begins is None or begins <= end
            found |= dict.fromkeys([*others, *([self._newest(name)] if is_own else [])])
        return list(found)

    def on(self, name: str, day: date) -> str:
        """The symbol that holds the bar which was a name's on a day."""
        then = next((alias for alias in self._by_alias.get(name, ()) if day <= alias.last and alias.by_day), None)
        return then.symbol if then else self._newest(name)

    def former(self, symbol: str) -> Sequence[Alias]:
        """The former names of a symbol, in order of time."""
        return self._by_symbol.get(symbol, ())

    def former_uses(self, name: str) -> Sequence[Alias]:
        """The symbols that a name was the name of, in order of time."""
        return self._by_alias.get(name, ())

    def owners(self, *, by_day: bool = False) -> list[tuple[str, str, date | None, date]]:
        """Whose the bars of names are, that mean another symbol: (name, symbol, from a day on, up to a day).

        Of what is stored; with `by_day` of what a source gives.
        """
        found: list[tuple[str, str, date | None, date]] = []
        for name, aliases in self._by_alias.items():
            low: date | None = None
            for alias in aliases:
                if alias.by_day or not by_day:
                    found.append((name, alias.symbol, low, alias.last))
                low = alias.last + _DAY
            if aliases[-1].kind == RENAMED:
                found.append((name, aliases[-1].symbol, low, date.max))
        return found

    def spans(self, symbol: str, day: date) -> list[tuple[str, int, int]]:
        """Under which names the logs have a symbol's bar of a day: (name, from that version on, before that one)."""
        found: list[tuple[str, int, int]] = []
        for name in dict.fromkeys([symbol, *(alias.alias for alias in self.former(symbol))]):
            since = 0
            moves = [alias for alias in self._by_alias.get(name, ()) if day <= alias.last]
            for alias in sorted(moves, key=lambda alias: alias.version):
                if alias.symbol == symbol and since < alias.version:
                    found.append((name, since, alias.version))
                since = max(since, alias.version)
            if name == symbol:
                found.append((name, since, _FOREVER))
        return found

    @cached_property
    def begins(self) -> dict[str, date]:
        """Since when a name is the ticker of the symbol that is called so now; what is older is another's."""
        newest = {name: aliases[-1] for name, aliases in self._by_alias.items()}
        return {
            name: alias.reused_from for name, alias in newest.items() if alias.kind != RENAMED and alias.reused_from
        }

    @cached_property
    def made_up(self) -> frozenset[str]:
        """Symbols that no source knows under their name."""
        return frozenset(
            alias.symbol for aliases in self._by_alias.values() for alias in aliases if alias.kind == SPLIT
        )

    @cached_property
    def awaited(self) -> frozenset[str]:
        """Names that were taken over by a security of which perhaps no bar has come yet."""
        return frozenset(name for name, aliases in self._by_alias.items() if aliases[-1].kind != RENAMED)

    def _newest(self, name: str) -> str:
        aliases = self._by_alias.get(name)
        return aliases[-1].symbol if aliases and aliases[-1].kind == RENAMED else name

    @cached_property
    def _all(self) -> list[Alias]:
        if self.aliases.is_empty():
            return []
        names = ("alias", "symbol", "kind", "first_session", "last_session", "reused_from", "version")
        return [Alias(*row) for row in self.aliases.select(names).sort("last_session", "alias").iter_rows()]

    @cached_property
    def _by_alias(self) -> dict[str, list[Alias]]:
        return _grouped((alias.alias, alias) for alias in self._all)

    @cached_property
    def _by_symbol(self) -> dict[str, list[Alias]]:
        return _grouped((alias.symbol, alias) for alias in self._all)


def _grouped(pairs: Iterable[tuple[str, Alias]]) -> dict[str, list[Alias]]:
    groups: dict[str, list[Alias]] = {}
    for key, alias in pairs:
        groups.setdefault(key, []).append(alias)
    return groups
