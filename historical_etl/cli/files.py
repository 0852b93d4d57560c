"""Files that a command writes for its user: named with care, written whole or not at all."""

from pathlib import Path

from historical_etl.durable import replace_file, sync_stream, temporary_beside
from historical_etl.errors import ConfigurationError, StorageError
from historical_etl.store.layout import Layout

__all__ = ["target_of", "write_file"]


def target_of(output: Path, layout: Layout) -> Path:
    """Where a file shall be written.

    Raises:
        ConfigurationError: inside the store, or where no file can be.
    """
    target = output.expanduser().absolute()
    inside = target.resolve().is_relative_to(layout.root.resolve())
    if inside or target.is_dir() or not target.parent.is_dir():
        problem = "lies inside the data folder" if inside else "is a folder" if target.is_dir() else "is in no folder"
        raise ConfigurationError(
            f"The output file {problem}", where=target, todo="name a file in a folder that exists, outside the store"
        )
    return target


def write_file(target: Path, content: bytes) -> None:
    """Replace a file.

    Raises:
        StorageError: the file system refuses.
    """
    try:
        with temporary_beside(target) as (temp, stream):
            stream.write(content)
            sync_stream(stream)
            replace_file(temp, target)
    except OSError as error:
        raise StorageError(
            f"The answer cannot be written: {error.strerror}", where=target, todo="choose another --output"
        ) from error
