"""What is done with a store on a real volume by a process of its own, so that the volume can be unmounted."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import duckdb

from historical_etl.store.manifest import ManifestManager
from historical_etl_tests.proofs.crash.checks import assert_committed, left, verified
from historical_etl_tests.proofs.crash.commands import COMMANDS

__all__ = ["COMMAND", "Seen", "apart", "done", "goes_on", "prepared"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: Its years are rewritten in one commit.
COMMAND: Final = COMMANDS["restatement"]


def apart(function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """What a process of its own returns: this one keeps nothing open on the volume."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        return pool.submit(function, *args, **kwargs).result()


@dataclass(frozen=True)
class Seen:
    """What a store has come to: by its own files, and by another tool that reads `daily/`."""

    version: int
    objects: frozenset[str]
    daily: dict[str, str]
    rows: str


def prepared(root: Path) -> int:
    """Do what comes before the command; returns the version that then stands."""
    versions = [0]
    for before in COMMAND.before:
        before(root, versions.append)
    return versions[-1]


def done(root: Path) -> Seen:
    """The command from the beginning, undisturbed."""
    prepared(root)
    COMMAND.run(root, lambda _: None)
    return _seen(root)


def goes_on(root: Path, least: int, most: int, *, links: bool) -> Seen:
    """After the command was disturbed: a committed version stands, and the next run needs no help.

    Without links the files of `daily/` are replaced one by one: until then it may mix versions, and `verify` says so.
    """
    if links:
        assert_committed(root, least=least, most=most)
    else:
        manifest = ManifestManager(root).load_manifest()
        assert manifest is not None
        assert least <= manifest.version <= most
        wrong = [found for found in verified(root).findings if found.severity == "error"]
        assert [found for found in wrong if found.field != "daily/"] == []
    COMMAND.run(root, lambda _: None)
    assert left(root) == []
    return _seen(root)


def _seen(root: Path) -> Seen:
    assert verified(root).ok
    manager = ManifestManager(root)
    manifest, folder = manager.load_manifest(), manager.layout.daily
    assert manifest is not None
    with duckdb.connect(":memory:") as connection:
        rows = connection.execute(f"SELECT * FROM '{folder}/*.parquet' ORDER BY date, symbol").fetchall()
    assert len(rows) == manifest.row_count
    daily = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.parquet")}
    assert daily == {f"{partition.year}.parquet": partition.checksum for partition in manifest.partitions}
    objects = frozenset(path.name for path in manager.layout.objects.iterdir())
    return Seen(manifest.version, objects, daily, sha256(repr(rows).encode()).hexdigest())
