"""Symbols that an account is not given until a moment, kept so that none of them costs a request at every run.

Some vendors give so many different symbols a month: those that were asked for before go on coming, a further one is
refused. A store's own symbols are asked for as ever; a new one once a day.
"""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from historical_etl.clock import Clock
from historical_etl.models import Outcome
from historical_etl.sources.vendors.account_file import AccountFile
from historical_etl.sources.vendors.refusals import Refusal

__all__ = ["SymbolQuota"]

_REFUSED: Final = TypeAdapter(dict[str, AwareDatetime])
#: An account may be given more meanwhile.
_ASKED_AGAIN: Final = timedelta(days=1)


class SymbolQuota:
    """What was refused to one account. For several threads.

    Args:
        vendor: the vendor's name.
        file: where it is kept.
        clock: of the run.
        anew: when a quota that was used up at some moment begins anew.
    """

    def __init__(self, vendor: str, file: AccountFile, clock: Clock, anew: Callable[[datetime], datetime]) -> None:
        self._vendor = vendor
        self._file = file
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
        """Note that a symbol was refused."""
        with self._lock:
            now = self._clock()
            still = {name: at for name, at in self._refused.items() if now < self._anew(at)}
            self._refused = still | {symbol: now}
            self._file.write(_REFUSED.dump_json(self._refused))

    def _read(self) -> dict[str, datetime]:
        try:
            return _REFUSED.validate_json(self._file.read())
        except ValidationError:  # none yet, or damaged: it is found out again
            return {}
