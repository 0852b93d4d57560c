"""What a piece of work does, counted instead of timed: counts say the same on any machine, however busy it is.

`counting` wraps what the work goes through, for as long as it runs:

- queries: what a `LazyFrame` is collected by, which eager methods of a `DataFrame` go through too. A method that makes
  no query, such as `head`, counts as none.
- files read and written, below one folder: what Python opens, by its audit event, and what Polars scans or sinks to by
  itself. Folders, which are opened to be synced, are left out; so is what DuckDB opens.
- bytes read and written: of all system calls of this process, Polars' and DuckDB's too. What is mapped into memory is
  not read. Threads of Polars wake each other by writing `_WAKE_UP` bytes, now more often and now less, so a call
  counts that much less than it wrote.
- bytes hashed: by SHA-256, of the package.
- locks: calls of `flock` that take one.
- manifest reads: JSON files of a folder `manifests` that were opened.
- footers: of Parquet files, parsed by this package or by Polars.

All are the same each time, for any number of threads, but for bytes: records hold the process id and the host's name.
"""

import fcntl
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Final, Protocol, cast

from polars import _plr as native
from polars._plr import PyLazyFrame

from historical_etl.store.parquet import footer

__all__ = ["BYTES", "COUNTED", "Counts", "counting"]

#: Those that differ a little from one process and machine to another.
BYTES: Final[tuple[str, ...]] = ("bytes_read", "bytes_written", "bytes_hashed")
COUNTED: Final[tuple[str, ...]] = (
    "queries",
    "files_read",
    "files_written",
    *BYTES,
    "locks",
    "manifest_reads",
    "footers",
)
_COLLECTING: Final = ("collect", "collect_batches", "collect_concurrently", "collect_with_callback")
_COLLECTING_ALL: Final = ("collect_all", "collect_all_with_callback")
_SINKING: Final = ("sink_parquet", "sink_ipc", "sink_csv", "sink_ndjson")
_CALLS: Final = Path("/proc/self/io")
_WAKE_UP: Final = 8
_PACKAGE: Final = "historical_etl"
_Seen = Callable[[Sequence[object], Mapping[str, object]], None]


class Counts:
    """Numbers by what was counted. Threads may add to them at once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = dict.fromkeys(COUNTED, 0)
        self._guard = threading.Lock()

    def add(self, what: str, number: int = 1) -> None:
        with self._guard:
            self.numbers[what] += number


@contextmanager
def counting(folder: Path) -> Generator[Counts]:
    """Count what the block does; of files, those below `folder`.

    A module that is imported in the block may keep some of it from being counted: do the same work once before.
    """
    counts, below = Counts(), f"{folder.resolve()}{os.sep}"
    with ExitStack() as undo:
        for name in _COLLECTING:
            _see(undo, PyLazyFrame, name, lambda _, __: counts.add("queries"))
        for name in _COLLECTING_ALL:
            _see(undo, native, name, lambda given, _: counts.add("queries", _size(given[0])))
        for name in _SINKING:
            _see(undo, PyLazyFrame, name, lambda _, named: counts.add("files_written", _files(named["target"], below)))
        _see(undo, PyLazyFrame, "new_from_parquet", lambda _, named: _scanned(counts, named["sources"], below))
        # Its second argument is what is to be opened of a struct: nothing of one that is no footer.
        _see(undo, footer, "decode", lambda given, _: counts.add("footers", bool(given[1])))
        _see(undo, fcntl, "flock", lambda given, _: counts.add("locks", given[1] != fcntl.LOCK_UN))
        _hash(undo, counts)
        _opened.watch(undo, counts, below)
        before = _bytes_of_calls()
        yield counts
        for name, number in _bytes_of_calls().items():
            counts.add(name, number - before[name])


def _hash(undo: ExitStack, counts: Counts) -> None:
    real_new, real_sha256 = hashlib.new, hashlib.sha256

    def new(name: str, data: bytes = b"") -> _Hashing:
        return _Hashing(real_new(name, data), counts, data)

    def sha256(data: bytes = b"") -> _Hashing:
        return _Hashing(real_sha256(data), counts, data)

    _put(undo, hashlib, "new", new)
    _put(undo, hashlib, "sha256", sha256)


class _Hash(Protocol):
    @property
    def digest_size(self) -> int: ...
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...
    def hexdigest(self) -> str: ...
    def copy(self) -> "_Hash": ...


class _Hashing:
    """A hash that counts the bytes it is given."""

    def __init__(self, real: _Hash, counts: Counts, data: bytes) -> None:
        self.digest_size, self.digest, self.hexdigest = real.digest_size, real.digest, real.hexdigest
        self._real, self._counts = real, counts
        counts.add("bytes_hashed", memoryview(data).nbytes)

    def update(self, data: bytes, /) -> None:
        self._counts.add("bytes_hashed", memoryview(data).nbytes)
        self._real.update(data)

    def copy(self) -> "_Hashing":
        return _Hashing(self._real.copy(), self._counts, b"")


class _Opened:
    """The audit event of what Python opens. A hook cannot be taken away, so there is one, which mostly does nothing."""

    def __init__(self) -> None:
        self._watching: tuple[Counts, str] | None = None
        self._hooked = False

    def watch(self, undo: ExitStack, counts: Counts, below: str) -> None:
        if not self._hooked:
            sys.addaudithook(self._event)
            self._hooked = True
        self._watching = counts, below
        undo.callback(self._rest)

    def _rest(self) -> None:
        self._watching = None

    def _event(self, event: str, given: tuple[object, ...]) -> None:
        if event != "open" or self._watching is None:
            return
        counts, below = self._watching
        path, _, flags = given
        if not isinstance(flags, int) or flags & os.O_DIRECTORY or not _files(path, below):
            return
        if flags & (os.O_WRONLY | os.O_RDWR):
            counts.add("files_written")
            return
        counts.add("files_read")
        if "manifests" in (place := Path(os.fsdecode(str(path)))).parts and place.suffix == ".json":
            counts.add("manifest_reads")


_opened: Final = _Opened()


def _scanned(counts: Counts, sources: object, below: str) -> None:
    each = cast("list[object]", sources)
    counts.add("files_read", sum(_files(source, below) for source in each))
    counts.add("footers", len(each))


def _files(path: object, below: str) -> int:
    """1 for the path of a file that lies below a folder."""
    return isinstance(path, str | Path) and os.path.abspath(path).startswith(below)  # noqa: PTH100 - asks no disk


def _size(frames: object) -> int:
    return len(cast("list[object]", frames))


def _bytes_of_calls() -> dict[str, int]:
    lines = dict(line.split(": ") for line in _CALLS.read_text().splitlines())
    return {"bytes_read": int(lines["rchar"]), "bytes_written": int(lines["wchar"]) - _WAKE_UP * int(lines["syscw"])}


def _see(undo: ExitStack, owner: type | ModuleType, name: str, seen: _Seen) -> None:
    """Until undone, show `seen` what the function or method is called with, each time."""
    real: Callable[..., object] = getattr(owner, name)

    @wraps(real)
    def shown(*given: object, **named: object) -> object:
        seen(given, named)
        return real(*given, **named)

    _put(undo, owner, name, shown)


def _put(undo: ExitStack, owner: type | ModuleType, name: str, new: Callable[..., object]) -> None:
    """Until undone, replace a function or method, also where a module of the package has it by `from … import`."""
    old: object = vars(owner)[name]
    is_static = type(old) is staticmethod
    setattr(owner, name, staticmethod(new) if is_static else new)
    _swap(old, new)
    undo.callback(_swap, new, old)
    undo.callback(setattr, owner, name, old)


def _swap(old: object, new: object) -> None:
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == _PACKAGE]:
        for name in [name for name, value in vars(module).items() if value is old]:
            setattr(module, name, new)
