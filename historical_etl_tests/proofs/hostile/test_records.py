"""The JSON files of a store: what is damaged is refused, passed over or moved aside; never a stranger's error."""

import json
import logging
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from historical_etl import ETLProgressManifest, ManifestManager, SyncManifest
from historical_etl.errors import HistoricalETLError, ManifestCorruptError
from historical_etl.etl.commit.ledger_rows import run_rows
from historical_etl.models import CatalogPointer, Outcome, Partition, combined_checksum
from historical_etl.store.catalog_version import read_catalog_pointer
from historical_etl.store.failed_runs import RunRecord, note_run, read_notes
from historical_etl.store.layout import Layout
from historical_etl.store.lock import Holder, current_holder, live_holder
from historical_etl.store.manifest_file import parse_manifest, render_manifest
from historical_etl.store.progress import load_progress
from historical_etl.store.quarantine.write import Quarantine
from historical_etl.store.staging import StagedUnit, Staging
from historical_etl_tests.proofs.hostile.mutations import fuzz, spoilt_json
from historical_etl_tests.scenario import SHORT, at, evening

DAY = date(2013, 3, 1)
CLOCK = at(DAY)
#: Moments that have no place in UTC.
FIRST_MOMENT, LAST_MOMENT = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"
DEEP = b"[" * 100_000 + b"]" * 100_000

PARTITION = Partition(
    year=2012,
    path="historical/objects/2012-0123456789abcdef.parquet",
    rows=3,
    symbols=1,
    first_session=DAY,
    last_session=DAY,
    checksum="ab" * 32,
    size_bytes=10,
)
MANIFEST = SyncManifest(
    version=3,
    sync_timestamp=evening(DAY),
    start_date=DAY,
    end_date=DAY,
    row_count=3,
    checksum=combined_checksum([PARTITION.checksum]),
    file_paths=(PARTITION.path,),
    partitions=(PARTITION,),
    ledgers={"runs": ()},
)
MANIFEST_JSON = json.loads(render_manifest(MANIFEST))
UNSIGNED = {name: value for name, value in MANIFEST_JSON.items() if name != "manifest_sha256"}
PROGRESS = json.loads(
    ETLProgressManifest(
        last_updated=evening(DAY), symbol_last_dates={"BRK.B": DAY}, years_completed=[2012]
    ).model_dump_json()
)
HOLDER = json.loads(Holder(token=7, writer_id="me", pid=1, host="here", since=evening(DAY)).model_dump_json())
POINTER = json.loads(CatalogPointer(version=3, objects="/data/objects").model_dump_json())
NOTE = json.loads(
    RunRecord(run_id="0123456789", started=evening(DAY), finished=evening(DAY), status="failed").model_dump_json()
)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@fuzz(120)
@given(spoilt_json(UNSIGNED) | spoilt_json(MANIFEST_JSON))
@example(json.dumps(UNSIGNED | {"sync_timestamp": FIRST_MOMENT}).encode())
@example(json.dumps(UNSIGNED | {"sync_timestamp": LAST_MOMENT}).encode())
@example(DEEP)
def test_a_manifest(content):
    try:
        manifest = parse_manifest(content, Path("m.json"))
    except ManifestCorruptError as error:
        assert str(error)
    else:
        again = parse_manifest(render_manifest(manifest), Path("m.json"))
        assert again == manifest


@fuzz(40)
@given(content=spoilt_json(UNSIGNED), pointed=st.booleans())
@example(content=json.dumps(UNSIGNED | {"file_paths": ["a\x00b"]}).encode(), pointed=False)
@example(content=json.dumps(UNSIGNED | {"file_paths": ["x" * 5000]}).encode(), pointed=False)
def test_a_store_with_such_a_manifest(content, pointed, tmp_path_factory):
    """It opens with what the manifest says, or with an error of ours; and nothing on disk is lost."""
    manager = ManifestManager(tmp_path_factory.mktemp("store"), clock=CLOCK)
    put(manager.layout.manifest_file(), content if pointed else b"{")
    put(manager.layout.history_file(4), content)
    try:
        manager.load_manifest()
        with manager.acquire_lock() as token:
            manager.restore_manifest(token)
    except HistoricalETLError as error:
        assert str(error)
    kept = [path.read_bytes() for path in manager.layout.root.rglob("*") if path.is_file()]
    assert content in kept


@fuzz(60)
@given(content=spoilt_json(PROGRESS))
@example(content=json.dumps(PROGRESS | {"last_updated": FIRST_MOMENT}).encode())
@example(content=DEEP)
def test_progress(content, tmp_path_factory):
    layout = Layout(tmp_path_factory.mktemp("store"))
    path = put(layout.progress_file(), content)
    progress = load_progress(layout, CLOCK)
    (there,) = path.parent.iterdir()
    assert there.read_bytes() == content
    assert (progress is None) == (there != path)


def test_what_is_reported_of_a_record_can_be_written_anywhere(tmp_path, caplog):
    """JSON may name a field by half a character, which no log file and no other process takes."""
    layout = Layout(tmp_path)
    put(layout.progress_file(), rb'{"half \ud800": 1}')
    assert load_progress(layout, CLOCK) is None
    assert r"half \ud800" in caplog.text
    assert caplog.text.encode()


@fuzz(60)
@given(content=spoilt_json(HOLDER))
@example(content=DEEP)
def test_the_record_of_the_lock(content, tmp_path_factory):
    """Whatever it holds, the lock can be taken: the kernel's word counts, and the record is replaced."""
    manager = ManifestManager(tmp_path_factory.mktemp("store"), clock=CLOCK)
    path = put(manager.layout.lock_file(), content)
    holder = current_holder(path)
    assert live_holder(path) is None
    str(holder)
    with manager.acquire_lock() as token:
        assert token.number == (holder.token + 1 if holder else 1)
        manager.check_token(token)


@fuzz(40)
@given(content=spoilt_json(POINTER))
@example(content=DEEP)
def test_the_pointer_of_the_catalog(content, tmp_path_factory):
    layout = Layout(tmp_path_factory.mktemp("store"))
    put(layout.catalog_pointer(), content)
    pointer = read_catalog_pointer(layout)
    assert pointer is None or isinstance(pointer.version, int)


@fuzz(60)
@given(content=spoilt_json(NOTE))
@example(content=json.dumps(NOTE | {"rows": 2**63}).encode())
@example(content=json.dumps(NOTE | {"started": "2013-01-02T03:04:05"}).encode())
@example(content=json.dumps(NOTE | {"started": FIRST_MOMENT}).encode())
@example(content=DEEP)
def test_notes_of_runs(content, tmp_path_factory):
    """One that is damaged costs itself alone: the others go into the ledger with the next commit."""
    layout = Layout(tmp_path_factory.mktemp("store"))
    note_run(layout, RunRecord(run_id="good", started=evening(DAY), finished=evening(DAY), status="failed"))
    put(layout.run_notes / "20130301T230000.000000-01234567.json", content)
    notes = read_notes(layout)
    assert "good" in [note.run_id for note in notes]
    assert run_rows(notes).height == len(notes)


@fuzz(30)
@given(content=spoilt_json({"sha256": "ab", "reason": "x"}))
@example(content=DEEP)
def test_reasons_in_the_quarantine(content, tmp_path_factory):
    layout = Layout(tmp_path_factory.mktemp("store"))
    reason = put(layout.quarantine / "20130301T230000.000000Z_rows" / "reason.json", content)
    entry = Quarantine(layout, CLOCK).copy_bytes("rows", b"refused", "why", "historical_daily")
    assert (entry / "rows").read_bytes() == b"refused"
    assert reason.read_bytes() == content
    assert Quarantine(layout, CLOCK).entries()


def staged_record() -> dict[str, object]:
    return {"symbols": ["A", "B"], "outcomes": {"A": "ok", "B": "empty"}, "details": {}, "rows": "ab" * 32}


@fuzz(60)
@given(content=spoilt_json(staged_record()))
@example(content=DEEP)
@example(content=json.dumps(staged_record() | {"outcomes": {"A": "ok"}}).encode())
def test_records_of_staged_units(content, tmp_path_factory):
    """A record that is not sound does not count; one that counts has an outcome for each of its symbols."""
    layout = Layout(tmp_path_factory.mktemp("store"))
    staging = Staging(layout, "request")
    good = staging.put({"rows": SHORT.bars(["HALT"])}, {"HALT": Outcome.OK}, {})
    rows = SHORT.bars(["BRK.B"])
    other = staging.put({"rows": rows}, {"A": Outcome.OK, "B": Outcome.EMPTY}, {})
    (record,) = [path for path in staging.folder.glob("*.json") if b'"A"' in path.read_bytes()]
    record.write_bytes(content.replace(b"ab" * 32, other.rows.encode()))
    units = staging.units()
    assert good in units
    for unit in units:
        assert set(unit.outcomes) >= set(unit.symbols)
        assert isinstance(unit, StagedUnit)
    found = staging.rows(units, date.min, date.max)
    assert found is not None
    assert found.collect().height >= SHORT.bars(["HALT"]).height


@pytest.mark.parametrize("name", ["²", "x", "-1", "1e3", "00000001.json", "٣"])
def test_files_in_the_history_that_are_no_versions(name, root):
    manager = ManifestManager(root, clock=CLOCK)
    put(manager.layout.history_folder() / f"{name}.json", b"{}")
    assert manager.list_versions() == []
    assert manager.load_manifest() is None


def test_a_moment_outside_of_utc_is_no_reason_to_crash(root, caplog):
    layout = Layout(root)
    put(layout.progress_file(), json.dumps(PROGRESS | {"last_updated": FIRST_MOMENT}).encode())
    with caplog.at_level(logging.WARNING):
        assert load_progress(layout, lambda: datetime(2013, 3, 1, tzinfo=UTC)) is None
    assert "moved to" in caplog.text
