"""The writer lock between real processes: it excludes, names its holder, and dies with it."""

import errno
import json
import logging
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from historical_etl import LockNotHeldError, LockTimeoutError, ManifestManager, StorageError
from historical_etl.store.lock import current_holder


def start(task: str, root) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "historical_etl_tests.store.holder", task, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def held_elsewhere(root, task: str = "hold"):
    """Another process holds the lock for the block; yields it."""
    with start(task, root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def manager(root) -> ManifestManager:
    return ManifestManager(root)


def test_stale_lock_recovery(root, manager, caplog):
    """A killed holder's lock is free at once; its record is reported and replaced, and the token goes on."""
    with held_elsewhere(root) as process:
        pass
    record = current_holder(manager.layout.lock_file())
    assert record is not None
    assert (record.pid, record.writer_id, record.released) == (process.pid, "the holder", None)

    inode = manager.layout.lock_file().stat().st_ino
    with caplog.at_level(logging.WARNING), manager.acquire_lock(writer_id="the next", timeout_seconds=0) as token:
        assert token.number == record.token + 1
        holder = current_holder(manager.layout.lock_file())
        assert holder is not None
        assert (holder.writer_id, holder.pid, holder.token) == ("the next", os.getpid(), token.number)
    assert f"the holder (pid {process.pid}" in caplog.text
    assert "ended without releasing" in caplog.text
    assert manager.layout.lock_file().stat().st_ino == inode, "another file under the name would be another lock"


def test_what_a_writer_left_that_did_not_end_well_is_made_durable_first(root, manager, monkeypatch):
    """Its last rename may be seen and not be durable: whoever builds on it syncs the folders before."""
    synced: list[object] = []
    monkeypatch.setattr("historical_etl.store.manifest.fsync_folder", synced.append)

    def folders_synced_by_the_next_writer() -> int:
        synced.clear()
        with manager.acquire_lock():
            pass
        return len(synced)

    assert folders_synced_by_the_next_writer() == 0, "it is the first"
    assert folders_synced_by_the_next_writer() == 0
    with pytest.raises(ZeroDivisionError), manager.acquire_lock():
        raise ZeroDivisionError
    assert folders_synced_by_the_next_writer() > 0
    with held_elsewhere(root):
        pass
    assert folders_synced_by_the_next_writer() > 0, "it was killed"
    manager.layout.lock_file().write_bytes(b"torn")
    assert folders_synced_by_the_next_writer() > 0
    assert {root.parent, manager.layout.manifests, manager.layout.daily} <= set(synced)


def test_two_processes_exclude_each_other_and_the_loser_hears_who_won(root, manager):
    with held_elsewhere(root) as process:
        with pytest.raises(LockTimeoutError) as caught, manager.acquire_lock(timeout_seconds=0.1):
            pass
        message = str(caught.value)
        assert f"the holder (pid {process.pid} on " in message
        assert "waited 0.1 s" in message
        assert caught.value.retryable
        assert caught.value.todo
    with manager.acquire_lock(timeout_seconds=0):
        pass


def test_age_never_breaks_a_live_lock(root, manager):
    """The holder's record says 2001; it lives, so it holds."""
    with held_elsewhere(root):
        with (
            pytest.raises(LockTimeoutError, match="since 2001-01-01 00:00:00 UTC"),
            manager.acquire_lock(timeout_seconds=0),
        ):
            pass
        os.utime(manager.layout.lock_file(), (0, 0))
        with pytest.raises(LockTimeoutError), manager.acquire_lock(timeout_seconds=0):
            pass


def test_an_empty_lock_file_is_not_stolen_while_it_is_held(root, manager):
    with manager.acquire_lock():
        pass
    with held_elsewhere(root, "bare"):
        assert manager.layout.lock_file().stat().st_size == 0
        with pytest.raises(LockTimeoutError, match="an unknown holder"), manager.acquire_lock(timeout_seconds=0):
            pass


@pytest.mark.parametrize("content", [b"", b"garbage", b"\xff\xfe", b"{}"])
def test_an_unreadable_record_that_nobody_holds_is_replaced(manager, content):
    manager.layout.manifests.mkdir(parents=True)
    manager.layout.lock_file().write_bytes(content)
    with manager.acquire_lock(timeout_seconds=0) as token:
        manager.check_token(token)


def test_waiting_ends_when_the_holder_does(root, manager):
    with held_elsewhere(root) as process:
        assert process.stdin is not None
        process.stdin.close()
        with manager.acquire_lock(timeout_seconds=20):
            assert process.wait(20) == 0
    record = json.loads(manager.layout.lock_file().read_bytes())
    assert record["released"] is not None


def test_three_processes_racing_for_a_dead_holders_lock_lose_no_count(root, manager):
    with held_elsewhere(root):
        (root / "count").write_text("0")
    racers = [start("count", root) for _ in range(3)]
    for racer in racers:
        with racer:
            assert racer.wait(60) == 0
    assert (root / "count").read_text() == "75"
    tokens = [int(line) for line in (root / "tokens").read_text().split()]
    assert tokens == list(range(2, 77)), "each holder got the next token, in the order in which they held"


def test_another_process_cannot_have_it_meanwhile(root, manager):
    with manager.acquire_lock(), start("try", root) as process:
        assert process.communicate()[0] == ""
        assert process.returncode == 0
    with start("try", root) as process:
        assert process.communicate()[0] == "got it\n"


def test_the_same_thread_waits_for_itself_and_gives_up(root, manager):
    with manager.acquire_lock(writer_id="outer"):
        for other in (manager, ManifestManager(root)):
            with pytest.raises(LockTimeoutError, match="outer"), other.acquire_lock(timeout_seconds=0.1):
                pass


def test_an_error_inside_is_no_death(manager, caplog):
    """A refused run releases the lock as any other; the next writer hears of no dead one."""
    with pytest.raises(ValueError, match="refused"), manager.acquire_lock():
        raise ValueError("refused")
    with caplog.at_level(logging.WARNING), manager.acquire_lock(timeout_seconds=0) as token:
        assert token.number == 2
    assert caplog.text == ""


def test_a_token_is_worth_nothing_after_its_block(manager):
    with manager.acquire_lock() as token:
        manager.check_token(token)
    with pytest.raises(LockNotHeldError):
        manager.check_token(token)
    with manager.acquire_lock() as later:
        manager.check_token(later)
        with pytest.raises(LockNotHeldError, match="acquire_lock"):
            manager.check_token(token)


def test_a_token_is_worth_nothing_for_another_manager_or_dataset(root, manager):
    with manager.acquire_lock() as token:
        with pytest.raises(LockNotHeldError):
            ManifestManager(root).check_token(token)
        with pytest.raises(LockNotHeldError):
            manager.check_token(token, "another_dataset")


def test_a_token_overtaken_on_disk_is_refused(manager):
    """Fencing: whatever let another writer in, the older one can no longer save."""
    with manager.acquire_lock() as token:
        holder = current_holder(manager.layout.lock_file())
        assert holder is not None
        newer = holder.model_copy(update={"token": token.number + 1})
        manager.layout.lock_file().write_text(newer.model_dump_json())
        with pytest.raises(LockNotHeldError):
            manager.check_token(token)


def test_datasets_have_locks_of_their_own(manager):
    with manager.acquire_lock("one", timeout_seconds=0) as one, manager.acquire_lock("two", timeout_seconds=0) as two:
        assert (one.dataset, two.dataset) == ("one", "two")


def test_a_lock_file_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "manifests").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="taking the writer lock"), ManifestManager(tmp_path).acquire_lock():
        pass


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSYS, "no kernel locks"), (errno.ENOLCK, "no kernel locks"), (errno.EIO, "taking")]
)
def test_a_file_system_without_kernel_locks_is_refused(manager, monkeypatch, number, words):
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(StorageError, match=words), manager.acquire_lock():
        pass
