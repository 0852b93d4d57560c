"""Whether the rows of one symbol belong together: of one security, in one currency, from one place, on one price basis.

Nothing is joined by chance. A symbol whose currency, exchange or ISIN changes, or whose files contradict each other,
is set aside as a whole, and told; the others go on. Pieces of one history that adjoin, or agree where they overlap, are
joined.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from historical_etl.errors import DataQualityError
from historical_etl.settings import PREFIX
from historical_etl.sources.files.columns import NUMBERS
from historical_etl.sources.files.places import basis_of, place_of, told_basis
from historical_etl.sources.files.spellings import MARKS
from historical_etl.sources.files.survey import Aside, Surveyed

__all__ = ["separated"]

#: Symbols that are told with their files and lines; the others are only named.
_TOLD: Final = 20
#: What a mark tells apart, in words.
_WORDS: Final[Mapping[str, str]] = {"currency": "currency", "market": "exchange", "security": "security"}


def separated(found: Surveyed, names: Mapping[str, str]) -> Surveyed:
    """The files without the symbols whose rows do not belong together; these are set aside.

    Args:
        found: the files as they were surveyed.
        names: symbols as they stand there → as they are written here, where these differ.
    """
    index = found.index.filter(pl.col("first").is_not_null(), pl.col("symbol").is_not_null()).with_columns(
        pl.col("symbol").replace(names).alias("ours")
    )
    aside: list[Aside] = []
    for refused in (_by_marks(found, index), *_by_files(found, index)):
        gone = {symbol for one in refused for symbol in one.symbols}
        aside += refused
        if gone:
            index = index.filter(~pl.col("ours").is_in(gone))
    if not aside:
        return found
    lost = {symbol for one in aside for symbol in one.symbols}
    kept = found.index.filter(~pl.col("symbol").replace(names).is_in(lost).fill_null(value=False))
    return replace(found, index=kept, aside=[*found.aside, *aside])


def _by_marks(found: Surveyed, index: pl.DataFrame) -> list[Aside]:
    """Symbols whose currency, exchange or number of the security is not the same in all rows."""
    refused: list[Aside] = []
    gone = set[str]()
    for mark in MARKS:
        low, high = f"{mark}_low", f"{mark}_high"
        if low not in index.columns:
            continue
        ends = index.group_by("ours").agg(pl.col(low).min(), pl.col(high).max()).filter(pl.col(low) != pl.col(high))
        changed = [symbol for symbol in sorted(ends.get_column("ours")) if symbol not in gone]
        gone |= set(changed)
        told = [_change(found, index.filter(pl.col("ours") == symbol), mark) for symbol in changed[:_TOLD]]
        refused += _with_rest(told, changed)
    return refused


def _change(found: Surveyed, mine: pl.DataFrame, mark: str) -> Aside:
    """What is told of a symbol with two values of a mark: where each of them is first."""
    low, high = mine.get_column(f"{mark}_low").min(), mine.get_column(f"{mark}_high").max()
    symbol = mine.item(0, "ours")
    seen: list[tuple[str, str]] = []
    for value, column in ((low, f"{mark}_low"), (high, f"{mark}_high")):
        number, theirs = mine.filter(pl.col(column) == value).sort("file").select("file", "symbol").row(0)
        plan = found.plans[number]
        row = plan.first_with(mark, str(value), theirs)
        seen.append((str(value), f"{plan.path}, {plan.places([row])[0]}"))
    seen.sort(key=lambda one: one[1])
    plan = found.plans[mine.item(0, "file")]
    column = plan.mark_names.get(mark, mark)
    (one, there), (other, elsewhere) = seen
    apart = "" if plan.symbol is None or mark != "security" else f"map the symbol, as in {PREFIX}FILES_COLUMNS=symbol={column}; "
    return Aside(
        plan.path,
        DataQualityError(
            f"{symbol} is not of one {_WORDS[mark]}: {column} is {one!r} ({there}) and {other!r} ({elsewhere})",
            where=symbol,
            todo=f"{apart}give each its own symbol, or files of its own; if it is one series all the same, set "
            f"{PREFIX}FILES_IGNORE={column}",
        ),
        (symbol,),
    )


def _by_files(found: Surveyed, index: pl.DataFrame) -> Iterator[list[Aside]]:
    """Symbols of several files that do not belong together."""
    if index.get_column("ours").n_unique() == index.height:
        return
    several = index.filter(pl.len().over("ours") > 1)
    numbers: list[int] = several.get_column("file").unique().sort().to_list()
    paths = [found.plans[number].path for number in numbers]
    facts = pl.DataFrame(
        {
            "file": numbers,
            "basis": [basis_of(found.plans[number], paths) for number in numbers],
            "place": [place_of(found.plans[number], paths) for number in numbers],
        },
        schema={"file": pl.UInt32, "basis": pl.String, "place": pl.String},
    )
    several = several.join(facts, on="file", maintain_order="left")
    # A market that was left out is a place as well: SAP.DE and SAP.US are two.
    ending = pl.col("symbol").str.extract(r"(\.[A-Z]{2})$").fill_null("")
    kept = pl.col("ours").str.ends_with(ending)
    several = several.with_columns(pl.concat_str("place", pl.when(kept).then(pl.lit("")).otherwise(ending)))
    yield _by_basis(found, several)
    count = several.group_by("ours").agg(pl.col("place").n_unique().alias("places"), pl.col("basis").n_unique())
    several = several.join(count.filter(pl.col("basis") == 1).select("ours", "places"), on="ours").sort(
        "ours", "first", "last", "file"
    )
    reached = pl.col("last").cum_max().shift(1).over("ours")
    meeting = several.filter((pl.col("first") <= reached).any().over("ours"))
    shared = _shared_days(found, meeting)
    yield _contradicting(found, several, shared)
    good = shared.filter(~pl.col("unequal").any().over("ours")).select("ours", pl.col("places").alias("met"))
    met = good.filter(pl.col("met").list.len() > 1).explode("met").group_by("ours").agg(pl.col("met").n_unique())
    apart = several.filter(pl.col("places") > 1).join(met, on="ours", how="left")
    bad = set(shared.filter("unequal").get_column("ours"))
    yield _apart(found, apart.filter(pl.col("met").fill_null(0) < pl.col("places"), ~pl.col("ours").is_in(bad)))


def _by_basis(found: Surveyed, several: pl.DataFrame) -> list[Aside]:
    mixed = several.filter(pl.col("basis").n_unique().over("ours") > 1)
    told: list[Aside] = []
    symbols = sorted(mixed.get_column("ours").unique())
    for symbol in symbols[:_TOLD]:
        mine = mixed.filter(pl.col("ours") == symbol).unique("basis", keep="first", maintain_order=True).sort("basis")
        plans = [found.plans[number] for number in mine.get_column("file")][:2]
        what = " and ".join(f"{told_basis(basis)} ({plan.path})" for basis, plan in zip(mine["basis"], plans, strict=False))
        told.append(
            Aside(
                plans[0].path,
                DataQualityError(
                    f"{symbol} has files whose names say another basis of prices: {what}",
                    where=symbol,
                    todo=f"keep one basis in {PREFIX}FILES_PATH; the other belongs into a data folder of its own",
                ),
                (symbol,),
            )
        )
    return _with_rest(told, symbols)


def _shared_days(found: Surveyed, meeting: pl.DataFrame) -> pl.DataFrame:
    """The days that several files have of one symbol: their places, and whether values are unequal."""
    if meeting.is_empty():
        return pl.DataFrame(schema={"ours": pl.String, "date": pl.Date, "places": pl.List(pl.String), "unequal": pl.Boolean})
    keys = meeting.select("file", "symbol", "ours", "place")
    rows = found.rows(meeting.get_column("file").unique().to_list()).select("file", "symbol", "date", *NUMBERS)
    value = pl.col(NUMBERS)
    given = value.count()
    unequal = pl.any_horizontal((value.min() != value.max()) | ((given > 0) & (given < pl.len())))
    return (
        rows.join(keys.lazy(), on=["file", "symbol"])
        .group_by("ours", "date")
        .agg(pl.col("file").n_unique().alias("files"), pl.col("place").unique().alias("places"), unequal.alias("unequal"))
        .filter(pl.col("files") > 1)
        .drop("files")
        .collect(engine="streaming")
        .with_columns(pl.col("unequal").fill_null(value=False))
    )


def _contradicting(found: Surveyed, several: pl.DataFrame, shared: pl.DataFrame) -> list[Aside]:
    days = shared.filter("unequal").group_by("ours").agg(pl.len().alias("n"), pl.col("date").min(), pl.col("date").max().alias("end")).sort("ours")
    told: list[Aside] = []
    for symbol, count, first, last in days.head(_TOLD).iter_rows():
        mine = several.filter(pl.col("ours") == symbol, pl.col("first") <= last, pl.col("last") >= first)
        plans = [found.plans[number] for number in mine.get_column("file").unique().sort().head(3)]
        what = f"{symbol} has {count:,} day(s) with different values, the first {first}, in {' and '.join(str(plan.path) for plan in plans)}"
        todo = "are these of one security, on one basis? Keep the file that is right, and take the other out of the folder"
        told.append(Aside(plans[0].path, DataQualityError(what, where=symbol, todo=todo), (symbol,)))
    return _with_rest(told, days.get_column("ours").to_list())


def _apart(found: Surveyed, apart: pl.DataFrame) -> list[Aside]:
    symbols = sorted(apart.get_column("ours").unique())
    told: list[Aside] = []
    for symbol in symbols[:_TOLD]:
        mine = apart.filter(pl.col("ours") == symbol).unique("place", keep="first", maintain_order=True).head(2)
        plans = [found.plans[number] for number in mine.get_column("file")]
        spans = " and ".join(
            f"{plan.path} ({first} to {last})"
            for plan, first, last in zip(plans, mine["first"], mine["last"], strict=True)
        )
        what = f"{symbol} comes from two places that share no session: {spans}"
        told.append(
            Aside(
                plans[0].path,
                DataQualityError(
                    what,
                    where=symbol,
                    todo="if both are of one security on one market, put them into one folder; else name them apart, "
                    f"such as {symbol}.US and {symbol}.DE, or set {PREFIX}FILES_PATH to one of the folders",
                ),
                (symbol,),
            )
        )
    return _with_rest(told, symbols)


def _with_rest(told: list[Aside], symbols: Sequence[str]) -> list[Aside]:
    """What is told of the first symbols, and of the others their names."""
    rest = symbols[len(told) :]
    if not rest:
        return told
    listed = ", ".join(rest)
    what = f"{len(rest):,} more symbols are set aside for the same reason as {symbols[0]}: {listed}"
    return [*told, Aside(told[0].path, DataQualityError(what, where=told[0].path.parent), tuple(rest))]
