"""Another process that takes the writer lock: says so, holds it until its stdin closes, or counts under it."""

import fcntl
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from historical_etl.errors import LockTimeoutError
from historical_etl.store.manifest import ManifestManager


def long_ago() -> datetime:
    return datetime(2001, 1, 1, tzinfo=UTC)


def hold(root: str) -> None:
    with ManifestManager(root, clock=long_ago).acquire_lock(writer_id="the holder", timeout_seconds=0):
        print("held", flush=True)
        sys.stdin.read()


def hold_without_record(root: str) -> None:
    """As a writer that has just created the file and took the lock, but has not yet signed."""
    with ManifestManager(root).layout.lock_file().open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        print("held", flush=True)
        sys.stdin.read()


def count(root: str) -> None:
    """Read, add one, write back: loses counts wherever two are inside at once."""
    counter = Path(root) / "count"
    for _ in range(25):
        with ManifestManager(root).acquire_lock(writer_id="a counter", timeout_seconds=60) as token:
            seen = int(counter.read_text())
            counter.write_text(str(seen + 1))
            with (Path(root) / "tokens").open("a") as tokens:
                tokens.write(f"{token.number}\n")


def try_once(root: str) -> None:
    with suppress(LockTimeoutError), ManifestManager(root).acquire_lock(timeout_seconds=0):
        print("got it", flush=True)


if __name__ == "__main__":
    {"hold": hold, "bare": hold_without_record, "count": count, "try": try_once}[sys.argv[1]](sys.argv[2])
