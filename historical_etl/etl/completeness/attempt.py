"""A fetch attempt: what one commit asked for and stores, and for how long missing bars are requested again."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Final

import polars as pl

__all__ = ["REFUSED", "FetchAttempt", "GapPolicy"]

#: Columns of `FetchAttempt.refused`.
REFUSED: Final = pl.Schema({"symbol": pl.String(), "date": pl.Date(), "outcome": pl.String()})


@dataclass(frozen=True)
class GapPolicy:
    """How long to ask for what does not come.

    Attributes:
        confirm_runs: after so many sessions' runs without a bar a gap is confirmed, and a silent symbol has ended.
            Until then every run asks; after that the pauses grow: 1, 2, 4, … sessions.
        ended_after: with so many sessions missing at its end a symbol has ended.
        max_pause: the longest pause between two attempts, in sessions.
    """

    confirm_runs: int = 3
    ended_after: int = 10
    max_pause: int = 20


@dataclass(frozen=True)
class FetchAttempt:
    """What one commit asked for and stores.

    Attributes:
        asked: columns symbol, start, end (the first and last session asked for), outcome, adjustment, provider;
            expected_from, the first session on which the universe has the symbol, null where it does not say;
            adjusted_through, the last session fetched with an `adj_close`; replaced, whether the whole history was;
            names_events and split_adjusted, what the source tells and does.
        stored: (symbol, date) of the rows that the commit stores, sorted, keys unique.
        dropped: (symbol, date) of stored rows that the commit removes.
        refused: (symbol, date) of fetched rows that broke a rule, but for those without a price; and `outcome`,
            "refused", or "held" of those that are kept out singly.
        today: the last closed session: several attempts on the same one count as one attempt.
        version: of the commit.
        at: the time of the commit.
    """

    asked: pl.DataFrame
    stored: pl.DataFrame
    dropped: pl.DataFrame
    refused: pl.DataFrame
    today: date
    version: int
    at: datetime

    @cached_property
    def stamp(self) -> tuple[pl.Expr, pl.Expr]:
        """What the rows of logs say of the commit that brings them: `version` and `committed_at`."""
        return pl.lit(self.version, pl.Int64).alias("version"), pl.lit(self.at).alias("committed_at")
