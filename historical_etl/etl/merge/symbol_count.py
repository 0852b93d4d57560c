"""How many symbols a year has after a merge that read only some of its rows."""

import polars as pl

from historical_etl.etl.merge.stored_years import StoredYears
from historical_etl.schema import empty_frame, symbols_in

__all__ = ["SymbolCount"]


class SymbolCount:
    """The number of distinct symbols in a year, from what is stored, and what becomes of those that come and go."""

    def __init__(self, stored: StoredYears, year: int) -> None:
        self._stored = stored
        self._year = year
        self._before: list[pl.DataFrame] = []
        self._after: list[pl.DataFrame] = []

    def add(self, old: pl.DataFrame | None, merged: pl.DataFrame) -> None:
        """Rows as they were, and as they are now."""
        self._before += [old.select("symbol")] if old is not None else []
        self._after.append(merged.select("symbol"))

    def count(self) -> int:
        """How many there are now."""
        before, after = ({s for part in parts for s in symbols_in(part)} for parts in (self._before, self._after))
        come, gone = after - before, before - after
        partition = self._stored.partition(self._year)
        known = partition.symbols if partition else 0
        if not known or not come | gone:
            return known + len(come)
        moved = pl.col("symbol").is_in(list(come | gone))
        visited = pl.concat([empty_frame().select("symbol"), *self._before]).lazy()
        seen = visited.filter(moved).group_by("symbol").agg(pl.len().alias("seen"))
        stored = self._stored.scan(self._year).filter(moved).group_by("symbol").agg(pl.len())
        others = stored.join(seen, on="symbol", how="left").filter(pl.col("len") > pl.col("seen").fill_null(0))
        elsewhere = set(others.collect().get_column("symbol"))
        return known + len(come - elsewhere) - len(gone - elsewhere)
