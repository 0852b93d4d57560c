"""What users may import, typed by hand: a new name costs a line here, where "should a user see this?" gets asked."""

import importlib
import subprocess
import sys

import pytest

import historical_etl

NAMES = [
    "Catalog",
    "CatalogError",
    "ChecksumMismatchError",
    "ConfigurationError",
    "Coverage",
    "CoverageError",
    "DATASET_ID",
    "DataQualityError",
    "DataValidator",
    "DiskSpaceError",
    "ETLProgressError",
    "ETLProgressManifest",
    "ETLResult",
    "FetchRequest",
    "FetchResult",
    "FilesSettings",
    "Finding",
    "HistoricalETL",
    "HistoricalETLError",
    "LockNotHeldError",
    "LockTimeoutError",
    "ManifestCorruptError",
    "ManifestManager",
    "ManifestTooNewError",
    "MembershipTable",
    "Outcome",
    "PRIMARY_KEYS",
    "Partition",
    "PriceFetcher",
    "PriceSource",
    "ProviderError",
    "ProviderNotSupportedError",
    "ProviderUnavailableError",
    "RateLimitedError",
    "SCHEMA",
    "SCHEMA_VERSION",
    "SchemaDriftError",
    "SessionCalendar",
    "Settings",
    "SourceInfo",
    "StorageError",
    "SyncManifest",
    "UnifiedDataFetcher",
    "empty_frame",
    "get_calendar",
    "load_settings",
    "normalize_symbols",
]


def test_the_public_names_are_these():
    assert sorted(vars(historical_etl)["__all__"]) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_can_be_imported_and_is_listed(name):
    assert getattr(historical_etl, name) is not None
    assert name in dir(historical_etl)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        getattr(historical_etl, "no_such_thing")  # noqa: B009 - the checker knows that it is not there
    with pytest.raises(ImportError):
        importlib.import_module("historical_etl.no_such_thing")


def test_importing_the_package_is_cheap_and_brings_no_dagster():
    """`status` must start fast: nothing heavy comes with the package, and the core never knows Dagster."""
    program = (
        "import sys, historical_etl; heavy = {'polars', 'duckdb', 'pandas', 'dagster', 'exchange_calendars'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "[getattr(historical_etl, name) for name in historical_etl.__all__]\n"
        "print('dagster' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[:2] == ["[]", "False"]


def test_the_schema_is_this():
    import polars as pl

    assert list(historical_etl.SCHEMA.items()) == [
        ("date", pl.Date()),
        ("symbol", pl.String()),
        *((name, pl.Float64()) for name in ("open", "high", "low", "close", "volume", "ret", "adj_close")),
    ]
    assert historical_etl.PRIMARY_KEYS == ("date", "symbol")
    assert historical_etl.DATASET_ID == "historical_daily"
    empty = historical_etl.empty_frame()
    assert (empty.height, empty.schema) == (0, historical_etl.SCHEMA)
