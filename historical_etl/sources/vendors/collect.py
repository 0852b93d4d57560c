"""What all vendors have in common: ask unit by unit, and put together what came and what did not.

A vendor's module says what its units are and how one is asked for. Here a `Refusal` becomes the outcome of the
symbols of its unit; where no symbol could be had at all, it becomes the error that the protocol promises.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.errors import ProviderError, ProviderUnavailableError, RateLimitedError
from historical_etl.models import Outcome
from historical_etl.schema import empty_frame, ordered, symbols_in
from historical_etl.sources.base import FetchRequest, FetchResult, SourceInfo
from historical_etl.sources.vendors.frames import FormError, empty_actions
from historical_etl.sources.vendors.politeness import Allowance, Gate, Pace
from historical_etl.sources.vendors.refusals import Reader, Refusal
from historical_etl.vendor_settings import VendorSettings

__all__ = ["Part", "VendorSource"]

_log = logging.getLogger(__name__)
_FAILED: Final = (Outcome.ERROR, Outcome.RATE_LIMITED)


@dataclass(frozen=True)
class Part:
    """What a unit brought. Symbols that are neither in `frame` nor in `refusals` have no data in the range."""

    frame: pl.DataFrame
    actions: pl.DataFrame | None = None
    refusals: dict[str, Refusal] = field(default_factory=dict[str, Refusal])


class VendorSource(ABC):
    """A vendor as a `PriceSource`. Safe to use from several threads at once.

    Args:
        settings: the vendor's group.
        reader: reads its answers.
        pace: clock, sleep and chance.
        state_folder: where to count requests, instead of the user's state folder.
    """

    info: SourceInfo

    def __init__(
        self, settings: VendorSettings, reader: Reader, pace: Pace | None = None, state_folder: Path | None = None
    ) -> None:
        self._reader = reader
        self._gate = Gate(reader.vendor, settings, pace, state_folder)

    @property
    def requests(self) -> int:
        """How many requests were made so far, retries included."""
        return self._gate.requests

    @property
    def clock_offset(self) -> timedelta | None:
        """How far the vendor's clock is before ours, as of its last answer; None if it never told."""
        return self._reader.clock_offset

    def allowances(self) -> list[Allowance]:
        """What is used of each of the vendor's limits.

        Raises:
            StorageError: what was asked of it cannot be read.
        """
        return self._gate.allowances()

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
            RateLimitedError: nothing could be fetched, since too much was asked; says when to go on.
            ProviderUnavailableError: nothing could be fetched, and asking again may help.
            ProviderError: nothing could be fetched, and asking again will not help.
        """
        parts: list[Part] = []
        outcomes: dict[str, Outcome] = {}
        refusals: dict[str, Refusal] = {}
        for symbols in self.units(request):
            part = self._part(symbols, request.start, request.end)
            parts.append(part)
            present = set(symbols_in(part.frame))
            outcomes |= {symbol: Outcome.OK if symbol in present else Outcome.EMPTY for symbol in symbols}
            outcomes |= {symbol: refusal.outcome for symbol, refusal in part.refusals.items()}
            refusals |= part.refusals
        if refusals and all(outcome in _FAILED for outcome in outcomes.values()):
            raise self._error(next(iter(refusals.values())), request)
        details = {symbol: self._told(refusal) for symbol, refusal in refusals.items()}
        return FetchResult(_joined(part.frame for part in parts), outcomes, details, self._actions(parts))

    def members(self, start: date | None, end: date | None) -> list[str]:
        """None, but where a vendor knows what traded at the time: others would name today's survivors."""
        del start, end
        return []

    def close(self) -> None:
        """Close connections and files. A closed source is not used again."""
        self._gate.close()

    def refused(self, error: Refusal | FormError, symbols: Iterable[str]) -> dict[str, Refusal]:
        """The same refusal for some symbols, and a line in the log."""
        refusal = error if isinstance(error, Refusal) else self._reader.drifted(str(error))
        found = dict.fromkeys(symbols, refusal)
        _log.warning("%s: %d symbol(s) did not come: %s", self.info.name, len(found), refusal.what)
        return found

    def _part(self, symbols: tuple[str, ...], start: date, end: date) -> Part:
        try:
            return self.ask(symbols, start, end)
        except (FormError, Refusal) as error:
            return Part(empty_frame(), None, self.refused(error, symbols))

    def _actions(self, parts: Sequence[Part]) -> pl.DataFrame | None:
        if self.info.capabilities is None or not self.info.capabilities.actions:
            return None
        found = [part.actions for part in parts if part.actions is not None and not part.actions.is_empty()]
        return pl.concat(found).sort("symbol", "date") if found else empty_actions()

    def _told(self, refusal: Refusal) -> str:
        return f"{refusal.what}; {self._when(refusal)}" if refusal.wait else refusal.what

    def _when(self, refusal: Refusal) -> str:
        if refusal.wait is None:
            return "go on later"
        moment = self._gate.pace.clock() + timedelta(seconds=refusal.wait + 1)
        return f"go on after {moment:%Y-%m-%d %H:%M:%S} UTC"

    def _error(self, refusal: Refusal, request: FetchRequest) -> ProviderError:
        what = refusal.what if len(request.symbols) == 1 else f"{refusal.what} ({len(request.symbols)} symbols asked)"
        name = self.info.name
        if refusal.outcome is Outcome.RATE_LIMITED:
            return RateLimitedError(what, where=name, todo=f"{self._when(refusal)}; what came is kept")
        if refusal.again or refusal.wait is not None:
            return ProviderUnavailableError(what, where=name, todo="run it again later; nothing of this was stored")
        return ProviderError(what, where=name, todo="see what the vendor says; nothing of this was stored")


def _joined(frames: Iterable[pl.DataFrame]) -> pl.DataFrame:
    found = [frame for frame in frames if not frame.is_empty()]
    return ordered(pl.concat(found)) if found else empty_frame()
