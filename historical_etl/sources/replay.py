"""The replay: the packaged sample as a live vendor would have given it on the evening of each session, and its clock.

The packaged `adj_close` is on one basis, that of about 2018. A live vendor's is on the basis of the day it is asked:
each split or dividend changes the whole history before it. Here the events are read from the packaged data, and undone
for those that lie after the evening.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Final

import polars as pl

from historical_etl.clock import Clock, system_clock
from historical_etl.errors import ConfigurationError
from historical_etl.models import Outcome
from historical_etl.sessions import SessionCalendar, calendar_of
from historical_etl.settings import Settings
from historical_etl.sources.base import (
    Coverage,
    FetchRequest,
    FetchResult,
    SourceInfo,
    check_coverage,
    outcomes_from_rows,
)
from historical_etl.sources.sample import SampleSource

__all__ = ["ReplayClock", "ReplaySource", "clock_for", "evening_of", "is_replay", "replay_source"]

#: Within one basis adj_close / close of the packaged data is constant to 1e-13; its smallest event is 1e-3.
_EVENT: Final = 1e-6
#: What a dividend leaves of a ratio is no whole number; a split's is one to 1e-14.
_SPLIT: Final = 1e-9
#: Of a price before the last event. Prices on the newest basis are not rounded: they are the close.
_DECIMALS: Final = 6
_LATE_SYMBOL: Final = "IBM"
_LATE_BY: Final = 2
_RECOUNTED_SYMBOL: Final = "MSFT"
_FIRST_COUNT: Final = 0.98
_WEDNESDAY: Final = 3


class ReplaySource:
    """The sample's bars up to a session, on the price basis of that session's evening.

    Prices and volume are raw, as in the sample. `adj_close` equals `close` on a symbol's newest bar; while no split and
    no dividend happens, a bar is equal to the last bit from one evening to the next.

    With `faults`, the vendor errs as live ones do, always in the same way:

    - the bar of IBM of the third Wednesday of each month comes two sessions late;
    - the volume of MSFT of the first session of each month is 2 % too low on its evening, and right from the next on.

    Args:
        as_of: the session on whose evening it is; asked at each fetch.
        faults: whether it errs.
        name_actions: whether it names splits and dividends; otherwise they must be seen from the prices.
    """

    def __init__(self, as_of: Callable[[], date], *, faults: bool = True, name_actions: bool = False) -> None:
        self._as_of = as_of
        self._faults = faults
        self._name_actions = name_actions

    @property
    def info(self) -> SourceInfo:
        """As the sample's, but for the price basis. The same on every evening: bars after it just do not come."""
        sample = SampleSource.info
        return SourceInfo(
            name=sample.name,
            version=f"{sample.version} (replay)",
            adjustment="raw open, high, low, close and volume; adj_close for splits and dividends, on the basis of the "
            "day of the fetch, as a live vendor gives it",
            coverage=sample.coverage,
            point_in_time=sample.point_in_time,
        )

    def fetch(self, request: FetchRequest) -> FetchResult:
        """The bars of the request that this evening has.

        A symbol that is not listed by then is not found.

        Raises:
            CoverageError: the range lies wholly outside what the sample covers.
        """
        check_coverage(self.info, request)
        today = self._as_of()
        listed = self.members(None, None)
        known = _known_on(today, faults=self._faults).filter(pl.col("symbol").is_in(request.symbols))
        adjusted = (pl.col("close") * (pl.col("factor") / pl.col("basis"))).round(_DECIMALS)
        frame = (
            known.with_columns(pl.col("factor").last().over("symbol").alias("basis"))
            .filter(pl.col("date").is_between(request.start, request.end))
            .with_columns(
                pl.when(pl.col("factor") == pl.col("basis")).then("close").otherwise(adjusted).alias("adj_close")
            )
        )
        actions = _actions(frame) if self._name_actions else None
        rows = frame.select(*_packaged().columns)
        missing = [symbol for symbol in request.symbols if symbol not in listed]
        return FetchResult(
            frame=rows,
            outcomes=outcomes_from_rows(rows, request.symbols) | dict.fromkeys(missing, Outcome.NOT_FOUND),
            details={symbol: f"on {today} the replay knows {', '.join(listed) or 'no symbol'}" for symbol in missing},
            actions=actions,
        )

    def members(self, start: date | None, end: date | None) -> list[str]:
        """Symbols that traded on any day from `start` to `end` (None: unbounded), as known this evening, sorted."""
        today = self._as_of()
        last = today if end is None else min(end, today)
        return SampleSource().members(start, last) if start is None or start <= last else []


class ReplayClock:
    """The evening that a replay has come to: of the session after those that are stored, but not before its start.

    It follows from the store alone, so a run that stores a session moves the replay on by one, and one that fails or
    is repeated after a crash sees the same evening again. It is never later than that of the sample's last session. An
    instance does not move after its first call, because a run that has committed must not find itself in the next
    evening: each run takes a new one.

    Args:
        stored_through: the last stored session, None for an empty store.
        start: the first evening is that of this session, or of the first one after it; whatever lies before is history.
        calendar: the exchange's sessions.
        settle: how long after its close a session counts as closed.
    """

    def __init__(
        self,
        stored_through: Callable[[], date | None],
        start: date,
        calendar: SessionCalendar,
        settle: timedelta = timedelta(),
    ) -> None:
        self._stored_through = stored_through
        self._start = start
        self._calendar = calendar
        self._settle = settle
        self._evening: datetime | None = None

    def __call__(self) -> datetime:
        """The evening, aware, in UTC."""
        if self._evening is None:
            through = self._stored_through()
            first, last = _span()
            start = self._calendar.back(max(self._start, first), 0)
            following = self._calendar.after(through) if through is not None else None
            session = start if following is None else max(start, following)
            self._evening = evening_of(min(session, last), self._calendar, self._settle)
        return self._evening

    def as_of(self) -> date:
        """The session on whose evening it is."""
        return self._calendar.last_closed(self(), self._settle)


def evening_of(session: date, calendar: SessionCalendar, settle: timedelta) -> datetime:
    """When `session` counts as closed, aware, in UTC."""
    return (calendar.close_of(session) + settle).astimezone(UTC)


def is_replay(settings: Settings, provider: str | None = None) -> bool:
    """Whether the settings, or they and another source's name, ask for the sample day by day."""
    source = (provider or settings.source).strip().lower()
    return settings.replay_from is not None and source == SampleSource.info.name


def clock_for(settings: Settings, stored_through: Callable[[], date | None]) -> Clock:
    """The clock of one run under these settings: the machine's, or that of a replay.

    Args:
        settings: with `replay_from` and the source `sample`, the clock is a `ReplayClock`.
        stored_through: the last stored session, None for an empty store.

    Raises:
        ConfigurationError: the replay is to begin where the sample has ended.
    """
    if settings.replay_from is None or not is_replay(settings):
        return system_clock
    if settings.replay_from > (last := _span()[1]):
        raise ConfigurationError(
            f"The replay cannot begin on {settings.replay_from}: the sample ends on {last}",
            where="HISTORICAL_ETL_REPLAY_FROM",
            todo=f"choose a day from {_span()[0]} to {last}",
        )
    settle = timedelta(minutes=settings.settle_minutes)
    return ReplayClock(stored_through, settings.replay_from, calendar_of(settings), settle)


def replay_source(settings: Settings, clock: Clock) -> ReplaySource:
    """The replay whose evening `clock` tells."""
    calendar, settle = calendar_of(settings), timedelta(minutes=settings.settle_minutes)
    # Where nothing but the late symbol is asked for, its missing bar would leave an evening that never passes.
    return ReplaySource(lambda: calendar.last_closed(clock(), settle), faults=settings.symbols != (_LATE_SYMBOL,))


def _span() -> tuple[date, date]:
    covered = SampleSource.info.coverage or Coverage(date.max)
    return covered.first, covered.last or date.max


@cache
def _packaged() -> pl.DataFrame:
    """The sample, by symbol and date."""
    source = SampleSource()
    request = FetchRequest(tuple(source.members(None, None)), *_span())
    return source.fetch(request).frame.sort("symbol", "date")


@cache
def _prepared() -> pl.DataFrame:
    """The sample with what a replay must know of each bar.

    `factor` is adj_close / close of the packaged data, one value from each event to the next; `jump` is the factor over
    that before it, on the first bar after an event; `comes` is the session on which a bar is delivered with faults.
    """
    measured = (pl.col("adj_close") / pl.col("close")).alias("measured")
    jump = pl.col("measured") / pl.col("measured").shift(1)
    happened = ((pl.col("jump") - 1).abs() > _EVENT).fill_null(value=False)
    wednesday = (pl.col("date").dt.weekday() == _WEDNESDAY) & pl.col("date").dt.day().is_between(15, 21)
    late = (pl.col("symbol") == _LATE_SYMBOL) & wednesday
    month = pl.col("date").dt.truncate("1mo")
    preliminary = (pl.col("symbol") == _RECOUNTED_SYMBOL) & (month != month.shift(1).over("symbol"))
    return (
        _packaged()
        .with_columns(measured)
        .with_columns(jump.over("symbol").alias("jump"))
        .with_columns(pl.when(happened).then("jump").alias("jump"), happened.cum_sum().over("symbol").alias("epoch"))
        .with_columns(
            pl.col("measured").first().over("symbol", "epoch").alias("factor"),
            pl.when(late).then(pl.col("date").shift(-_LATE_BY).over("symbol")).otherwise("date").alias("comes"),
            preliminary.alias("preliminary"),
        )
    )


def _known_on(today: date, *, faults: bool) -> pl.DataFrame:
    prepared = _prepared()
    if not faults:
        return prepared.filter(pl.col("date") <= today)
    counting = pl.col("preliminary") & (pl.col("date") == today)
    counted = (pl.col("volume") * _FIRST_COUNT).round()
    return prepared.filter(pl.col("comes") <= today).with_columns(
        pl.when(counting).then(counted).otherwise("volume").alias("volume")
    )


def _actions(frame: pl.DataFrame) -> pl.DataFrame:
    """The events on the bars of `frame`: the packaged data counts a dividend against the close of its ex-date."""
    jump, whole = pl.col("jump"), pl.col("jump").round()
    split = ((jump - whole).abs() < _SPLIT) & (whole > 1)
    return frame.filter(jump.is_not_null()).select(
        "symbol",
        "date",
        pl.when(split).then(whole).otherwise(1.0).alias("split"),
        pl.when(split).then(0.0).otherwise(((jump - 1) * pl.col("close")).round(4)).alias("dividend"),
    )
