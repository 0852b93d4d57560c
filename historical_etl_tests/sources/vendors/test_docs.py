"""docs/sources.md says what the code does: each vendor, variable, limit and setting is there."""

from pathlib import Path

from historical_etl.sources.fetcher import SOURCES
from historical_etl.vendor_settings import VENDOR_GROUPS, VendorSettings

PAGE = (Path(__file__).parents[3] / "docs" / "sources.md").read_text()
ROWS = {line.split("`")[1]: line for line in PAGE.splitlines() if line.startswith("| `")}


def test_every_source_has_a_row():
    assert set(SOURCES) <= set(ROWS)


def test_the_row_of_a_vendor_names_its_keys_its_extra_and_its_limits(vendor):
    group, row = VENDOR_GROUPS[vendor](), ROWS[vendor]
    assert all(f"`{name}`" in row for name in group.variables)
    assert f"extra `{'yahoo' if vendor == 'yfinance' else vendor}`" in row
    assert group.rate in row
    assert group.daily_budget is None or f"{group.daily_budget:,}" in row


def test_every_setting_of_a_vendor_is_explained():
    keys = {"api_key", "key_id", "secret_key"}
    names = {name for group in VENDOR_GROUPS.values() for name in group.model_fields} - keys
    assert [name for name in sorted(names) if f"`{name.upper()}`" not in PAGE] == []


def test_the_defaults_that_all_share_are_as_explained():
    shared = VendorSettings()
    for name in ("timeout_seconds", "attempts", "max_wait_seconds"):
        line = next(line for line in PAGE.splitlines() if f"`{name.upper()}`" in line)
        assert f"`{getattr(shared, name):g}`" in line
    assert f"`{shared.breaker_failures}`, `{shared.breaker_seconds:g}`" in PAGE
