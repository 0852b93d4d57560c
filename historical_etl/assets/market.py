"""A market: the names of its parts in a code location, and its resources.

A code location may hold several markets, each with a store of its own. The names of a market's assets, jobs, sensors
and resources begin with its prefix. The market of `historical_etl.definitions` is alone there and has none.
"""

import re
from dataclasses import dataclass
from typing import Final, TypeVar

import dagster as dg

from historical_etl.errors import ConfigurationError
from historical_etl.resources import CatalogResource, PriceSourceResource, StoreResource

__all__ = ["Market"]

#: What Dagster allows in the name of a job.
_PREFIX: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
#: A market with this prefix would have the sensor of one without any.
_OF_DAGSTER: Final = "default"
_Resource = TypeVar("_Resource")


@dataclass(frozen=True)
class Market:
    """One market of a code location.

    Attributes:
        prefix: first part of its asset keys, and beginning of its other names; None for none.

    Raises:
        ConfigurationError: the prefix cannot be part of a name in Dagster.
    """

    prefix: str | None = None

    def __post_init__(self) -> None:
        if self.prefix is not None and (self.prefix == _OF_DAGSTER or not _PREFIX.fullmatch(self.prefix)):
            raise ConfigurationError(
                f"{self.prefix!r} cannot be a key prefix",
                where="build_market",
                todo="use letters, digits and underscores, beginning with a letter, other than "
                f"{_OF_DAGSTER!r}; leave it out for none",
            )

    @property
    def prices(self) -> dg.AssetKey:
        """The key of `daily_prices`."""
        return self._key("daily_prices")

    @property
    def catalog(self) -> dg.AssetKey:
        """The key of `price_catalog`."""
        return self._key("price_catalog")

    @property
    def prices_op(self) -> str:
        """The step of `daily_prices`, as run configuration names it."""
        return "__".join(self.prices.path)

    @property
    def catalog_op(self) -> str:
        """The step of `price_catalog`."""
        return "__".join(self.catalog.path)

    @property
    def follower(self) -> str:
        """The sensor that materializes `price_catalog` after `daily_prices`."""
        # Without a prefix, Dagster's own name for it, which people know.
        return self.named("automation_condition_sensor") if self.prefix else "default_automation_condition_sensor"

    @property
    def how_to_fill(self) -> str:
        """What to do about an empty store."""
        return f"materialize {self.prices.to_user_string()}, or run `historical-etl backfill`"

    @property
    def resource_names(self) -> set[str]:
        """The keys of its resources."""
        return {self.named("store"), self.named("source"), self.named("catalog")}

    def named(self, name: str) -> str:
        """The name of a job, sensor, resource or group of this market."""
        return f"{self.prefix}_{name}" if self.prefix else name

    def store(self, resources: object) -> StoreResource:
        """Its store, of the resources that a step or a sensor is given."""
        return _of_type(StoreResource, resources, self.named("store"))

    def source(self, resources: object) -> PriceSourceResource:
        """Its source of prices, likewise."""
        return _of_type(PriceSourceResource, resources, self.named("source"))

    def catalog_file(self, resources: object) -> CatalogResource:
        """Its catalog file, likewise."""
        return _of_type(CatalogResource, resources, self.named("catalog"))

    def _key(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.prefix, name] if self.prefix else [name])


def _of_type(kind: type[_Resource], resources: object, name: str) -> _Resource:
    found: object = getattr(resources, name)
    if not isinstance(found, kind):
        raise ConfigurationError(
            f"The resource {name!r} is a {type(found).__name__}",
            where="resources",
            todo=f"give a {kind.__name__}, or a subclass of it",
        )
    return found
