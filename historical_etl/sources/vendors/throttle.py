"""How a vendor is asked: in turn, again where that may help, and not at all once it is down.

Here are the limiter that all processes of a user share, the retries and the circuit breaker; no HTTP and no frames.
A `Throttle` precedes every single request of a vendor, whichever client makes it.
"""

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

from historical_etl.clock import Clock, system_clock
from historical_etl.errors import ConfigurationError, StorageError
from historical_etl.models import Outcome
from historical_etl.sources.vendors.account_file import state_file
from historical_etl.sources.vendors.refusals import Refusal

if TYPE_CHECKING:
    from pyrate_limiter import Rate, SQLiteBucket
    from pyrate_limiter.abstracts.algorithm import Decision
    from tenacity import RetryCallState

    from historical_etl.vendor_settings import VendorSettings

__all__ = ["Allowance", "Breaker", "Pace", "Throttle", "Turnstile"]

#: What a person waits for; the command line shows it.
_progress = logging.getLogger("historical_etl.progress")
_T = TypeVar("_T")
_DAY_SECONDS: Final = 86400
#: The first wait before a retry is drawn from 0 to this, each later one from twice the range before it.
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 60.0
#: Waits of so many seconds are reported, one a minute at most.
_LONG: Final = 5.0
#: Nobody waits longer for a turn than the period of the limit, but for rounding.
_SKEW_MS: Final = 1000
_A_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Pace:
    """Where time and chance come from; tests bring their own."""

    clock: Clock = system_clock
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[float, float], float] = random.uniform


@dataclass(frozen=True)
class Allowance:
    """How much of one limit is used: `limit` requests in `period_seconds`, the next one possible in `wait` seconds."""

    limit: int
    period_seconds: int
    used: int
    wait: float = 0.0


class Turnstile:
    """Lets requests through no faster than the settings allow, across all processes of this user.

    What passed is kept in one SQLite file for each vendor and base URL, in the user's state folder.

    Args:
        vendor: the vendor's name.
        settings: its rate, its daily budget, and the longest wait.
        pace: clock and sleep.
        folder: instead of the user's state folder.
    """

    def __init__(self, vendor: str, settings: "VendorSettings", pace: Pace, folder: Path | None = None) -> None:
        self._vendor = vendor
        self._settings = settings
        self._pace = pace
        self._path = state_file(vendor, settings.base_url, "sqlite", folder)
        self._lock = threading.Lock()
        self._bucket: SQLiteBucket | None = None
        self._passed = 0
        self._last_logged: datetime | None = None

    def pass_through(self, weight: int = 1) -> None:
        """Wait for a turn and take it.

        Args:
            weight: how much the vendor counts this request as.

        Raises:
            Refusal: the daily budget is spent, or the wait would be longer than allowed; tells when to go on.
            StorageError: the file cannot be used.
        """
        from pyrate_limiter import RateItem

        while True:
            now = self._pace.clock()
            # pyrate's file lock holds other processes off, but belongs to a thread: threads queue up here first.
            with self._lock:
                try:
                    bucket = self._open()
                    moment = int(now.timestamp() * 1000)
                    bucket.leak(moment)
                    # It may be awaited for buckets that are, which this one is not.
                    decision = cast("Decision", bucket.put_decision(RateItem(self._vendor, moment, weight)))
                    failing = decision.failing_rate
                    if failing is not None and (decision.retry_after_ms or 0) > failing.interval + _SKEW_MS:
                        self._count_as_of(moment)
                        continue
                except (sqlite3.Error, OSError) as error:
                    self._bucket = None
                    raise StorageError(
                        f"What was asked of {self._vendor} cannot be counted: {error}",
                        where=self._path,
                        todo="make the folder writable, or remove the file if it is damaged",
                    ) from error
            if failing is None:
                with self._lock:
                    self._passed += 1
                return
            if decision.retry_after_ms is None:
                raise ConfigurationError(
                    f"One request of {self._vendor} counts as {weight}, more than {failing.limit} ever allows",
                    where=f"{self._settings.model_config.get('env_prefix', '')}RATE",
                    todo="raise the rate or the daily budget",
                )
            wait = decision.retry_after_ms / 1000
            budget = failing.interval == _DAY_SECONDS * 1000 and self._settings.daily_budget is not None
            if budget or wait > self._settings.max_wait_seconds:
                limit = f"{failing.limit} a day" if budget else self._settings.rate
                raise Refusal(
                    Outcome.RATE_LIMITED, f"The limit of {limit} requests to {self._vendor} is used up", wait=wait
                )
            self.wait(wait, f"the limit of {self._settings.rate} is waited for")

    def _count_as_of(self, moment: int) -> None:
        """Count requests to come as made now: the clock was ahead then, and nobody waits until it is that late."""
        with closing(sqlite3.connect(self._path)) as file:
            file.execute("UPDATE passed SET item_timestamp = ? WHERE item_timestamp > ?", (moment, moment))
            file.commit()

    def wait(self, seconds: float, why: str) -> None:
        """Sleep, and tell of a long wait, at most once a minute."""
        now = self._pace.clock()
        with self._lock:
            is_logged = seconds >= _LONG and (self._last_logged is None or now - self._last_logged >= _A_MINUTE)
            self._last_logged = now if is_logged else self._last_logged
        if is_logged:
            made = f"{self._passed} request{'s' if self._passed != 1 else ''} made"
            _progress.info("%s: %s so far; %s: %.0f s", self._vendor, made, why, seconds)
        self._pace.sleep(seconds)

    def allowances(self) -> list[Allowance]:
        """What is used of each limit, by all processes of this user. Nothing is made or taken.

        Raises:
            StorageError: the file cannot be read.
        """
        now = int(self._pace.clock().timestamp() * 1000)
        try:
            if not self._path.exists():
                passed: list[int] = []
            else:
                with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as file:
                    rows = file.execute("SELECT item_timestamp FROM passed ORDER BY item_timestamp DESC").fetchall()
                passed = [int(row[0]) for row in rows]
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"What was asked of {self._vendor} cannot be read: {error}",
                where=self._path,
                todo="make the file readable, or remove it if it is damaged",
            ) from error
        found: list[Allowance] = []
        for rate in self._rates():
            # One to come was made by a clock that was ahead; it counts as made now.
            recent = [min(moment, now) for moment in passed if moment >= now - rate.interval]
            full = len(recent) >= rate.limit
            wait = (recent[rate.limit - 1] + rate.interval - now) / 1000 if full else 0.0
            found.append(Allowance(rate.limit, int(rate.interval) // 1000, len(recent), wait))
        return found

    def _open(self) -> "SQLiteBucket":
        if self._bucket is None:
            from pyrate_limiter import SQLiteBucket

            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._bucket = SQLiteBucket.init_from_file(
                self._rates(), table="passed", db_path=str(self._path), use_file_lock=True
            )
        return self._bucket

    def _rates(self) -> "list[Rate]":
        from pyrate_limiter import Rate

        asked, period, budget = self._settings.requests, self._settings.period_seconds, self._settings.daily_budget
        if budget is None:
            return [Rate(asked, period * 1000)]
        by_day = Rate(min(budget, asked) if period == _DAY_SECONDS else budget, _DAY_SECONDS * 1000)
        # pyrate refuses a limit that another one makes pointless.
        if budget <= asked or period == _DAY_SECONDS:
            return [by_day]
        if budget / _DAY_SECONDS >= asked / period:
            return [Rate(asked, period * 1000)]
        return [Rate(asked, period * 1000), by_day]

    def close(self) -> None:
        """Close the file; the next request opens it again."""
        with self._lock:
            bucket, self._bucket = self._bucket, None
            if bucket is not None:
                with closing(bucket):
                    pass


class Breaker:
    """Stops asking after failures in a row, for some time; one for all threads of a run.

    A vendor that says when to go on is not asked before that.
    """

    def __init__(self, settings: "VendorSettings", clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened: datetime | None = None
        self._pause = timedelta()
        self._reason: Refusal | None = None

    def guard(self) -> None:
        """Raise the refusal that opened the breaker, as long as it is open."""
        with self._lock:
            if self._opened is None or self._reason is None:
                return
            passed = self._clock() - self._opened
            if not timedelta() <= passed < self._pause:  # over, or the clock went back: nobody knows
                self._opened = self._reason = None
                self._failures = self._settings.breaker_failures - 1  # one more failure opens it again
                return
            left = (self._pause - passed).total_seconds()
            reason = self._reason
        raise Refusal(reason.outcome, f"Not asked any more, since {reason.what}", wait=left)

    def answered(self) -> None:
        """The vendor answered, be it that it does not know the symbol."""
        with self._lock:
            self._failures = 0

    def failed(self, refusal: Refusal) -> None:
        """A request failed for good, after its retries."""
        with self._lock:
            self._failures += 1
            limited = refusal.outcome is Outcome.RATE_LIMITED
            if limited or self._failures >= self._settings.breaker_failures:
                pause = max(refusal.wait or 0.0, 0.0 if limited and refusal.wait else self._settings.breaker_seconds)
                self._opened, self._pause = self._clock(), timedelta(seconds=pause)
                refusal.wait = pause if limited else refusal.wait  # so that it is reported
                self._reason = refusal


class Throttle:
    """Turnstile, retries and breaker of one vendor.

    Attributes:
        requests: how many requests were made, retries included.
    """

    def __init__(
        self, vendor: str, settings: "VendorSettings", pace: Pace | None = None, folder: Path | None = None
    ) -> None:
        self.pace = pace or Pace()
        self.requests = 0
        self._settings = settings
        self._turnstile = Turnstile(vendor, settings, self.pace, folder)
        self._breaker = Breaker(settings, self.pace.clock)
        self._counting = threading.Lock()

    def turn(self, weight: int = 1) -> None:
        """Wait for a turn, and count it. For clients that make more requests than they are asked for."""
        self._turnstile.pass_through(weight)
        with self._counting:
            self.requests += 1

    def ask(self, request: Callable[[], _T], *, weight: int = 1, turns: bool = True) -> _T:
        """Make a request, again where that may help.

        Args:
            request: raises `Refusal`.
            weight: how much the vendor counts it as.
            turns: False where the client takes a turn for each of its requests by itself.

        Raises:
            Refusal: it failed for good, or was not made at all.
            ConfigurationError: the vendor does not accept the key.
        """
        from tenacity import Retrying, retry_if_exception, stop_after_attempt

        self._breaker.guard()
        retrying = Retrying(
            sleep=lambda seconds: self._turnstile.wait(seconds, "the last one is tried again later"),
            stop=stop_after_attempt(self._settings.attempts),
            wait=self._wait,
            retry=retry_if_exception(self._may_help),
            reraise=True,
        )
        try:
            answer = retrying(self._once, request, weight if turns else 0)
        except Refusal as refusal:
            if refusal.outcome in (Outcome.ERROR, Outcome.RATE_LIMITED) and not refusal.alone:
                self._breaker.failed(refusal)
            else:
                self._breaker.answered()
            raise
        self._breaker.answered()
        return answer

    def allowances(self) -> list[Allowance]:
        """What is used of each limit; see `Turnstile`."""
        return self._turnstile.allowances()

    def close(self) -> None:
        """Close what is open."""
        self._turnstile.close()

    def _once(self, request: Callable[[], _T], weight: int) -> _T:
        if weight:
            self.turn(weight)
        return request()

    def _may_help(self, error: BaseException) -> bool:
        return isinstance(error, Refusal) and error.again and (error.wait or 0) <= self._settings.max_wait_seconds

    def _wait(self, state: "RetryCallState") -> float:
        """Full jitter over a range that doubles, after what the vendor asked for."""
        outcome = state.outcome
        error = outcome.exception() if outcome else None
        asked = (error.wait or 0.0) if isinstance(error, Refusal) else 0.0
        widest = min(_LONGEST_WAIT, self._settings.max_wait_seconds, _FIRST_WAIT * 2 ** (state.attempt_number - 1))
        return asked + self.pace.draw(0.0, widest)
