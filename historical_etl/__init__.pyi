# The public surface, written once: `__init__.py` loads each name from here on first use.
from .catalog.catalog import Catalog as Catalog
from .errors import (
    CatalogError as CatalogError,
    ChecksumMismatchError as ChecksumMismatchError,
    ConfigurationError as ConfigurationError,
    CoverageError as CoverageError,
    DataQualityError as DataQualityError,
    DiskSpaceError as DiskSpaceError,
    ETLProgressError as ETLProgressError,
    HistoricalETLError as HistoricalETLError,
    LockNotHeldError as LockNotHeldError,
    LockTimeoutError as LockTimeoutError,
    ManifestCorruptError as ManifestCorruptError,
    ManifestTooNewError as ManifestTooNewError,
    ProviderError as ProviderError,
    ProviderNotSupportedError as ProviderNotSupportedError,
    ProviderUnavailableError as ProviderUnavailableError,
    RateLimitedError as RateLimitedError,
    SchemaDriftError as SchemaDriftError,
    StorageError as StorageError,
)
from .etl.pipeline import HistoricalETL as HistoricalETL
from .models import (
    DATASET_ID as DATASET_ID,
    SCHEMA_VERSION as SCHEMA_VERSION,
    ETLProgressManifest as ETLProgressManifest,
    ETLResult as ETLResult,
    Finding as Finding,
    Outcome as Outcome,
    Partition as Partition,
    SyncManifest as SyncManifest,
)
from .quality.validator import DataValidator as DataValidator
from .schema import (
    PRIMARY_KEYS as PRIMARY_KEYS,
    SCHEMA as SCHEMA,
    empty_frame as empty_frame,
)
from .sessions import (
    SessionCalendar as SessionCalendar,
    get_calendar as get_calendar,
)
from .settings import (
    FilesSettings as FilesSettings,
    Settings as Settings,
    load_settings as load_settings,
)
from .sources.base import (
    Coverage as Coverage,
    FetchRequest as FetchRequest,
    FetchResult as FetchResult,
    PriceFetcher as PriceFetcher,
    PriceSource as PriceSource,
    SourceInfo as SourceInfo,
)
from .sources.fetcher import UnifiedDataFetcher as UnifiedDataFetcher
from .sources.universe import MembershipTable as MembershipTable
from .store.manifest import ManifestManager as ManifestManager
from .symbols import normalize_symbols as normalize_symbols
