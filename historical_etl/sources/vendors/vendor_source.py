"""What all vendors have in common: ask unit by unit, and put together what was fetched and what was not.

A vendor's module says what its units are and how one is asked for. Here a `Refusal` becomes the outcome of the
symbols of its unit; where no symbol could be had at all, it becomes the error that the protocol promises.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import (
    AccessDeniedError,
    ConfigurationError,
    CoverageError,
    NotPublishedError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitedError,
)
from historical_etl.models import Outcome
from historical_etl.schema import empty_frame, ordered, symbols_in
from historical_etl.sources.base import Coverage, FetchRequest, FetchResult, SourceInfo, check_coverage
from historical_etl.sources.vendors.account_file import AccountFile
from historical_etl.sources.vendors.event_rows import empty_actions
from historical_etl.sources.vendors.frames import FormError, cells_message
from historical_etl.sources.vendors.proxies import proxy_secrets
from historical_etl.sources.vendors.refusals import Reader, Refusal
from historical_etl.sources.vendors.subscription import EVENT_WORDS, PLAN_FILE, PlanBook
from historical_etl.sources.vendors.throttle import Allowance, Pace, Throttle
from historical_etl.vendor_settings import VendorSettings

__all__ = ["Part", "VendorSource", "together"]

_log = logging.getLogger(__name__)
#: Symbols that did not come, the outcome first that says most of a request of which all failed.
_FAILED: Final = (Outcome.RATE_LIMITED, Outcome.NOT_PUBLISHED, Outcome.ERROR, Outcome.NOT_COVERED)


@dataclass(frozen=True)
class Part:
    """What a unit brought. Symbols that are neither in `frame` nor in `refusals` have no data in the range.

    `rejected` are rows that cannot be read, with `reasons`; `cells` values that cannot be, beside a close that can;
    `foreign` dividends in another currency than that of the prices. All events from `named_since` on are among
    `actions`, if that is before the request. `notes` tell, once for a fetch, what of it the account does not give, or
    what was passed over.
    """

    frame: pl.DataFrame
    actions: pl.DataFrame | None = None
    refusals: dict[str, Refusal] = field(default_factory=dict[str, Refusal])
    notes: tuple[str, ...] = ()
    rejected: pl.DataFrame | None = None
    foreign: pl.DataFrame | None = None
    named_since: date | None = None
    cells: pl.DataFrame | None = None


class VendorSource(ABC):
    """A vendor as a `PriceSource`. Safe to use from several threads at once.

    Args:
        settings: the vendor's group.
        reader: reads its answers.
        pace: clock, sleep and chance.
        state_folder: where to count requests, instead of the user's state folder.
    """

    _states: SourceInfo

    def __init__(
        self, settings: VendorSettings, reader: Reader, pace: Pace | None = None, state_folder: Path | None = None
    ) -> None:
        self._reader = reader
        reader.hide(*settings.hidden, *proxy_secrets())
        self._throttle = Throttle(reader.vendor, settings, pace, state_folder)
        file = AccountFile(reader.vendor, settings, reader.account, PLAN_FILE, state_folder)
        self._plan = PlanBook(file, self._throttle.pace.clock)

    @property
    def info(self) -> SourceInfo:
        """What the vendor states, as far as the account's plan is known to give it."""
        states, plan = self._states, self._plan.known
        if plan is None:
            return states
        first, covered = plan.first(self._plan.today), states.coverage
        if first is not None:
            covered = Coverage(max(first, covered.first), covered.last) if covered else Coverage(first)
        able = states.capabilities
        if able is not None and self._plan.lacks(EVENT_WORDS):
            able = replace(able, actions=False)
        words = plan.in_words(self._plan.today)
        return replace(states, coverage=covered, plan=words, capabilities=able)

    @property
    def requests(self) -> int:
        """How many requests were made so far, retries included."""
        return self._throttle.requests

    @property
    def clock_offset(self) -> timedelta | None:
        """How far the vendor's clock is before ours, as of its last answer; None if it never sent its time."""
        return self._reader.clock_offset

    def forget_plan(self) -> None:
        """Believe nothing of what was found out of the account's plan: it may have got another one."""
        self._plan.forget()

    def allowances(self) -> list[Allowance]:
        """What is used of each of the vendor's limits.

        Raises:
            StorageError: what was asked of it cannot be read.
        """
        return self._throttle.allowances()

    @abstractmethod
    def units(self, request: FetchRequest) -> Iterable[tuple[str, ...]]:
        """The symbols of a request, parted as the vendor is asked for them."""

    @abstractmethod
    def ask(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        """One unit.

        Raises:
            Refusal: it cannot be had.
            FormError: it has another form than it should.
            ConfigurationError: the vendor does not accept the key.
        """

    def fetch(self, request: FetchRequest) -> FetchResult:
        """Bars sorted by (symbol, date) with `ret` null, actions, and one outcome for each symbol.

        Raises:
            ConfigurationError: the vendor does not accept the key.
            AccessDeniedError: it gave nothing, be it for the key or for its plan.
            CoverageError: nothing of this is in the account's plan.
            NotPublishedError: nothing of this is published yet.
            RateLimitedError: nothing could be fetched, since too much was asked; says when to go on.
            ProviderUnavailableError: nothing could be fetched, and asking again may help.
            ProviderError: nothing could be fetched, and asking again will not help.
        """
        asked, request = request, self._within_plan(request)
        asked_for = [(symbols, self._part(symbols, request.start, request.end)) for symbols in self.units(request)]
        parts: list[Part] = []
        outcomes: dict[str, Outcome] = {}
        refusals: dict[str, Refusal] = {}
        named_since: dict[str, date] = {}
        named = any(part.actions is not None for _, part in asked_for) and not self._plan.lacks(EVENT_WORDS)
        for symbols, fetched in asked_for:
            part = self._whole(fetched, symbols) if named else fetched
            parts.append(part)
            outcomes |= _outcomes(part, symbols)
            outcomes |= {symbol: refusal.outcome for symbol, refusal in part.refusals.items()}
            refusals |= part.refusals
            if part.named_since is not None:
                named_since |= dict.fromkeys(set(symbols).difference(part.refusals), part.named_since)
        if refusals and all(outcome in _FAILED for outcome in outcomes.values()):
            raise self._error(min(refusals.values(), key=_severity), request)
        unread = [symbol for symbol, outcome in outcomes.items() if outcome is Outcome.REFUSED]
        details = dict.fromkeys(unread, f"none of the rows that {self.info.name} gave of it can be read")
        details |= {symbol: self._reason_of(refusal) for symbol, refusal in refusals.items()}
        notes = dict.fromkeys(note for part in parts for note in (*part.notes, *self._withheld(asked)))
        cells = _stacked(part.cells for part in parts)
        if cells is not None:
            notes[cells_message(cells, self._reader.clean)] = None
        frame, actions = _joined(part.frame for part in parts), self._actions(parts)
        return FetchResult(
            frame,
            outcomes,
            details,
            actions,
            _stacked(part.rejected for part in parts),
            tuple(notes),
            foreign=_stacked(part.foreign for part in parts),
            named_since=named_since,
        )

    def members(self, start: date | None, end: date | None) -> list[str]:
        """None, but where a vendor knows what traded at the time: others would name today's survivors."""
        del start, end
        return []

    def close(self) -> None:
        """Close connections and files. A closed source is not used again."""
        self._throttle.close()

    def refused(self, error: Refusal | FormError, symbols: Iterable[str]) -> dict[str, Refusal]:
        """The same refusal for some symbols, and a line in the log."""
        refusal = error if isinstance(error, Refusal) else self._reader.drifted(str(error))
        found = dict.fromkeys(symbols, refusal)
        _log.warning("%s: %d symbol(s) did not come: %s", self.info.name, len(found), refusal.what)
        return found

    def without_events(self, refusal: Refusal) -> str:
        """What to tell where a vendor gives bars, and their splits and dividends not; what the plan lacks is learnt.

        An address that is not found, as of an endpoint that is retired, is no word on the symbols: they had bars.

        Raises:
            Refusal: it means something else.
        """
        if refusal.outcome is Outcome.NOT_FOUND:
            return f"{self.info.name} has nothing at the address of its {EVENT_WORDS} now: it names no {EVENT_WORDS}"
        if refusal.outcome is not Outcome.NOT_COVERED:
            raise refusal
        self._plan.learn(without=EVENT_WORDS)
        setting = f"HISTORICAL_ETL_{self._reader.vendor.upper()}_ACTIONS=false"
        note = f"{refusal.what}: it names no {EVENT_WORDS}; {setting} asks for none"
        _log.warning("%s", note)  # it is reported once, and notes of a run that fails are lost
        return note

    def _within_plan(self, request: FetchRequest) -> FetchRequest:
        """The request without days that the plan is known not to give: the vendor would refuse it, or cut it."""
        plan = self._plan.known
        first = plan.first(self._plan.today) if plan else None
        if first is None or request.start >= first:
            return request
        check_coverage(self.info, request)
        return replace(request, start=first)

    def _withheld(self, request: FetchRequest) -> list[str]:
        """What to report of a request that begins before the plan does, or for whose events nobody was asked."""
        info = self.info
        is_clipped = info.coverage is not None and request.start < info.coverage.first
        return [info.plan] if info.plan and (is_clipped or self._plan.lacks(EVENT_WORDS)) else []

    def _part(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        try:
            return self.ask(symbols, start, end)
        except (FormError, Refusal) as error:
            return Part(empty_frame(), None, self.refused(error, symbols))

    def _whole(self, part: Part, symbols: Sequence[str]) -> Part:
        """A part, unless it lacks events where other parts have theirs: that would say that there were none."""
        if part.actions is not None or part.frame.is_empty():
            return part
        refusal = Refusal(
            Outcome.ERROR, f"{self._reader.vendor} names {EVENT_WORDS} of other symbols, and not of these"
        )
        return Part(empty_frame(), None, self.refused(refusal, symbols) | part.refusals, part.notes)

    def _actions(self, parts: Sequence[Part]) -> pl.DataFrame | None:
        if self.info.capabilities is None or not self.info.capabilities.actions:
            return None
        parts_with_actions = [part.actions for part in parts if part.actions is not None]
        if not parts_with_actions and any(part.frame.height for part in parts):
            return None
        found = [actions for actions in parts_with_actions if not actions.is_empty()]
        return pl.concat(found).sort("symbol", "date") if found else empty_actions()

    def _reason_of(self, refusal: Refusal) -> str:
        return f"{refusal.what}; {self._when(refusal)}" if refusal.wait else refusal.what

    def _when(self, refusal: Refusal) -> str:
        if refusal.wait is None:
            return "go on later"
        moment = self._throttle.pace.clock() + timedelta(seconds=refusal.wait + 1)
        return f"go on after {moment:%Y-%m-%d %H:%M:%S} UTC"

    def _error(self, refusal: Refusal, request: FetchRequest) -> ProviderError | ConfigurationError:
        what = refusal.what if len(request.symbols) == 1 else f"{refusal.what} ({len(request.symbols)} symbols asked)"
        name = self.info.name
        if refusal.outcome is Outcome.RATE_LIMITED:
            what_failed = self._reason_of(refusal) if refusal.alone else what
            todo = (
                "leave it out until then" if refusal.alone else f"{self._when(refusal)}; what was fetched whole is kept"
            )
            return RateLimitedError(what_failed, where=name, todo=todo, alone=refusal.alone)
        if refusal.outcome is Outcome.NOT_PUBLISHED:
            return NotPublishedError(what, where=name, todo="ask again later")
        if refusal.denied:
            what_failed, where, todo = self._reader.no_access(what)
            return AccessDeniedError(what_failed, where=where, todo=todo)
        if refusal.outcome is Outcome.NOT_COVERED:
            return CoverageError(what, where=name, todo="ask for what the plan gives, or use another source")
        if refusal.again or refusal.wait is not None:
            return ProviderUnavailableError(what, where=name, todo="run it again later; nothing of this was stored")
        return ProviderError(what, where=name, todo="see what the vendor says; nothing of this was stored")


def together(parts: Iterable[Part]) -> Part:
    """Parts of one unit that were asked for one after the other."""
    found = list(parts)
    actions = [part.actions for part in found if part.actions is not None]
    return Part(
        _joined(part.frame for part in found),
        pl.concat(actions).sort("symbol", "date", maintain_order=True) if actions else None,
        {symbol: refusal for part in found for symbol, refusal in part.refusals.items()},
        tuple(dict.fromkeys(note for part in found for note in part.notes)),
        _stacked(part.rejected for part in found),
        _stacked(part.foreign for part in found),
        next((part.named_since for part in found if part.named_since), None),
        _stacked(part.cells for part in found),
    )


def _outcomes(part: Part, symbols: Iterable[str]) -> dict[str, Outcome]:
    present = set(symbols_in(part.frame))
    unread = set(symbols_in(part.rejected)) if part.rejected is not None else set[str]()
    absent = {symbol: Outcome.REFUSED if symbol in unread else Outcome.EMPTY for symbol in symbols}
    return absent | {symbol: Outcome.OK for symbol in symbols if symbol in present}


def _stacked(frames: Iterable[pl.DataFrame | None]) -> pl.DataFrame | None:
    found = [frame for frame in frames if frame is not None and not frame.is_empty()]
    return pl.concat(found) if found else None


def _severity(refusal: Refusal) -> int:
    """How little a refusal says of a request of which all symbols failed."""
    return 2 * _FAILED.index(refusal.outcome) + (refusal.denied or refusal.alone)


def _joined(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    found = [frame for frame in frames if not frame.is_empty()]
    return ordered(pl.concat(found)) if found else empty_frame()
