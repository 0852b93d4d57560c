"""What a version must be: held, each time one was committed, against what the market knows about itself.

Of a stored bar the basis is known, since raw bars, shares and the products of factors are: all bars of a company stand
on that of one evening, as they are stored and in each adjusted reading. A cell is right, or null where a ledger says
so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Final

import polars as pl

from historical_etl import ConfigurationError, HistoricalETL
from historical_etl_tests.proofs.simulation.bars import ColumnGone, Frozen, WrongDividend
from historical_etl_tests.proofs.simulation.faults import LateCorrection, LateRestatement
from historical_etl_tests.proofs.simulation.market import SimMarket
from historical_etl_tests.proofs.simulation.vendor import SimVendor

KEYS: Final = ["date", "symbol"]
#: Adjusted prices are rounded to six decimals; the smallest event moves the level by 4e-3.
_ROUNDED: Final = 5e-5
_BY_NAMES: Final = 5e-3
#: Runs may fail for some days after a history was corrected, so that the store has it later.
_HEALING: Final = 12
#: How many evenings are remembered, and how often the first one is looked at again.
_EVENINGS, _SELDOM = 4, 25
_CELLS: Final = ("open", "high", "low", "volume")
_ADJUSTED: Final = ("none", "splits", "total")


@dataclass
class Witness:
    """Looks at every version, and remembers what was committed.

    Attributes:
        vendor: whom the store asks.
        names: names that a person has given to a company before the one that has the ticker now.
        taken: bars that are wrong for good and that a person has accepted as they are.
        calendar_since: from this evening on the store knows the right calendar.
        thorough_every: adjusted readings and earlier evenings are looked at in every so many versions.
    """

    vendor: SimVendor
    names: dict[str, str] = field(default_factory=dict[str, str])
    taken: set[tuple[date, str]] = field(default_factory=set[tuple[date, str]])
    calendar_since: date = date.min
    thorough_every: int = 5
    keys: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"date": pl.Date, "symbol": pl.String}))
    version: int = 0
    looks: int = 0
    evenings: dict[date, pl.DataFrame] = field(default_factory=dict[date, pl.DataFrame])

    def look(self, etl: HistoricalETL) -> None:
        """Fail if this version has lost a key, has a row that never was, mixes bases, or if a cell is wrong."""
        manifest = etl.manifest()
        if manifest is None or manifest.version == self.version:
            return
        market, today = self.vendor.market, self.vendor.today
        where = f"version {manifest.version} on {today}"
        thorough = self.looks % self.thorough_every == 0
        if thorough:
            self._remembers(etl, where)
        rows = etl.scan().collect().sort(KEYS)
        assert not rows.select(KEYS).is_duplicated().any(), f"{where}: a key comes twice"
        known = rows.with_columns(self._company().alias("company"))
        keys = known.select("date", symbol="company").unique()
        lost = self.keys.join(keys, on=KEYS, how="anti").filter(~pl.col("date").is_in(list(market.closed)))
        assert lost.is_empty(), f"{where}: rows were lost: {lost.rows()[:5]}"
        never = keys.join(market.table, on=KEYS, how="anti")
        if today < _later(market, self.calendar_since, _HEALING):
            never = never.filter(~pl.col("date").is_in(list(market.closed)))
        assert never.is_empty(), f"{where}: rows that never were: {never.rows()[:5]}"
        both = self._beside_truth(known, etl).join(self._refused(etl), on=["date", "company"], how="anti")
        mixed = self._bases(both, "as stored", ("factor", "shares"))
        for adjust in _ADJUSTED if thorough else ():
            read = etl.scan(adjust=adjust).collect().select(*KEYS, close_a="close", volume_a="volume")
            mixed += self._read(both.join(read, on=KEYS, how="left"), adjust, etl)
        assert not mixed, f"{where}: mixed or unknown price basis: {mixed[:5]}"
        wrong = self._unnamed(etl, self._wrong_cells(both))
        assert wrong.is_empty(), f"{where}: cells that are wrong and that no ledger names: {wrong.rows()[:5]}"
        self.keys, self.version, self.looks = keys, manifest.version, self.looks + 1
        self.evenings[today] = rows

    def forget(self) -> None:
        """What stands is an earlier version now, which lacks keys that were there."""
        self.keys, self.version = self.keys.clear(), 0

    def _remembers(self, etl: HistoricalETL, where: str) -> None:
        """What stood on an earlier evening is read as it was read then."""
        before = [evening for evening in self.evenings if evening < self.vendor.today]
        asked = before[-1:] + (before[:1] if self.looks % _SELDOM == 0 else [])
        for evening in asked:
            try:
                then = etl.scan(as_of=evening).collect().sort(KEYS)
            except ConfigurationError:  # that version is kept no longer
                assert evening != before[-1], f"{where}: what stood on {evening} is forgotten already"
                continue
            assert then.equals(self.evenings[evening]), f"{where}: what stood on {evening} is another thing now"
        for evening in before[1:-_EVENINGS]:
            del self.evenings[evening]

    def _company(self) -> pl.Expr:
        """The newest ticker of the company that a stored symbol is."""
        newest = {old: new for old, (new, _) in self.vendor.market.former.items()}
        return pl.col("symbol").replace(newest | self.names)

    def _refused(self, etl: HistoricalETL) -> pl.DataFrame:
        """Bars fetched again with another close and without some value: the stored ones stay, and it is reported."""
        cells = etl.ledger("withheld").filter(pl.col("column") == "close", pl.col("came").is_not_null())
        return cells.select("date", company=self._company())

    def _beside_truth(self, known: pl.DataFrame, etl: HistoricalETL) -> pl.DataFrame:
        """Stored rows with the raw ones beside them, but for what no store can know to be wrong.

        That is a cell that will be corrected, a history that the vendor itself has adjusted in part, a bar that arrived
        again instead of a new one, and an event that the vendor adjusts for before there is a bar to hold it against.
        While a symbol is held nothing is corrected.
        """
        market, today = self.vendor.market, self.vendor.today
        truth = market.table.rename({"symbol": "company"})
        both = known.join(truth, on=("date", "company"), suffix="_raw")
        off: list[pl.Expr] = []
        is_held = pl.col("symbol").is_in(etl.ledger("holds").filter(pl.col("status") != "released")["symbol"].implode())
        if self.taken:
            taken = pl.DataFrame(sorted(self.taken), schema={"date": pl.Date, "company": pl.String}, orient="row")
            both = both.join(taken, on=("date", "company"), how="anti")
        for fault in self.vendor.faults:
            company = pl.col("company") == (getattr(fault, "symbol", None) or "")
            if isinstance(fault, LateCorrection):
                off.append(company & (pl.col("date") == fault.session))
            heals = today < _later(market, fault.until, _HEALING)
            if isinstance(fault, Frozen) and fault.start <= today:
                frozen = pl.col("date").is_between(fault.start, fault.until)
                frozen = frozen if fault.symbol is None else frozen & company
                off.append(frozen if heals else frozen & is_held)
            if not heals or fault.start > today:
                continue
            if isinstance(fault, LateRestatement):
                off.append(company)
            if isinstance(fault, WrongDividend):
                off.append(company & (pl.col("date").max().over("company") < fault.day))
        return both.filter(~pl.any_horizontal(off)) if off else both

    def _read(self, read: pl.DataFrame, adjust: str, etl: HistoricalETL) -> list[str]:
        """Whether bars are comparable as `adjust` promises; what is null there must be unknown."""
        null = read.filter(pl.col("close_a").is_null())
        if adjust == "total" or (adjust == "splits" and not self.vendor.names_actions):
            null = null.filter(pl.col("adj_close").is_not_null())
        if null.height:
            null = null.filter(~pl.col("symbol").is_in(list(self._unknown(etl, adjust))))
        if null.height:
            return [f"{adjust}: null for no reason: {null.select(KEYS).rows()[:5]}"]
        some = read.filter(pl.col("close_a").is_not_null()).with_columns(close="close_a", volume="volume_a")
        if adjust != "splits" and self.vendor.style == "split_adjusted":
            some = some.filter(pl.col("symbol").is_in(self._asked_late(etl).implode()))
        names = {
            "none": ("traded", "traded_volume"),
            "splits": ("shares_a", "volume_a"),
            "total": ("factor_a",),
        }[adjust]
        found = self._bases(some, adjust, names)
        # Prices may know of an event whose session has not come: each is consistent, and they need not be in step.
        return found + (self._bases(some, adjust, ("volume_a",)) if adjust == "total" else [])

    def _unknown(self, etl: HistoricalETL, adjust: str) -> set[str]:
        """Symbols whose adjusted prices nobody can know: the source names no events, and adj_close does not tell."""
        vendor = self.vendor
        by_style = {"raw": (), "split_adjusted": ("none",), "unadjusted": ("splits", "total")}[vendor.style]
        if adjust in by_style and not vendor.names_actions:
            return set(etl.cursors()) | {str(name) for name in etl.ledger("symbols")["symbol"]}
        actions = etl.ledger("actions")
        reported = set(etl.ledger("holds").filter(pl.col("status") != "released")["symbol"])
        if "unexplained" in actions.columns:
            reported |= set(actions.filter(pl.col("unexplained").fill_null(value=False))["symbol"])
        return reported

    def _asked_late(self, etl: HistoricalETL) -> pl.Series:
        """Symbols that were asked for up to now: of the others later splits, which prices lack, are not known.

        Nor is a dividend that is named for the shares of its day.
        """
        last = max(day for day in self.vendor.market.sessions if day <= self.vendor.today)
        return etl.ledger("symbols").filter(pl.col("asked_through") >= last)["symbol"]

    def _bases(self, both: pl.DataFrame, reading: str, names: Iterable[str]) -> list[str]:
        """Companies whose rows do not all stand on the basis of one evening up to today's."""
        market, style = self.vendor.market, self.vendor.style
        # Of each row: which product of factors, and which of splits, its basis must have had.
        implied = {
            "factor": pl.col("adj_close") / pl.col("close_raw") * pl.col("factor"),
            "shares": pl.col("close_raw") / pl.col("close") * (pl.col("shares") if style == "split_adjusted" else 1),
            "traded": pl.col("close_raw") / pl.col("close"),
            "shares_a": pl.col("close_raw") / pl.col("close") * pl.col("shares"),
            "factor_a": pl.col("close") / pl.col("close_raw") * pl.col("factor"),
            "traded_volume": (pl.col("volume") / pl.col("volume_raw")).fill_nan(None),
            "volume_a": (pl.col("volume") / pl.col("volume_raw") * pl.col("shares")).fill_nan(None),
        }
        names = [name for name in names if not (name == "factor" and style == "unadjusted")]
        spans = both.group_by("symbol", "company", "life").agg(
            pl.col("adj_close").is_null().any().alias("bare"),
            *(implied[n].min().alias(f"{n}_low") for n in names),
            *(implied[n].max().alias(f"{n}_high") for n in names),
        )
        known = _known_bases(market, self.vendor.today)
        bad: list[str] = []
        for span in spans.sort("symbol", "life").iter_rows(named=True):
            bases = [*known.get((span["company"], span["life"]), []), {"factor": 1.0, "shares": 1.0}]
            bases = [
                {**basis, "shares_a": basis["shares"], "volume_a": basis["shares"], "factor_a": basis["factor"]}
                | {"traded": 1.0, "traded_volume": 1.0}
                | ({} if style == "split_adjusted" else {"shares": 1.0})
                for basis in bases
            ]
            # Named dividends alone give 1 + d / close, and the market has 1 - d / close before.
            slack = _BY_NAMES if span["bare"] and reading == "total" else _ROUNDED
            if not any(all(_is_near(span, name, basis[name], slack) for name in names) for basis in bases):
                bad.append(f"{reading}: { ({n: value for n, value in span.items() if value is not None}) }")
        return bad

    def _wrong_cells(self, both: pl.DataFrame) -> pl.DataFrame:
        """Open, high, low and volume that are not what the close's own basis makes of the raw ones."""
        scale = pl.col("close") / pl.col("close_raw")
        found: dict[str, pl.Expr] = {}
        for name in (*_CELLS, "adj_close"):
            raw = pl.col(f"{name}_raw") if name in _CELLS else None
            wrong = pl.col(name).is_null()
            if raw is not None:
                right = raw / scale if name == "volume" else raw * scale
                off = ((pl.col(name) - right).abs() > _ROUNDED * right).fill_null(value=False)
                wrong = (wrong & raw.is_not_null()) | off | (pl.col(name).is_not_null() & raw.is_null())
            elif self.vendor.style == "unadjusted":
                continue
            found[name] = wrong
        first = pl.col("date").min().over("symbol").alias("first")
        index = [*KEYS, "first"]
        cells = both.select(*KEYS, first, **found).unpivot(index=index, variable_name="column", value_name="wrong")
        return cells.filter(pl.col("wrong") & ~self._never_given()).drop("wrong", "first").sort(KEYS)

    def _never_given(self) -> pl.Expr:
        """Cells of symbols that are stored since a column is gone only: nobody can know that they have it."""
        gone = [
            (pl.col("column") == fault.column) & (pl.col("first") >= fault.start)
            for fault in self.vendor.faults
            if isinstance(fault, ColumnGone)
            and fault.start <= self.vendor.today < _later(self.vendor.market, fault.until, _HEALING)
        ]
        return pl.any_horizontal(pl.lit(value=False), *gone)

    def _unnamed(self, etl: HistoricalETL, wrong: pl.DataFrame) -> pl.DataFrame:
        """Those of some wrong cells that neither the ledger of cells nor that of bars nor a hold names."""
        if wrong.is_empty():
            return wrong
        held = etl.ledger("holds").filter(pl.col("code") == "adj_close", pl.col("status") != "released")
        bare = (pl.col("column") == "adj_close") & pl.col("symbol").is_in(held["symbol"].implode())
        # Ledgers go by the name of their time.
        wrong, company = wrong.filter(~bare).with_columns(self._company().alias("company")), ["date", "company"]
        flagged, withheld = (
            etl.ledger(name).with_columns(self._company().alias("company")) for name in ("flagged_rows", "withheld")
        )
        wrong = wrong.join(flagged, on=company, how="anti")
        return wrong.join(withheld, on=[*company, "column"], how="anti")


@lru_cache(maxsize=2)
def _known_bases(market: SimMarket, today: date) -> Mapping[tuple[str, int], list[dict[str, float]]]:
    known: dict[tuple[str, int], list[dict[str, float]]] = {}
    past = market.events.filter(pl.col("date") <= today)
    for symbol, life, factor, shares in past.select("symbol", "life", "factor", "shares").iter_rows():
        known.setdefault((symbol, life), []).append({"factor": factor, "shares": shares})
    return known


def _is_near(span: Mapping[str, float | None], name: str, value: float, slack: float) -> bool:
    """Whether the outermost of what rows imply is this basis; where none implies any, it is."""
    ends = [span[f"{name}_{end}"] for end in ("low", "high")]
    return all(end is None or abs(end / value - 1) < slack for end in ends)


def _later(market: SimMarket, day: date, count: int) -> date:
    return next(iter([d for d in market.sessions if d >= day][count:]), date.max)
