"""What lies in the place of a file or folder of the store and is none: a folder, a pipe, a link that leads nowhere."""

import errno
import os
from pathlib import Path

from historical_etl.regular_files import refuse_odd

__all__ = ["no_file", "no_folder"]


def no_file(path: Path) -> str:
    """What is in the place of a file, in words; empty if it is a file, or a link to one, or nothing."""
    try:
        refuse_odd(path.stat().st_mode, path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return "it is a link that leads nowhere" if path.is_symlink() else ""
        if error.errno == errno.ELOOP:
            return "it is a link in a circle"
        if error.errno in (errno.EISDIR, errno.EINVAL):
            return error.strerror or str(error)
        if error.errno != errno.ENOTDIR:
            raise
    return ""


def no_folder(path: Path) -> str:
    """What is in the place of a folder, in words; empty if it is a folder, or a link to one, or nothing."""
    if path.is_dir() or not os.path.lexists(path):
        return ""
    return (no_file(path) or "it is a file").replace("not a file", "not a folder")
