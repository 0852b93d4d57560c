"""What a folder holds. One that cannot be listed is no empty one, as it is for `Path.glob`.

What is not seen to be there might be removed, or be reported as lost.
"""

import errno
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

__all__ = ["entries_of"]

_NO_FOLDER: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def entries_of(folder: Path, pattern: str = "*") -> list[Path]:
    """The entries of a folder whose names match a pattern, sorted; none where there is no such folder.

    Raises:
        OSError: it cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if fnmatchcase(path.name, pattern))
    except OSError as error:
        if error.errno in _NO_FOLDER:
            return []
        raise
