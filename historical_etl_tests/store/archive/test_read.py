"""Import of what agrees with itself and is no store: each kind of file is judged before any of it counts."""

import tarfile
import tracemalloc

import pytest

from historical_etl import ConfigurationError, DataQualityError, ManifestCorruptError, ManifestManager
from historical_etl.durable import sha256_of
from historical_etl.store.archive.read import manifest_bytes, opened_archive
from historical_etl.store.archive.transfer import export_version, import_version
from historical_etl.store.layout import Layout
from historical_etl.store.leases import unleased
from historical_etl.store.manifest_file import parse_manifest, render_manifest
from historical_etl.store.verify.store import verify_store
from historical_etl_tests.store.small import Hand, commit, corrections


def taken(manager: ManifestManager, source):
    with manager.acquire_lock() as token:
        return import_version(source, manager, token)


@pytest.fixture
def exported(tmp_path):
    manager = ManifestManager(tmp_path / "data", clock=Hand())
    made = commit(manager, {2019: 1}, {"corrections": corrections(1)})
    return made, export_version(manager.layout, made, tmp_path / "copy")


@pytest.mark.parametrize("what", ["other rows", "no parquet"])
def test_a_ledger_that_is_not_what_the_manifest_says_is_refused(exported, tmp_path, what):
    made, folder = exported
    layout = Layout(folder)
    (file,) = made.ledgers["corrections"]
    if what == "no parquet":
        path = layout.resolve(file.path)
        path.chmod(0o644)
        path.write_bytes(b"no parquet")
        checksum = sha256_of(path)
        path = path.rename(layout.ledger_file("corrections", checksum))
        size = path.stat().st_size
        changed = file.model_copy(update={"path": layout.relative(path), "checksum": checksum, "size_bytes": size})
    else:
        changed = file.model_copy(update={"rows": 2})
    content = render_manifest(made.model_copy(update={"ledgers": {"corrections": (changed,)}}))
    for path in (layout.manifest_file(), layout.history_file(1)):
        path.write_bytes(content)
    new = ManifestManager(tmp_path / "new", clock=Hand())
    with pytest.raises(DataQualityError, match=r"^1 file\(s\).*ledger corrections: its rows"):
        taken(new, folder)
    assert new.load_manifest() is None
    assert list(new.layout.objects.iterdir()) == list(new.layout.ledgers.iterdir()) == []


def test_a_ledger_of_a_name_that_no_store_has_is_refused(exported, tmp_path):
    """Though its file is there, at the place that such a ledger would have."""
    made, folder = exported
    layout = Layout(folder)
    (file,) = made.ledgers["corrections"]
    path = layout.resolve(file.path)
    path = path.rename(layout.ledger_file("Corrections", file.checksum))
    changed = file.model_copy(update={"path": layout.relative(path)})
    content = render_manifest(made.model_copy(update={"ledgers": {"Corrections": (changed,)}}))
    for place in (layout.manifest_file(), layout.history_file(1)):
        place.write_bytes(content)
    with pytest.raises(ManifestCorruptError, match="ledger 'Corrections'"):
        taken(ManifestManager(tmp_path / "new", clock=Hand()), folder)


@pytest.mark.parametrize("year", [999, 10_000])
def test_a_year_that_no_file_can_bear_is_refused(exported, tmp_path, year):
    made, folder = exported
    layout = Layout(folder)
    (partition,) = made.partitions
    path = layout.resolve(partition.path).rename(layout.object_file(year, partition.checksum))
    changed = partition.model_copy(update={"year": year, "path": layout.relative(path)})
    content = render_manifest(made.model_copy(update={"partitions": (changed,), "file_paths": (changed.path,)}))
    for place in (layout.manifest_file(), layout.history_file(1)):
        place.write_bytes(content)
    with pytest.raises(ManifestCorruptError, match=f"has the year {year}"):
        taken(ManifestManager(tmp_path / "new", clock=Hand()), folder)


@pytest.mark.parametrize(("version", "ok"), [(0, False), (10**8 - 1, True), (10**8, False)])
def test_a_version_has_at_most_eight_digits(exported, tmp_path, version, ok):
    made, folder = exported
    layout = Layout(folder)
    content = render_manifest(made.model_copy(update={"version": version}))
    for place in (layout.manifest_file(), layout.history_file(version)):
        place.write_bytes(content)
    new = ManifestManager(tmp_path / "new", clock=Hand())
    if ok:
        assert taken(new, folder).version == version
        return
    with pytest.raises(ManifestCorruptError, match="is not one of historical_daily"):
        taken(new, folder)


def test_a_store_that_is_imported_from_keeps_the_version_meanwhile(tmp_path):
    """It may be written by others, who would vacuum it."""
    manager = ManifestManager(tmp_path / "data", clock=Hand())
    commit(manager, {2019: 1})
    commit(manager, {2019: 2})
    with opened_archive(manager.layout.root, Layout(tmp_path / "new")) as archive:
        assert archive.manifest.version == 2
        with unleased(manager.layout, [1, 2]) as free:
            assert set(free) == {1}
    with unleased(manager.layout, [1, 2]) as free:
        assert set(free) == {1, 2}


def test_a_folder_that_somebody_has_packed_comes_in(exported, tmp_path):
    """With its folders, and links for names of one file; the manifest first and daily/ last, as it must be."""
    made, folder = exported
    pointer, daily = Layout(folder).manifest_file(), Layout(folder).daily
    others = sorted((path for path in folder.rglob("*") if path != pointer), key=lambda p: (p.parent == daily, p))
    members = [pointer, *others]
    assert sum(path.is_dir() for path in members) > 3
    with tarfile.open(tmp_path / "packed.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for path in members:
            tar.add(path, arcname=str(path.relative_to(folder)), recursive=False)
    new = ManifestManager(tmp_path / "new", clock=Hand())
    assert taken(new, tmp_path / "packed.tar") == made
    assert verify_store(new).ok


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_with_a_huge_body_is_refused_before_its_body_is_read(tmp_path, kind):
    """`tarfile` alone reads such a body whole, whatever its size."""
    path, size = tmp_path / "huge.tar", 128 << 20
    header = tarfile.TarInfo("huge")
    header.type, header.size = kind, size
    with path.open("wb") as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT))
        stream.truncate(stream.tell() + size)  # a hole: it takes no room on the disk
    new = ManifestManager(tmp_path / "new", clock=Hand())
    tracemalloc.start()
    try:
        with pytest.raises(ConfigurationError, match="'huge' is no plain file"):
            taken(new, path)
        assert tracemalloc.get_traced_memory()[1] < size / 8
    finally:
        tracemalloc.stop()
    assert new.load_manifest() is None


def test_a_chain_of_sparse_headers_is_refused_at_the_first(tmp_path):
    """Each 512 bytes of it say that more of them follow; `tarfile` alone keeps a list of all."""
    path = tmp_path / "sparse.tar"
    header = tarfile.TarInfo("sparse")
    header.type = tarfile.GNUTYPE_SPARSE
    first = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    first[482] = 1  # more follow
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    path.write_bytes(first + (b"00000000001\0" * 42 + b"\1" + b"\0" * 7) * 1000)
    with pytest.raises(ConfigurationError, match="'sparse' is no plain file"):
        taken(ManifestManager(tmp_path / "new", clock=Hand()), path)


def test_a_manifest_whose_files_are_lost_is_exported_as_it_is_known(tmp_path):
    manager = ManifestManager(tmp_path / "data", clock=Hand())
    made = commit(manager, {2019: 1})
    manager.layout.history_file(1).unlink()
    manager.layout.manifest_file().write_bytes(b"garbage")
    content = manifest_bytes(manager.layout, made)
    assert parse_manifest(content, tmp_path) == made


def test_what_was_exported_comes_in_once(exported, tmp_path):
    """The very version may come again, as it does where an import was broken off after its commit; another may not."""
    made, folder = exported
    new = ManifestManager(tmp_path / "new", clock=Hand())
    assert taken(new, folder) == made
    before = {path: path.stat() for path in new.layout.root.rglob("*.parquet")}
    assert taken(new, folder) == made
    assert {path: path.stat() for path in new.layout.root.rglob("*.parquet")} == before
    commit(new, {2019: 2})
    with pytest.raises(ConfigurationError, match="data in this store, version 2"):
        taken(new, folder)
