"""Many at once: writers and readers in processes of their own on one store, some of them killed and replaced.

Every read is some committed version, whoever reads it and however; versions never go back; nobody waits longer than
the lock's time limit; what was acknowledged is there in the end, and nothing else is left.
"""

import multiprocessing
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import pytest

from historical_etl_tests.proofs.crash.crowd import LOCK_SECONDS, SYMBOLS, Report, crowded, read, write
from historical_etl_tests.proofs.crash.process import TIMEOUT_SECONDS
from historical_etl_tests.shares import number_of

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["historical_etl_tests.proofs.crash.crowd", "exchange_calendars"])

WRITERS, READERS = 8, 8
#: What a busy machine may add to a wait, in seconds.
GRACE = 240
Work = Callable[[Path, int, int, float, Connection], None]


@dataclass
class Completeness:
    """What all have reported so far; of each version only its checksums."""

    versions: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    acknowledged: set[str] = field(default_factory=set[str])
    done: Counter[str] = field(default_factory=Counter[str])
    unplaced: list[Report] = field(default_factory=list[Report])
    pids: set[int] = field(default_factory=set[int])
    longest: float = 0
    turns: int = 0
    kills: int = 0
    placed: int = 0

    def hear(self, report: Report) -> None:
        assert report.kind != "failed", report.text
        self.done[report.kind] += 1
        self.longest = max(self.longest, *report.seconds, 0)
        self.turns = max(self.turns, len(report.seconds))
        assert self.longest < LOCK_SECONDS + GRACE, report
        if report.name:
            self.acknowledged.add(report.name)
        if report.kind == "waited":
            named = re.search(r"pid (\d+) on", report.text)
            assert named, report.text
            assert int(named[1]) in self.pids, "it names none of those that write here"
        if report.rows and report.versions[0] == report.versions[1]:
            self._same(report)
        elif report.rows:
            self.unplaced = [other for other in (*self.unplaced, report) if not self._place(other)][-1000:]

    def _same(self, report: Report) -> None:
        rows, files = self.versions.setdefault(report.versions[0], (report.rows, report.files))
        assert rows == report.rows, f"{report.what} read other rows of version {report.versions[0]} than others did"
        assert not files or not report.files or files == report.files, report
        self.versions[report.versions[0]] = rows, files or report.files

    def _place(self, report: Report) -> bool:
        """Whether a read whose version is one of several is found to be one of them."""
        several = range(report.versions[0], report.versions[1] + 1)
        if any(version in self.versions and self.versions[version][0] == report.rows for version in several):
            self.placed += 1
            return True
        assert any(version not in self.versions for version in several), f"{report.what} read what was never committed"
        return False

    def __str__(self) -> str:
        return (
            f"{self.done['wrote']:,} writes, {len(self.acknowledged):,} of them commits that were acknowledged, "
            f"{self.done['read']:,} reads of {len(self.versions):,} versions, {self.done['gone']:,} asked for what was "
            f"dropped, {self.kills:,} kills, {self.done['waited']:,} gave up waiting, "
            f"the longest wait took {self.longest:.1f} s, one writer took the lock {self.turns} times for one thing"
        )


class Crowd:
    """The processes, by their place; one that is killed is replaced."""

    def __init__(self, root: Path, seed: int, completeness: Completeness) -> None:
        self.began = time.time()
        self.completeness = completeness
        self._root = root
        self._seed = seed
        self._members: dict[int, tuple[BaseProcess, Connection]] = {}
        for place in range(WRITERS + READERS):
            self._start(place)

    def listen(self, seconds: float) -> bool:
        """Hear what they report; returns whether any has reported something."""
        ready = wait([connection for _, connection in self._members.values()], seconds)
        for connection in ready:
            assert isinstance(connection, Connection)
            self._hear_all(connection)
        return bool(ready)

    def kill(self, place: int) -> None:
        """Kill the process in a place, and put another there."""
        process, connection = self._members.pop(place)
        process.kill()
        self._end(process, connection)
        assert process.exitcode == -signal.SIGKILL, "it must be ended by us, not by an error of its own"
        self.completeness.kills += 1
        self._start(place)

    def stop(self) -> None:
        """Let them end what they are at."""
        for _, connection in self._members.values():
            connection.send("stop")
        until = time.monotonic() + TIMEOUT_SECONDS
        while any(process.is_alive() for process, _ in self._members.values()):
            self.listen(1)
            assert time.monotonic() < until, "they do not end"
        for process, connection in self._members.values():
            self._end(process, connection)
            assert process.exitcode == 0

    def close(self) -> None:
        """Leave nothing behind, whatever went wrong."""
        for process, connection in self._members.values():
            process.kill()
            process.join()
            connection.close()

    def _start(self, place: int) -> None:
        self._seed += 1
        mine, theirs = _FORKS.Pipe()
        work: Work = write if place < WRITERS else read
        process = _FORKS.Process(target=work, args=(self._root, place, self._seed, self.began, theirs), daemon=True)
        process.start()
        theirs.close()
        assert process.pid is not None
        self.completeness.pids.add(process.pid)
        self._members[place] = process, cast("Connection", mine)

    def _end(self, process: BaseProcess, connection: Connection) -> None:
        process.join(TIMEOUT_SECONDS)
        self._hear_all(connection)
        connection.close()

    def _hear_all(self, connection: Connection) -> None:
        try:
            while connection.poll():
                self.completeness.hear(connection.recv())
        except (EOFError, ConnectionResetError):
            return  # it has ended, and all it reported is heard


@contextmanager
def crowd_on(root: Path, completeness: Completeness) -> Generator[Crowd]:
    crowd = Crowd(root, number_of("crowd"), completeness)
    try:
        yield crowd
    finally:
        crowd.close()


def assert_complete(root: Path, began: float, completeness: Completeness) -> int:
    """After the next write: no trace of the killed ones, and every commit that was acknowledged."""
    store = crowded(root, began, writer_id="the next one")
    store.run_incremental_etl(SYMBOLS)
    store.publish_catalog()
    report = store.verify()
    assert report.findings == ()
    repaired = store.repair()
    assert (repaired.mended, repaired.lost, repaired.to_fetch) == ((), (), ())

    versions = store.manifests.list_versions()
    named = {path for version in versions for path in store.manifests.load_version(version).named_paths()}
    there = [*store.layout.objects.iterdir(), *store.layout.ledgers.iterdir()]
    assert {store.layout.relative(path) for path in there} == named
    assert list(store.layout.quarantine.glob("*")) == []

    assert report.version is not None
    runs = store.ledger("runs").filter(status="committed")
    assert sorted(set(runs.get_column("version"))) == list(range(1, report.version + 1)), "a hole in the versions"
    assert completeness.acknowledged <= set(runs.get_column("writer"))
    assert max(completeness.versions) <= report.version
    return report.version


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(24 * 3600)
def test_every_read_is_a_committed_version_and_every_acknowledged_commit_stays(root, many_minutes, tried, capsys):
    completeness, dice = Completeness(), random.Random(number_of("many at once"))
    crowded(root, time.time(), writer_id="the first one").run_full_etl(SYMBOLS, "2004-09-01", "2006-12-29")
    with crowd_on(root, completeness) as crowd:
        heard = last_report = next_kill = time.monotonic()
        while completeness.done["read"] < READERS or completeness.done["wrote"] < WRITERS:
            assert crowd.listen(TIMEOUT_SECONDS), "they are stuck"
        until = time.monotonic() + many_minutes * 60
        while (now := time.monotonic()) < until:
            heard = now if crowd.listen(0.5) else heard
            assert now - heard < TIMEOUT_SECONDS, "they are stuck"
            if now >= next_kill:
                crowd.kill(dice.randrange(WRITERS) if dice.random() < 0.7 else WRITERS + dice.randrange(READERS))
                next_kill = now + dice.uniform(1, 5)
            if now - last_report >= 60:
                last_report = now
                with capsys.disabled():
                    print(f"\n{(until - now) / 60:.0f} min left: {completeness}", file=sys.stderr, flush=True)
        crowd.stop()
        version = assert_complete(root, crowd.began, completeness)
    assert [path.name for path in root.parent.iterdir()] == [root.name]
    tried(f"{completeness}; version {version} stands")
