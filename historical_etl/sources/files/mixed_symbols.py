"""Whether the rows of one symbol belong together: of one security, in one currency, from one place, on one price basis.

Nothing is joined by chance. A symbol whose currency, exchange or ISIN changes, or whose files contradict each other,
is skipped as a whole; the others go on. Pieces of one history that adjoin, or agree where they overlap, are
joined.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError
from historical_etl.settings import PREFIX
from historical_etl.sources.files.column_spellings import MARKS
from historical_etl.sources.files.columns import NUMBERS
from historical_etl.sources.files.path_hints import basis_of, place_of
from historical_etl.sources.files.read_plan import ReadPlan
from historical_etl.sources.files.survey import SkippedFile, Surveyed

__all__ = ["separated"]

#: Symbols that are named with their files and lines; the others are only named.
_MOST_NAMED: Final = 20
#: What a mark tells apart, in words.
_WORDS: Final[Mapping[str, str]] = {
    "currency": "currency",
    "unit": "unit",
    "basis": "basis of prices",
    "kind": "kind of security",
    "class": "class of shares",
    "market": "exchange",
    "security": "security",
}
_SHARED: Final = pl.Schema(
    {"ours": pl.String(), "date": pl.Date(), "met": pl.List(pl.String()), "unequal": pl.Boolean()}
)


def separated(found: Surveyed, names: Mapping[str, str]) -> Surveyed:
    """The files without the symbols whose rows do not belong together; these are skipped.

    Args:
        found: the files as they were surveyed.
        names: symbols as they stand there → as they are written here, where these differ.
    """
    known = found.index.filter(pl.col("first").is_not_null(), pl.col("symbol").is_not_null())
    index = known.with_columns((pl.col("symbol").replace(names) if names else pl.col("symbol")).alias("ours"))
    skipped: list[SkippedFile] = []
    for mark in MARKS:
        if f"{mark}_low" in index.columns:
            skipped += _changing(found, _without(index, skipped), mark)
    left = _without(index, skipped)
    if left.get_column("ours").n_unique() < left.height:
        skipped += _unlike(found, left)
    if not skipped:
        return found
    theirs = index.join(_without(index, skipped), on="ours", how="anti").get_column("symbol").unique()
    remaining = found.index.filter(~pl.col("symbol").is_in(theirs.implode()).fill_null(value=False))
    return replace(found, index=remaining, skipped=[*found.skipped, *skipped])


def _without(rows: pl.DataFrame, skipped: Sequence[SkippedFile]) -> pl.DataFrame:
    gone = [symbol for one in skipped for symbol in one.symbols]
    return rows.filter(~pl.col("ours").is_in(gone)) if gone else rows


def _changing(found: Surveyed, index: pl.DataFrame, mark: str) -> list[SkippedFile]:
    """Symbols whose currency, exchange or number of the security is not the same in all rows."""
    low, high = pl.col(f"{mark}_low"), pl.col(f"{mark}_high")
    changed = index.group_by("ours").agg(low.min(), high.max()).filter(low != high).get_column("ours").sort().to_list()
    skipped: list[SkippedFile] = []
    for symbol in changed[:_MOST_NAMED]:
        mine = index.filter(pl.col("ours") == symbol)
        places: list[tuple[int, int, str]] = []
        for column, value in ((low, mine.select(low.min()).item()), (high, mine.select(high.max()).item())):
            with_it = mine.filter(column == value).sort("file")
            number: int = with_it.item(0, "file")
            places.append((number, found.plans[number].first_with(mark, value, with_it.item(0, "symbol")), value))
        plans = [found.plans[number] for number, _, _ in sorted(places)]
        name = plans[0].mark_names[mark]
        seen = " and ".join(
            f"{value!r} ({plan.path}, {plan.places([row])[0]})"
            for plan, (_, row, value) in zip(plans, sorted(places), strict=True)
        )
        column = f", map the column of symbols, as in {PREFIX}FILES_COLUMNS=symbol={name}" if plans[0].symbol else ""
        skipped.append(
            _skipped_file(
                plans[0],
                symbol,
                f"{symbol} is not of one {_WORDS[mark]}: {name} is {seen}",
                f"give each a symbol of its own{column if mark == 'security' else ''}; if it is one series all the "
                f"same, set {PREFIX}FILES_IGNORE={name}",
            )
        )
    return _with_rest(skipped, changed)


def _unlike(found: Surveyed, index: pl.DataFrame) -> list[SkippedFile]:
    """Symbols of several files that say another basis, contradict each other, or are from two places."""
    spans = index.group_by("file").agg(pl.col("first").min(), pl.col("last").max()).sort("first", "last")
    facts = _facts(found, spans.get_column("file").sort().to_list())
    alike = facts.select("basis", "place").n_unique() == 1 and bool((index["symbol"] == index["ours"]).all())
    if alike and not spans.select((pl.col("first") <= pl.col("last").cum_max().shift(1)).any()).item():
        return []  # as where each file is a day of the market
    several = _with_facts(index.filter(pl.len().over("ours") > 1), facts)
    skipped = _of_bases(found, several)
    several = _without(several, skipped).sort("ours", "first", "last", "file")
    reached = pl.col("last").cum_max().shift(1).over("ours")
    shared = _shared_days(found, several.filter((pl.col("first") <= reached).any().over("ours")))
    skipped += _contradicting(found, several, shared)
    apart = _without(several, skipped).filter(pl.col("place").n_unique().over("ours") > 1)
    if apart.height:
        places_sharing_days = (
            shared.filter(pl.col("met").list.len() > 1).explode("met").group_by("ours").agg(pl.col("met").n_unique())
        )
        places = apart.join(places_sharing_days, on="ours", how="left").with_columns(pl.col("met").fill_null(0))
        skipped += _of_places(found, places.filter(pl.col("met") < pl.col("place").n_unique().over("ours")))
    return skipped


def _facts(found: Surveyed, numbers: list[int]) -> pl.DataFrame:
    """The basis and the place of each file."""
    base = Path(os.path.commonpath([found.plans[number].path.parent for number in numbers]))
    return pl.DataFrame(
        {
            "file": numbers,
            "basis": [basis_of(found.plans[number], base) for number in numbers],
            "place": [place_of(found.plans[number], base) for number in numbers],
        },
        schema={"file": pl.UInt32, "basis": pl.String, "place": pl.String},
    )


def _with_facts(several: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """The rows with the basis and the place of their files."""
    # A market that was left out is a place as well: SAP.DE and SAP.US are two.
    ending = pl.when(pl.col("symbol") != pl.col("ours")).then(pl.col("symbol").str.extract(r"(\.[A-Z]{2})$"))
    place = pl.concat_str("place", ending.fill_null(""))
    return several.join(facts, on="file", maintain_order="left").with_columns(place)


def _of_bases(found: Surveyed, several: pl.DataFrame) -> list[SkippedFile]:
    mixed = several.filter(pl.col("basis").n_unique().over("ours") > 1)
    symbols = mixed.get_column("ours").unique().sort().to_list()
    skipped: list[SkippedFile] = []
    for symbol in symbols[:_MOST_NAMED]:
        mine = mixed.filter(pl.col("ours") == symbol).unique("basis", keep="first", maintain_order=True).sort("basis")
        plans = _plans_of(found, mine.head(2))
        bases = " and ".join(
            f"{basis or 'none'} ({plan.path})" for basis, plan in zip(mine.get_column("basis")[:2], plans, strict=True)
        )
        skipped.append(
            _skipped_file(
                plans[0],
                symbol,
                f"{symbol} has files whose names say another basis of prices: {bases}",
                f"keep one basis in {PREFIX}FILES_PATH; the other belongs into a data folder of its own",
            )
        )
    return _with_rest(skipped, symbols)


def _shared_days(found: Surveyed, overlapping: pl.DataFrame) -> pl.DataFrame:
    """The days that several files have of one symbol: their places, and whether values are unequal."""
    if overlapping.is_empty():
        return pl.DataFrame(schema=_SHARED)
    rows = found.rows(overlapping.get_column("file").unique().to_list()).select("file", "symbol", "date", *NUMBERS)
    value = pl.col(NUMBERS)
    given = value.count()
    unequal = pl.any_horizontal((value.min() != value.max()) | ((given > 0) & (given < pl.len())))
    return (
        rows.join(overlapping.select("file", "symbol", "ours", "place").lazy(), on=["file", "symbol"])
        .group_by("ours", "date")
        .agg(
            pl.col("file").n_unique().alias("files"),
            pl.col("place").unique().alias("met"),
            unequal.fill_null(value=False).alias("unequal"),
        )
        .filter(pl.col("files") > 1)
        .select(list(_SHARED))
        .collect(engine="streaming")
    )


def _contradicting(found: Surveyed, several: pl.DataFrame, shared: pl.DataFrame) -> list[SkippedFile]:
    day = pl.col("date")
    days = (
        shared.filter("unequal")
        .group_by("ours")
        .agg(pl.len().alias("count"), day.min().alias("from"), day.max().alias("to"))
        .sort("ours")
    )
    skipped: list[SkippedFile] = []
    for symbol, count, first, last in days.head(_MOST_NAMED).iter_rows():
        mine = several.filter(pl.col("ours") == symbol, pl.col("first") <= last, pl.col("last") >= first)
        plans = _plans_of(found, mine.unique("file").sort("file").head(3))
        paths = " and ".join(str(plan.path) for plan in plans)
        skipped.append(
            _skipped_file(
                plans[0],
                symbol,
                f"{symbol} has {count:,} day(s) with different values, the first {first}, in {paths}",
                "are these of one security, on one basis? Keep the file that is right, and take out the other",
            )
        )
    return _with_rest(skipped, days.get_column("ours").to_list())


def _of_places(found: Surveyed, apart: pl.DataFrame) -> list[SkippedFile]:
    symbols = apart.get_column("ours").unique().sort().to_list()
    skipped: list[SkippedFile] = []
    for symbol in symbols[:_MOST_NAMED]:
        mine = apart.filter(pl.col("ours") == symbol).unique("place", keep="first", maintain_order=True).head(2)
        plans = _plans_of(found, mine)
        spans = " and ".join(
            f"{plan.path} ({first} to {last})"
            for plan, (first, last) in zip(plans, mine.select("first", "last").iter_rows(), strict=True)
        )
        skipped.append(
            _skipped_file(
                plans[0],
                symbol,
                f"{symbol} comes from two places that share no session: {spans}",
                "if both are of one security on one market, let folders and names differ by years or numbers only; "
                f"else name them apart, such as {symbol}.US and {symbol}.DE, or set {PREFIX}FILES_PATH to one of them",
            )
        )
    return _with_rest(skipped, symbols)


def _plans_of(found: Surveyed, rows: pl.DataFrame) -> list[ReadPlan]:
    numbers: list[int] = rows.get_column("file").to_list()
    return [found.plans[number] for number in numbers]


def _skipped_file(plan: ReadPlan, symbol: str, what: str, todo: str) -> SkippedFile:
    return SkippedFile(plan.path, DataQualityError(what, where=symbol, todo=todo), (symbol,))


def _with_rest(skipped: list[SkippedFile], symbols: Sequence[str]) -> list[SkippedFile]:
    """What is reported of the first symbols, and of the others their names."""
    rest = symbols[len(skipped) :]
    if not rest:
        return skipped
    what = f"{len(rest):,} more symbols are skipped for the same reason as {symbols[0]}: {', '.join(rest)}"
    error = DataQualityError(what, where=skipped[0].path.parent, todo=f"do for each of them as for {symbols[0]}")
    return [*skipped, SkippedFile(skipped[0].path, error, tuple(rest))]
