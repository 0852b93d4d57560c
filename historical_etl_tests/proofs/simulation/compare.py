"""A whole store beside the whole truth, cell by cell."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from historical_etl import HistoricalETL
from historical_etl_tests.proofs.simulation.market import SimMarket, Style, with_returns
from historical_etl_tests.proofs.simulation.truth import KEYS

__all__ = ["Difference", "compare"]


@dataclass(frozen=True)
class Difference:
    """What a store has not, and why: open holds by symbol, the rows of unfilled gaps, and cells that did not come."""

    held: dict[str, str]
    missing: pl.DataFrame
    explained: dict[str, int]
    withheld: pl.DataFrame


def compare(
    etl: HistoricalETL,
    market: SimMarket,
    style: Style = "raw",
    truth: pl.DataFrame | None = None,
    names: Mapping[str, str] | None = None,
) -> Difference:
    """Fail unless the store equals the truth in every cell, or a ledger lists the difference.

    Args:
        etl: the store.
        market: what it is a store of.
        style: what its vendor adjusts.
        truth: None is that of the market.
        names: symbols that were split off, and what the ledgers before that call them.
    """
    truth = market.truth(style=style) if truth is None else truth
    rows = etl.scan().collect().sort(KEYS)
    held = dict(etl.holds().select("symbol", "code").iter_rows())
    missing = truth.join(rows, on=KEYS, how="anti").filter(~pl.col("symbol").is_in(list(held)))
    gaps = etl.gaps(all=True).filter(pl.col("status") != "filled")
    listed = gaps.select("symbol", "status", pl.date_ranges("first_session", "last_session").alias("date"))
    listed = listed.explode("date").unique(["date", "symbol"])
    unlisted = missing.join(listed, on=KEYS, how="anti")
    assert unlisted.is_empty(), f"missing and listed nowhere: {unlisted.rows()[:5]}"
    wanted = with_returns(truth.join(missing, on=KEYS, how="anti")).filter(~pl.col("symbol").is_in(list(held)))
    wrong = _wrong_cells(wanted, rows.filter(~pl.col("symbol").is_in(list(held))))
    withheld = wrong.clear()
    if wrong.height:
        cell = [*KEYS, "column"]
        then = wrong.with_columns(pl.col("symbol").alias("now"), pl.col("symbol").replace(dict(names or {})))
        null = then.filter(pl.col("is").is_null(), pl.col("column") != "ret")
        reported = etl.ledger("withheld")
        named = [null.join(reported, on=cell, how="semi"), null.join(etl.ledger("flagged_rows"), on=KEYS, how="semi")]
        # Of a bar that was fetched again with other values and without some, the stored one stands.
        named.append(then.join(reported, left_on=[*cell, "is"], right_on=[*cell, "stored"], how="semi"))
        withheld = pl.concat(named).with_columns(symbol="now").drop("now").unique(cell, maintain_order=True)
        wrong = wrong.join(withheld, on=[*KEYS, "column"], how="anti").filter(~_follows(withheld))
    assert wrong.is_empty(), f"cells that differ and are listed nowhere: {wrong.rows()[:5]}"
    statuses = missing.join(listed, on=KEYS).group_by("status").len()
    return Difference(held, missing.select(KEYS), dict(statuses.iter_rows()), withheld)


def _follows(withheld: pl.DataFrame) -> pl.Expr:
    """Whether a `ret` is off because the adj_close of its session or of the one before did not come."""
    bare = withheld.filter(pl.col("column") == "adj_close").get_column("symbol").unique()
    return (pl.col("column") == "ret") & pl.col("symbol").is_in(bare.implode())


def _wrong_cells(wanted: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Columns date, symbol, column, wanted, is."""
    both = wanted.join(rows, on=KEYS, how="full", suffix="_is", coalesce=True)
    names = [name for name in wanted.columns if name not in KEYS]
    unequal = [
        both.filter(pl.col(name).ne_missing(pl.col(f"{name}_is"))).select(
            *KEYS, pl.lit(name).alias("column"), pl.col(name).alias("wanted"), pl.col(f"{name}_is").alias("is")
        )
        for name in names
    ]
    return pl.concat(unequal).sort(KEYS)
