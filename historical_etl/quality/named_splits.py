"""Splits that a source names beside prices as they were traded: does the price show each of them on its day?

A name that is shown some sessions off is that split, on the day that shows it; a second name of a split that is shown
once is the same split. A name that is shown nowhere is contradicted, unless the source takes splits out of its prices
and does not say so: then it shows none of them, or restates what was stored by their ratio. Moves are logarithms here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from math import exp, log
from statistics import median
from typing import Final

import polars as pl

from historical_etl.quality.event_sessions import MATTERS
from historical_etl.quality.events import EVENTS
from historical_etl.quality.suspicion import NEAR_SPLIT, Suspicion
from historical_etl.schema import ORDER

__all__ = ["NamedSplits", "NotShown", "judge_named_splits"]

_IS_NAMED: Final = "is named on"
_KNOWN: Final = (*ORDER, "split", "in_close")
_KEY: Final = {"symbol": pl.String(), "date": pl.Date()}
#: So many sessions off a name may be dated, and so many days before the first bar in view it still counts.
_OFF: Final = 5
_DAYS_OFF: Final = timedelta(days=10)
#: How much better one explanation must fit the price, in usual moves: with many moves in view, and with few.
_DECISIVE, _DECISIVE_FEW, _MANY = 4.0, 10.0, 20
_SMALLEST_USUAL: Final = 0.004
#: So many different splits that no price shows, and none that one shows, are the source's way and no error of names.
_A_WAY: Final = 2
#: Of the size of a split a factor may be off by this share: a dividend may go with it.
_BESIDE: Final = 0.1


@dataclass(frozen=True)
class NotShown:
    """A named split that the price contradicts.

    `is_new` unless it was judged before, `is_plain` where the price alone says so, `is_restated` if the stored bars
    before it stand at its ratio to those that came.
    """

    symbol: str
    named_on: date
    split: float
    why: Suspicion
    is_new: bool
    is_plain: bool
    is_restated: bool


@dataclass
class NamedSplits:
    """What the prices say of named splits.

    Attributes:
        moved: (symbol, the day that is named, the day that shows it, ratio, whether another name has it there).
        kept: splits that were moved before, and whose name is no longer asked for: (symbol, date, ratio, 0).
        taken_out: (symbol, date) of splits that the source takes out of its prices.
        suspects: splits that did not happen.
    """

    moved: list[tuple[str, date, date, float, bool]] = field(default_factory=list[tuple[str, date, date, float, bool]])
    kept: list[tuple[str, date, float, float]] = field(default_factory=list[tuple[str, date, float, float]])
    taken_out: set[tuple[str, date]] = field(default_factory=set[tuple[str, date]])
    suspects: list[NotShown] = field(default_factory=list[NotShown])

    def names(self, named: pl.DataFrame) -> pl.DataFrame:
        """Some named events, each split on the day that shows it, and once."""
        if not self.moved and not self.kept:
            return named
        wrong = pl.DataFrame([one[:2] for one in self.moved], schema=_KEY, orient="row")
        right = [(symbol, day, split, 0.0) for symbol, _, day, split, is_twice in self.moved if not is_twice]
        off = named.join(wrong, on=ORDER, how="semi").with_columns(pl.lit(1.0).alias("split"))
        new = pl.DataFrame([*right, *self.kept], schema=named.schema, orient="row")
        together = pl.concat([named.join(wrong, on=ORDER, how="anti"), off.filter(pl.col("dividend") != 0), new])
        return together.group_by(ORDER, maintain_order=True).agg(pl.col("split").product(), pl.col("dividend").sum())

    def events(self, names: pl.DataFrame) -> pl.DataFrame:
        """What is to be said of the moved ones, columns `EVENTS`; `names` are those from `names`."""
        words = [
            (symbol, day, f"a split of {split:g} {_IS_NAMED} {named_on}, and the prices show it on {day}")
            for symbol, named_on, day, split, _ in self.moved
        ]
        notes = pl.DataFrame(words, schema={**_KEY, "note": pl.String()}, orient="row").unique(list(ORDER))
        told = notes.join(names, on=ORDER).with_columns(pl.lit(value=False).alias("unexplained"))
        return told.select(list(EVENTS)).sort(ORDER)


@dataclass(frozen=True)
class _Line:
    """The sessions of a symbol, the moves of the price and of adj_close / close into each, and stored to new closes."""

    days: Sequence[date]
    moves: Sequence[float | None]
    factors: Sequence[float | None]
    noise: Sequence[float]
    levels: Sequence[float | None]
    decisive: float

    def at(self, named_on: date) -> int | None:
        """The session on which a named event takes effect; None if there is none in view, or none before it."""
        at = next((at for at, day in enumerate(self.days) if day >= named_on), 0)
        return at if at > 0 and self.moves[at] is not None else None

    def around(self, at: int) -> list[int]:
        """The sessions that an event may be named on by mistake, the nearest ones first."""
        near = range(max(at - _OFF, 1), min(at + _OFF + 1, len(self.days)))
        return sorted(near, key=lambda other: abs(other - at))

    def shows(self, at: int, size: float) -> bool:
        """Whether a session looks more like a split than like none, by the price or by the factor."""
        move, factor = self.moves[at], self.factors[at]
        by_factor = factor is not None and abs(factor - size) < abs(factor)
        by_price = move is not None and abs(move + size) < abs(move)
        return by_factor or (by_price and (factor is None or abs(size) > self.decisive))

    def plainly_shows(self, at: int, size: float) -> bool:
        """Whether a session looks like nothing but such a split."""
        move, factor = self.moves[at], self.factors[at]
        if move is None or abs(move + size) > max(NEAR_SPLIT, min(self.decisive, abs(size) / 2)):
            return False
        follows = factor is not None and abs(factor - size) <= NEAR_SPLIT * abs(size) + _BESIDE * abs(size)
        return follows or abs(size) > self.decisive

    def contradicts(self, at: int, size: float) -> bool:
        """Whether the price says that there was no such split, or adj_close does where the price does not tell."""
        move, factor = self.moves[at], self.factors[at]
        if move is None or self.shows(at, size):
            return False
        by_factor = factor is not None and abs(factor) <= self.noise[at] and abs(size) > MATTERS
        return by_factor or self.plainly_contradicts(at, size)

    def plainly_contradicts(self, at: int, size: float) -> bool:
        """Whether the price alone says that there was no such split."""
        move = self.moves[at]
        return move is not None and abs(move + size) - abs(move) > self.decisive

    def is_restated(self, at: int, size: float) -> bool:
        """Whether what is stored before a session stands at the ratio of a split to what came, and nothing jumps."""
        level, move = self.levels[at - 1], self.moves[at]
        if level is None or move is None or abs(move) > max(self.decisive, abs(size) / 2):
            return False
        return abs(level - size) <= NEAR_SPLIT

    def suspicion(self, at: int, named_on: date, split: float) -> Suspicion:
        """Why a symbol is held whose prices do not show a split that is named."""
        moved = f"the price moved by {exp(self.moves[at] or 0.0) - 1:+.1%} on {self.days[at]}"
        words = f"the source names a split of {split:g} on {named_on}, and {moved}"
        factor = "" if self.factors[at] is None else ", and adj_close does not contain it"
        way = "; a source that takes splits out of its prices has to say so with split_adjusted"
        return Suspicion("level_jump", words + factor + way, split, self.days[at], self.days[at - 1])


def judge_named_splits(
    rows: pl.DataFrame,
    named: pl.DataFrame,
    stored: pl.DataFrame,
    ledger: pl.DataFrame,
    asked: Mapping[str, tuple[date, date]],
) -> NamedSplits:
    """Hold the splits that a source of unadjusted prices names against its prices.

    Args:
        rows: columns symbol, date, close, adj_close, sorted by (symbol, date).
        named: the events that the source names: symbol, date, split, dividend.
        stored: likewise as `rows`: what was judged before, if its name was.
        ledger: the events that were known before: symbol, date, split, note and whether it was `in_close`.
        asked: symbol → first and last date that the source was asked for.
    """
    found = NamedSplits()
    if rows.is_empty():
        return found
    low, high = rows.select(pl.col("date").min().alias("low"), pl.col("date").max().alias("high")).row(0)
    is_split = (pl.col("split") != 1) & (pl.col("split") > 0) & pl.col("date").is_between(low - _DAYS_OFF, high)
    splits = named.filter(is_split)
    before = ledger.filter(is_split, pl.col("note").str.contains(_IS_NAMED, literal=True))
    if splits.is_empty() and before.is_empty():
        return found
    symbols = pl.concat([splits.select("symbol"), before.select("symbol")]).unique().to_series()
    is_mine = pl.col("symbol").is_in(symbols.implode())
    mine = rows.filter(is_mine).join(stored, on=ORDER, how="left", suffix="_0", maintain_order="left")
    same = [pl.col(name).eq_missing(pl.col(f"{name}_0")) for name in ("close", "adj_close")]
    judged = set(mine.filter(same).select(ORDER).iter_rows())
    known = {(symbol, day): (split, in_close) for symbol, day, split, in_close in ledger.select(_KNOWN).iter_rows()}
    settled, names = _by_symbol(before), _by_symbol(splits)
    not_shown: list[NotShown] = []
    is_any_shown = False
    for (symbol,), part in mine.partition_by("symbol", as_dict=True, maintain_order=True).items():
        line, told = _line(part), names.get(symbol, [])
        new = {at for on, _ in told if (at := line.at(on)) and ((symbol, line.days[at]) not in judged)}
        new |= {at for on, _ in told if (at := line.at(on)) and (symbol, on) not in known}
        shown, wrong = _judge(str(symbol), line, told, new, settled.get(symbol, ()), found)
        is_any_shown |= any(line.plainly_shows(at, log(split)) for at, split in shown.items())
        not_shown += wrong
        since, until = asked.get(symbol, (date.max, date.min))
        there = {day for day, _ in told} | {day for name, _, day, _, _ in found.moved if name == symbol}
        found.kept += [
            (symbol, day, split, 0.0)
            for day, split in settled.get(symbol, ())
            if since <= day <= min(until, since + _DAYS_OFF) and day not in there
        ]
        visible = {line.days[at] for at in shown}
        found.taken_out |= {
            (symbol, on) for on, split in told if known.get((symbol, on)) == (split, False) and on not in visible
        }
    _tell_apart(not_shown, known, found, is_any_shown=is_any_shown)
    return found


def _tell_apart(
    not_shown: Sequence[NotShown],
    known: Mapping[tuple[str, date], tuple[float, bool]],
    found: NamedSplits,
    *,
    is_any_shown: bool,
) -> None:
    """Splits that the source takes out of its prices, and those that did not happen."""
    here = {(one.symbol, one.named_on) for one in not_shown}
    others = [in_close for key, (split, in_close) in known.items() if split != 1 and key not in here]
    different = _different([one for one in not_shown if one.is_plain])
    is_way = not is_any_shown and not any(others) and (different >= _A_WAY or bool(others))
    for one in not_shown:
        if one.is_restated or (is_way and one.is_plain):
            found.taken_out.add((one.symbol, one.named_on))
        elif one.is_new and (one.symbol, one.named_on) not in found.taken_out:
            found.suspects.append(one)


def _different(splits: Sequence[NotShown]) -> int:
    """How many splits are no second name of another: of another symbol or ratio, or another time."""
    last: dict[tuple[str, float], date] = {}
    count = 0
    for one in sorted(splits, key=lambda one: one.named_on):
        key = one.symbol, round(abs(log(one.split)), 2)
        count += key not in last or one.named_on - last[key] > _DAYS_OFF
        last[key] = one.named_on
    return count


def _by_symbol(splits: pl.DataFrame) -> dict[str, list[tuple[date, float]]]:
    found: dict[str, list[tuple[date, float]]] = {}
    for symbol, day, split in splits.sort(ORDER).select(*ORDER, "split").iter_rows():
        found.setdefault(symbol, []).append((day, split))
    return found


def _judge(
    symbol: str,
    line: _Line,
    names: Sequence[tuple[date, float]],
    new: Collection[int],
    settled: Sequence[tuple[date, float]],
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
        elif (day := _settled(named_on, split, settled)) is not None:
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
            is_plain, is_restated = line.plainly_contradicts(at, size), line.is_restated(at, size)
            not_shown.append(NotShown(symbol, named_on, split, why, at in new, is_plain, is_restated))
    return taken, not_shown


def _settled(named_on: date, split: float, settled: Sequence[tuple[date, float]]) -> date | None:
    """The other day that a name was moved to before."""
    near = (
        day for day, other in settled if day != named_on and abs(day - named_on) <= _DAYS_OFF and _are_one(other, split)
    )
    return next(near, None)


def _are_one(one: float, other: float) -> bool:
    return abs(log(one / other)) <= NEAR_SPLIT


def _line(rows: pl.DataFrame) -> _Line:
    factor = (pl.col("adj_close") / pl.col("close")).log()
    told = rows.select(
        "date",
        (pl.col("close") / pl.col("close").shift(1)).log().alias("move"),
        (factor - factor.shift(1)).alias("factor"),
        (2e-4 + 0.022 / pl.col("adj_close").abs()).fill_null(0.0).alias("noise"),
        (pl.col("close_0") / pl.col("close")).log().alias("level"),
    )
    sizes = [abs(move) for move in told["move"] if move is not None]
    usual = max(1.25 * median(sizes), _SMALLEST_USUAL) if sizes else _SMALLEST_USUAL
    decisive = (_DECISIVE if len(sizes) >= _MANY else _DECISIVE_FEW) * usual
    days, moves, factors, noise, levels = (told[name].to_list() for name in told.columns)
    return _Line(days, moves, factors, noise, levels, decisive)
