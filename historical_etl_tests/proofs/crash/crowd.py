"""Writers and readers that work on one store at once, each a process of its own, until they are stopped or killed.

Each reports to its parent what it did: the pipe outlives a process that is killed, so that what was reported counts.
"""

import random
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import ClassVar, Final, Literal

import duckdb
import polars as pl

from historical_etl import (
    DATASET_ID,
    ConfigurationError,
    FetchRequest,
    FetchResult,
    HistoricalETL,
    LockTimeoutError,
    ManifestManager,
    Settings,
    SyncManifest,
)
from historical_etl.models import combined_checksum
from historical_etl.sources.sample import SampleSource
from historical_etl.store.layout import Layout
from historical_etl.store.lock import LockToken

__all__ = ["LOCK_SECONDS", "SYMBOLS", "Report", "crowded", "read", "write"]

SYMBOLS: Final = ("AAPL", "GOOG", "IBM", "MSFT")
YEARS: Final = (2004, 2005, 2006)
#: How long a writer waits for the others before it gives up.
LOCK_SECONDS: Final = 20.0
#: The evening on which all of it happens.
_EVENING: Final = datetime(2006, 12, 29, 22, 30, tzinfo=UTC)
_ROWS: Final = "date, symbol, open, high, low, close, volume, ret, adj_close"
#: A version, what was committed of its files, and its rows: all in one statement.
_ALL: Final = f"""
SELECT {_ROWS},
    (SELECT max(version) FROM {{0}}partitions) AS version,
    (SELECT string_agg(checksum, ' ' ORDER BY year) FROM {{0}}partitions) AS files
FROM {{0}}daily_prices
"""


@dataclass(frozen=True)
class Report:
    """What a process tells.

    Attributes:
        kind: "wrote" and "read" are done; "gone" asked for a version that was dropped meanwhile; "waited" gave up on
            the lock; "failed" is anything else that went wrong, and the end of the process.
        what: was done, in a word.
        name: that of a run that committed something, by which the ledger `runs` knows it.
        versions: the first and the last version that this can have been; the same if it is known.
        rows: the checksum of the rows that were read.
        files: the checksum of the version, as committed.
        seconds: how long each lock was waited for.
        text: the error's words.
    """

    kind: Literal["wrote", "read", "gone", "waited", "failed"]
    what: str
    name: str = ""
    versions: tuple[int, int] = (0, 0)
    rows: str = ""
    files: str = ""
    seconds: tuple[float, ...] = ()
    text: str = ""


class Watched(ManifestManager):
    """The manifests of a writer that notes how long it waited for each lock, and how often in vain."""

    waits: ClassVar[list[float]] = []
    in_vain: ClassVar[list[str]] = []

    @contextmanager
    def acquire_lock(
        self, dataset: str = DATASET_ID, writer_id: str = "", timeout_seconds: float = 30
    ) -> Generator[LockToken]:
        with ExitStack() as stack:
            began = time.monotonic()
            try:
                token = stack.enter_context(super().acquire_lock(dataset, writer_id, timeout_seconds))
            except LockTimeoutError as error:
                self.in_vain.append(str(error))
                raise
            finally:
                self.waits.append(time.monotonic() - began)
            yield token


class _Unsteady(SampleSource):
    """The sample with the volume of one day changed, another one at each call: every write changes bytes."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def fetch(self, request: FetchRequest) -> FetchResult:
        answer = super().fetch(request)
        days = answer.frame.get_column("date").unique().sort()
        if days.is_empty():
            return answer
        here = pl.col("date") == days[self._dice.randrange(days.len())]
        return replace(
            answer, frame=answer.frame.with_columns(pl.col("volume") + here * self._dice.randrange(1, 1_000_000))
        )


def crowded(
    root: Path, began: float, source: SampleSource | None = None, writer_id: str = "one of many"
) -> HistoricalETL:
    """The store that all share; it keeps three versions. Its clock is that of the machine, moved to one evening."""
    layout = Layout(root)

    def clock() -> datetime:
        return _EVENING + timedelta(seconds=time.time() - began)

    return HistoricalETL(
        source or SampleSource(),
        layout.storage,
        layout.catalog,
        Watched(layout, clock=clock),
        clock=clock,
        settings=Settings(_env_file=None),  # pyright: ignore[reportCallIssue] - of pydantic-settings
        writer_id=writer_id,
        keep_versions=3,
        keep_days=0,
        lock_timeout_seconds=LOCK_SECONDS,
    )


# ── writers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def write(root: Path, place: int, seed: int, began: float, parent: Connection) -> None:
    """Write until asked to stop: one thing after the other, each chosen by chance."""
    dice, done = random.Random(seed), 0

    def once() -> Iterable[Report]:
        nonlocal done
        done += 1
        name = f"writer {place}.{seed}.{done}"
        store = crowded(root, began, _Unsteady(dice), name)
        Watched.waits.clear()
        Watched.in_vain.clear()
        what = dice.choices(list(_WRITING), [weight for weight, _ in _WRITING.values()])[0]
        try:
            committed = _WRITING[what][1](store, dice, place)
        except LockTimeoutError:
            yield Report("waited", what, seconds=(*Watched.waits,), text=Watched.in_vain[-1])
        except ConfigurationError as error:
            yield _gone(what, error)
        else:
            if Watched.in_vain:  # it has committed, and the catalog waits for the next one
                yield Report("waited", f"{what} to publish", text=Watched.in_vain[-1])
            yield Report("wrote", what, name if committed else "", seconds=(*Watched.waits,))

    _until_stopped(parent, once)


def _year(store: HistoricalETL, dice: random.Random, _: int) -> bool:
    return store.run_year(dice.choice(YEARS), dice.sample(SYMBOLS, dice.randrange(1, 5))).changed


def _range(store: HistoricalETL, dice: random.Random, _: int) -> bool:
    start = date(2004, 9, 1) + timedelta(days=dice.randrange(700))
    end = min(start + timedelta(days=dice.randrange(10, 200)), date(2006, 12, 29))
    return store.run_full_etl(dice.sample(SYMBOLS, 2), start, end, resume=False).changed


def _increment(store: HistoricalETL, _: random.Random, __: int) -> bool:
    return store.run_incremental_etl().changed


def _rollback(store: HistoricalETL, dice: random.Random, _: int) -> bool:
    saved = store.rollback(dice.choice(store.manifests.list_versions()))
    return saved.writer_id == store.store.context.writer_id


def _pin(store: HistoricalETL, dice: random.Random, place: int) -> bool:
    name = f"pin-{place}"
    if name in store.pins():
        store.unpin(name)
    else:
        store.pin(name, dice.choice(store.manifests.list_versions()))
    return False


def _vacuum(store: HistoricalETL, _: random.Random, __: int) -> bool:
    store.vacuum()
    return False


_WRITING: Final[Mapping[str, tuple[int, Callable[[HistoricalETL, random.Random, int], bool]]]] = {
    "year": (4, _year),
    "range": (3, _range),
    "increment": (3, _increment),
    "rollback": (2, _rollback),
    "pin": (2, _pin),
    "vacuum": (1, _vacuum),
}


# ── readers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def read(root: Path, _: int, seed: int, began: float, parent: Connection) -> None:
    """Read until asked to stop: one thing after the other, each chosen by chance, through the same store."""
    dice, store = random.Random(seed), crowded(root, began)
    newest = 0

    def once() -> Iterable[Report]:
        nonlocal newest
        time.sleep(dice.random() / 2)  # else so many readers leave the writers no processor
        what = dice.choice(list(_READING))
        before = _version(store)
        assert before >= newest, f"version {before} stands, and {newest} was seen before it"
        try:
            reported = _READING[what](store, dice)
        except ConfigurationError as error:
            yield _gone(what, error)
            return
        except duckdb.IOException as error:
            # Another client has no lease: the files of what it shows may go, but it never shows anything else.
            if what != "catalog" or "No files found" not in str(error):
                raise
            yield Report("gone", what)
            return
        newest = _version(store)
        if what.startswith("current"):
            assert before <= reported.versions[0] <= reported.versions[1] <= newest, (before, reported.versions, newest)
        yield reported

    _until_stopped(parent, once)


def _version(store: HistoricalETL) -> int:
    manifest = store.manifest()
    assert manifest is not None
    return manifest.version


def _current_query(store: HistoricalETL, _: random.Random) -> Report:
    return _report("current query", store.query_sql(_ALL.format("")))


def _current_scan(store: HistoricalETL, _: random.Random) -> Report:
    before = _version(store)
    rows = store.scan().collect()
    return Report("read", "current scan", versions=(before, _version(store)), rows=_sum(rows))


def _kept_query(store: HistoricalETL, dice: random.Random) -> Report:
    version = dice.choice(store.manifests.list_versions())
    reported = _report("kept query", store.query_sql(_ALL.format(""), version=version))
    assert reported.versions == (version, version)
    return reported


def _kept_scan(store: HistoricalETL, dice: random.Random) -> Report:
    version = dice.choice(store.manifests.list_versions())
    lazy = store.scan(version=version)
    time.sleep(dice.random())  # the version stays
    return Report("read", "kept scan", versions=(version, version), rows=_sum(lazy.collect()))


def _leased_files(store: HistoricalETL, dice: random.Random) -> Report:
    """The files that a manifest names, read by themselves while a lease keeps them; each is what was committed."""
    version = dice.choice(store.manifests.list_versions())
    with store.lease(version) as manifest:
        time.sleep(4 * dice.random())
        contents = [store.layout.resolve(partition.path) for partition in manifest.partitions]
        for path, partition in zip(contents, manifest.partitions, strict=True):
            assert sha256(path.read_bytes()).hexdigest() == partition.checksum, path
        rows = pl.concat([pl.read_parquet(path, glob=False) for path in contents])
        assert rows.height == manifest.row_count
        return _of_manifest("leased files", manifest, rows)


def _plain(store: HistoricalETL, dice: random.Random) -> Report:
    """The folder behind `daily`, by a reader that knows nothing of the store: one version, or no more there."""
    before = _version(store)
    folder = store.layout.daily.resolve(strict=True)
    # `daily` follows the manifest, by one version at most: a writer that is killed between them leaves it so.
    versions = max(1, before - 1), _version(store)
    time.sleep(dice.random() / 10)
    paths = sorted(folder.glob("*.parquet"))
    time.sleep(dice.random() / 10)
    try:
        rows = pl.concat([pl.read_parquet(path, glob=False) for path in paths])
    except (FileNotFoundError, ValueError):  # no files at all are a ValueError
        if folder.exists():
            raise
        return Report("gone", "plain")
    return Report("read", "plain", versions=versions, rows=_sum(rows))


def _catalog(store: HistoricalETL, _: random.Random) -> Report:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH '{store.catalog.path}' AS shown (READ_ONLY)")
        return _report("catalog", pl.DataFrame(connection.sql(_ALL.format("shown."))))


def _verify(store: HistoricalETL, _: random.Random) -> Report:
    report = store.verify()
    assert report.ok, report.findings
    assert report.version is not None
    return Report("read", "verify", versions=(0, report.version))


_READING: Final[Mapping[str, Callable[[HistoricalETL, random.Random], Report]]] = {
    "current query": _current_query,
    "current scan": _current_scan,
    "kept query": _kept_query,
    "kept scan": _kept_scan,
    "leased files": _leased_files,
    "plain": _plain,
    "catalog": _catalog,
    "verify": _verify,
}


def _report(what: str, answer: pl.DataFrame) -> Report:
    version, files = answer.select("version", "files").unique().row(0)
    return Report("read", what, "", (version, version), _sum(answer), combined_checksum(files.split()))


def _of_manifest(what: str, manifest: SyncManifest, rows: pl.DataFrame) -> Report:
    return Report("read", what, "", (manifest.version, manifest.version), _sum(rows), manifest.checksum)


def _sum(rows: pl.DataFrame) -> str:
    ordered = rows.select(_ROWS.split(", ")).sort("symbol", "date")
    return sha256(ordered.write_csv().encode()).hexdigest()


# ── both ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _gone(what: str, error: ConfigurationError) -> Report:
    assert "is not kept" in str(error), error
    return Report("gone", what)


def _until_stopped(parent: Connection, once: Callable[[], Iterable[Report]]) -> None:
    sys.dont_write_bytecode = True
    try:
        while not parent.poll():
            for reported in once():
                parent.send(reported)
    except BaseException:  # noqa: BLE001 - whatever it is, the test tells of it
        parent.send(Report("failed", "", text=traceback.format_exc()))
