"""`verify_store`: each kind of damage, planted alone, is found; a healthy store and a writer at work are not blamed."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from historical_etl.durable import sha256_of
from historical_etl.errors import ManifestTooNewError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import CatalogPointer, Outcome, SyncManifest, combined_checksum
from historical_etl.store.checksummed_json import render_checksummed
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.manifest_file import parse_manifest, render_manifest
from historical_etl.store.pins import Pin, write_pin
from historical_etl.store.progress import parse_progress
from historical_etl.store.staging import Staging
from historical_etl.store.verify.findings import StoreFinding
from historical_etl.store.verify.store import VerifyReport, verify_store

FIRST, SECOND, CURRENT = 1, 2, 3


@dataclass
class Store:
    """Version 1: some of 2013. Version 2: 2013. Version 3, the current one: 2012 as well."""

    etl: HistoricalETL

    @property
    def layout(self) -> Layout:
        return self.etl.layout

    @property
    def manifest(self) -> SyncManifest:
        path = self.layout.manifest_file()
        return parse_manifest(path.read_bytes(), path)

    def object(self, year: int, version: int = CURRENT) -> Path:
        partition = self.etl.manifests.load_version(version).partition(year)
        assert partition
        return self.layout.resolve(partition.path)

    def verify(self, *, quick: bool = False) -> VerifyReport:
        return self.etl.verify(quick=quick)

    def found(self, *, quick: bool = False) -> list[StoreFinding]:
        return list(self.verify(quick=quick).findings)


@pytest.fixture(scope="session")
def _pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store is made once in a folder `live`, and put back there before each test: the catalog names that place."""
    folder = tmp_path_factory.mktemp("verify")
    etl = HistoricalETL.open(folder / "live")
    etl.run_year(2013, ["AAPL"], publish=False)
    etl.run_year(2013, publish=False)
    etl.run_year(2012)
    (folder / "live").rename(folder / "pristine")
    return folder


@pytest.fixture
def store(_pristine: Path) -> Iterator[Store]:
    live = _pristine / "live"
    subprocess.run(["cp", "-a", str(_pristine / "pristine"), str(live)], check=True)  # hard links stay links
    yield Store(HistoricalETL.open(live))
    shutil.rmtree(live)


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file in place: its hard links change with it."""
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def restate(store: Store, year: int = 2013, **changes: Any) -> None:
    """Make the current manifest say something else of a year, and be good in itself."""
    manifest = store.manifest
    partitions = tuple(p.model_copy(update=changes) if p.year == year else p for p in manifest.partitions)
    update: dict[str, Any] = {
        "partitions": partitions,
        "checksum": combined_checksum(p.checksum for p in partitions),
        "file_paths": tuple(p.path for p in partitions),
        "row_count": sum(p.rows for p in partitions),
        "start_date": min(p.first_session for p in partitions),
        "end_date": max(p.last_session for p in partitions),
    }
    content = render_manifest(manifest.model_copy(update=update))
    store.layout.manifest_file().write_bytes(content)
    store.layout.history_file(manifest.version).write_bytes(content)


def substitute(store: Store, frame: pl.DataFrame, **options: Any) -> None:
    """Commit a file for 2013 that the core would never write; the manifest describes it truly."""
    written = store.layout.root / "new.parquet"
    frame.write_parquet(written, **options)
    checksum = sha256_of(written)
    target = store.layout.object_file(2013, checksum)
    written.replace(target)
    link = store.layout.daily_file(2013)
    link.unlink()
    os.link(target, link)
    days = frame.get_column("date")
    restate(
        store,
        path=store.layout.relative(target),
        checksum=checksum,
        size_bytes=target.stat().st_size,
        rows=frame.height,
        symbols=frame.get_column("symbol").n_unique(),
        first_session=days.min(),
        last_session=days.max(),
    )


def january(store: Store) -> pl.DataFrame:
    return store.etl.scan(start="2013-01-01", end="2013-01-31").collect().sort("symbol", "date")


def test_a_healthy_store_has_no_finding(store: Store):
    for quick in (True, False):
        report = store.verify(quick=quick)
        assert report.findings == ()
        assert (report.version, report.years, report.rows, report.objects) == (3, 2, 1360, 3)


def test_a_store_without_a_commit_has_no_finding(tmp_path: Path):
    assert verify_store(ManifestManager(tmp_path / "data")) == VerifyReport()
    assert not (tmp_path / "data").exists()


def test_copies_in_place_of_links_are_as_good(store: Store):
    link = store.layout.daily_file(2012)
    link.unlink()
    shutil.copyfile(store.object(2012), link)
    assert store.found() == []


Plant = Callable[[Store], object]


def _pointer_missing(store: Store) -> None:
    store.layout.manifest_file().unlink()


def _pointer_torn(store: Store) -> None:
    edit(store.layout.manifest_file(), lambda content: content[: len(content) // 2])


def _pointer_edited(store: Store) -> None:
    edit(store.layout.manifest_file(), lambda content: content.replace(b'"sample"', b'"simple"'))


def _history_torn(store: Store) -> None:
    edit(store.layout.history_file(SECOND), lambda content: content[:-20])


def _history_of_another_version(store: Store) -> None:
    shutil.copyfile(store.layout.history_file(FIRST), store.layout.history_file(SECOND))


def _history_lacks_the_current(store: Store) -> None:
    store.layout.history_file(CURRENT).unlink()


def _history_differs(store: Store) -> None:
    other = store.manifest.model_copy(update={"provider": "elsewhere"})
    store.layout.history_file(CURRENT).write_bytes(render_manifest(other))


def _object_missing(store: Store) -> None:
    store.object(2012).unlink()


def _object_cut(store: Store) -> None:
    edit(store.object(2012), lambda content: content[:-100])


def _older_object_missing(store: Store) -> None:
    store.object(2013, FIRST).unlink()


def _daily_missing(store: Store) -> None:
    store.layout.daily_file(2012).unlink()


def _daily_edited(store: Store) -> None:
    path = store.layout.daily_file(2012)
    path.unlink()
    path.write_bytes(b"PAR1 something else PAR1")


def _daily_older(store: Store) -> None:
    path = store.layout.daily_file(2013)
    path.unlink()
    os.link(store.object(2013, FIRST), path)


def _daily_stray(store: Store) -> None:
    shutil.copyfile(store.object(2012), store.layout.daily_file(1999))


def _manifest_counts_wrong(store: Store) -> None:
    partition = store.manifest.partition(2013)
    assert partition
    restate(store, rows=partition.rows + 1)


def _manifest_dates_wrong(store: Store) -> None:
    restate(store, first_session=date(2013, 1, 3))


def _manifest_totals_wrong(store: Store) -> None:
    content = render_manifest(store.manifest.model_copy(update={"row_count": 1}))
    for path in (store.layout.manifest_file(), store.layout.history_file(CURRENT)):
        path.write_bytes(content)


def _schema_other(store: Store) -> None:
    substitute(store, january(store).with_columns(pl.col("volume").cast(pl.Int64)))


def _no_month_blocks(store: Store) -> None:
    substitute(store, store.etl.scan(start="2013-01-01").collect().sort("symbol", "date"))


def _progress_torn(store: Store) -> None:
    edit(store.layout.progress_file(), lambda content: content[:50])


def resave_progress(store: Store, **changes: object) -> None:
    progress = parse_progress(store.layout.progress_file().read_bytes())
    store.layout.progress_file().write_bytes(render_checksummed(progress.model_copy(update=changes)))


def _progress_edited(store: Store) -> None:
    edit(store.layout.progress_file(), lambda content: content.replace(b'"data_version": 3', b'"data_version": 2'))


def _progress_ahead(store: Store) -> None:
    resave_progress(store, data_version=4)


def _cursor_ahead(store: Store) -> None:
    resave_progress(store, symbol_last_dates={"AAPL": date(2013, 3, 4)})


def _catalog_garbage(store: Store) -> None:
    store.layout.catalog.write_bytes(b"no database")


def _catalog_replaced(store: Store) -> None:
    pointer = store.layout.catalog_pointer().read_bytes()
    store.etl.catalog.publish(store.etl.manifests.load_version(SECOND))
    store.layout.catalog_pointer().write_bytes(pointer)


def point(store: Store, version: int) -> None:
    pointer = CatalogPointer(version=version, objects=str(store.layout.objects))
    store.layout.catalog_pointer().write_bytes(render_checksummed(pointer))


def _catalog_of_another_version(store: Store) -> None:
    store.etl.catalog.publish(store.etl.manifests.load_version(SECOND))
    point(store, CURRENT)


def _catalog_unreadable(store: Store) -> None:
    store.layout.catalog.write_bytes(b"no database")
    point(store, CURRENT)


def _catalog_pointer_ahead(store: Store) -> None:
    point(store, 9)


def _catalog_pointer_edited(store: Store) -> None:
    edit(store.layout.catalog_pointer(), lambda content: content.replace(b"3", b"9", 1))


def _pin_edited(store: Store) -> None:
    store.etl.pin("paper")
    edit(next(store.layout.pins.iterdir()), lambda content: content.replace(b"paper", b"qaper"))


def _pin_of_nothing(store: Store) -> None:
    write_pin(store.layout, Pin(name="paper", version=77))


DAMAGE: list[tuple[Plant, str, str]] = [
    (_pointer_missing, "historical_daily.json", "missing; version 3 replaces it"),
    (_pointer_torn, "historical_daily.json", "damaged"),
    (_pointer_edited, "historical_daily.json", "does not match its own checksum"),
    (_history_torn, "history 2", "damaged"),
    (_history_of_another_version, "history 2", "it holds version 1"),
    (_history_lacks_the_current, "history 3", "lacks the current version"),
    (_history_differs, "history 3", "not the current manifest's copy"),
    (_object_missing, "object 2012-", "is missing"),
    (_object_cut, "object 2012-", "bytes, "),
    (_older_object_missing, "object 2013-", "is missing"),
    (_daily_missing, "daily/2012.parquet", "is missing"),
    (_daily_edited, "daily/2012.parquet", "edited or replaced"),
    (_daily_older, "daily/", "it mixes versions: 2012 as in version 3, 2013 as in version 1;"),
    (_daily_stray, "daily/1999.parquet", "no such year"),
    (_manifest_totals_wrong, "historical_daily.json", "not those of its partitions"),
    (_progress_torn, "progress", "damaged"),
    (_progress_ahead, "progress", "version 4, ahead of"),
    (_cursor_ahead, "progress", "ahead of the data's last session"),
    (_progress_edited, "progress", "does not match its own checksum"),
    (_catalog_pointer_edited, "catalog", "the record of what it shows is damaged"),
    (_pin_edited, "pin paper", "its record is damaged"),
    (_pin_of_nothing, "pin paper", "version 77, which it names, is not there"),
    (_catalog_pointer_ahead, "catalog", "version 9, ahead of 3"),
]


@pytest.mark.parametrize(("plant", "field", "words"), DAMAGE, ids=[plant.__name__.strip("_") for plant, *_ in DAMAGE])
@pytest.mark.parametrize("quick", [True, False], ids=["quick", "full"])
def test_damage_is_found(store: Store, plant: Plant, field: str, words: str, quick: bool):
    plant(store)
    before = _everything(store)
    report = store.verify(quick=quick)
    assert not report.ok
    found = [finding for finding in report.findings if finding.field.startswith(field) and words in finding.message]
    assert found, report.findings
    assert all(finding.todo for finding in report.findings)
    assert _everything(store) == before


def _month_unsorted(store: Store) -> None:
    substitute(store, january(store).reverse())


def _keys_twice(store: Store) -> None:
    frame = january(store)
    substitute(store, pl.concat([frame, frame.head(2)]).sort("symbol", "date"))


def _key_empty(store: Store) -> None:
    substitute(store, january(store).with_columns(pl.when(pl.col("symbol") != "FB").then("symbol").alias("symbol")))


def _symbols_counted_wrong(store: Store) -> None:
    restate(store, symbols=6)


def _cursor_behind(store: Store) -> None:
    cursors = parse_progress(store.layout.progress_file().read_bytes()).symbol_last_dates
    resave_progress(store, symbol_last_dates=cursors | {"AAPL": date(2013, 2, 28)})


def _quarantine_edited(store: Store) -> None:
    entry = store.etl.manifests.quarantine.copy_bytes("rows.parquet", b"refused", "why", "historical_daily")
    edit(entry / "rows.parquet", flip)


def _staged_edited(store: Store) -> None:
    Staging(store.layout, "a" * 16).put({"rows": store.etl.scan().collect()}, {"AAPL": Outcome.OK}, {})
    edit(next(store.layout.staging.glob("*/*.parquet")), flip)


DEEP: list[tuple[Plant, str, str, bool]] = [
    (lambda store: edit(store.object(2012), flip), "object 2012-", "SHA-256", False),
    (lambda store: edit(store.object(2013, FIRST), flip), "object 2013-", "SHA-256", False),
    (_month_unsorted, "object 2013-", "month 1: rows do not ascend", False),
    (_keys_twice, "object 2013-", "month 1: 2 key(s) (date, symbol) come twice", False),
    (_key_empty, "object 2013-", "month 1: rows without a date or symbol", False),
    (_symbols_counted_wrong, "object 2013-", "5 symbols, the manifest says 6", False),
    (_manifest_counts_wrong, "object 2013-", "205 rows, the manifest says 206", False),
    (_manifest_dates_wrong, "object 2013-", "the manifest says 2013-01-03", False),
    (_schema_other, "object 2013-", "volume Int64", False),
    (_no_month_blocks, "object 2013-", "A row group runs from", False),
    (_catalog_replaced, "catalog", "not those that were published", False),
    (_catalog_unreadable, "catalog", "cannot be read", False),
    (_catalog_of_another_version, "catalog", "shows version 2, not 3", False),
    (_quarantine_edited, "quarantine/", "damaged or foreign", True),
    (_staged_edited, "staging/", "is damaged", True),
    (_cursor_behind, "progress", "not those that follow from the data", True),
]


@pytest.mark.parametrize(("plant", "field", "words", "harmless"), DEEP, ids=range(len(DEEP)))
def test_damage_that_only_a_full_check_finds(store: Store, plant: Plant, field: str, words: str, harmless: bool):
    plant(store)
    report = store.verify()
    found = [finding for finding in report.findings if finding.field.startswith(field) and words in finding.message]
    assert found, report.findings
    assert report.ok is harmless


def _temp(store: Store) -> None:
    (store.layout.objects / ".2012-0.parquet.99.abc.tmp").write_bytes(b"torn")


def _orphan(store: Store) -> None:
    shutil.copyfile(store.object(2012), store.layout.object_file(2012, "f" * 64))


def _uncommitted(store: Store) -> None:
    later = store.manifest.model_copy(update={"version": 4})
    store.layout.history_file(4).write_bytes(render_manifest(later))


def _crashed_before_progress(store: Store) -> None:
    store.etl.run_year(2011)
    resave_progress(store, data_version=3)
    store.layout.daily_file(2011).unlink()


def _unpublished(store: Store) -> None:
    store.etl.run_year(2011, publish=False)


def _first_commit_only_in_history(store: Store) -> None:
    for version in (SECOND, CURRENT):
        store.layout.history_file(version).unlink()
    store.layout.manifest_file().unlink()
    store.layout.progress_file().unlink()
    store.layout.daily.unlink()
    shutil.rmtree(store.layout.daily_folders)


LEFT_BY_A_CRASH: list[tuple[Plant, str]] = [
    (_temp, "temp files"),
    (_orphan, "orphans"),
    (_uncommitted, "history 4"),
    (_crashed_before_progress, "daily/2011.parquet"),
    (_unpublished, "catalog"),
    (_first_commit_only_in_history, "historical_daily.json"),
]


@pytest.mark.parametrize(
    ("plant", "field"), LEFT_BY_A_CRASH, ids=[plant.__name__.strip("_") for plant, _ in LEFT_BY_A_CRASH]
)
def test_what_a_crash_leaves_is_a_warning_and_the_next_write_clears_it(store: Store, plant: Plant, field: str):
    plant(store)
    report = store.verify()
    reported = [finding for finding in report.findings if finding.field.startswith(field)]
    assert [finding.severity for finding in reported] == ["warning"], report.findings
    if plant is _first_commit_only_in_history:
        store.layout.catalog.unlink()  # of a version that this test has taken away
        store.layout.catalog_pointer().unlink()
    else:
        assert report.ok
    HistoricalETL.open(store.layout.root).run_incremental_etl()
    assert store.found() == []


def test_objects_are_not_called_orphans_while_a_version_cannot_be_read(store: Store):
    _history_torn(store)
    _orphan(store)
    assert [finding.field for finding in store.found()] == ["history 2"]


def test_a_newer_release_s_store_is_refused(store: Store):
    path = store.layout.manifest_file()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(ManifestTooNewError):
        store.verify()


def test_a_writer_at_work_is_not_blamed(store: Store):
    """Years come and go between the looks: temps, orphans, an unlinked daily/, progress and catalog behind."""
    stop = threading.Event()

    def write() -> None:
        etl = HistoricalETL.open(store.layout.root)
        for year in range(2000, 2013):
            for symbols in (["AAPL"], ["IBM"], None):
                if not stop.is_set():
                    etl.run_year(year, symbols)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        looks = 0
        while writer.is_alive() and looks < 10:
            looks += 1
            errors = [finding for finding in store.found(quick=looks % 2 == 0) if finding.severity == "error"]
            assert errors == []
    finally:
        stop.set()
        writer.join()
    assert looks > 1
    assert store.found() == []


def test_leftovers_of_a_live_writer_are_not_leftovers(store: Store):
    with store.etl.manifests.acquire_lock():
        _temp(store)
        assert store.found() == []
    assert [finding.field for finding in store.found()] == ["temp files"]


def _everything(store: Store) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in store.layout.root.rglob("*")
        if path.is_file()
    }
