"""How many versions are kept, and for how long: within which bounds, for settings, commands and Python alike."""

from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar

from historical_etl.errors import ConfigurationError

__all__ = ["Retention"]


@dataclass(frozen=True)
class Retention:
    """Which versions are kept: the last `versions`, and all that were current within the last `days`.

    The days are those that the commits vouch for, `step` at most from one to the next, since the clock may have been
    set meanwhile; and one step more is kept, so that no single jump takes what should stay.

    Raises:
        ConfigurationError: one of them is out of its bounds.
    """

    #: The least and the most versions; the current one always stays.
    VERSIONS: ClassVar = (1, 1_000_000)
    #: The least and the most days; of none only `versions` counts.
    DAYS: ClassVar = (0, 365_000)

    versions: int = 10
    days: int = 7

    def __post_init__(self) -> None:
        for name, value, (least, most) in (
            ("keep_versions", self.versions, self.VERSIONS),
            ("keep_days", self.days, self.DAYS),
        ):
            if not least <= value <= most:
                raise ConfigurationError(
                    f"{name}={value} cannot be kept", where=name, todo=f"give {least:,} to {most:,}"
                )

    @property
    def step(self) -> timedelta:
        """How far the clock counts from one commit to the next."""
        return timedelta(days=max(1, int(self.days) // 7))

    def keeps(self, age: timedelta) -> bool:
        """Whether a version stays that was replaced so long ago."""
        return self.days > 0 and age <= timedelta(days=int(self.days)) + self.step
