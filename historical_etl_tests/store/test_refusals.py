"""What the operating system refuses is reported in our words, wherever a file of the store is opened.

The refusal is real: the process may open no further file (EMFILE), which root is not spared either.
"""

import errno
import os
import resource
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from historical_etl import ETLProgressError, ManifestManager, StorageError
from historical_etl.models import ETLProgressManifest
from historical_etl.store.archive.read import opened_archive
from historical_etl.store.archive.transfer import export_version
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_ledger
from historical_etl.store.progress import forget_progress, save_progress
from historical_etl.store.quarantine.entries import read_entries
from historical_etl.store.transaction import Transaction
from historical_etl.store.verified_files import verified_path
from historical_etl.store.verify.store import verify_store
from historical_etl_tests.store.small import START, Hand, commit, corrections, only


@contextmanager
def no_file_can_be_opened() -> Generator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path("/dev/null").open("rb") as lowest:
        free = lowest.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Store:
    """A store with one of everything."""

    def __init__(self, root: Path) -> None:
        self.manager = ManifestManager(root / "data", clock=Hand())
        self.layout = self.manager.layout
        self.made = commit(self.manager, {2019: 1}, {"corrections": corrections(1)})
        self.progress = ETLProgressManifest(last_updated=START)
        save_progress(self.layout, self.progress)
        self.manager.quarantine.copy_bytes("x", b"bytes", "why", "d")
        (self.entry,) = read_entries(self.layout)
        self.copy = export_version(self.layout, self.made, root / "copy")

    def open_archive(self) -> None:
        with opened_archive(self.copy, Layout(self.copy.with_name("new"))):
            pass


DOORS: dict[str, Callable[[Store], object]] = {
    "a ledger": lambda store: read_ledger(store.layout, store.made, "corrections"),
    "an archive": Store.open_archive,
    "the quarantine": lambda store: read_entries(store.layout),
    "a quarantined file": lambda store: store.entry.is_intact(),
    "the versions": lambda store: store.manager.list_versions(),
    "a year": lambda store: verified_path(store.layout, only(store.made), anew=True),
    "all of it": lambda store: verify_store(store.manager),
    "progress that is withdrawn": lambda store: forget_progress(store.layout),
    "progress that is saved": lambda store: save_progress(store.layout, store.progress),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_file_that_cannot_be_opened_is_reported_in_our_words(tmp_path, door):
    DOORS[door](Store(tmp_path / "sound"))  # nothing is imported below the limit
    store = Store(tmp_path / "refused")
    with (
        no_file_can_be_opened(),
        pytest.raises((StorageError, ETLProgressError), match="Too many open files") as caught,
    ):
        DOORS[door](store)
    assert caught.value.todo


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "no link")


def test_daily_that_cannot_be_made_for_a_rollback_is_reported_in_our_words(tmp_path, monkeypatch):
    manager = ManifestManager(tmp_path, clock=Hand())
    first = commit(manager, {2018: 1})
    commit(manager, {2019: 1})
    with manager.acquire_lock() as token:
        transaction = Transaction(manager, token)
        monkeypatch.setattr(os, "symlink", refuse)
        with pytest.raises(StorageError, match=r"^no link while linking daily/"):
            transaction.restore(first, {})
