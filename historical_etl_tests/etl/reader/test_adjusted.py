"""Adjusted reads against a market that knows the truth, for every style of source: right, or null, never mixed."""

from datetime import date

import polars as pl
import pytest

from historical_etl import HistoricalETL
from historical_etl.etl.reader.adjusted import Adjust
from historical_etl_tests.proofs.simulation.faults import Fault, View
from historical_etl_tests.proofs.simulation.market import SimMarket, Style
from historical_etl_tests.proofs.simulation.run import Life
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import KEYS

FIRST, LAST = date(2012, 9, 4), date(2013, 2, 15)
PRICES = ("open", "high", "low", "close")
NEAR = 2e-5
STYLES: list[tuple[Style, bool]] = [
    (style, names) for style in ("raw", "split_adjusted", "unadjusted") for names in (False, True)
]
#: What nobody can know: of a source that names no events, the splits that it has taken out or never takes.
UNKNOWN: dict[Adjust, set[tuple[Style, bool]]] = {
    "none": {("split_adjusted", False)},
    "splits": {("unadjusted", False)},
    "total": {("unadjusted", False)},
}


class Holes(Fault):
    """Some bars come without their adj_close, on the evening on which they are new and for ever."""

    def alter(self, bars: pl.DataFrame, view: View) -> pl.DataFrame:
        hole = (pl.col("date").dt.ordinal_day() % 11 == 0) & pl.col("symbol").str.starts_with("D")
        return bars.with_columns(pl.when(~hole).then("adj_close").alias("adj_close"))


def truth(market: SimMarket, today: date) -> pl.DataFrame:
    """Raw bars, and what makes each comparable: `by_splits` and `by_all` scale a series by one number at most."""
    paid = market.events.select("symbol", "date", "split", "dividend")
    rows = market.table.filter(pl.col("date") <= today).join(paid, on=KEYS, how="left").sort("symbol", "date")
    before = pl.col("close").shift(1).over("symbol", "life")
    held = pl.col("close") * pl.col("split").fill_null(1.0) + pl.col("dividend").fill_null(0.0)
    return rows.with_columns(
        by_splits=pl.col("close") * pl.col("shares"),
        by_all=pl.col("close") / pl.col("factor"),
        textbook=(held / before).fill_null(1.0).cum_prod().over("symbol", "life"),
    )


def one_scale(rows: pl.DataFrame, column: str) -> pl.DataFrame:
    """Series of which the prices are not the true ones but for one factor."""
    ratio = pl.col("close") / pl.col(column)
    spans = (
        rows.filter(pl.col("close").is_not_null())
        .group_by("symbol", "life")
        .agg((ratio.max() / ratio.min() - 1).alias("off"))
    )
    return spans.filter(pl.col("off") > NEAR)


def check(etl: HistoricalETL, market: SimMarket, style: Style, *, names: bool, today: date) -> None:
    known = truth(market, today).select(*KEYS, "life", "by_splits", "by_all", "textbook", raw="close", traded="volume")
    stored = etl.scan().collect()
    for adjust, impossible in UNKNOWN.items():
        rows = etl.scan(adjust=adjust).collect().join(known, on=KEYS)
        assert rows.height == stored.height
        assert rows.select(PRICES).null_count().sum_horizontal().item() % len(PRICES) == 0, "a bar is null as a whole"
        if (style, names) in impossible:
            assert rows["close"].null_count() == rows.height
            continue
        bare = rows["adj_close"].is_null() & pl.Series([style != "unadjusted"])
        assert rows["close"].is_null().equals(bare & pl.Series([adjust == "total"]))
        if adjust == "none":
            assert rows.filter((pl.col("close") / pl.col("raw") - 1).abs() > NEAR).is_empty()
            assert rows.filter((pl.col("volume") - pl.col("traded")).abs() > 1).is_empty()
        else:
            by = "by_splits" if adjust == "splits" else "textbook" if style == "unadjusted" else "by_all"
            assert one_scale(rows, by).is_empty(), (adjust, one_scale(rows, by))


@pytest.mark.parametrize("seed", [3])
@pytest.mark.parametrize(("style", "names"), STYLES)
def test_every_style_is_read_right_or_not_at_all(root, style, names, seed):
    market = SimMarket(seed=seed, symbols=10, first=FIRST, last=LAST)
    life = Life(root, SimVendor(market, style=style, names_actions=names))
    life.backfill(market.sessions[60])
    check(life.etl, market, style, names=names, today=life.vendor.today)
    for day in (market.sessions[75], market.sessions[90], LAST):
        life.through(day, evenings=[day])
        check(life.etl, market, style, names=names, today=day)


@pytest.mark.parametrize("names", [False, True])
def test_bars_without_adj_close_are_null_beside_the_others(root, names):
    market = SimMarket(seed=5, symbols=10, first=FIRST, last=LAST)
    life = Life(root, SimVendor(market, [Holes()], names_actions=names))
    life.backfill(market.sessions[60])
    life.through(market.sessions[70])
    etl, today = life.etl, life.vendor.today
    rows = etl.scan(adjust="total").collect().join(truth(market, today).select(*KEYS, "life", "by_all"), on=KEYS)
    assert 0 < rows["adj_close"].null_count() == rows["close"].null_count()
    assert one_scale(rows, "by_all").is_empty()
