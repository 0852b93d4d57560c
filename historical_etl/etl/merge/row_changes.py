"""What a merge does to the stored rows, gathered month by month for the ledgers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import polars as pl

from historical_etl.schema import ORDER, PRIMARY_KEYS, SCHEMA, empty_frame

__all__ = ["COMPARED", "RowChanges"]

#: What new rows may change: all but the keys and `ret`, which follows from the others.
COMPARED: Final = tuple(name for name in SCHEMA if name not in (*PRIMARY_KEYS, "ret"))


@dataclass(frozen=True)
class RowChanges:
    """What new rows mean to stored ones.

    Attributes:
        changed: stored rows that new rows change, `ret` aside: the key, the old values, and the new ones as `*_new`.
        added: (symbol, date) of new rows that were not stored.
        removed: stored rows that were dropped.
        implied: events that the prices of the visited months imply, and the spans that were looked at.
        withheld: cells that the source did not give; None where nobody looked.
    """

    changed: pl.DataFrame
    added: pl.DataFrame
    removed: pl.DataFrame
    implied: tuple[tuple[pl.DataFrame, pl.DataFrame], ...] = ()
    withheld: pl.DataFrame | None = None

    @classmethod
    def between(cls, old: pl.DataFrame | None, rows: pl.DataFrame, dropped: pl.DataFrame) -> Self:
        """Of new rows, and keys to drop, to the stored rows of the same months (None: there are none)."""
        if old is None:
            return cls(_beside(rows.clear(), rows.clear()), rows.select(ORDER), rows.clear())
        both = _beside(old, rows)
        added = rows.select(ORDER)
        is_new = both.height < rows.height
        added = added.join(both, on=ORDER, how="anti", maintain_order="left") if is_new else added.clear()
        differs = pl.any_horizontal(pl.col(name).ne_missing(pl.col(f"{name}_new")) for name in COMPARED)
        removed = old.join(dropped, on=ORDER, how="semi") if dropped.height else old.clear()
        return cls(both.filter(differs), added, removed)

    @classmethod
    def of_all(cls, parts: Sequence["RowChanges"]) -> "RowChanges":
        """All of some parts together."""
        if len(parts) == 1:
            return parts[0]
        nothing = empty_frame()
        return cls(
            changed=pl.concat([_beside(nothing, nothing), *(part.changed for part in parts)]),
            added=pl.concat([nothing.select(ORDER), *(part.added for part in parts)]),
            removed=pl.concat([nothing, *(part.removed for part in parts)]),
            implied=tuple(found for part in parts for found in part.implied),
            withheld=pl.concat(cells) if (cells := [p.withheld for p in parts if p.withheld is not None]) else None,
        )


def _beside(old: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    return old.join(rows, on=ORDER, suffix="_new")
