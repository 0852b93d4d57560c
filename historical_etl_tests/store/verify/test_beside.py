"""What verify says of the catalog, pins, staging and quarantine: each fault alone, and nothing of what is sound."""

from datetime import date

import polars as pl
import pytest

from historical_etl import ManifestManager, Outcome
from historical_etl.durable import sha256_of
from historical_etl.errors import CatalogError
from historical_etl.models import CatalogPointer
from historical_etl.store.checksummed_json import render_checksummed
from historical_etl.store.pins import Pin, write_pin
from historical_etl.store.staging import Staging
from historical_etl.store.verify.beside import catalog_findings, pin_findings, quarantine_findings, staging_findings
from historical_etl_tests.saying import Saying
from historical_etl_tests.store.small import Hand, commit, spoil


@pytest.fixture
def manager(root) -> ManifestManager:
    manager = ManifestManager(root, clock=Hand())
    for number in (1, 2, 3):
        commit(manager, {2019: number})
    return manager


def reported(findings) -> list[tuple[str, str]]:
    found = list(findings)
    assert all(finding.todo for finding in found)
    return [(finding.severity, finding.message) for finding in found]


# ── the catalog ────────────────────────────────────────────────────────────────────────────────────────────────────


def publish(manager: ManifestManager, version: int = 3, **changes) -> None:
    catalog = manager.layout.catalog
    catalog.parent.mkdir(exist_ok=True)
    catalog.write_bytes(b"a catalog")
    usual = {"version": version, "objects": str(manager.layout.objects), "checksum": sha256_of(catalog)}
    manager.layout.catalog_pointer().write_bytes(
        render_checksummed(CatalogPointer.model_validate({**usual, **changes}))
    )


def catalog(manager: ManifestManager, shown: int | None = 3, *, quick: bool = False) -> list[tuple[str, str]]:
    def inside() -> int:
        if shown is None:
            raise CatalogError("it cannot be opened", where="catalog")
        return shown

    found = list(catalog_findings(manager.layout, manager.load_manifest(), inside, quick=quick))
    assert all(finding.field == "catalog historical_catalog.duckdb" for finding in found)
    return reported(found)


def test_a_published_catalog_is_intact(manager):
    publish(manager)
    assert catalog(manager) == []
    assert reported(catalog_findings(manager.layout, manager.load_manifest(), None, quick=False)) == []


def test_without_data_there_need_be_no_catalog(manager):
    assert reported(catalog_findings(manager.layout, None, None, quick=False)) == []


def test_a_catalog_that_was_not_published_is_a_warning(manager):
    assert catalog(manager) == [("warning", "it was not published yet")]
    publish(manager)
    manager.layout.catalog.unlink()
    assert catalog(manager) == [("warning", "it was not published yet")]
    publish(manager)
    manager.layout.catalog_pointer().unlink()
    assert catalog(manager) == [("warning", "it was not published yet")]


def test_bytes_that_were_not_published_are_an_error_unless_a_publication_was_broken_off(manager):
    unpublished = [("error", "its bytes are not those that were published (SHA-256)")]
    for version in (2, 3):
        publish(manager, version)
        spoil(manager.layout.catalog)
        assert catalog(manager, version) == unpublished
        assert catalog(manager, None) == unpublished, "it cannot be opened"
    publish(manager, 1)
    spoil(manager.layout.catalog)
    behind = [("warning", "it shows version 1, the store has 3")]
    assert catalog(manager, 3) == behind, "the file of version 3 was written, its record was not"
    assert catalog(manager, 2) == behind, "likewise, and then another version"
    assert catalog(manager, 4) == unpublished
    assert reported(catalog_findings(manager.layout, manager.load_manifest(), None, quick=False)) == behind
    assert catalog(manager, None, quick=True) == behind


def test_a_damaged_record_of_the_catalog_is_an_error(manager):
    publish(manager)
    spoil(manager.layout.catalog_pointer())
    assert catalog(manager, quick=True) == [("error", Saying("record", "damaged"))]


@pytest.mark.parametrize("quick", [True, False])
def test_which_version_the_catalog_shows(manager, quick):
    publish(manager, 4)
    assert catalog(manager, 4, quick=quick) == [("error", Saying("version 4", "ahead of 3"))]
    publish(manager, 2)
    assert catalog(manager, 2, quick=quick) == [("warning", Saying("shows version 2", "has 3"))]
    publish(manager, objects="/elsewhere")
    assert catalog(manager, quick=quick) == [("warning", Saying("moved", "/elsewhere"))]


def test_the_bytes_of_the_catalog_are_proven_in_a_full_check(manager):
    publish(manager, checksum="0" * 64)
    assert catalog(manager) == [("error", Saying("bytes", "published", "SHA-256"))]
    assert catalog(manager, quick=True) == []
    publish(manager, checksum="0" * 64, following=sha256_of(manager.layout.catalog))
    assert catalog(manager) == [], "a swap may have come as far as the file and not as far as its record"
    publish(manager, checksum=None)
    assert catalog(manager) == [], "older releases noted no checksum"
    publish(manager, checksum=None, following="0" * 64)
    assert len(catalog(manager)) == 1


def test_the_catalog_itself_is_asked_in_a_full_check(manager):
    publish(manager)
    assert catalog(manager, 2) == [("error", Saying("shows version 2", "not 3"))]
    assert catalog(manager, None) == [("error", "it cannot be opened")]
    assert catalog(manager, 2, quick=True) == []
    assert catalog(manager, None, quick=True) == []


# ── pins ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pins(manager):
    layout = manager.layout
    write_pin(layout, Pin(name="good", version=1, checksum="a" * 64))
    assert reported(pin_findings(layout, {1, 2, 3})) == []
    write_pin(layout, Pin(name="torn", version=2))
    write_pin(layout, Pin(name="lost", version=9, checksum="a" * 64))
    found = list(pin_findings(layout, {1, 2, 3}))
    assert [finding.field for finding in found] == ["pin lost", "pin torn"]
    assert reported(found) == [
        ("error", Saying("version 9", "not there")),
        ("error", Saying("record is damaged", "kept")),
    ]
    assert "unpin lost" in found[0].todo


# ── staging ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_staged_units(manager):
    layout = manager.layout
    frame = pl.DataFrame({"date": [date(2019, 1, 4)], "symbol": ["AAA"]})
    assert reported(staging_findings(layout, quick=False)) == []
    for request in ("1" * 64, "2" * 64):
        Staging(layout, request).put({"rows": frame, "actions": frame}, {"AAA": Outcome.OK}, {})
        Staging(layout, request).put({"rows": frame}, {"BBB": Outcome.OK}, {})
    assert reported(staging_findings(layout, quick=False)) == []
    spoil(next((layout.staging / ("1" * 16)).glob("*.parquet")))
    spoil(next((layout.staging / ("2" * 16)).glob("*.json")))
    (found,) = staging_findings(layout, quick=False)
    assert (found.field, found.severity, found.count) == ("staging/", "warning", 2)
    assert list(staging_findings(layout, quick=True)) == []


# ── quarantine ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_entries_of_the_quarantine(manager):
    layout = manager.layout
    manager.quarantine.note("x", "a note", "d")
    manager.quarantine.copy_bytes("x", b"whole", "bad", "d")
    changed = manager.quarantine.copy_bytes("x", b"changed", "bad", "d")
    for quick in (True, False):
        assert reported(quarantine_findings(layout, quick=quick)) == []
    spoil(changed / "x")
    assert reported(quarantine_findings(layout, quick=True)) == []
    (found,) = quarantine_findings(layout, quick=False)
    assert (found.field, found.severity, found.sample) == ("quarantine/", "warning", (changed.name,))
    (layout.quarantine / "foreign").write_bytes(b"")
    assert [finding.count for finding in quarantine_findings(layout, quick=True)] == [1]
    assert [finding.count for finding in quarantine_findings(layout, quick=False)] == [2]
