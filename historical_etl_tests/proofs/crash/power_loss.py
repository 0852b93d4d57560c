"""A model of a disk that loses power: from a trace of calls, every state that POSIX allows to be found afterwards.

Strictly: what is written to a file is durable once that file is synced, and a name once its folder is synced;
syncing a file says nothing about its name. Until then each write may be there, not be there, or be torn, and each
change of a name may be there or not, in any combination. A rename is one change. A symbolic link is there whole, or not
at all.

What DuckDB syncs for itself (fdatasync) does not count: the store must not depend on it.
"""

import os
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from historical_etl_tests.proofs.crash.disk import (
    TOP,
    Acknowledged,
    Names,
    Operation,
    Staged,
    Sync,
    Written,
    applied,
    walk,
)

__all__ = ["State", "pending_at", "states", "targeted", "unready_folders"]

Fate = Literal["kept", "half", "zeros"]


@dataclass(frozen=True)
class File:
    """A file as it is found: its inode, and each write to it that is there, whole or torn."""

    inode: int
    writes: tuple[tuple[Written, Fate], ...]

    def content(self) -> bytes:
        """The bytes in it."""
        content = bytearray()
        for write, fate in self.writes:
            data = write.data
            if data is not None and fate == "half":
                data = data[: len(data) // 2]
            elif data is not None and fate == "zeros":
                data = bytes(len(data))
            applied(content, write.offset, data)
        return bytes(content)


@dataclass(frozen=True)
class State:
    """What may be found on the disk.

    Attributes:
        operations: all that was done until the power was lost.
        folders: which inodes are folders.
        least: the last version that was acknowledged by then.
        fates: what became of the operations that were not durable, by number; those that are not named are lost.
    """

    operations: Sequence[Operation]
    folders: set[int]
    least: int
    fates: Mapping[int, Fate]

    @property
    def acknowledged(self) -> bool:
        """Whether the last thing that was done was to acknowledge a version."""
        return isinstance(self.operations[-1], Acknowledged)

    @cached_property
    def lost(self) -> tuple[str, ...]:
        """In words, what of the unsynced was lost."""
        _, pending = _durable(self.operations)
        fates = [(self.operations[index].call, self.fates.get(index, "lost")) for index in pending]
        return tuple(f"{call}: {fate}" for call, fate in fates if fate != "kept")

    @cached_property
    def files(self) -> Mapping[str, File]:
        """By their paths below the top."""
        found = walk(self._tree, self.folders)
        return {
            path: File(inode, tuple(self._writes.get(inode, ()))) for path, inode in found if inode not in self._links
        }

    @cached_property
    def _links(self) -> dict[int, str]:
        made = [operation for operation in self.operations if isinstance(operation, Names) and operation.target]
        return {inode: each.target for each in made for _, _, inode in each.changes if inode is not None}

    @cached_property
    def _tree(self) -> dict[int, dict[str, int]]:
        tree: dict[int, dict[str, int]] = {}
        for index, operation in enumerate(self.operations):
            if isinstance(operation, Names) and self._fate(index):
                for folder, name, inode in operation.changes:
                    if inode is None:
                        tree.get(folder, {}).pop(name, None)
                    else:
                        tree.setdefault(folder, {})[name] = inode
        return tree

    @cached_property
    def _writes(self) -> dict[int, list[tuple[Written, Fate]]]:
        writes: dict[int, list[tuple[Written, Fate]]] = {}
        for index, operation in enumerate(self.operations):
            if isinstance(operation, Written) and (fate := self._fate(index)):
                writes.setdefault(operation.inode, []).append((operation, fate))
        return writes

    def _fate(self, index: int) -> Fate | None:
        return "kept" if index in self._safe else self.fates.get(index)

    @cached_property
    def _safe(self) -> set[int]:
        return _durable(self.operations)[0]

    def materialize(self, top: Path) -> None:
        """Make it, in an empty folder."""
        made: dict[int, Path] = {}
        for path in _folders(self._tree, self.folders):
            (top / path).mkdir()
        for path, file in self.files.items():
            target = top / path
            if file.inode in made:
                target.hardlink_to(made[file.inode])
                continue
            target.write_bytes(file.content())
            os.utime(target, ns=(file.inode * 10**9, file.inode * 10**9))  # as different as the files themselves
            made[file.inode] = target
        for path, inode in walk(self._tree, self.folders):
            if inode in self._links:
                (top / path).symlink_to(self._links[inode])


def states(
    operations: Sequence[Operation],
    folders: set[int],
    dice: random.Random,
    *,
    points: Iterable[int] | None = None,
    chances: int = 4,
) -> Iterator[State]:
    """What may be found after so many operations.

    That is: everything lost, nothing, each single thing lost or kept, what was first kept, each write torn, and
    some combinations by chance. What is the same as a state before it is left out: where the last operation is lost,
    and after a sync.

    Args:
        operations: in order.
        folders: which inodes are folders.
        dice: for the combinations.
        points: after how many operations the power is lost; None takes every number.
        chances: how many combinations for each point.
    """
    for at in points or range(1, len(operations) + 1):
        done, last = operations[:at], operations[at - 1]
        if isinstance(last, Sync):
            continue
        least = max((each.version for each in done if isinstance(each, Acknowledged)), default=0)
        given: set[frozenset[tuple[int, Fate]]] = set()
        for fates in _fates(done, _durable(done)[1], dice, chances):
            same = frozenset(fates.items())
            if same not in given and (at - 1 in fates or isinstance(last, Acknowledged | Staged)):
                given.add(same)
                yield State(done, folders, least, fates)


def targeted(
    operations: Sequence[Operation], folders: set[int], point: int, exposed: Collection[Operation]
) -> Iterator[State]:
    """What may be found at a point where some operations may be lost that should be durable by then.

    Args:
        operations: in order.
        folders: which inodes are folders.
        point: after how many operations the power is lost.
        exposed: the operations.
    """
    done = operations[:point]
    least = max((each.version for each in done if isinstance(each, Acknowledged)), default=0)
    _, pending = _durable(done)
    exposed_here = [index for index in pending if any(done[index] is each for each in exposed)]
    everything: dict[int, Fate] = dict.fromkeys(pending, "kept")
    yield State(done, folders, least, {index: "kept" for index in pending if index not in exposed_here})
    yield State(done, folders, least, everything)
    yield State(done, folders, least, {})
    for lost in exposed_here:
        yield State(done, folders, least, {index: "kept" for index in pending if index != lost})


def pending_at(operations: Sequence[Operation], point: int) -> list[Operation]:
    """The operations that may be lost at a point."""
    return [operations[index] for index in _durable(operations[:point])[1]]


def unready_folders(operations: Sequence[Operation]) -> list[str]:
    """What was put into a folder before the folder's own name was durable.

    But for a folder that nobody looks into until `daily` points to it: that it is durable by then, the states show.
    """
    found: list[str] = []
    unready: dict[int, int] = {}  # a folder, and the one it was made in
    for operation in operations:
        if isinstance(operation, Sync):
            unready = {made: above for made, above in unready.items() if above != operation.inode}
        elif isinstance(operation, Names):
            if operation.call.startswith("mkdir") and "/.daily/" not in operation.call:
                ((above, _, made),) = operation.changes
                assert made is not None
                unready[made] = above
            if any(folder in unready and inode is not None for folder, _, inode in operation.changes):
                found.append(operation.call)
    return found


def _durable(operations: Sequence[Operation]) -> tuple[set[int], list[int]]:
    """The operations that cannot be lost, and in order those that can."""
    durable: set[int] = set()
    missing: dict[int, set[int]] = {}  # of changes of names, the folders that were not synced since
    for index, operation in enumerate(operations):
        match operation:
            case Names():
                missing[index] = operation.folders
            case Written():
                missing[index] = {operation.inode}
            case Sync():
                for waiting in missing.values():
                    waiting.discard(operation.inode)
            case Acknowledged() | Staged():
                pass
    durable = {index for index, waiting in missing.items() if not waiting}
    return durable, [index for index, waiting in missing.items() if waiting]


def _fates(
    operations: Sequence[Operation], open_: list[int], dice: random.Random, chances: int
) -> Iterator[dict[int, Fate]]:
    everything: dict[int, Fate] = dict.fromkeys(open_, "kept")
    names = [index for index in open_ if isinstance(operations[index], Names)]
    writes = [index for index in open_ if isinstance(operations[index], Written)]
    yield everything
    yield {}
    yield dict.fromkeys(names, "kept")
    yield dict.fromkeys(writes, "kept")
    last = len(operations) - 1
    for index in open_:
        yield {other: fate for other, fate in everything.items() if other != index}
        yield {index: "kept"}
        yield {other: fate for other, fate in everything.items() if other in {index, last}}
        yield {other: fate for other, fate in everything.items() if other <= index}
        yield {other: fate for other, fate in everything.items() if other >= index}
    for index in writes:
        yield {**everything, index: "half"}
        yield {**everything, index: "zeros"}
    for _ in range(chances if len(open_) > 1 else 0):
        kept = [index for index in open_ if dice.random() < 0.5]
        torn: tuple[Fate, ...] = ("kept", "half", "zeros")
        yield {index: dice.choice(torn) if index in writes else "kept" for index in kept}


def _folders(tree: Mapping[int, Mapping[str, int]], folders: set[int], at: int = TOP, path: str = "") -> Iterator[str]:
    for name, inode in tree.get(at, {}).items():
        if inode in folders:
            yield f"{path}{name}"
            yield from _folders(tree, folders, inode, f"{path}{name}/")
