# The public surface, written once: `__init__.py` loads each name from here on first use.
from .catalog.catalog import Catalog as Catalog
from .errors import (
    CatalogError as CatalogError,
)
from .errors import (
    ChecksumMismatchError as ChecksumMismatchError,
)
from .errors import (
    ConfigurationError as ConfigurationError,
)
from .errors import (
    CoverageError as CoverageError,
)
from .errors import (
    DataQualityError as DataQualityError,
)
from .errors import (
    DiskSpaceError as DiskSpaceError,
)
from .errors import (
    ETLProgressError as ETLProgressError,
)
from .errors import (
    HistoricalETLError as HistoricalETLError,
)
from .errors import (
    LockNotHeldError as LockNotHeldError,
)
from .errors import (
    LockTimeoutError as LockTimeoutError,
)
from .errors import (
    ManifestCorruptError as ManifestCorruptError,
)
from .errors import (
    ManifestTooNewError as ManifestTooNewError,
)
from .errors import (
    ProviderError as ProviderError,
)
from .errors import (
    ProviderNotSupportedError as ProviderNotSupportedError,
)
from .errors import (
    ProviderUnavailableError as ProviderUnavailableError,
)
from .errors import (
    RateLimitedError as RateLimitedError,
)
from .errors import (
    SchemaDriftError as SchemaDriftError,
)
from .errors import (
    StorageError as StorageError,
)
from .etl.pipeline import HistoricalETL as HistoricalETL
from .models import (
    DATASET_ID as DATASET_ID,
)
from .models import (
    SCHEMA_VERSION as SCHEMA_VERSION,
)
from .models import (
    ETLProgressManifest as ETLProgressManifest,
)
from .models import (
    ETLResult as ETLResult,
)
from .models import (
    Finding as Finding,
)
from .models import (
    Outcome as Outcome,
)
from .models import (
    Partition as Partition,
)
from .models import (
    SyncManifest as SyncManifest,
)
from .quality.validator import DataValidator as DataValidator
from .schema import (
    PRIMARY_KEYS as PRIMARY_KEYS,
)
from .schema import (
    SCHEMA as SCHEMA,
)
from .schema import (
    empty_frame as empty_frame,
)
from .sessions import (
    SessionCalendar as SessionCalendar,
)
from .sessions import (
    get_calendar as get_calendar,
)
from .settings import (
    FilesSettings as FilesSettings,
)
from .settings import (
    Settings as Settings,
)
from .settings import (
    load_settings as load_settings,
)
from .sources.base import (
    Coverage as Coverage,
)
from .sources.base import (
    FetchRequest as FetchRequest,
)
from .sources.base import (
    FetchResult as FetchResult,
)
from .sources.base import (
    PriceFetcher as PriceFetcher,
)
from .sources.base import (
    PriceSource as PriceSource,
)
from .sources.base import (
    SourceInfo as SourceInfo,
)
from .sources.fetcher import UnifiedDataFetcher as UnifiedDataFetcher
from .sources.universe import MembershipTable as MembershipTable
from .store.manifest import ManifestManager as ManifestManager
from .symbols import normalize_symbols as normalize_symbols
