"""Files that are read whole into memory: regular ones of a bounded size, and nothing that waits or never ends."""

import errno
import os
import stat
import time
from io import BufferedReader
from pathlib import Path
from typing import Final

__all__ = [
    "MOST_BYTES",
    "SETTINGS",
    "STAGED",
    "TEXTS",
    "facts_of",
    "open_regular",
    "read_regular",
    "read_text",
    "refuse_odd",
]

# What a file may have, by its kind: some times what the largest real one has.
#: A record. The progress of 100,000 symbols has 2.9 MB, the manifest of 100 years with full ledgers 0.6 MB.
MOST_BYTES: Final = 1 << 23
#: What is noted of a staged unit: 20,000 symbols that failed, and why, have 4 MB.
STAGED: Final = 1 << 25
#: Names and dates, as of a universe, of renames and of corrections: 100,000 lines have 4 MB.
TEXTS: Final = 1 << 24
#: A file of settings.
SETTINGS: Final = 1 << 20
#: The coarsest stamps are of two seconds, in nanoseconds.
_MOMENT: Final = 2_000_000_000
_KINDS: Final = (
    (stat.S_ISDIR, errno.EISDIR, "it is a folder, not a file"),
    (stat.S_ISFIFO, errno.EINVAL, "it is a pipe, not a file"),
    (stat.S_ISSOCK, errno.EINVAL, "it is a socket, not a file"),
    (stat.S_ISCHR, errno.EINVAL, "it is a device, not a file"),
    (stat.S_ISBLK, errno.EINVAL, "it is a device, not a file"),
)


def open_regular(path: str | Path) -> BufferedReader:
    """A file, open for reading. Raises as `read_regular` does, whatever its size."""
    refuse_odd(os.stat(path).st_mode, path)  # noqa: PTH116 - before it is opened: to open some devices does something
    # Without O_NONBLOCK a pipe that is put in its place meanwhile would wait for a writer.
    stream = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        refuse_odd(os.fstat(stream.fileno()).st_mode, path)
    except OSError:
        stream.close()
        raise
    return stream


def read_regular(path: str | Path, most_bytes: int = MOST_BYTES) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read, is no regular file, or has more bytes; `strerror` says which.
        ValueError: the path is none that a file can have.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(most_bytes + 1) if size <= most_bytes else None
    if content is None or len(content) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes:,} bytes", str(path))
    return content


def read_text(path: str | Path, most_bytes: int = TEXTS) -> str:
    """The text of a file in UTF-8, without the mark that some editors put before it.

    Raises: as `read_regular`; UnicodeDecodeError if it is not UTF-8.
    """
    return read_regular(path, most_bytes).decode("utf-8-sig")


def refuse_odd(mode: int, path: str | Path) -> None:
    """Raise OSError for the mode of what is no regular file; its number is EINVAL, or EISDIR."""
    for is_such, number, words in _KINDS:
        if is_such(mode):
            raise OSError(number, words, str(path))


def facts_of(path: Path) -> tuple[int, ...]:
    """What is another as soon as a file is: by it one knows a file that was read before. Empty where none is.

    A file that was written a moment ago never counts as known: what replaces it at once may have its size and, by a
    coarse clock, its stamp.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ()
    now = time.time_ns()
    fresh = now if abs(now - found.st_mtime_ns) < _MOMENT else 0
    return found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, fresh
