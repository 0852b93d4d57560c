"""Splits and dividends: what the source names, what adj_close says, and what the price did, held against each other.

On a session there are up to three witnesses: the named event, the move g of the factor adj_close / close, and the move
p of the price. They agree; or the named value is off and adj_close follows the price; or adj_close contradicts the
price, or nothing decides between it and the name: then it is not to be trusted. `docs/concepts/trust.md` has the model.

Moves are logarithms here. A dividend d makes g = 1 / (1 - d / close before), or 1 + d / close after.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from math import exp, inf, isfinite, log
from typing import Any, Final

import polars as pl

from historical_etl.quality.splits import SMALLEST_SPLIT, read_move
from historical_etl.schema import ORDER

__all__ = ["EVENTS", "Contradiction", "Findings", "implied_event", "judge_events", "rounding"]

#: What is known of an event, beside `in_close` and `inferred`.
EVENTS: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "date": pl.Date(),
        "split": pl.Float64(),
        "dividend": pl.Float64(),
        "unexplained": pl.Boolean(),
        "note": pl.String(),
    }
)
_NOISE: Final = 1e-4
#: Name and factor agree up to this share of the dividend, or of the price.
_SAME_SHARE, _SAME = 0.1, 3e-4
#: A disagreement smaller than this share of the price is told and holds nothing.
_MATTERS: Final = 0.0075
#: How much better one explanation must fit the price, in usual moves: with many moves in view, and with few.
_DECISIVE, _DECISIVE_FEW, _MANY = 4.0, 10.0, 20
#: A price that did not move may not have been traded; a dividend of this size would show all the same.
_SHOWS_ALWAYS: Final = 0.2
_SMALLEST_USUAL: Final = 0.004
#: A dividend of so many usual moves, while the price moved by no more than so many and showed no more of it than this.
_LARGE, _CALM, _SHOWN = 6.0, 3.0, 0.25
#: No dividend is so large a share of the price before it.
_IMPOSSIBLE: Final = 0.9
#: Two dividends of the same amount within so few sessions are one; of about the same only on neighbouring sessions.
_TWICE_WITHIN, _SAME_AMOUNT, _ABOUT_SAME, _WEEKLY = 3, 1e-3, 0.1, timedelta(days=10)
#: Of two on neighbouring sessions this share must show in the price, up to so many usual moves.
_BOTH_SHOWN, _LACKING = 0.66, 3.0
_DAYS_OFF: Final = timedelta(days=5)
#: So many dividends below this share of the price, and how surely the price must have fallen by more.
_TINY, _SEVERAL, _DECISIVE_TOGETHER = 5e-4, 4, 3.0
_UNITS: Final = (100.0, 0.01)


@dataclass(frozen=True)
class Contradiction:
    """A session on which adj_close is not to be trusted, and why."""

    day: date
    words: str


@dataclass(frozen=True)
class Findings:
    """What the judgement of events found.

    Attributes:
        events: columns `EVENTS`: the events of which more is to be said than their source says.
        contradicted: by symbol, sessions where adj_close contradicts the other witnesses, earliest first.
        warnings: what is told and holds nothing.
    """

    events: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=EVENTS))
    contradicted: Mapping[str, Sequence[Contradiction]] = field(default_factory=dict[str, Sequence[Contradiction]])
    warnings: tuple[str, ...] = ()


def rounding() -> pl.Expr:
    """How far rounding of two adjusted prices, `adj_close` and `adj_close_0`, may have moved their factor."""
    return _NOISE + sum((_unit(name) / pl.col(name).abs() for name in ("adj_close", "adj_close_0")), pl.lit(0.0))


def implied_event(move: float, close: float, noise: float) -> tuple[float, float, bool, str | None]:
    """The split, the dividend, whether it is unexplained, and a note, of a move of the factor that nobody names."""
    found = read_move(move, noise)
    if found is None:
        if move < 1:
            words = f"adj_close / close falls to {move:.6g} of what it was, which no dividend and no simple split makes"
        else:
            words = (
                f"adj_close / close rises to {move:.6g} times what it was: a spin-off, a special dividend of "
                f"{1 - 1 / move:.0%} of the price, or a split with a dividend"
            )
        return 1.0, 0.0, True, words
    split, rest = found
    return split, round((rest - 1) * close, 6) if rest > 1 else 0.0, False, None


def judge_events(
    rows: pl.DataFrame, judged: pl.DataFrame | None, named: pl.DataFrame | None, answered: Collection[str] = ()
) -> Findings:
    """Hold named events, adj_close and prices against each other.

    Args:
        rows: columns symbol, date, close, adj_close, sorted by (symbol, date).
        judged: (symbol, date) of rows that were judged before with the same prices; None: none was.
        named: the events that the source names: symbol, date, split, dividend; None if it names none.
        answered: symbols for which `named` is complete over the rows in view.
    """
    if rows.is_empty() or rows.get_column("adj_close").null_count() == rows.height:
        return Findings()
    pairs = _pairs(rows, judged)
    events = _with_names(pairs, named).filter(
        (pl.col("log_g").abs() > pl.col("noise")) | pl.col("split_n").is_not_null()
    )
    if events.is_empty():
        return Findings()
    symbols = events.get_column("symbol").unique()
    usual = _usual(pairs.filter(pl.col("symbol").is_in(symbols.implode())))
    table = (
        events.join(usual, on="symbol", how="left").collect()
        if isinstance(events, pl.LazyFrame)
        else events.join(usual, on="symbol", how="left", maintain_order="left")
    )
    found = _Judgement(set(answered))
    for (symbol,), mine in table.partition_by("symbol", as_dict=True, maintain_order=True).items():
        if mine.get_column("is_new").any():
            found.symbol(str(symbol), mine.to_dicts())
    return found.result()


def _pairs(rows: pl.DataFrame, judged: pl.DataFrame | None) -> pl.DataFrame:
    """Each row with the one before it of the same symbol: log_p, log_g, `noise`, and whether one of them is new."""
    line = rows.select(*ORDER, "close", "adj_close")
    if judged is None or judged.is_empty():
        line = line.with_columns(new=pl.lit(value=True))
    else:
        known = judged.select(*ORDER, new=pl.lit(value=False))
        line = line.join(known, on=ORDER, how="left", maintain_order="left").with_columns(pl.col("new").is_null())
    before = [pl.col(name).shift(1).alias(f"{name}_0") for name in ("symbol", "date", "close", "adj_close", "new")]
    factor, factor_0 = pl.col("adj_close") / pl.col("close"), pl.col("adj_close_0") / pl.col("close_0")
    return (
        line.with_columns(before)
        .filter(pl.col("symbol") == pl.col("symbol_0"))
        .with_columns(
            (pl.col("close") / pl.col("close_0")).log().alias("log_p"),
            (factor / factor_0).log().fill_nan(None).alias("log_g"),
            rounding().alias("noise"),
            (pl.col("new") | pl.col("new_0")).alias("is_new"),
        )
        .select(*ORDER, "date_0", "close", "close_0", "log_p", "log_g", "noise", "is_new")
    )


def _with_names(pairs: pl.DataFrame, named: pl.DataFrame | None) -> pl.DataFrame:
    """The pairs with what is named on their session, or since the one before: `split_n`, `dividend_n`, `named_on`."""
    nothing = (pl.lit(None, pl.Float64).alias("split_n"), pl.lit(None, pl.Float64).alias("dividend_n"))
    if named is None or named.is_empty() or pairs.is_empty():
        return pairs.with_columns(*nothing, pl.lit(None, pl.Date).alias("named_on"))
    sessions = pairs.select("symbol", session="date", since="date_0").sort("session")
    on_session = (
        named.filter((pl.col("split") > 0) & ((pl.col("split") != 1) | (pl.col("dividend") != 0)))
        .sort("date")
        .join_asof(
            sessions, left_on="date", right_on="session", by="symbol", strategy="forward", check_sortedness=False
        )
        .filter(pl.col("date") > pl.col("since"))
        .group_by("symbol", "session")
        .agg(
            pl.col("split").product().alias("split_n"),
            pl.col("dividend").sum().alias("dividend_n"),
            pl.col("date").max().alias("named_on"),
        )
    )
    return pairs.join(
        on_session, left_on=["symbol", "date"], right_on=["symbol", "session"], how="left", maintain_order="left"
    )


def _usual(pairs: pl.DataFrame) -> pl.DataFrame:
    """The usual move of each symbol's price, and of how many moves it was taken."""
    size = pl.col("log_p").abs()
    return pairs.group_by("symbol").agg(
        pl.max_horizontal(1.25 * size.median(), pl.lit(_SMALLEST_USUAL)).alias("usual"), pl.len().alias("moves")
    )


def _unit(column: str) -> pl.Expr:
    """The last decimal that prices of a source are rounded to, as their digits show it: 0.01, 0.0001 or less."""
    price = pl.col(column)

    def whole(scale: float) -> pl.Expr:
        return (price * scale - (price * scale).round()).abs() < _NOISE

    return pl.when(whole(1e2)).then(1e-2).when(whole(1e4)).then(1e-4).otherwise(1e-6)


@dataclass
class _Session:
    """A session with an event: what is named, what adj_close says, what the price did, all as logarithms."""

    day: date
    before: date
    close: float
    close_0: float
    p: float
    g: float | None
    noise: float
    is_new: bool
    usual: float
    moves: int
    split: float
    dividend: float
    is_named: bool
    named_on: date | None

    @property
    def decisive(self) -> float:
        """How much better an explanation must fit the price to be taken for the right one."""
        return (_DECISIVE if self.moves >= _MANY else _DECISIVE_FEW) * self.usual

    @property
    def at_rest(self) -> bool:
        """Whether the price did not move at all, so that it may not have been traded."""
        return self.p == 0.0

    def expected(self, dividend: float) -> list[float]:
        """The moves of the factor that the named split and some dividend may make."""
        found: list[float] = []
        for split in {1.0, self.split}:
            # Cash for a new share or for an old one, against the price before or after.
            for base in {self.close_0, self.close_0 / self.split}:
                if dividend < base:
                    found.append(log(split) - log(1 - dividend / base))
            found.append(log(split) + log(1 + dividend / self.close))
        return found

    @property
    def yields(self) -> float:
        """The named dividend as a share of the price before."""
        return self.dividend / self.close_0


@dataclass
class _Judgement:
    """Judges the sessions with events of one symbol after the other."""

    answered: set[str]
    events: list[tuple[str, date, float, float, bool, str | None]] = field(default_factory=list)
    contradicted: dict[str, list[Contradiction]] = field(default_factory=dict[str, list[Contradiction]])
    warnings: list[str] = field(default_factory=list[str])

    def result(self) -> Findings:
        """What was found."""
        events = pl.DataFrame(self.events, schema=EVENTS, orient="row").unique(list(ORDER), keep="last").sort(ORDER)
        return Findings(
            events, {s: sorted(c, key=lambda x: x.day) for s, c in self.contradicted.items()}, tuple(self.warnings)
        )

    def symbol(self, symbol: str, rows: Sequence[dict[str, Any]]) -> None:
        """Judge all sessions of a symbol that have an event; only what is new is told."""
        sessions = [_session(row) for row in rows]
        paid = [cash for at in sessions if (cash := _cash(at)) > 0]
        taken = _named_on_another_day(sessions)
        for at in sessions:
            if at.g is None or not at.is_new or at.day in taken:
                continue
            if at.is_named:
                self._named(symbol, at, paid)
            else:
                self._unnamed(symbol, at)
        if (tiny := _all_too_small(sessions)) is not None:
            words = (
                f"the dividends up to {tiny.dividend:.6g} on {tiny.day} are less than {_TINY:.2%} of the price, adj_close "
                f"contains them, and the price fell as by a hundred times as much; multiplied by 100 they would fit"
            )
            self._contradict(symbol, tiny, words)
        for first, second in _neighbours(sessions):
            if (first.is_new or second.is_new) and _are_one(first, second, sessions):
                words = (
                    f"{_cash(first):.6g} on {first.day} and {_cash(second):.6g} on {second.day} look like one dividend "
                    f"that came twice, and adj_close contains both"
                )
                self._contradict(symbol, second, words)

    def _named(self, symbol: str, at: _Session, paid: Sequence[float]) -> None:
        assert at.g is not None
        expected = at.expected(at.dividend)
        off = min((abs(at.g - move) for move in expected), default=inf)
        tolerance = at.noise + _SAME + _SAME_SHARE * abs(log(1 - min(at.yields, 0.5)))
        if off <= tolerance and at.yields < _IMPOSSIBLE:
            self._agreeing(symbol, at, paid)
            return
        split, cash, unexplained, _ = _read(at)
        unit = _unit_between(at)
        if unit is not None and not unexplained:
            split, cash = at.split if split == 1 else split, round(at.dividend / unit, 6)
        contained = f"contains {_words(split, cash)}" if not unexplained else f"moves by a factor of {exp(at.g):.6g}"
        hint = "" if unit is None else _unit_words(unit, at.split)
        seen = f"named {_words(at.split, at.dividend)} on {at.day}; adj_close {contained}{hint}"
        by_factor = abs(at.p + at.g)
        by_name = min((abs(at.p + move) for move in expected), default=inf) if at.yields < _IMPOSSIBLE else inf
        shows = not at.at_rest or off > _SHOWS_ALWAYS
        enough = at.usual if unit is not None and unit not in _UNITS else at.decisive
        if shows and not unexplained and by_name - by_factor > enough:
            note = f"{seen}, and the price agrees with adj_close"
            self._note(symbol, at, split, cash, note, unexplained=False)
        elif off < _MATTERS:
            self._note(symbol, at, at.split, at.dividend, seen, unexplained=False)
        elif shows and by_factor - by_name > at.decisive:
            words = f"{seen}, and the price agrees with what is named"
            self._note(symbol, at, at.split, at.dividend, words, unexplained=False, warn=False)
            self._contradict(symbol, at, words)
        else:
            words = f"{seen}, and the price does not tell which is right"
            self._note(symbol, at, at.split, at.dividend, words, unexplained=True, warn=False)
            self._contradict(symbol, at, words)

    def _agreeing(self, symbol: str, at: _Session, paid: Sequence[float]) -> None:
        """Name and adj_close say the same: the price may still contradict both."""
        if _is_not_seen(at):
            words = (
                f"a dividend of {at.dividend:.6g} is {at.yields:.1%} of the price before {at.day}, adj_close contains "
                f"it, and the price moved by {exp(at.p) - 1:+.1%} only{_of_others(at.dividend, paid)}"
            )
        elif _is_too_small(at, paid):
            words = (
                f"the dividend of {at.dividend:.6g} on {at.day} is about a hundredth of the others, adj_close contains "
                f"it, and the price fell as by a hundred times as much; multiplied by 100 it would fit"
            )
        else:
            return
        self._note(symbol, at, at.split, at.dividend, words, unexplained=True, warn=False)
        self._contradict(symbol, at, words)

    def _unnamed(self, symbol: str, at: _Session) -> None:
        split, cash, unexplained, note = _read(at)
        assert at.g is not None
        if unexplained and at.g < 0:
            if -at.g > _MATTERS:
                self._note(symbol, at, 1.0, 0.0, f"{at.day}: {note}", unexplained=True, warn=False)
                self._contradict(symbol, at, f"on {at.day} {note}")
        elif unexplained:
            self._note(symbol, at, 1.0, 0.0, f"on {at.day} {note}", unexplained=True)
        if split == 1 and at.g > 0 and _is_not_seen(at):
            words = (
                f"adj_close contains a dividend of {exp(at.g) - 1:.1%} of the price on {at.day}, and the price moved "
                f"by {exp(at.p) - 1:+.1%} only"
            )
            self._note(symbol, at, 1.0, 0.0, words, unexplained=True, warn=False)
            self._contradict(symbol, at, words)
        elif symbol in self.answered and not unexplained and abs(at.g) > _MATTERS:
            note = f"adj_close contains {_words(split, cash)} on {at.day}, which the source does not name"
            self._note(symbol, at, split, cash, note, unexplained=False)

    def _note(
        self, symbol: str, at: _Session, split: float, cash: float, note: str, *, unexplained: bool, warn: bool = True
    ) -> None:
        self.events.append((symbol, at.named_on or at.day, split, cash, unexplained, note))
        if warn:
            self.warnings.append(f"{symbol}: {note}")

    def _contradict(self, symbol: str, at: _Session, words: str) -> None:
        self.contradicted.setdefault(symbol, []).append(Contradiction(at.day, words))


def _session(row: dict[str, Any]) -> _Session:
    g, is_named = row["log_g"], row["split_n"] is not None
    return _Session(
        day=row["date"],
        before=row["date_0"],
        close=row["close"],
        close_0=row["close_0"],
        p=row["log_p"],
        g=g if g is not None and isfinite(g) else None,
        noise=row["noise"],
        is_new=row["is_new"],
        usual=row["usual"],
        moves=row["moves"],
        split=row["split_n"] if is_named else 1.0,
        dividend=max(row["dividend_n"] or 0.0, 0.0),
        is_named=is_named,
        named_on=row["named_on"],
    )


def _read(at: _Session) -> tuple[float, float, bool, str | None]:
    """The event that the factor alone shows."""
    assert at.g is not None
    if abs(at.g) <= at.noise:
        return 1.0, 0.0, False, None
    if at.is_named and at.split != 1:
        rest = at.g - log(at.split) if abs(at.g - log(at.split)) < abs(at.g) else at.g
        split = at.split if rest != at.g else 1.0
        if -at.noise <= rest < log(SMALLEST_SPLIT):
            return split, round(max(exp(rest) - 1, 0.0) * at.close, 6), False, None
    return implied_event(exp(at.g), at.close, at.noise)


def _cash(at: _Session) -> float:
    """The dividend that adj_close contains, in cash: as it is named where both agree."""
    if at.g is None or at.g <= at.noise or at.split != 1:
        return 0.0
    return at.dividend if at.dividend > 0 else (1 - exp(-at.g)) * at.close_0


def _is_not_seen(at: _Session) -> bool:
    """Whether a dividend is so large against the usual moves that the price would have shown it, and did not."""
    if at.g is None:
        return False
    size = at.g - log(at.split) if at.split != 1 and at.g > abs(log(at.split)) else at.g
    calm = abs(at.p) <= _CALM * at.usual or at.p > 0
    enough = _LARGE if at.moves >= _MANY else _DECISIVE_FEW
    trades = not at.at_rest or size > _SHOWS_ALWAYS
    return trades and calm and size > enough * at.usual and size > 0.02 and -at.p < _SHOWN * size


def _is_too_small(at: _Session, paid: Sequence[float]) -> bool:
    """Whether a dividend is a hundredth of the symbol's others, and the price fell as by the whole of it."""
    others = sorted(cash for cash in paid if cash != at.dividend)
    if at.dividend <= 0 or len(others) < 2:  # noqa: PLR2004 - one other may be the odd one
        return False
    full = 100 * at.dividend
    if not 0.5 <= full / others[len(others) // 2] <= 2 or full >= at.close_0:  # noqa: PLR2004
        return False
    return -at.p > _CALM * at.usual and abs(at.p - log(1 - full / at.close_0)) < 0.5 * -at.p


def _all_too_small(sessions: Sequence[_Session]) -> _Session | None:
    """The last of several dividends so tiny that nobody pays them, whose days fell as by a hundred times as much."""
    tiny = [at for at in sessions if at.g is not None and 0 < at.dividend < _TINY * at.close_0 and at.g < 2 * _TINY]
    if len(tiny) < _SEVERAL or not any(at.is_new for at in tiny):
        return None
    fell = -sum(at.p for at in tiny)
    full = sum(-log(1 - 100 * at.yields) for at in tiny)
    random = tiny[0].usual * len(tiny) ** 0.5
    return tiny[-1] if fell > _DECISIVE_TOGETHER * random and abs(fell - full) < 0.5 * full else None


def _named_on_another_day(sessions: Sequence[_Session]) -> set[date]:
    """Sessions of a named event, and of a move of the factor nearby that is the same event."""
    taken: set[date] = set()
    for at in sessions:
        if not at.is_named or at.dividend <= 0 or at.g is None or abs(at.g) > at.noise + _SAME:
            continue
        for other in sessions:
            if other.is_named or other.day in taken or other.g is None or abs(other.day - at.day) > _DAYS_OFF:
                continue
            if min(abs(other.g - move) for move in at.expected(at.dividend)) <= other.noise + _SAME_SHARE * other.g:
                taken |= {at.day, other.day}
                break
    return taken


def _neighbours(sessions: Sequence[_Session]) -> Iterator[tuple[_Session, _Session]]:
    paying = [at for at in sessions if _cash(at) > 0]
    return zip(paying, paying[1:], strict=False)


def _are_one(first: _Session, second: _Session, sessions: Sequence[_Session]) -> bool:
    """Whether two dividends are one that was counted twice."""
    apart = second.day - first.day
    if apart > timedelta(days=7):
        return False
    one, two = _cash(first), _cash(second)
    difference = abs(one / two - 1)
    assert first.g is not None
    assert second.g is not None
    both = first.g + second.g
    days = sorted(at.day for at in sessions if _cash(at) > 0)
    pauses = sorted(later - earlier for earlier, later in zip(days, days[1:], strict=False))
    if len(pauses) > 2 and pauses[len(pauses) // 2] <= _WEEKLY:  # noqa: PLR2004 - it pays as often as that
        return False
    shown = -(first.p + second.p) > _BOTH_SHOWN * both and both > _LARGE * first.usual
    if shown:
        return False
    if difference <= _SAME_AMOUNT and both > 2 * _MATTERS:
        return apart <= timedelta(days=_TWICE_WITHIN) or _weekend_between(first.day, apart)
    lacking = both + first.p + second.p
    near = second.before == first.day and difference <= _ABOUT_SAME
    return near and lacking > _LACKING * first.usual and lacking > (1 - _BOTH_SHOWN) * both


def _weekend_between(first: date, apart: timedelta) -> bool:
    return apart <= timedelta(days=_TWICE_WITHIN + 2) and first.weekday() + _TWICE_WITHIN > 4  # noqa: PLR2004 - Friday


def _unit_between(at: _Session) -> float | None:
    """How many times a named dividend is what adj_close contains, where a unit or the split makes the difference."""
    assert at.g is not None
    if at.dividend <= 0 or abs(at.g) <= at.noise:
        return None
    units = [*_UNITS, *((at.split, 1 / at.split) if at.split != 1 else ())]
    off = {unit: min((abs(at.g - m) for m in at.expected(at.dividend / unit)), default=inf) for unit in units}
    unit = min(off, key=lambda one: off[one])
    return unit if off[unit] <= at.noise + _SAME_SHARE * abs(at.g) else None


def _unit_words(unit: float, split: float) -> str:
    if unit in _UNITS:
        one, other = ("named", "contained") if unit > 1 else ("contained", "named")
        return f" (what is {one} divided by 100, if the unit is wrong, is what is {other})"
    return f" (divide what is named by {unit:g}: it is for a share on the other side of the split of {split:g})"


def _of_others(cash: float, paid: Sequence[float]) -> str:
    others = sorted(other for other in paid if other != cash)
    if others and 50 <= cash / others[len(others) // 2] <= 200:  # noqa: PLR2004
        return "; divide it by 100: it is about a hundred times the others"
    return "; divided by 100 it would fit" if cash else ""


def _words(split: float, dividend: float) -> str:
    parts = [f"a split of {split:g}"] if split != 1 else []
    parts += [f"a dividend of {dividend:.6g}"] if dividend else []
    return " and ".join(parts) or "nothing"
