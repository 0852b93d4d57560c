"""What happened, and what each vendor makes of it: raw bars and corporate actions, and the bases they are given in."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, Self

import polars as pl

from historical_etl.schema import SCHEMA
from historical_etl.sources.base import ACTIONS

_PRICES = ("open", "high", "low", "close")


def no_actions() -> pl.DataFrame:
    return pl.DataFrame(schema=ACTIONS)


@dataclass(frozen=True)
class Spell:
    """Who bore a ticker from when to when."""

    ticker: str
    company: str
    first: date = date.min
    last: date = date.max


@dataclass(frozen=True)
class Truth:
    """What happened: raw bars with the schema's columns (`ret` is left out), and splits and dividends.

    Bars and actions bear the ticker of their day; `spells` tell whose it was, for vendors that follow renames.
    """

    bars: pl.DataFrame
    actions: pl.DataFrame = field(default_factory=no_actions)
    spells: tuple[Spell, ...] = ()
    _computed: dict[str, Any] = field(init=False, default_factory=dict, repr=False, compare=False)  # worked out once

    @property
    def symbols(self) -> list[str]:
        return self.once("symbols", lambda: sorted(set(self.bars["symbol"])))

    def rows(self, vendor: str, symbol: str) -> list[dict[str, Any]]:
        """A symbol's bars in order of time, as a vendor tells them."""

        def by_symbol() -> dict[str, pl.DataFrame]:
            parts = self.basis(vendor).bars.partition_by("symbol", as_dict=True)
            return {str(key[0]): part for key, part in parts.items()}

        parts = self.once(f"rows {vendor}", by_symbol)
        return self.once(
            f"rows {vendor} {symbol}", lambda: parts[symbol].sort("date").to_dicts() if symbol in parts else []
        )

    def events(self) -> list[dict[str, Any]]:
        """All actions in order of time."""
        return self.once("events", lambda: self.actions.sort("date", "symbol").to_dicts())

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        if name not in self._computed:
            self._computed[name] = work()
        return self._computed[name]

    def adjusted(self) -> Self:
        """The same with `adj_close` worked out from the actions, for splits and dividends, as of the last bar.

        What happens on a day without a bar is in the prices of the next one.
        """
        rows = []
        for symbol in self.symbols:
            mine = self.bars.filter(pl.col("symbol") == symbol).sort("date")
            events = self.actions.filter(pl.col("symbol") == symbol).sort("date").to_dicts()
            factor, factors = 1.0, []
            days, closes = mine["date"].to_list(), mine["close"].to_list()
            for at in reversed(range(len(days))):
                factors.append(factor)
                level = closes[at - 1] if at else None
                for event in events if at else ():
                    if days[at - 1] < event["date"] <= days[at]:
                        factor *= (1 - event["dividend"] / level) / event["split"]
                        level = (level - event["dividend"]) / event["split"]
            rows.append(mine.with_columns((pl.col("close") * pl.Series(factors[::-1])).alias("adj_close")))
        return replace(self, bars=pl.concat(rows))

    def until(self, day: date) -> Self:
        """What had happened by the end of a day, adjusted as of it."""
        known = replace(
            self,
            bars=self.bars.filter(pl.col("date") <= day),
            actions=self.actions.filter(pl.col("date") <= day),
        )
        return known.adjusted()

    def split_factors(self) -> pl.DataFrame:
        """Each bar's key, and how many shares of today one share of its day has become."""
        splits = self.actions.filter(pl.col("split") != 1).select("symbol", pl.col("date").alias("on"), "split")
        later = (
            self.bars.select("symbol", "date")
            .join(splits, on="symbol")
            .filter(pl.col("on") > pl.col("date"))
            .group_by("symbol", "date")
            .agg(pl.col("split").product().alias("factor"))
        )
        keys = self.bars.select("symbol", "date").unique()
        return keys.join(later, on=["symbol", "date"], how="left").with_columns(pl.col("factor").fill_null(1.0))

    def basis(self, vendor: str) -> Self:
        """The truth as a vendor tells it."""
        return self.once(f"basis {vendor}", lambda: self._basis(vendor))

    def _basis(self, vendor: str) -> Self:
        factor = pl.col("factor")
        bars = self.bars.join(self.split_factors(), on=["symbol", "date"], how="left", maintain_order="left")
        actions = self.actions
        if vendor in {"yfinance", "eodhd"}:
            bars = bars.with_columns(pl.col("volume") * factor)
        if vendor == "yfinance":
            bars = bars.with_columns(pl.col(name) / factor for name in _PRICES)
            later = actions.join(actions, on="symbol", suffix="_later").filter(pl.col("date_later") > pl.col("date"))
            product = later.group_by("symbol", "date").agg(pl.col("split_later").product().alias("factor"))
            actions = actions.join(product, on=["symbol", "date"], how="left").with_columns(
                pl.col("dividend") / factor.fill_null(1.0)
            )
        if vendor == "massive":
            bars = bars.with_columns(pl.lit(None, pl.Float64).alias("adj_close"))
        return replace(self, bars=bars.drop("factor"), actions=actions.select(ACTIONS.names()))

    def expected(
        self,
        vendor: str,
        symbols: Iterable[str] | None = None,
        start: date = date.min,
        end: date = date.max,
        *,
        printable: bool = False,
    ) -> pl.DataFrame:
        """The frame that a fetch from this vendor must bring, sorted by (symbol, date), `ret` null.

        EODHD's volumes are brought as traded, but `printable` where its splits are not known.
        """
        wanted = self.symbols if symbols is None else list(symbols)
        brought = self if vendor == "eodhd" and not printable else self.basis(vendor)
        bars = brought.bars.with_columns(pl.lit(None, pl.Float64).alias("ret"))
        kept = bars.filter(pl.col("symbol").is_in(wanted), pl.col("date").is_between(start, end))
        floats = [name for name, dtype in SCHEMA.items() if dtype == pl.Float64]
        return kept.select(SCHEMA.names()).with_columns(pl.col(floats).fill_nan(None)).sort("symbol", "date")

    def expected_actions(
        self, vendor: str, symbols: Iterable[str] | None = None, start: date = date.min, end: date = date.max
    ) -> pl.DataFrame:
        """The actions that a fetch from this vendor must bring."""
        wanted = self.symbols if symbols is None else list(symbols)
        kept = pl.col("symbol").is_in(wanted) & pl.col("date").is_between(start, end)
        return self.basis(vendor).actions.filter(kept).sort("symbol", "date")
