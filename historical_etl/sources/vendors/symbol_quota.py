"""Symbols that an account is not given until a moment, kept so that none of them costs a request at every run.

Some vendors give so many different symbols a month: those that were asked for before go on coming, a further one is
refused. A store's own symbols are asked for as ever; a new one once a day.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from historical_etl.clock import Clock
from historical_etl.durable import write_atomic
from historical_etl.models import Outcome
from historical_etl.sources.vendors.plans import state_file
from historical_etl.sources.vendors.refusals import Refusal

if TYPE_CHECKING:
    from historical_etl.vendor_settings import VendorSettings

__all__ = ["SymbolQuota"]

_log = logging.getLogger(__name__)
_REFUSED: Final = TypeAdapter(dict[str, AwareDatetime])
#: An account may be given more meanwhile.
_ASKED_AGAIN: Final = timedelta(days=1)


class SymbolQuota:
    """What was refused to one account, in a file beside the count of its requests. For several threads.

    Args:
        vendor: the vendor's name.
        settings: whose base URL tells accounts of other places apart.
        key: of the account; only a hash of it is in the file's name.
        clock: of the run.
        anew: when a quota that was used up at some moment begins anew.
        folder: instead of the user's state folder.
    """

    def __init__(
        self,
        vendor: str,
        settings: "VendorSettings",
        key: str,
        clock: Clock,
        anew: Callable[[datetime], datetime],
        folder: Path | None = None,
    ) -> None:
        account = sha256(key.encode()).hexdigest()[:8]
        self._vendor = vendor
        self._path = state_file(vendor, settings.base_url, f"{account}.symbols.json", folder)
        self._clock = clock
        self._anew = anew
        self._lock = threading.Lock()
        self._refused = self._read()

    def guard(self, symbol: str) -> None:
        """Raise the refusal of a symbol that was refused lately, and would be again."""
        at, now = self._refused.get(symbol), self._clock()
        if at is None or not at <= now < min(self._anew(at), at + _ASKED_AGAIN):
            return
        what = f"{self._vendor} gives no further symbols: it refused {symbol} on {at:%Y-%m-%d}, and was not asked again"
        raise Refusal(Outcome.RATE_LIMITED, what, wait=(self._anew(at) - now).total_seconds(), alone=True)

    def refuse(self, symbol: str) -> None:
        """Note that a symbol was refused. What cannot be written is logged: the next run is refused once more."""
        with self._lock:
            now = self._clock()
            still = {name: at for name, at in self._refused.items() if now < self._anew(at)}
            self._refused = still | {symbol: now}
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self._path, _REFUSED.dump_json(self._refused))
            except OSError as error:
                _log.warning("What %s refused could not be kept in %s: %s", self._vendor, self._path, error.strerror)

    def _read(self) -> dict[str, datetime]:
        try:
            return _REFUSED.validate_json(self._path.read_bytes())
        except (OSError, ValidationError):  # none yet, or damaged: it is found out again
            return {}
