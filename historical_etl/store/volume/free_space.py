"""Room on the volume that holds the data, judged before anything is written."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from historical_etl.errors import DiskSpaceError

__all__ = ["DiskProbe", "DiskStatus", "DiskUsage", "check_disk_space", "required_for_merge", "system_disk_usage"]

WARNING_SHARE: Final = 0.80
CRITICAL_SHARE: Final = 0.90
REFUSE_SHARE: Final = 0.95


class DiskUsage(Protocol):
    """Bytes of a volume, as `shutil.disk_usage` gives them."""

    @property
    def used(self) -> int:
        """Bytes in use."""
        ...

    @property
    def free(self) -> int:
        """Bytes this user may still fill."""
        ...


#: Asks for the usage of the volume that holds a path.
DiskProbe = Callable[[Path], DiskUsage]


def system_disk_usage(path: Path) -> DiskUsage:
    """The usage of the volume that holds `path`, or its nearest existing parent."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path)


@dataclass(frozen=True)
class DiskStatus:
    """How full the volume is: `used_share` of what this user may fill, `free_bytes` left."""

    level: Literal["ok", "warning", "critical"]
    used_share: float
    free_bytes: int
    path: Path

    def __str__(self) -> str:
        return f"{self.level}: {self.used_share:.0%} of the volume of {self.path} is used"


def required_for_merge(estimated_bytes: int) -> int:
    """Bytes to ask for before writing a frame of this `estimated_size()`: twice that, 10 KiB, and a fifth on top."""
    return int((estimated_bytes * 2 + 10 * 1024) * 1.2)


def check_disk_space(required_bytes: int, path: Path, usage: DiskProbe = system_disk_usage) -> DiskStatus:
    """Judge the volume of `path`: from 80 % used a warning, from 90 % critical.

    Raises:
        DiskSpaceError: 95 % or more is used, or less than `required_bytes` is free.
    """
    volume = usage(path)
    used_share = volume.used / max(1, volume.used + volume.free)
    if used_share >= REFUSE_SHARE or volume.free < max(1, required_bytes):
        raise DiskSpaceError(
            f"{required_bytes:,} bytes are needed; the volume has {volume.free:,} free and is {used_share:.1%} full"
            f" (refused from {REFUSE_SHARE:.0%}). Nothing was written",
            where=path,
            todo="free space on this volume or move the data folder, then run the same command again",
        )
    level = "critical" if used_share >= CRITICAL_SHARE else "warning" if used_share >= WARNING_SHARE else "ok"
    return DiskStatus(level, used_share, volume.free, path)
