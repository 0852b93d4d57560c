"""Transactions by themselves: what a commit records, what makes a version, what is proven, and the way back."""

import stat
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ChecksumMismatchError, ManifestManager, SyncManifest
from historical_etl.durable import temp_name
from historical_etl.models import combined_checksum
from historical_etl.store.ledger_schemas import empty_ledger
from historical_etl.store.ledgers import read_ledger
from historical_etl.store.parquet.month_blocks import encode_block
from historical_etl.store.quarantine.entries import read_entries
from historical_etl.store.recovery import recover
from historical_etl.store.transaction import Provenance, Transaction
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import tree
from historical_etl_tests.store.small import KEEP_ALL, START, Hand, bars, commit, corrections, only, spoil


@pytest.fixture
def clock() -> Hand:
    return Hand()


@pytest.fixture
def manager(root, clock) -> ManifestManager:
    return ManifestManager(root, clock=clock)


def gaps(symbol: str) -> pl.DataFrame:
    """A state with a row."""
    return pl.concat([empty_ledger("open_gaps"), pl.DataFrame({"symbol": [symbol]})], how="diagonal")


def changed(before: dict[str, bytes], manager: ManifestManager) -> set[str]:
    after = tree(manager.layout.root)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} - {
        "manifests/historical_daily.lock"
    }


def test_a_commit_records_what_it_holds_and_whence(manager, clock):
    first = commit(manager, {2019: 1})
    clock.later(hours=1)
    made = commit(manager, {2017: 1, 2018: 2})
    assert made.model_dump(exclude={"partitions", "checksum", "file_paths"}) == {
        "dataset": "historical_daily",
        "version": 2,
        "previous_checksum": first.checksum,
        "sync_timestamp": START + timedelta(hours=1),
        "clock_timestamp": None,
        "start_date": date(2017, 1, 4),
        "end_date": date(2019, 1, 5),
        "row_count": 6,
        "checksum_algorithm": "sha256",
        "schema_version": 1,
        "query_hash": "hash",
        "validation_status": "passed",
        "quarantine_path": None,
        "provider": "vendor",
        "provider_version": "1",
        "adjustment": "splits",
        "calendar": "XNYS",
        "writer_id": "historical_etl",
        "ledgers": {},
    }
    assert [p.year for p in made.partitions] == [2017, 2018, 2019]
    assert made.checksum == combined_checksum(p.checksum for p in made.partitions)
    assert made.file_paths == tuple(p.path for p in made.partitions)
    path = manager.layout.resolve(only(made, 2018).path)
    assert only(made, 2018).size_bytes == path.stat().st_size
    assert only(made, 2018).writer == f"polars {pl.__version__}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert pl.read_parquet(path).equals(bars(2018, 2))


def test_a_commit_without_rows_has_the_provenance_of_the_version_before(manager):
    made = commit(manager, {2019: 1})
    assert Provenance.of(made) == Provenance("vendor", "1", "splits", "XNYS", "hash")
    assert Provenance.of(None) == Provenance("", "", "", "", "")


def test_the_same_years_again_are_no_version_and_no_other_file(manager):
    made = commit(manager, {2018: 1, 2019: 1})
    before = tree(manager.layout.root)
    inode = manager.layout.resolve(only(made).path).stat().st_ino
    assert commit(manager, {2019: 1}) == made
    assert changed(before, manager) == set()
    assert manager.layout.resolve(only(made).path).stat().st_ino == inode


def test_the_same_year_again_makes_a_damaged_or_missing_object_good(manager):
    made = commit(manager, {2018: 1, 2019: 1})
    path = manager.layout.resolve(only(made).path)
    good = spoil(path)
    assert commit(manager, {2019: 1}) == made
    assert path.read_bytes() == good
    assert manager.layout.daily_file(2019).samefile(path)
    path.unlink()
    manager.layout.daily_file(2019).unlink()
    assert commit(manager, {2019: 1}) == made
    assert manager.layout.daily_file(2019).samefile(path)


def test_nothing_at_all_is_no_version(manager):
    with manager.acquire_lock() as token:
        transaction = Transaction(manager, token)
        assert (transaction.base, transaction.version) == (None, 1)
        assert transaction.stored_blocks(2019) == []
        assert transaction.commit(Provenance(), {"corrections": corrections(1)}) is None
    assert manager.list_versions() == []
    assert not manager.layout.ledgers.exists()


def test_ledgers_alone_make_a_version_and_what_accompanies_them_does_not(manager):
    commit(manager, {2019: 1})
    with manager.acquire_lock() as token:
        assert Transaction(manager, token).commit(Provenance(), None, {"corrections": corrections(1)}) is not None
    assert manager.list_versions() == [1]
    with manager.acquire_lock() as token:
        made = Transaction(manager, token).commit(
            Provenance(), {"open_gaps": gaps("AAA")}, {"corrections": corrections(1)}
        )
    assert made is not None
    assert (made.version, set(made.ledgers)) == (2, {"open_gaps", "corrections"})
    assert read_ledger(manager.layout, made, "corrections").height == 1


def test_stored_blocks_are_those_of_the_version_it_builds_on(manager):
    commit(manager, {2018: 1, 2019: 2})
    with manager.acquire_lock() as token:
        transaction = Transaction(manager, token)
        assert transaction.version == 2
        blocks = transaction.stored_blocks(2019)
        assert [block.read().equals(bars(2019, 2)) for block in blocks] == [True]
        assert transaction.stored_blocks(2019) is blocks, "read once"
        assert transaction.stored_blocks(2017) == []


def test_damaged_blocks_are_refused_and_a_copy_is_kept(manager):
    made = commit(manager, {2019: 1})
    path = manager.layout.resolve(only(made).path)
    spoil(path)
    with manager.acquire_lock() as token:
        transaction = Transaction(manager, token)
        with pytest.raises(ChecksumMismatchError) as caught:
            transaction.stored_blocks(2019)
    (entry,) = read_entries(manager.layout)
    assert caught.value.__notes__ == [Saying("copy", entry.path)]
    assert entry.reason == Saying(only(made).checksum, "version 1")
    assert (entry.path / path.name).read_bytes() == path.read_bytes()
    path.unlink()
    with manager.acquire_lock() as token, pytest.raises(ChecksumMismatchError, match="missing"):
        Transaction(manager, token).stored_blocks(2019)
    assert len(read_entries(manager.layout)) == 1


def test_damaged_ledger_files_can_be_left_out_of_the_next_version(manager):
    made = commit(manager, {2019: 1}, {"corrections": corrections(1), "open_gaps": gaps("AAA")})
    (file,) = made.ledgers["corrections"]
    with manager.acquire_lock() as token:
        transaction = Transaction(manager, token)
        transaction.forget([file.path])
        after = transaction.commit(Provenance())
    assert after is not None
    assert (after.version, set(after.ledgers)) == (2, {"open_gaps"})


@pytest.mark.parametrize("what", ["other bytes of the same size", "more bytes, whose footer is right"])
def test_what_does_not_read_back_is_removed(manager, monkeypatch, what):
    made = commit(manager, {2019: 1})
    replace = Path.replace

    def spoiling(path: Path, target: Path) -> Path:
        if target.parent == manager.layout.objects:
            content = path.read_bytes()
            path.chmod(0o644)
            path.write_bytes(bytes(len(content)) if "same" in what else b"more" + content)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", spoiling)
    with pytest.raises(ChecksumMismatchError, match="read back"):
        commit(manager, {2019: 2})
    assert [path.name for path in manager.layout.objects.iterdir()] == [Path(only(made).path).name]
    assert manager.load_manifest() == made


# ── the way back ───────────────────────────────────────────────────────────────────────────────────────────────────


def back_to(manager: ManifestManager, version: int) -> SyncManifest:
    with manager.acquire_lock(writer_id="me") as token:
        transaction = Transaction(manager, token, KEEP_ALL)
        return transaction.restore(manager.load_version(version), {"corrections": corrections(9)})


def test_an_older_version_is_current_again_as_a_new_one(manager, clock):
    first = commit(manager, {2018: 1, 2019: 1}, {"open_gaps": gaps("AAA")})
    second = commit(manager, {2017: 1, 2019: 2}, {"open_gaps": gaps("BBB"), "corrections": corrections(1)})
    clock.later(hours=1)
    made = back_to(manager, 1)
    assert made.model_dump(exclude={"version", "previous_checksum", "sync_timestamp", "ledgers", "writer_id"}) == (
        first.model_dump(exclude={"version", "previous_checksum", "sync_timestamp", "ledgers", "writer_id"})
    )
    assert (made.version, made.previous_checksum, made.writer_id) == (3, second.checksum, "me")
    assert made.sync_timestamp == START + timedelta(hours=1)
    assert made.ledgers["open_gaps"] == first.ledgers["open_gaps"], "a state is that of the older version"
    assert read_ledger(manager.layout, made, "corrections").get_column("old").to_list() == [1.0, 9.0], "a log goes on"
    assert sorted(path.name for path in manager.layout.daily.iterdir()) == ["2018.parquet", "2019.parquet"]
    assert manager.layout.daily_file(2019).samefile(manager.layout.resolve(only(first).path))
    assert read_entries(manager.layout) == []
    assert manager.load_manifest() == made


@pytest.mark.parametrize("what", ["prices", "ledger"])
def test_a_damaged_version_does_not_come_back(manager, what):
    first = commit(manager, {2019: 1}, {"open_gaps": gaps("AAA")})
    commit(manager, {2019: 2}, {"open_gaps": gaps("BBB")})
    spoil(manager.layout.resolve(only(first).path if what == "prices" else first.ledgers["open_gaps"][0].path))
    before = tree(manager.layout.root)
    with pytest.raises(ChecksumMismatchError):
        back_to(manager, 1)
    assert changed(before, manager) == set()


# ── recovery ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_temps_go_from_every_folder_that_is_written_under_the_lock(manager):
    commit(manager, {2019: 1}, {"corrections": corrections(1)})
    layout = manager.layout
    folders = (layout.objects, layout.ledgers, layout.daily, layout.manifests, layout.history_folder())
    temps = [temp_name(folder / "x") for folder in (*folders, layout.progress_folder)]
    others = [folder / name for folder in folders for name in ("visible.tmp", ".hidden")]
    for path in (*temps, *others):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"torn")
    with manager.acquire_lock() as token:
        recover(manager, token)
    assert not any(path.exists() for path in temps)
    assert all(path.exists() for path in others)


def test_recovery_links_the_current_version_and_withdraws_other_years(manager):
    made = commit(manager, {2018: 1, 2019: 1})
    layout = manager.layout
    layout.daily_file(2018).rename(layout.daily_file(2017))
    with manager.acquire_lock() as token:
        assert recover(manager, token) == made
    assert sorted(path.name for path in layout.daily.iterdir()) == ["2018.parquet", "2019.parquet"]
    assert layout.daily_file(2018).samefile(layout.resolve(only(made, 2018).path))


def test_a_damaged_object_is_not_linked_by_recovery(manager):
    made = commit(manager, {2019: 1})
    daily = manager.layout.daily_file(2019)
    daily.unlink()
    daily.write_bytes(manager.layout.resolve(only(made).path).read_bytes())
    good = spoil(manager.layout.resolve(only(made).path))
    with manager.acquire_lock() as token:
        recover(manager, token)
    assert daily.read_bytes() == good


def test_a_year_is_written_under_the_number_of_its_rows_and_bytes(manager):
    with manager.acquire_lock() as token:
        transaction = Transaction(manager, token)
        frame = bars(2019)
        written = transaction.write_year(2019, [encode_block(frame)], 7)
        assert (written.year, written.rows, written.symbols) == (2019, 2, 7)
        assert (written.first_session, written.last_session) == (date(2019, 1, 4), date(2019, 1, 5))
        assert manager.load_manifest() is None, "not yet committed"
