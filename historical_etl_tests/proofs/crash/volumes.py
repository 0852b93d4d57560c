"""Real file systems, each on an image of its own that is mounted through a loop device.

Their power can be cut: what the file system had not yet handed to its device is lost, and the next mount replays its
journal.
"""

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["KINDS", "Unavailable", "Volume", "volume_of"]

_MIB: Final = 1 << 20
#: Seconds that a mount may be busy for, while the last processes that used it end.
_BUSY: Final = 20
#: From the kernel's headers: stop the file system at once, and let it write no more, its log included.
_SHUT_DOWN, _WITHOUT_LOG = 0x8004587D, 2
_UNSUPPORTED: Final = {errno.ENOTTY, errno.EOPNOTSUPP}


class Unavailable(Exception):  # noqa: N818 - no fault, but the machine's way
    """A file system that cannot be mounted here, and why."""


@dataclass(frozen=True)
class Kind:
    """A file system, and how it is made and mounted.

    Attributes:
        size: of the image in MiB, most of which is a hole; the least that its tool makes, or little more.
        make: the command that makes it, but for the image.
        options: it is mounted with: what is not synced is not written on a timer meanwhile.
        instead: the command that mounts a device where the kernel does not know the file system.
        links: whether it has hard links.
    """

    size: int
    make: tuple[str, ...]
    options: str = "rw"
    instead: str = ""
    links: bool = True


KINDS: Final = {
    "ext4": Kind(32, ("mkfs.ext4", "-q", "-F"), "commit=300"),
    "xfs": Kind(304, ("mkfs.xfs", "-q", "-f")),
    "btrfs": Kind(128, ("mkfs.btrfs", "-q", "-f"), "commit=300"),
    "exfat": Kind(32, ("mkfs.exfat",), instead="mount.exfat-fuse", links=False),
}


@contextmanager
def volume_of(name: str, folder: Path) -> Generator["Volume"]:
    """A new file system of a kind, mounted in `folder`.

    Raises:
        Unavailable: the kernel does not know it, or mounting is not allowed.
    """
    image = folder / f"{name}.img"
    with image.open("wb") as stream:
        stream.truncate(KINDS[name].size * _MIB)
    _run(*KINDS[name].make, str(image))
    point = folder / name
    point.mkdir()
    volume = Volume(name, image, point)
    volume.mount()
    try:
        yield volume
    finally:
        volume.unmount()
        image.unlink()


class Volume:
    """A file system that is mounted."""

    def __init__(self, name: str, image: Path, point: Path) -> None:
        self._kind, self._image, self.point = KINDS[name], image, point
        self.name = name
        self._mounted = ExitStack()

    def mount(self) -> None:
        """Mount what the image holds."""
        with ExitStack() as stack:
            try:
                device = _run("losetup", "--find", "--show", str(self._image)).strip()
                stack.callback(_run, "losetup", "--detach", device)
                try:
                    _run("mount", "-t", self.name, "-o", self._kind.options, device, str(self.point))
                except subprocess.CalledProcessError:
                    if not shutil.which(self._kind.instead):
                        raise
                    _run(self._kind.instead, device, str(self.point))
                stack.callback(_unmount, self.point)
            except (OSError, subprocess.CalledProcessError) as error:
                reported: str = getattr(error, "stderr", "") or str(error)
                raise Unavailable(reported.strip().splitlines()[0]) from error
            self._mounted = stack.pop_all()

    def unmount(self) -> None:
        """Unmount it, as it should be done."""
        self._mounted.close()

    def cut_power(self) -> None:
        """Lose what has not reached the device, and mount what has."""
        reached = self._image.with_suffix(".reached")
        descriptor = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUT_DOWN, struct.pack("I", _WITHOUT_LOG))
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            _run("cp", "--sparse=always", str(self._image), str(reached))  # the loop device has the same cache
        finally:
            os.close(descriptor)
        self.unmount()
        if reached.exists():
            reached.replace(self._image)
            if self.name == "btrfs":
                _run("btrfs", "device", "scan", "--forget")  # else the kernel wants the newer state that it has seen
        self.mount()

    def limit(self, folder: Path, size: int) -> None:
        """Make a folder that may not hold more than so many bytes; Btrfs only."""
        assert self.name == "btrfs"
        _run("btrfs", "quota", "enable", str(self.point))
        _run("btrfs", "subvolume", "create", str(folder))
        _run("btrfs", "qgroup", "limit", str(size), str(folder))

    def fill(self, folder: Path) -> Callable[[], None]:
        """Leave no room in a folder of it; returns what makes room again."""
        ballast = folder / "ballast"
        room = os.statvfs(folder)
        block, used = room.f_bavail * room.f_frsize, 0
        with ballast.open("wb") as stream:
            while block >= room.f_frsize:
                try:
                    os.posix_fallocate(stream.fileno(), used, block)
                except OSError as error:
                    assert error.errno in {errno.ENOSPC, errno.EDQUOT}  # noqa: PT017 - it is how the loop goes on
                    block //= 2
                else:
                    used += block
        return ballast.unlink


def _unmount(point: Path) -> None:
    until = time.monotonic() + _BUSY
    while True:
        try:
            _run("umount", str(point))
        except subprocess.CalledProcessError as error:
            if "busy" not in error.stderr or time.monotonic() > until:
                _run("umount", "--lazy", str(point))
                raise
            time.sleep(0.05)
        else:
            return


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
