"""Splits that a source names beside prices as they were traded: does the price show each of them on its day?

A name that is shown some sessions off is that split, on the day that shows it; a second name of a split that is shown
once is the same split. A name that is shown nowhere is contradicted, unless the source takes splits out of its prices
and does not say so: then it shows none of them, or restates what was stored by their ratio. Moves are logarithms here.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from math import log
from typing import Final

import polars as pl

from historical_etl.quality.events import EVENTS
from historical_etl.quality.price_series import Line, line_of
from historical_etl.quality.reported_days import NEARBY
from historical_etl.quality.suspicion import NEAR_SPLIT, Suspicion
from historical_etl.quality.typical_moves import MANY_MOVES
from historical_etl.schema import ORDER

__all__ = ["IS_NAMED", "NamedSplits", "NotShown", "judge_named_splits"]

#: Words of the note of a split that is named on another day than its own.
IS_NAMED: Final = "is named on"
_KNOWN: Final = (*ORDER, "split", "in_close")
_KEY: Final = {"symbol": pl.String(), "date": pl.Date()}
#: So many different splits that no price shows, and none that one shows, are the source's way and no error of names.
_A_WAY: Final = 2
#: Two names of one ratio, or of its inverse, within so many days are one error.
_ONE_ERROR: Final = timedelta(days=30)


@dataclass(frozen=True)
class NotShown:
    """A named split that the price contradicts.

    `is_new` unless it was judged before; `margin` is how much better the price fits no split, where 1 decides;
    `is_restated` if the stored bars before it differ from the fetched ones by the ratio of the split.
    """

    symbol: str
    named_on: date
    split: float
    why: Suspicion
    is_new: bool
    margin: float
    is_restated: bool


@dataclass
class NamedSplits:
    """What the prices say of named splits.

    Attributes:
        moved: (symbol, the day that is named, the day that shows it, ratio, whether another name has it there).
        retained: splits that were moved before, and whose name is no longer asked for: (symbol, date, ratio, 0).
        taken_out: (symbol, date) of splits that the source takes out of its prices.
        suspects: splits that did not happen.
    """

    moved: list[tuple[str, date, date, float, bool]] = field(default_factory=list[tuple[str, date, date, float, bool]])
    retained: list[tuple[str, date, float, float]] = field(default_factory=list[tuple[str, date, float, float]])
    taken_out: set[tuple[str, date]] = field(default_factory=set[tuple[str, date]])
    suspects: list[NotShown] = field(default_factory=list[NotShown])

    def names(self, named: pl.DataFrame) -> pl.DataFrame:
        """Some named events, each split on the day that shows it, and once."""
        if not self.moved and not self.retained:
            return named
        wrong = pl.DataFrame([one[:2] for one in self.moved], schema=_KEY, orient="row")
        corrected = [(symbol, day, split, 0.0) for symbol, _, day, split, is_twice in self.moved if not is_twice]
        off = named.join(wrong, on=ORDER, how="semi").with_columns(pl.lit(1.0).alias("split"))
        new = pl.DataFrame([*corrected, *self.retained], schema=named.schema, orient="row")
        together = pl.concat([named.join(wrong, on=ORDER, how="anti"), off.filter(pl.col("dividend") != 0), new])
        return together.group_by(ORDER, maintain_order=True).agg(pl.col("split").product(), pl.col("dividend").sum())

    def events(self, names: pl.DataFrame) -> pl.DataFrame:
        """What is to be said of the moved ones, columns `EVENTS`; `names` are those from `names`."""
        words = [
            (symbol, day, f"a split of {split:g} {IS_NAMED} {named_on}, and the prices show it on {day}")
            for symbol, named_on, day, split, _ in self.moved
        ]
        notes = pl.DataFrame(words, schema={**_KEY, "note": pl.String()}, orient="row").unique(list(ORDER))
        rows = notes.join(names, on=ORDER).with_columns(pl.lit(value=False).alias("unexplained"))
        return rows.select(list(EVENTS)).sort(ORDER)


def judge_named_splits(
    rows: pl.DataFrame,
    named: pl.DataFrame,
    stored: pl.DataFrame,
    ledger: pl.DataFrame,
    asked: Mapping[str, tuple[date, date]],
    history: Callable[[str], pl.DataFrame],
) -> NamedSplits:
    """Hold the splits that a source of unadjusted prices names against its prices.

    Args:
        rows: columns symbol, date, close, adj_close, sorted by (symbol, date).
        named: the events that the source names: symbol, date, split, dividend.
        stored: likewise as `rows`: what was judged before, if its name was.
        ledger: the events that were known before: symbol, date, split, note and whether it was `in_close`.
        asked: symbol → first and last date that the source was asked for.
        history: all bars of a symbol that are stored or in view: a few do not show how it usually moves.
    """
    found = NamedSplits()
    if rows.is_empty():
        return found
    low, high = rows.select(pl.col("date").min().alias("low"), pl.col("date").max().alias("high")).row(0)
    is_split = (pl.col("split") != 1) & (pl.col("split") > 0) & pl.col("date").is_between(low - NEARBY, high)
    splits = named.filter(is_split)
    before = ledger.filter(is_split, pl.col("note").str.contains(IS_NAMED, literal=True))
    if splits.is_empty() and before.is_empty():
        return found
    symbols = pl.concat([splits.select("symbol"), before.select("symbol")]).unique().to_series()
    is_mine = pl.col("symbol").is_in(symbols.implode())
    mine = rows.filter(is_mine).join(stored, on=ORDER, how="left", suffix="_0", maintain_order="left")
    same = [pl.col(name).eq_missing(pl.col(f"{name}_0")) for name in ("close", "adj_close")]
    judged = set(mine.filter(same).select(ORDER).iter_rows())
    known = {(symbol, day): (split, in_close) for symbol, day, split, in_close in ledger.select(_KNOWN).iter_rows()}
    placed, names = _by_symbol(before), _by_symbol(splits)
    not_shown: list[NotShown] = []
    is_any_shown = False
    for (symbol,), part in mine.partition_by("symbol", as_dict=True, maintain_order=True).items():
        name, reported = str(symbol), names.get(symbol, [])
        line = line_of(part, None if len(part) > MANY_MOVES else history(name))
        new = {at for on, _ in reported if (at := line.at(on)) and ((symbol, line.days[at]) not in judged)}
        new |= {at for on, _ in reported if (at := line.at(on)) and (symbol, on) not in known}
        shown, wrong = _judge(name, line, reported, new, placed.get(symbol, ()), found)
        is_any_shown |= any(line.plainly_shows(at, log(split)) for at, split in shown.items())
        not_shown += wrong
        since, until = asked.get(symbol, (date.max, date.min))
        there = {day for day, _ in reported} | {day for other, _, day, _, _ in found.moved if other == symbol}
        found.retained += [
            (symbol, day, split, 0.0)
            for day, split in placed.get(symbol, ())
            if since <= day <= min(until, since + NEARBY) and day not in there
        ]
        visible = {line.days[at] for at in shown}
        found.taken_out |= {
            (symbol, on) for on, split in reported if known.get((symbol, on)) == (split, False) and on not in visible
        }
    _distinguish(not_shown, known, found, is_any_shown=is_any_shown)
    return found


def _distinguish(
    not_shown: Sequence[NotShown],
    known: Mapping[tuple[str, date], tuple[float, bool]],
    found: NamedSplits,
    *,
    is_any_shown: bool,
) -> None:
    """Splits that the source takes out of its prices, and those that did not happen."""
    here = {(one.symbol, one.named_on) for one in not_shown}
    others = [in_close for key, (split, in_close) in known.items() if split != 1 and key not in here]
    clear = [one for one in not_shown if one.margin > 0]
    is_way = not is_any_shown and not any(others) and (bool(others) or _are_several(clear))
    for one in not_shown:
        if one.is_restated or (is_way and one.margin > 0):
            found.taken_out.add((one.symbol, one.named_on))
        elif one.is_new and (one.symbol, one.named_on) not in found.taken_out:
            found.suspects.append(one)


def _are_several(splits: Sequence[NotShown]) -> bool:
    """Whether the price contradicts different splits together: no error of names."""
    found = sorted((one.symbol, round(abs(log(one.split)), 2), one.named_on) for one in splits)
    same = sum(one[:2] == next_[:2] and next_[2] - one[2] <= _ONE_ERROR for one, next_ in pairwise(found))
    return len(found) - same >= _A_WAY and sum(one.margin for one in splits) > len(splits) ** 0.5


def _by_symbol(splits: pl.DataFrame) -> dict[str, list[tuple[date, float]]]:
    found: dict[str, list[tuple[date, float]]] = {}
    for symbol, day, split in splits.sort(ORDER).select(*ORDER, "split").iter_rows():
        found.setdefault(symbol, []).append((day, split))
    return found


def _judge(
    symbol: str,
    line: Line,
    names: Sequence[tuple[date, float]],
    new: Collection[int],
    placed: Sequence[tuple[date, float]],
    found: NamedSplits,
) -> tuple[dict[int, float], list[NotShown]]:
    """The splits that sessions show, by session, and those that none shows; moved ones go to `found`."""
    taken: dict[int, float] = {}
    not_shown: list[NotShown] = []
    left: list[tuple[date, float, int]] = []
    for named_on, split in sorted(names, key=lambda one: (one[0] not in line.days, one[0])):
        at = line.at(named_on)
        if at is not None and line.shows(at, log(split)) and at not in taken:
            taken[at] = split
        elif (day := _placed(named_on, split, placed)) is not None:
            found.moved.append((symbol, named_on, day, split, any(day == on for on, _ in names)))
        elif at is not None:
            left.append((named_on, split, at))
    for named_on, split, at in left:
        size = log(split)
        fitting = (other for other in line.around(at) if line.plainly_shows(other, size))
        shown = next((other for other in fitting if _are_one(taken.get(other, split), split)), None)
        if shown is not None:
            found.moved.append((symbol, named_on, line.days[shown], split, shown in taken))
            taken.setdefault(shown, split)
        elif at not in taken and line.contradicts(at, size):
            why = line.suspicion(at, named_on, split)
            margin, is_restated = line.margin(at, size), line.is_restated(at, size)
            not_shown.append(NotShown(symbol, named_on, split, why, at in new, margin, is_restated))
    return taken, not_shown


def _placed(named_on: date, split: float, placed: Sequence[tuple[date, float]]) -> date | None:
    """The other day that a name was moved to before."""
    near = (
        day for day, other in placed if day != named_on and abs(day - named_on) <= NEARBY and _are_one(other, split)
    )
    return next(near, None)


def _are_one(one: float, other: float) -> bool:
    return abs(log(one / other)) <= NEAR_SPLIT
