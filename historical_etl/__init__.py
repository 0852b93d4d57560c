"""historical_etl: a store of daily equity prices that a researcher can trust.

    from historical_etl import HistoricalETL
    etl = HistoricalETL.open("data")
    etl.run_year(2012)
    etl.query_sql("SELECT symbol, count(*) FROM daily_prices GROUP BY symbol")

Everything public is importable from here. Names are loaded on first use, so that the command line starts fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from historical_etl.catalog.catalog import Catalog
    from historical_etl.errors import (
        CatalogError,
        ChecksumMismatchError,
        ConfigurationError,
        CoverageError,
        DataQualityError,
        DiskSpaceError,
        ETLProgressError,
        HistoricalETLError,
        LockNotHeldError,
        LockTimeoutError,
        ManifestCorruptError,
        ManifestTooNewError,
        ProviderError,
        ProviderNotSupportedError,
        ProviderUnavailableError,
        RateLimitedError,
        SchemaDriftError,
        StorageError,
    )
    from historical_etl.etl.pipeline import HistoricalETL
    from historical_etl.models import (
        DATASET_ID,
        SCHEMA_VERSION,
        ETLProgressManifest,
        ETLResult,
        Finding,
        Outcome,
        Partition,
        SyncManifest,
    )
    from historical_etl.quality.validator import DataValidator
    from historical_etl.schema import PRIMARY_KEYS, SCHEMA, empty_frame
    from historical_etl.sessions import SessionCalendar, get_calendar
    from historical_etl.settings import FilesSettings, Settings, load_settings
    from historical_etl.sources.base import (
        Coverage,
        FetchRequest,
        FetchResult,
        PriceFetcher,
        PriceSource,
        SourceInfo,
    )
    from historical_etl.sources.fetcher import UnifiedDataFetcher
    from historical_etl.sources.universe import MembershipTable
    from historical_etl.store.manifest import ManifestManager
    from historical_etl.symbols import normalize_symbols

_HOMES = {
    "catalog.catalog": ["Catalog"],
    "errors": [
        "CatalogError",
        "ChecksumMismatchError",
        "ConfigurationError",
        "CoverageError",
        "DataQualityError",
        "DiskSpaceError",
        "ETLProgressError",
        "HistoricalETLError",
        "LockNotHeldError",
        "LockTimeoutError",
        "ManifestCorruptError",
        "ManifestTooNewError",
        "ProviderError",
        "ProviderNotSupportedError",
        "ProviderUnavailableError",
        "RateLimitedError",
        "SchemaDriftError",
        "StorageError",
    ],
    "etl.pipeline": ["HistoricalETL"],
    "models": [
        "DATASET_ID",
        "SCHEMA_VERSION",
        "ETLProgressManifest",
        "ETLResult",
        "Finding",
        "Outcome",
        "Partition",
        "SyncManifest",
    ],
    "quality.validator": ["DataValidator"],
    "schema": ["PRIMARY_KEYS", "SCHEMA", "empty_frame"],
    "sessions": ["SessionCalendar", "get_calendar"],
    "settings": ["FilesSettings", "Settings", "load_settings"],
    "sources.base": ["Coverage", "FetchRequest", "FetchResult", "PriceFetcher", "PriceSource", "SourceInfo"],
    "sources.fetcher": ["UnifiedDataFetcher"],
    "sources.universe": ["MembershipTable"],
    "store.manifest": ["ManifestManager"],
    "symbols": ["normalize_symbols"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: PLE0604, PLE0605
    *_HOME_OF,  # pyright: ignore[reportUnsupportedDunderAll]
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
