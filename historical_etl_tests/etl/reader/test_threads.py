"""Many threads of one process on one store, while it is written: every answer is one committed version."""

import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ConfigurationError, HistoricalETL, ManifestManager
from historical_etl.store.layout import Layout
from historical_etl.store.leases import stay_leased
from historical_etl_tests.etl.conftest import CORRECTED, opened
from historical_etl_tests.scenario import KEYS, SHORT

READERS = 8
COMMITS = 12
SUMMED = "SELECT count(*) AS n, sum(volume) AS volume FROM daily_prices"
#: The number of rows, and the sum of their volumes: they tell the three versions apart.
Answer = tuple[int, float]


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as Python lets them."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def together(threads: int, calls: int, call: Callable[[random.Random], bool]) -> list[object]:
    """What went wrong when so many threads made so many calls each."""
    wrong: list[object] = []

    def work(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(calls):
            try:
                if not call(draw):
                    wrong.append("a wrong answer")
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is reported
                wrong.append(repr(error))

    at_work = [threading.Thread(target=work, args=(seed,)) for seed in range(threads)]
    for thread in at_work:
        thread.start()
    for thread in at_work:
        thread.join(60)
    return wrong


def summed(rows: pl.DataFrame) -> Answer:
    return rows.height, float(rows.get_column("volume").sum())


class Crowd:
    """Readers that share one `HistoricalETL`, and one writer, each in a thread of its own."""

    def __init__(self, etl: HistoricalETL) -> None:
        self.etl = etl
        self.calls: Counter[str] = Counter()
        self.wrong: list[object] = []
        self.over = threading.Event()
        kept = [etl.manifests.load_version(version) for version in (1, 2, 3)]
        self.truth = {m.checksum: summed(etl.scan(version=m.version).collect()) for m in kept}
        self.cursors = {m.checksum: etl.store.state.completeness_of(m).cursors() for m in kept}
        assert len(set(self.truth.values())) == 3

    def reads(self) -> dict[str, Callable[[], bool]]:
        """What a reader does; each says whether the answer is that of one committed version."""
        etl, answers = self.etl, set(self.truth.values())

        def numbered(read: Callable[[int], Answer]) -> bool:
            manifest = etl.store.context.require_manifest()
            return read(manifest.version) == self.truth[manifest.checksum]

        def leased() -> bool:
            with etl.lease() as manifest:
                rows = pl.scan_parquet([etl.layout.resolve(p.path) for p in manifest.partitions]).collect()
                return summed(rows) == self.truth[manifest.checksum]

        return {
            "scan": lambda: summed(etl.scan().collect()) in answers,
            "scan of a version": lambda: numbered(lambda n: summed(etl.scan(version=n).collect())),
            "scan of a symbol": lambda: set(etl.scan("BRK.B").collect()["symbol"]) == {"BRK.B"},
            "scan as of now": lambda: summed(etl.scan(as_of=datetime(2999, 1, 1, tzinfo=UTC)).collect()) in answers,
            "query": lambda: etl.query_sql(SUMMED).row(0) in answers,
            "query of a version": lambda: numbered(lambda n: etl.query_sql(SUMMED, version=n).row(0)),
            "lease": leased,
            "cursors": lambda: etl.cursors() in self.cursors.values(),
            "account": lambda: (
                m := etl.store.context.require_manifest(),
                etl.store.state.completeness_of(m).cursors() == self.cursors[m.checksum],
            )[1],
            "ledger": lambda: etl.ledger("runs").height >= 3,
            "explain": lambda: etl.explain(*CORRECTED).height > 0,
            "versions": lambda: etl.versions()["current"].sum() == 1,
            "verify": lambda: etl.verify(quick=True).ok,
        }

    def read(self, seed: int) -> None:
        draw, reads = random.Random(seed), self.reads()
        names = sorted(reads)
        while not self.over.is_set():
            name = draw.choice(names)
            try:
                if not reads[name]():
                    self.wrong.append(f"{name}: an answer of no version")
            except ConfigurationError as error:
                if "is not kept" not in str(error):  # vacuumed after its number was looked up
                    self.wrong.append((name, error))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is reported
                self.wrong.append((name, repr(error)))
            self.calls[name] += 1

    def write(self) -> None:
        """Versions come and go; each stands until some have been read."""
        writer = opened(self.etl.layout.root)
        try:
            for number in range(COMMITS):
                before = self.calls.total()
                content = {checksum: version for version, checksum in self._kept(writer)}
                wanted = list(self.truth)[number % 3]
                writer.rollback(content[wanted], publish=number % 8 == 0)
                writer.pin(f"pin-{number}")
                if number >= 3:
                    writer.unpin(f"pin-{number - 3}")
                writer.vacuum(keep_versions=4, keep_days=0)
                while self.calls.total() < before + READERS and not self.wrong:
                    threading.Event().wait(0.001)
        except BaseException as error:  # noqa: BLE001 - likewise
            self.wrong.append(("writer", repr(error)))
        finally:
            self.over.set()

    def _kept(self, writer: HistoricalETL) -> list[tuple[int, str]]:
        return writer.versions().select("version", "checksum").rows()


def open_manifests(layout: Layout) -> int:
    """How many manifests of the history this process holds open."""
    folder, found = layout.history_folder(), 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += descriptor.resolve().parent == folder
    return found


def most_open() -> int:
    """How many versions scans may keep open: those of threads that have ended count for nothing."""
    return max(4, 2 * threading.active_count())


def test_many_threads_read_while_versions_come_and_go(etl: HistoricalETL, hurried, record_property):
    crowd = Crowd(etl)
    threads = [threading.Thread(target=crowd.read, args=(seed,)) for seed in range(READERS)]
    threads.append(threading.Thread(target=crowd.write))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert crowd.wrong == []
    assert not any(thread.is_alive() for thread in threads)
    assert set(crowd.calls) == set(crowd.reads()), "each kind of read was made"
    record_property("tried", f"{READERS} threads, {crowd.calls.total()} calls over {COMMITS} commits")
    for version in etl.manifests.list_versions()[-4:]:
        assert etl.scan(version=version).collect().sort(KEYS).height > 0
    assert open_manifests(etl.layout) <= most_open(), "only the last scans"
    kept = opened(etl.layout.root).vacuum(keep_versions=1, keep_days=0).kept
    assert set(kept.values()) <= {"open in a reader", "the current version", "shown by the catalog"} | {
        f"pinned as pin-{number}" for number in range(COMMITS - 3, COMMITS)
    }
    assert list(kept.values()).count("open in a reader") <= most_open()


def test_the_leases_of_many_threads_are_those_of_the_last_versions(root: Path, hurried):
    """The table was corrupt after this, and every later scan of some versions a bare KeyError."""
    layout = Layout(root)
    layout.history_folder().mkdir(parents=True)
    versions = range(1, 12)
    for version in versions:
        layout.history_file(version).write_bytes(b"{}")
    assert together(16, 1000, lambda draw: stay_leased(layout, draw.choice(versions))) == []
    assert all(stay_leased(layout, version) for version in versions)
    assert open_manifests(layout) <= most_open()


def test_what_is_remembered_of_a_version_is_never_given_for_another(etl: HistoricalETL, hurried):
    """Accounts, names, changes and known symbols are remembered for the last version that was asked for."""
    manifests = [etl.manifests.load_version(version) for version in (1, 2)]
    ends = [date(2012, 12, 31), date(2013, 1, 31)]

    def ask(draw: random.Random) -> bool:
        which = draw.randrange(2)
        completeness = etl.store.state.completeness_of(manifests[which])
        return completeness.cursors()["BRK.B"] == ends[which] and etl.store.state.named("BRK.B", manifests[which]) == [
            "BRK.B"
        ]

    assert together(8, 150, ask) == []


def test_manifests_are_read_by_many_threads_while_the_history_changes(etl: HistoricalETL, hurried):
    """One that another thread's look at the history had dropped was a KeyError."""
    manager = ManifestManager(etl.layout)

    def read(draw: random.Random) -> bool:
        version = draw.randint(1, 3)
        etl.layout.history_file(version).touch()  # a manifest that looks new
        return manager.load_version(version).version == version

    assert together(8, 150, read) == []


def test_three_threads_fill_one_store_through_one_object(etl: HistoricalETL, hurried):
    def update(_: random.Random) -> bool:
        return etl.run_full_etl(SHORT.symbols, date(2013, 2, 1), SHORT.last).total_rows > 0

    assert together(3, 1, update) == []
    assert etl.scan(start=date(2013, 2, 1)).collect().height == SHORT.expected(start=date(2013, 2, 1)).height
    assert etl.verify().ok
