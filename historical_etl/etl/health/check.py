"""What a check of the doctor says: a verdict, a sentence, the next step, and the facts behind it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from historical_etl.errors import HistoricalETLError

__all__ = ["Check", "CheckStatus", "problem"]


class CheckStatus(StrEnum):
    """`warning` is worth a look and stops nothing; with a `problem` the store is not filled, or not to be trusted."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what was looked at.
        verdict: how it is.
        what: what was found, in words.
        todo: what to do next; empty where nothing is to be done.
        facts: the same for programs; no secret is among them.
    """

    name: str
    verdict: CheckStatus
    what: str
    todo: str = ""
    facts: Mapping[str, object] = field(default_factory=dict[str, object])


def problem(name: str, error: HistoricalETLError) -> Check:
    """An error of ours as a check."""
    where = f" ({error.where})" if error.where else ""
    return Check(name, CheckStatus.PROBLEM, f"{error.what}{where}", error.todo or "repair this, then run it again")
