"""What the plan of an account gives, found out from the vendor's answers and kept: asking again would cost requests.

A plan that reaches two years back does so from each day on, so its reach is kept in days. What is kept is forgotten
after some days, since an account may get another plan, and by a rebuild, which asks for everything anew.
"""

import threading
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from historical_etl.clock import Clock
from historical_etl.sources.vendors.account_file import AccountFile
from historical_etl.strict_json import object_of
from historical_etl.vendor_settings import VENDOR_GROUPS

if TYPE_CHECKING:
    from historical_etl.settings import Settings

__all__ = ["EVENT_WORDS", "PLAN_FILE", "PlanBook", "SubscriptionPlan", "book_of"]

_VALID_FOR: Final = timedelta(days=7)
#: The end of the name of a plan's file.
PLAN_FILE: Final = "plan.json"
#: What a plan is without that names no events: its source then names none.
EVENT_WORDS: Final = "splits and dividends"


class SubscriptionPlan(BaseModel):
    """What is known of an account's plan.

    Attributes:
        learnt: when anything of it was found out last.
        reach: how many days back from `learnt` the oldest day lies that it gives; None: as far as the vendor has them.
        without: what it does not give, in words.
    """

    model_config = ConfigDict(frozen=True)

    learnt: date
    reach: int | None = Field(default=None, ge=0)
    without: frozenset[str] = frozenset()

    def first(self, today: date) -> date | None:
        """The oldest day that it gives on a day; None: as far as the vendor has them."""
        return None if self.reach is None else today - timedelta(days=self.reach)

    def in_words(self, today: date) -> str:
        """What it gives, for people; since when that is known, until when it is believed, and how to ask anew."""
        since = self.first(today)
        parts = [f"from {since} on"] if since else []
        parts += [f"without {' and '.join(sorted(self.without))}"] if self.without else []
        return (
            f"the plan of this account gives bars {', '.join(parts)} (found out on {self.learnt}, believed until"
            f" {self.learnt + _VALID_FOR}; if the subscription has changed since, `historical-etl backfill --rebuild`"
            " requests it again)"
        )


class PlanBook:
    """What is known of the plan of one account.

    Args:
        file: where it is kept.
        clock: of the run.
    """

    def __init__(self, file: AccountFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._learning = threading.Lock()
        self._plan = self._read()

    @property
    def today(self) -> date:
        """The day, in UTC."""
        return self._clock().date()

    @property
    def known(self) -> SubscriptionPlan | None:
        """What is known; None where nothing is."""
        plan = self._plan
        return plan if plan is not None and timedelta() <= self.today - plan.learnt <= _VALID_FOR else None

    def lacks(self, what: str) -> bool:
        """Whether the plan is known not to give something."""
        known = self.known
        return known is not None and what in known.without

    def learn(self, *, first: date | None = None, without: str = "") -> None:
        """Note the oldest day that the plan gives today, or something that it does not give. Later words count."""
        with self._learning:  # two threads may find out something each
            before = self.known or SubscriptionPlan(learnt=self.today)
            reach = before.reach if first is None else max(0, (self.today - first).days)
            lacks = before.without | ({without} if without else frozenset[str]())
            self._plan = plan = SubscriptionPlan(learnt=self.today, reach=reach, without=lacks)
            self._file.write(plan.model_dump_json().encode())

    def forget(self) -> None:
        """Believe nothing of the plan: what is asked for next finds it out anew."""
        self._plan = None
        self._file.remove()

    def _read(self) -> SubscriptionPlan | None:
        try:
            return SubscriptionPlan.model_validate(object_of(self._file.read()))
        except (ValueError, RecursionError):  # none yet, or damaged: it is found out again
            return None


def book_of(settings: "Settings", clock: Clock) -> PlanBook | None:
    """What is known of the plan of the configured account, without making the source; None: it is no vendor."""
    vendor = settings.source.strip().lower()
    if vendor not in VENDOR_GROUPS:
        return None
    group = getattr(settings, vendor)
    return PlanBook(AccountFile(vendor, group, " ".join(group.secrets), PLAN_FILE), clock)
