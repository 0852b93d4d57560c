"""The definitions of a market: its assets, jobs, sensors and resources.

One market is a code location of its own, `historical_etl.definitions`. Several make one together:

    @dg.definitions
    def defs() -> dg.Definitions:
        return merge_markets(
            build_market("new_york", exchange="XNYS", data_dir="/srv/new_york"),
            build_market("london", exchange="XLON", data_dir="/srv/london"),
        )
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path
from typing import Final, Union, cast

import dagster as dg
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from historical_etl.arguments import plain, require_type
from historical_etl.assets.daily_prices import build_daily_prices
from historical_etl.assets.freshness import freshness_policy
from historical_etl.assets.increment import Updates, update
from historical_etl.assets.market import Market
from historical_etl.assets.partitions import year_partitions
from historical_etl.assets.price_catalog import build_price_catalog
from historical_etl.automation import Tick, build_catalog_follower, build_incremental_sensor, build_jobs
from historical_etl.errors import ConfigurationError, HistoricalETLError
from historical_etl.models import DATASET_ID
from historical_etl.resources import CatalogResource, PriceSourceResource, StoreResource
from historical_etl.settings import FilesSettings, Settings
from historical_etl.sources.base import Coverage
from historical_etl.sources.fetcher import require_source
from historical_etl.sources.replay import is_replay
from historical_etl.store.layout import Layout

__all__ = ["DailyRun", "assemble", "build_market", "merge_markets"]

_log = logging.getLogger(__name__)
_GROUPS: Final = {"files": FilesSettings}


@dataclass(frozen=True)
class DailyRun:
    """What the daily run does, and when the sensor asks for it.

    Attributes:
        updates: the runs of the library that an increment consists of.
        tick: decides at each tick of the sensor.
        every_seconds: the least time between two ticks.
        replays: whether it replays the sample.
    """

    updates: Updates = update
    tick: type[Tick] = Tick
    every_seconds: int = 300
    replays: bool = False


def merge_markets(*markets: dg.Definitions) -> dg.Definitions:
    """Several markets as one code location; definitions of your own may be among them.

    Two markets in one folder would be one store, which each fills with the sessions of its own exchange.
    `dg.Definitions.merge` knows nothing of folders.

    Args:
        markets: what `build_market` returns for each.

    Raises:
        ConfigurationError: two markets have the same key prefix, or the data folder of one is that of another or lies
            in it.
    """
    for market in markets:
        require_type(market, dg.Definitions, name="markets", where="merge_markets")
    stores = [
        (name, resource)
        for market in markets
        for name, resource in (market.resources or {}).items()
        if isinstance(resource, StoreResource)
    ]
    for (name, store), (other, another) in combinations(stores, 2):
        _require_two_prefixes(name, other)
        _require_two_folders(store, another)
    return dg.Definitions.merge(*markets)


def build_market(key_prefix: str | None = None, **settings: object) -> dg.Definitions:
    """All definitions of one market.

    Args:
        key_prefix: first part of the asset keys, and beginning of the names of jobs, sensors and resources. Needed if
            the code location holds more than one market; None for none.
        **settings: settings of this market alone, by name, such as `exchange="XLON"` or `files={"path": "/srv/lse"}`.
            They go before the environment and `.env`. Keys of vendors come from the environment only.

    Raises:
        ConfigurationError: a setting is wrong, the prefix cannot be part of a name, or the settings ask for a replay,
            which has definitions of its own.
    """
    require_type(key_prefix, str | None, name="key_prefix", where="build_market")
    return assemble(Market(key_prefix), store=StoreResource(overrides=_as_texts(settings)))


def assemble(
    market: Market | None = None,
    *,
    store: StoreResource | None = None,
    source: PriceSourceResource | None = None,
    daily: DailyRun | None = None,
) -> dg.Definitions:
    """All definitions of one market, over resources of the caller's.

    Args:
        market: default: the one without a prefix.
        store: default: the store that the settings name.
        source: default: the source that the settings name.
        daily: default: one increment for each session.

    Raises: as `build_market`.
    """
    market, daily = market or Market(), daily or DailyRun()
    store, source = store or StoreResource(), source or PriceSourceResource()
    chosen = source.chosen(store.settings())
    require_source(chosen)
    if is_replay(chosen) and not daily.replays:
        raise ConfigurationError(
            "HISTORICAL_ETL_REPLAY_FROM is set, and these definitions do not replay the sample",
            where="HISTORICAL_ETL_REPLAY_FROM",
            todo="load historical_etl.replay_definitions instead, or unset the variable",
        )
    coverage = _coverage(source, chosen)
    years = year_partitions(chosen, coverage, store.now)
    freshness = freshness_policy(chosen, coverage, store.now)
    # A tag of Dagster's has no slash, and there is the exchange 24/7.
    tags = {"historical_etl/dataset": DATASET_ID, "historical_etl/exchange": chosen.exchange.replace("/", "-")}
    return dg.Definitions.merge(
        dg.Definitions(
            assets=_without_beta_warning(
                lambda: [
                    build_daily_prices(market, years, freshness, updates=daily.updates, tags=tags),
                    build_price_catalog(market, years, tags),
                ]
            ),
            sensors=[
                build_incremental_sensor(market, chosen, years, tick=daily.tick, every_seconds=daily.every_seconds),
                build_catalog_follower(market),
            ],
            resources={
                market.named("store"): store,
                market.named("source"): source,
                market.named("catalog"): CatalogResource(database=str(Layout(chosen.data_dir).catalog)),
            },
            # One process writes. It saves two seconds a run, and a killed run leaves no child that goes on writing.
            executor=dg.in_process_executor,
        ),
        build_jobs(market),
    )


def _without_beta_warning(build: Callable[[], list[dg.AssetsDefinition]]) -> list[dg.AssetsDefinition]:
    """Dagster warns at each definition that BackfillPolicy may change. Tests pin what we need of it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)
        return build()


def _coverage(source: PriceSourceResource, settings: Settings) -> Coverage | None:
    try:
        return source.open(settings).info.coverage
    except HistoricalETLError as error:
        # A broken file, or a key that is not there today, must not hide the page that shows it, nor stop other markets
        # of the code location: runs and sensors fail with this very error.
        _log.error("Runs will fail until this is corrected: %s", error)
        return None


def _require_two_prefixes(name: str, other: str) -> None:
    """Of the names of two store resources, which are `Market.named("store")`."""
    if name == other:
        prefix = name.removesuffix("store").removesuffix("_")
        raise ConfigurationError(
            f"Two markets have {f'the key prefix {prefix!r}' if prefix else 'no key prefix'}",
            where="merge_markets",
            todo="give each a key prefix of its own; one of them may have none",
        )


def _require_two_folders(store: StoreResource, other: StoreResource) -> None:
    folder, another = (Layout(each.settings().data_dir).root for each in (store, other))
    if _is_or_lies_in(folder, another) or _is_or_lies_in(another, folder):
        raise ConfigurationError(
            "Two markets have the same data folder, or that of one lies in that of the other",
            where=f"{folder}, {another}",
            todo="give each market a data_dir of its own, beside the others",
        )


def _is_or_lies_in(folder: Path, outer: Path) -> bool:
    """Whether a folder is another one or lies in it, by whatever links and mounts; neither need exist."""
    real, outer = folder.resolve(), outer.resolve()
    above = [real, *real.parents]
    return outer in above or (outer.exists() and any(place.exists() and place.samefile(outer) for place in above))


def _as_texts(settings: Mapping[str, object]) -> dict[str, str]:
    """Settings as the configuration of a resource holds them, and as the UI shows them: text by name.

    Raises:
        ConfigurationError: a name is no setting, or belongs to a vendor.
    """
    texts: dict[str, str] = {}
    for name, value in settings.items():
        if name in _GROUPS:
            require_type(value, Mapping, name=name, where="build_market")
            group = cast("Mapping[str, object]", value)
            _require_known(group, _GROUPS[name].model_fields, f"{name}.")
            known = _GROUPS[name].model_fields
            texts |= {f"{name}.{own}": _as_text(f"{name}.{own}", given, known[own]) for own, given in group.items()}
        else:
            _require_known([name], set(Settings.model_fields) - _without_text(), "")
            texts[name] = _as_text(name, value, Settings.model_fields[name])
    return texts


def _require_known(names: Iterable[str], known: Iterable[str], group: str) -> None:
    unknown = sorted(map(str, set(names) - set(known)))
    if unknown:
        raise ConfigurationError(
            f"No setting of one market: {', '.join(group + name for name in unknown)}",
            where="build_market",
            todo=f"use one of {', '.join(group + name for name in known)}",
        )


def _without_text() -> set[str]:
    """Groups of settings: those of vendors hold keys, which no page may show."""
    return {name for name, field in Settings.model_fields.items() if field.default_factory is not None}


def _as_text(name: str, given: object, field: FieldInfo) -> str:
    value = plain(given)
    if isinstance(value, int | float):  # as text, 5 would be a folder, and True a word
        kind = int if field.annotation is ByteSize else field.annotation
        require_type(value, Union[kind, str], name=name, where="build_market")  # noqa: UP007 - known only now
    match value:
        case str() | int() | float() | date() | Path():
            return str(value)
        case list() | tuple():
            return ",".join(str(item) for item in cast("Iterable[object]", value))
        case _:
            raise ConfigurationError(
                f"{type(value).__name__} is not the type of a setting", where="build_market", todo="write it as text"
            )
