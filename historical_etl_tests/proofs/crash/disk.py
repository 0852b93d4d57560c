"""What a traced process did to a disk: operations on inodes and names, and the disk as it is after all of them."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from historical_etl_tests.proofs.crash.tracing import Call

__all__ = ["TOP", "Acknowledged", "Disk", "Names", "Operation", "Staged", "Sync", "Written", "applied", "walk"]

#: The inode of the folder above the data folder.
TOP: Final = 0


@dataclass(frozen=True)
class Names:
    """Names that change at once: each a folder, a name in it, and the inode that it now means, or None.

    Where a symbolic link is made, `target` is its text: it is there with its name, whole.
    """

    changes: tuple[tuple[int, str, int | None], ...]
    call: str = ""
    target: str = ""

    @property
    def folders(self) -> set[int]:
        """The folders whose names change."""
        return {folder for folder, _, _ in self.changes}


@dataclass(frozen=True)
class Written:
    """Bytes of a file; `data` None: it was cut or grown to `offset`."""

    inode: int
    offset: int
    data: bytes | None
    call: str = ""


@dataclass(frozen=True)
class Sync:
    """All that was done to an inode until now is durable."""

    inode: int
    call: str = ""
    thread: str = ""


@dataclass(frozen=True)
class Acknowledged:
    """A command has reported to its caller that this version is committed."""

    version: int
    call: str = ""


@dataclass(frozen=True)
class Staged:
    """A command has said that so many units are staged."""

    units: int
    call: str = ""


Operation = Names | Written | Sync | Acknowledged | Staged


@dataclass
class _Open:
    inode: int
    position: int = 0
    appends: bool = False


@dataclass
class Disk:
    """The disk as it is without any loss, and the operations that led to it.

    Args:
        top: the folder above the data folder; nothing is there at the start.
        marks: the file that acknowledged versions are written to.

    Attributes:
        operations: what was done.
        folders: which inodes are folders.
        links: the text of each inode that is a symbolic link.
        trees: every file, by the number of operations after which a version was acknowledged.
    """

    top: Path
    marks: Path
    operations: list[Operation] = field(default_factory=list[Operation])
    folders: set[int] = field(default_factory=lambda: {TOP})
    links: dict[int, str] = field(default_factory=dict[int, str])
    trees: dict[int, dict[str, bytes]] = field(default_factory=dict[int, dict[str, bytes]])
    _entries: dict[tuple[int, str], int] = field(default_factory=dict[tuple[int, str], int])
    _content: dict[int, bytearray] = field(default_factory=dict[int, bytearray])
    _next: int = 1

    def replay(self, calls: Iterable[Call]) -> None:
        """Take in what a process did."""
        opened: dict[int, _Open] = {}
        for call in calls:
            if call.result is None:
                continue  # the process was killed before it
            self._descriptors(call, opened)
            if call.paths[:1] == (str(self.marks),) and call.name == "write":
                mark = int(call.data)
                self.operations.append(Acknowledged(mark) if mark > 0 else Staged(-mark))
                if mark > 0:
                    self.trees[len(self.operations)] = self.files()
            elif call.is_below(self.top):
                self._change(call, opened)

    def files(self) -> dict[str, bytes]:
        """Every file, by its path below the top."""
        found = walk(self._tree(), self.folders)
        return {path: bytes(self._content[inode]) for path, inode in found if inode not in self.links}

    def _tree(self) -> dict[int, dict[str, int]]:
        tree: dict[int, dict[str, int]] = {}
        for (folder, name), inode in self._entries.items():
            tree.setdefault(folder, {})[name] = inode
        return tree

    def _descriptors(self, call: Call, opened: dict[int, _Open]) -> None:
        assert call.result is not None
        if call.name == "close":
            opened.pop(call.descriptors[0], None)
        doubles = call.name.startswith("dup") or (call.name == "fcntl" and "F_DUPFD" in call.arguments)
        if doubles and call.descriptors[0] in opened:
            opened[call.result] = opened[call.descriptors[0]]

    def _change(self, call: Call, opened: dict[int, _Open]) -> None:
        reported = f"{call.name} {' '.join(path.removeprefix(f'{self.top}/') for path in call.paths)}"
        if call.name in {"open", "openat", "creat"}:
            self._open(call, opened, reported)
        elif call.name in {"close", "dup", "dup2", "dup3", "fcntl", "fdatasync", "sync_file_range"}:
            pass
        elif call.name == "lseek":
            opened[call.descriptors[0]].position = call.result or 0
        elif call.name == "mmap":
            assert "MAP_SHARED" not in call.arguments or "PROT_WRITE" not in call.arguments, reported
        elif call.name == "fsync":
            self.operations.append(Sync(opened[call.descriptors[0]].inode, reported, call.thread))
        elif call.name in {"write", "writev", "pwrite64", "ftruncate", "sendfile"}:
            self._write(call, opened, reported)
        elif call.name.startswith("symlink"):
            self._make(call.paths[1], reported, target=call.paths[0])
        elif call.name.startswith(("mkdir", "rename", "link", "unlink", "rmdir")):
            self._rename(call, reported)
        else:
            raise AssertionError(f"the model does not know {reported}")

    def _open(self, call: Call, opened: dict[int, _Open], reported: str) -> None:
        assert call.result is not None
        found = self._find(call.paths[0])
        if found is None:
            assert "O_CREAT" in call.arguments, reported
            found = self._make(call.paths[0], reported)
        elif "O_TRUNC" in call.arguments and self._content[found]:
            self._put(found, 0, None, reported)
        opened[call.result] = _Open(found, appends="O_APPEND" in call.arguments)

    def _write(self, call: Call, opened: dict[int, _Open], reported: str) -> None:
        into, count = opened[call.descriptors[0]], call.result or 0
        if call.name == "ftruncate":
            self._put(into.inode, int(call.arguments.rpartition(", ")[2]), None, reported)
            return
        if call.name == "pwrite64":
            self._put(into.inode, int(call.arguments.rpartition(", ")[2]), call.data[:count], reported)
            return
        data = call.data[:count]
        if call.name == "sendfile":
            source = opened[call.descriptors[1]]
            start = 0 if "[0]" in call.arguments or "NULL" not in call.arguments else source.position
            data = bytes(self._content[source.inode][start : start + count])
            source.position += count
        if not data:
            return
        if into.appends:
            into.position = len(self._content[into.inode])
        self._put(into.inode, into.position, data, reported)
        into.position += len(data)

    def _put(self, inode: int, offset: int, data: bytes | None, reported: str) -> None:
        self.operations.append(Written(inode, offset, data, reported))
        applied(self._content[inode], offset, data)

    def _rename(self, call: Call, reported: str) -> None:
        names = [self._place(path) for path in call.paths]
        first = self._entries.get(names[0])
        if call.name.startswith("mkdir"):
            self._make(call.paths[0], reported, folder=True)
            return
        if call.name.startswith(("unlink", "rmdir")):
            changes = ((*names[0], None),)
        elif call.name.startswith("link"):
            changes = ((*names[1], first),)
        else:
            changes = ((*names[0], None), (*names[1], first))
        self._set(changes, reported)

    def _make(self, path: str, reported: str, *, folder: bool = False, target: str = "") -> int:
        inode, self._next = self._next, self._next + 1
        if folder:
            self.folders.add(inode)
        if target:
            self.links[inode] = target
        self._content[inode] = bytearray()
        self._set(((*self._place(path), inode),), reported, target)
        return inode

    def _set(self, changes: tuple[tuple[int, str, int | None], ...], reported: str, target: str = "") -> None:
        self.operations.append(Names(changes, reported, target))
        for folder, name, inode in changes:
            if inode is None:
                self._entries.pop((folder, name), None)
            else:
                self._entries[folder, name] = inode

    def _place(self, path: str) -> tuple[int, str]:
        above, _, name = path.rpartition("/")
        folder = self._find(above)
        assert folder is not None, path
        return folder, name

    def _find(self, path: str) -> int | None:
        inode, above = TOP, self.top
        for name in Path(path).relative_to(self.top).parts:
            found = self._entries.get((inode, name))
            if found in self.links:
                found = self._find(os.path.normpath(above / self.links[found]))
            if found is None:
                return None
            inode, above = found, above / name
        return inode


def walk(
    tree: Mapping[int, Mapping[str, int]], folders: set[int], at: int = TOP, path: str = ""
) -> Iterator[tuple[str, int]]:
    """Every file that can be reached, with its inode."""
    for name, inode in tree.get(at, {}).items():
        if inode in folders:
            yield from walk(tree, folders, inode, f"{path}{name}/")
        else:
            yield f"{path}{name}", inode


def applied(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write into the bytes of a file; without data, cut it or let it grow."""
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
        return
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data
