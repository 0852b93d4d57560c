"""Export and import: one version leaves as a store of its own, and comes in whole or not at all."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from historical_etl import (
    ChecksumMismatchError,
    ConfigurationError,
    DataQualityError,
    DiskSpaceError,
    HistoricalETL,
    HistoricalETLError,
    LockNotHeldError,
    ManifestCorruptError,
    ManifestManager,
    StorageError,
)
from historical_etl.durable import place_new
from historical_etl.etl.maintenance.archive import export_store, import_store
from historical_etl.models import combined_checksum
from historical_etl.store.archive.read import opened_archive
from historical_etl.store.archive.transfer import import_version
from historical_etl.store.layout import Layout
from historical_etl.store.lock import LockToken
from historical_etl.store.manifest_file import parse_manifest, render_manifest
from historical_etl.store.verify.store import verify_store
from historical_etl_tests.scenario import (
    SHORT,
    SYMBOLS,
    ScriptedFetcher,
    current_manifest,
    daily_bytes,
    store,
    stored,
    tree,
)

MIDWAY, LAST = date(2013, 1, 15), date(2013, 2, 15)
POINTER = "manifests/historical_daily.json"


@pytest.fixture(scope="module")
def _filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled") / "data"
    store(root, ScriptedFetcher(SHORT), MIDWAY).run_full_etl(SYMBOLS, SHORT.first, MIDWAY)
    etl = store(root, ScriptedFetcher(SHORT), LAST)
    etl.run_incremental_etl()
    assert current_manifest(etl).version == 3
    return root


@pytest.fixture
def etl(_filled: Path, root: Path) -> HistoricalETL:
    """Three versions over two years; a copy without hard links."""
    shutil.copytree(_filled, root)
    return empty(root)


def empty(folder: Path) -> HistoricalETL:
    return store(folder, ScriptedFetcher(SHORT), LAST)


def flip(path: Path, at: int = 1000) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.chmod(0o644)
    path.write_bytes(data)


def left(folder: Path) -> list[str]:
    """Files below a folder that are anything but the lock's record."""
    return [name for name in tree(folder) if not name.endswith(".lock")] if folder.exists() else []


@dataclass
class FullOnce:
    """A disk that is full at one of the changes to it, but can always delete."""

    moment: int
    seen: int = 0

    def __call__(self, event: str) -> None:
        self.seen += 1
        if self.seen == self.moment + 1 and event not in ("os.remove", "os.rmdir"):
            raise OSError(28, os.strerror(28))

    @property
    def over(self) -> bool:
        """Whether the end was before the moment."""
        return self.seen <= self.moment


# ── export ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [None, 2])
def test_an_exported_folder_is_a_store_of_exactly_that_version(etl, tmp_path, version):
    target = export_store(etl.store.context, tmp_path / "copy", version)
    manifest = current_manifest(etl) if version is None else etl.manifests.load_version(version)
    history = f"manifests/history/{manifest.version:08d}.json"
    assert (target / POINTER).read_bytes() == (target / history).read_bytes()
    assert (target / history).read_bytes() == etl.layout.history_file(manifest.version).read_bytes()
    daily = {f"historical/daily/{partition.year}.parquet" for partition in manifest.partitions}
    assert set(tree(target)) == {POINTER, history, *manifest.named_paths(), *daily}
    for partition in manifest.partitions:
        assert (target / partition.path).samefile(target / "historical" / "daily" / f"{partition.year}.parquet")
    copy = empty(target)
    assert current_manifest(copy) == manifest
    assert copy.query_sql("SELECT count(*) FROM daily_prices").item() == manifest.row_count
    assert verify_store(ManifestManager(target)).ok
    if version is None:
        assert stored(copy).equals(stored(etl))


def test_an_export_shares_no_bytes_with_the_store_and_goes_on_by_itself(etl, tmp_path):
    target = export_store(etl.store.context, tmp_path / "copy")
    path = current_manifest(etl).partitions[0].path
    assert not (target / path).samefile(etl.layout.resolve(path))
    shutil.rmtree(etl.layout.root)
    later = store(target, ScriptedFetcher(SHORT), date(2013, 3, 1))
    assert later.run_incremental_etl().version == 4
    assert verify_store(ManifestManager(target)).findings == ()


def test_an_empty_folder_is_taken_and_any_other_refused(etl, tmp_path):
    (tmp_path / "empty").mkdir()
    assert export_store(etl.store.context, tmp_path / "empty") == tmp_path / "empty"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "file.tar").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dangling.tar").symlink_to(tmp_path / "nowhere")
    before = tree(tmp_path)
    refused = ("empty", "full", "folder.tar", "file.tar", "file", "dangling.tar", "no/where", "x.tar.gz", "x.zip")
    inside = (etl.layout.root / "copy", etl.layout.root / "copy.tar", etl.layout.root)
    for target in (*(tmp_path / name for name in refused), *inside):
        with pytest.raises(ConfigurationError, match="The target"):
            export_store(etl.store.context, target)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
@pytest.mark.parametrize("what", ["year", "ledger"])
def test_a_damaged_file_is_not_exported(etl, tmp_path, name, what):
    manifest = current_manifest(etl)
    path = manifest.partitions[0].path if what == "year" else manifest.ledgers["symbols"][0].path
    flip(etl.layout.resolve(path), 100)
    with pytest.raises(ChecksumMismatchError, match="2012" if what == "year" else "'symbols'") as caught:
        export_store(etl.store.context, tmp_path / name)
    assert "historical-etl verify" in caught.value.todo
    assert str(etl.layout.resolve(path)) == caught.value.where
    etl.layout.resolve(path).unlink()
    with pytest.raises(ChecksumMismatchError, match="is missing"):
        export_store(etl.store.context, tmp_path / name)
    assert list(tmp_path.glob("*copy*")) == []
    assert list(tmp_path.glob(".*copy*")) == []


def test_what_is_not_kept_or_not_there_cannot_be_exported(etl, tmp_path):
    with pytest.raises(ConfigurationError, match="Version 9 is not kept"):
        export_store(etl.store.context, tmp_path / "copy", 9)
    with pytest.raises(HistoricalETLError, match="Nothing was committed yet"):
        export_store(empty(tmp_path / "none").store.context, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_version_is_not_vacuumed_while_it_is_exported(etl, tmp_path, watching):
    """Another writer commits, and keeps nothing it need not keep, as soon as the first file is copied."""
    writer = store(etl.layout.root, ScriptedFetcher(SHORT), date(2013, 3, 1), keep_versions=1, keep_days=0)
    leased = etl.manifests.load_version(2)
    done: list[int] = []

    def commit(event: str) -> None:
        if event == "os.chmod" and not done:
            done.append(0)
            done[0] = writer.run_incremental_etl().version

    with watching(commit):
        target = export_store(etl.store.context, tmp_path / "copy", 2)
    assert done == [4]
    assert current_manifest(empty(target)) == leased
    assert 1 not in etl.manifests.list_versions()


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_a_failing_disk_leaves_nothing_of_an_export_or_all_of_it(etl, tmp_path, watching, name):
    """At many changes to the file system in turn, until an export meets none of them."""
    target = tmp_path / name
    failed = 0
    for moment in (*range(30), *range(30, 1000, 7)):
        disk = FullOnce(moment)
        with watching(disk):
            try:
                export_store(etl.store.context, target)
            except StorageError:
                failed += 1
        if disk.over:
            break
        assert list(tmp_path.glob(".*.tmp")) == []
        if target.exists():
            with opened_archive(target, etl.layout) as archive:
                archive.prove()
            shutil.rmtree(target) if target.is_dir() else target.unlink()
    else:
        pytest.fail("the export never reached its end")
    assert failed > 10
    assert target.exists()


def test_the_same_version_gives_the_same_tar(etl, tmp_path):
    first, second = (
        export_store(etl.store.context, tmp_path / "a.tar"),
        export_store(etl.store.context, tmp_path / "b.tar"),
    )
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(ConfigurationError, match="nothing is overwritten"):
        export_store(etl.store.context, first)


def test_a_tar_unpacked_by_the_usual_tool_is_a_store(etl, tmp_path):
    tar = export_store(etl.store.context, tmp_path / "copy.tar")
    (tmp_path / "there").mkdir()
    subprocess.run(["tar", "xf", str(tar), "-C", str(tmp_path / "there")], check=True)
    assert stored(empty(tmp_path / "there")).equals(stored(etl))
    assert verify_store(ManifestManager(tmp_path / "there")).ok
    assert daily_bytes(empty(tmp_path / "there")) == daily_bytes(etl)


# ── import ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("way", ["folder", "tar", "live", "copied"])
def test_what_was_exported_comes_in_as_the_same_version(etl, tmp_path, way):
    source = etl.layout.root
    if way == "copied":
        shutil.copytree(etl.layout.root, tmp_path / "copied")
        source = tmp_path / "copied"
    elif way != "live":
        source = export_store(etl.store.context, tmp_path / ("copy" if way == "folder" else "copy.tar"))
    new = empty(tmp_path / "new")
    manifest = import_store(new.store.state, source)
    assert (manifest, current_manifest(new)) == (current_manifest(etl), current_manifest(etl))
    assert new.layout.manifest_file().read_bytes() == etl.layout.manifest_file().read_bytes()
    assert new.manifests.list_versions() == [3]
    assert daily_bytes(new) == daily_bytes(etl)
    assert new.catalog.shown_version() == 3
    assert new.cursors() == etl.cursors()
    assert verify_store(new.manifests, rebuild_cursors=lambda _: new.cursors()).findings == ()
    later = store(tmp_path / "new", ScriptedFetcher(SHORT), date(2013, 3, 1))
    assert later.run_incremental_etl().version == 4


def test_a_store_with_other_data_takes_no_import(etl, tmp_path):
    source = export_store(etl.store.context, tmp_path / "copy.tar", 2)
    before = tree(etl.layout.root)
    with pytest.raises(ConfigurationError, match="data in this store, version 3") as caught:
        import_store(etl.store.state, source)
    assert "historical-etl adopt" in caught.value.todo
    assert {k: v for k, v in tree(etl.layout.root).items() if not k.endswith(".lock")} == {
        k: v for k, v in before.items() if not k.endswith(".lock")
    }


def test_an_import_needs_the_lock(etl, tmp_path):
    source = export_store(etl.store.context, tmp_path / "copy")
    manager = ManifestManager(tmp_path / "new")
    with pytest.raises(LockNotHeldError):
        import_version(source, manager, LockToken(dataset="historical_daily", number=1, writer_id="x"))
    assert left(tmp_path / "new") == []


def test_progress_of_an_earlier_life_is_withdrawn(etl, tmp_path):
    new = empty(tmp_path / "new")
    new.layout.progress_folder.mkdir(parents=True)
    stale = etl.layout.progress_file().read_bytes().replace(b"2013-02", b"2013-01")
    new.layout.progress_file().write_bytes(stale)
    import_store(new.store.state, etl.layout.root)
    (entry,) = new.manifests.quarantine.entries()
    assert (entry / new.layout.progress_file().name).read_bytes() == stale
    progress = new.progress()
    assert progress is not None
    assert progress.symbol_last_dates == new.cursors()


def test_what_is_no_store_is_refused(tmp_path, etl):
    (tmp_path / "prices").mkdir()
    (tmp_path / "prices" / "aapl.csv").write_text("date,close,volume\n")
    (tmp_path / "x.tar").write_bytes(b"not a tar" * 1000)
    (tmp_path / "empty.tar").write_bytes(b"")
    compressed = tmp_path / "x.tar.gz"
    with tarfile.open(compressed, "w:gz") as tar:
        tar.add(export_store(etl.store.context, tmp_path / "copy"), arcname="")
    os.mkfifo(tmp_path / "pipe")
    for name in ("prices", "x.tar", "empty.tar", "x.tar.gz", "nowhere", "pipe"):
        with pytest.raises(ConfigurationError):
            import_store(empty(tmp_path / "new").store.state, tmp_path / name)
        assert left(tmp_path / "new") == []


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_every_flipped_byte_of_an_archive_is_noticed(etl, tmp_path, name):
    """Some of each kind of file: nothing of it comes in, or what comes in is what was exported."""
    source = export_store(etl.store.context, tmp_path / name)
    paths = [source] if source.is_file() else [p for p in sorted(source.rglob("*")) if p.is_file()]
    refused = 0
    for path in paths:
        size = path.stat().st_size
        for at in range(0, size, max(1, size // (60 if source.is_file() else 4))):
            flip(path, at)
            new = empty(tmp_path / "new")
            try:
                assert import_store(new.store.state, source) == current_manifest(etl)
                assert verify_store(new.manifests).ok
            except (ConfigurationError, DataQualityError, ManifestCorruptError):
                refused += 1
                assert left(tmp_path / "new") == []
            shutil.rmtree(tmp_path / "new")
            flip(path, at)
    assert refused > 20


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.8, 0.99])
def test_a_tar_that_was_cut_off_leaves_nothing(etl, tmp_path, share):
    source = export_store(etl.store.context, tmp_path / "copy.tar")
    os.truncate(source, int(source.stat().st_size * share))
    new = empty(tmp_path / "new")
    if share == 0.99:  # only the padding at its end is gone
        assert import_store(new.store.state, source) == current_manifest(etl)
        return
    with pytest.raises((ChecksumMismatchError, ConfigurationError)):
        import_store(new.store.state, source)
    assert left(tmp_path / "new") == []


def test_a_failing_disk_leaves_nothing_of_an_import_or_all_of_it(etl, tmp_path, watching):
    """At every change to the file system in turn: the store has no data, or the whole version."""
    source = export_store(etl.store.context, tmp_path / "copy.tar")
    committed = 0
    for moment in range(0, 1000, 11):
        new, disk = empty(tmp_path / "new"), FullOnce(moment)
        try:
            with watching(disk):
                import_store(new.store.state, source)
        except HistoricalETLError:
            manifest = new.manifest()
            committed += manifest is not None
            assert manifest in (None, current_manifest(etl))
            if manifest is None:
                assert daily_bytes(new) == {}
                assert import_store(new.store.state, source) == current_manifest(etl)
            else:
                new.run_incremental_etl()
            assert verify_store(new.manifests).ok
        finally:
            shutil.rmtree(tmp_path / "new", ignore_errors=True)
        if disk.over:
            break
    else:
        pytest.fail("the import never reached its end")
    assert committed > 0


def test_too_little_room_is_reported_before_anything_is_written(etl, tmp_path):
    source = export_store(etl.store.context, tmp_path / "copy.tar")

    class Full:
        used, free = 10, 10

    manager = ManifestManager(tmp_path / "new", disk_usage=lambda _: Full())
    with manager.acquire_lock() as token, pytest.raises(DiskSpaceError):
        import_version(source, manager, token)
    assert left(tmp_path / "new") == []


def test_a_store_with_another_storage_folder_moves_into_one_of_the_same(tmp_path):
    def named(folder: str) -> HistoricalETL:
        return HistoricalETL(
            ScriptedFetcher(SHORT),
            tmp_path / folder / "prices",
            tmp_path / folder / "prices.duckdb",
            clock=store(tmp_path, None, MIDWAY).clock,
        )

    old = named("old")
    old.run_full_etl(SYMBOLS, SHORT.first, MIDWAY)
    source = export_store(old.store.context, tmp_path / "copy.tar")
    assert import_store(named("new").store.state, source) == current_manifest(old)
    assert daily_bytes(named("new")) == daily_bytes(old)
    with pytest.raises(ManifestCorruptError, match=r"'prices/objects/.*', not at 'historical") as caught:
        import_store(empty(tmp_path / "other").store.state, source)
    assert "storage path" in caught.value.todo


# ── a tar that somebody made to do harm ────────────────────────────────────────────────────────────────────────────

Members = list[tuple[tarfile.TarInfo, bytes]]


def members_of(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(m, (tar.extractfile(m) or io.BytesIO()).read() if m.isreg() else b"") for m in tar]


def rewritten(path: Path, change: Callable[[Members], object], form: int = tarfile.GNU_FORMAT) -> None:
    members = members_of(path)
    change(members)
    with tarfile.open(path, "w", format=form) as tar:
        for header, content in members:
            header.size = len(content) if header.isreg() else header.size
            tar.addfile(header, io.BytesIO(content) if header.isreg() else None)


def adding(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "", content: bytes = b"x"):
    def change(members: Members) -> None:
        header = tarfile.TarInfo(name)
        header.type, header.linkname = kind, linkname
        members.append((header, content if kind == tarfile.REGTYPE else b""))

    return change


def altering(start: str, **changes: object):
    def change(members: Members) -> None:
        header = next(header for header, _ in members if header.name.startswith(start))
        for field, value in changes.items():
            setattr(header, field, value)

    return change


def with_pax(members: Members) -> None:
    members[1][0].pax_headers = {"path": "/etc/outside"}


HOSTILE = {
    "out": adding("../outside"),
    "absolute": adding("/tmp/outside"),  # noqa: S108 - never written
    "hidden out": adding("historical/../../outside"),
    "another file": adding("historical/objects/notes.txt"),
    "a settings file": adding(".env"),
    "twice": lambda members: members.append(members[-1]),
    "the manifest twice": lambda members: members.append(members[0]),
    "symlink": adding("historical/daily", tarfile.SYMTYPE, "/etc"),
    "symlink for an object": altering("historical/objects", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "hard link out": adding("historical/daily/2010.parquet", tarfile.LNKTYPE, "/etc/passwd"),
    "daily links elsewhere": altering("historical/daily", linkname="../outside"),
    "device": adding("historical/objects/x", tarfile.CHRTYPE),
    "pipe": adding("historical/objects/x", tarfile.FIFOTYPE),
    "sparse": altering("historical/objects", type=tarfile.GNUTYPE_SPARSE),
    "contiguous": altering("historical/objects", type=tarfile.CONTTYPE),
    "folder": adding("historical/other", tarfile.DIRTYPE),
    "long name": adding("historical/objects/" + "x" * 200),
    "name that is not UTF-8": adding("historical/objects/\udcff"),
    "long link": adding("x", tarfile.SYMTYPE, "y" * 200),
    "no manifest": lambda members: members.pop(0),
    "no history": lambda members: members.pop(1),
    "manifest later": lambda members: members.reverse(),
    "other history": lambda members: members.__setitem__(1, (members[1][0], members[1][1] + b" ")),
    "larger file": lambda members: members.__setitem__(2, (members[2][0], members[2][1] + b"\0")),
    "nothing": lambda members: members.clear(),
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_a_tar_with_anything_else_in_it_is_refused(etl, tmp_path, trick):
    source = export_store(etl.store.context, tmp_path / "copy.tar")
    rewritten(source, HOSTILE[trick])
    before = tree(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        import_store(empty(tmp_path / "new").store.state, source)
    assert caught.value.where is not None
    assert left(tmp_path / "new") == []
    assert {k: v for k, v in tree(tmp_path).items() if not k.endswith(".lock")} == before


def test_headers_that_rename_others_are_refused_before_they_are_read(etl, tmp_path):
    source = export_store(etl.store.context, tmp_path / "copy.tar")
    rewritten(source, with_pax, tarfile.PAX_FORMAT)
    with pytest.raises(ConfigurationError, match="no plain file"):
        import_store(empty(tmp_path / "new").store.state, source)


def test_a_missing_file_is_reported_by_its_year(etl, tmp_path):
    source = export_store(etl.store.context, tmp_path / "copy.tar")
    rewritten(source, lambda members: members.pop(2))
    with pytest.raises(ChecksumMismatchError, match=r"year 2012 .* is missing"):
        import_store(empty(tmp_path / "new").store.state, source)
    assert left(tmp_path / "new") == []


def test_an_archive_may_lack_the_links_and_have_folders(etl, tmp_path):
    """As other tools write them."""

    def change(members: Members) -> None:
        members[:] = [(header, content) for header, content in members if not header.islnk()]
        adding("historical/objects", tarfile.DIRTYPE)(members)

    source = export_store(etl.store.context, tmp_path / "copy.tar")
    rewritten(source, change)
    new = empty(tmp_path / "new")
    assert import_store(new.store.state, source) == current_manifest(etl)
    assert daily_bytes(new) == daily_bytes(etl)


def forged(folder: Path, **changes: object) -> None:
    """A manifest that says something else, with a good checksum of its own."""
    for path in [folder / POINTER, *(folder / "manifests" / "history").glob("*.json")]:
        body = json.loads(path.read_bytes()) | changes
        body.pop("manifest_sha256")
        stated = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
        path.write_bytes(json.dumps({**body, "manifest_sha256": hashlib.sha256(stated).hexdigest()}).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"dataset": "../outside"},
        {"version": 10**9},
        {"file_paths": ["../../etc/passwd"]},
        {"row_count": 1},
        {"start_date": "2001-01-01"},
        {"partitions": [], "file_paths": [], "row_count": 0},
        {"ledgers": {"../x": [{"path": "x", "rows": 1, "checksum": "0" * 64, "size_bytes": 1}]}},
        {"ledgers": {"gaps": [{"path": "/etc/passwd", "rows": 1, "checksum": "0" * 64, "size_bytes": 1}]}},
        {"schema_version": 99},
    ],
)
def test_a_manifest_that_leads_elsewhere_is_refused(etl, tmp_path, changes):
    folder = export_store(etl.store.context, tmp_path / "copy")
    forged(folder, **changes)
    with tarfile.open(tmp_path / "forged.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for path in [folder / POINTER, *sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / POINTER)]:
            if "daily/" not in str(path):
                tar.add(path, arcname=str(path.relative_to(folder)))
    for source in (folder, tmp_path / "forged.tar"):
        with pytest.raises(ManifestCorruptError):
            import_store(empty(tmp_path / "new").store.state, source)
        assert left(tmp_path / "new") == []


def test_files_that_are_no_years_of_prices_are_refused_whatever_their_checksums(etl, tmp_path):
    """An archive that agrees with itself is not yet a store."""
    folder = export_store(etl.store.context, tmp_path / "copy")
    manifest = parse_manifest((folder / POINTER).read_bytes(), folder)
    content = (folder / manifest.partitions[1].path).read_bytes()  # another year's rows
    checksum = hashlib.sha256(content).hexdigest()
    place = Layout(folder).object_file(2012, checksum)
    place.write_bytes(content)
    wrong = manifest.partitions[0].model_copy(
        update={"path": Layout(folder).relative(place), "checksum": checksum, "size_bytes": len(content)}
    )
    partitions = (wrong, *manifest.partitions[1:])
    changed = manifest.model_copy(
        update={
            "partitions": partitions,
            "file_paths": tuple(p.path for p in partitions),
            "checksum": combined_checksum(p.checksum for p in partitions),
        }
    )
    for path in (folder / POINTER, Layout(folder).history_file(3)):
        path.write_bytes(render_manifest(changed))
    with pytest.raises(DataQualityError, match="2012: it"):
        import_store(empty(tmp_path / "new").store.state, folder)
    assert left(tmp_path / "new") == []


def test_where_no_hard_links_are_possible_copies_serve(etl, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, os.strerror(1))

    monkeypatch.setattr(os, "link", refuse)
    folder, tar = (
        export_store(etl.store.context, tmp_path / "copy"),
        export_store(etl.store.context, tmp_path / "copy.tar"),
    )
    assert daily_bytes(empty(folder)) == daily_bytes(etl)
    assert verify_store(ManifestManager(folder)).ok
    assert import_store(empty(tmp_path / "new").store.state, tar) == current_manifest(etl)
    with pytest.raises(FileExistsError):
        place_new(folder / POINTER, tar)
    assert (folder / POINTER).exists()
