"""The error tree. Every failure a user can meet is one of these, never a library's traceback.

    HistoricalETLError
    ├── ConfigurationError            a setting or an argument is wrong
    │   └── AccessDeniedError         a source gives nothing to this account
    ├── DataQualityError              data was refused; what was stored is unchanged
    │   ├── SchemaDriftError          columns or dtypes are not the schema's
    │   └── ChecksumMismatchError     bytes on disk are not the bytes that were committed
    ├── StorageError                  the disk or its permissions refused
    │   └── DiskSpaceError            too little room, found before or while writing
    ├── LockTimeoutError              another writer holds the store
    ├── LockNotHeldError              a write was tried without the lock, or with an old token
    ├── ManifestCorruptError          no usable manifest
    │   └── ManifestTooNewError       written by a newer release
    ├── ETLProgressError              progress cannot be saved or trusted
    ├── ProviderError                 a source of prices failed
    │   ├── ProviderUnavailableError  it did not answer; asking again may help
    │   ├── ProviderNotSupportedError it cannot do what was asked
    │   ├── RateLimitedError          it asked us to slow down
    │   ├── NotPublishedError         it does not have it yet
    │   └── CoverageError             the range lies outside what it covers
    ├── CatalogError                  the DuckDB catalog cannot be built or queried
    └── WorkerStoppedError            work on untrusted input went beyond a limit, or broke its process

An error carries facts: `what` happened, `where` (a path, symbol, setting), and `todo`, the next step.
`retryable` says whether the same call may succeed later with nothing changed.
"""

from pathlib import Path
from typing import ClassVar

__all__ = [
    "AccessDeniedError",
    "CatalogError",
    "ChecksumMismatchError",
    "ConfigurationError",
    "CoverageError",
    "DataQualityError",
    "DiskSpaceError",
    "ETLProgressError",
    "HistoricalETLError",
    "LockNotHeldError",
    "LockTimeoutError",
    "ManifestCorruptError",
    "ManifestTooNewError",
    "NotPublishedError",
    "ProviderError",
    "ProviderNotSupportedError",
    "ProviderUnavailableError",
    "RateLimitedError",
    "SchemaDriftError",
    "StorageError",
    "WorkerStoppedError",
]


class HistoricalETLError(Exception):
    """Base of all errors of this package.

    Args:
        what: what happened, to what; a sentence without its full stop.
        where: the path, symbol or setting concerned.
        todo: what the reader should do next.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, where: str | Path | None = None, todo: str = "") -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.todo = todo
        super().__init__(what)

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        step = f" Next: {self.todo}" if self.todo else ""
        return f"{self.what.rstrip('.')}{place}.{step}"

    def __reduce__(self) -> tuple[object, ...]:
        # Dagster moves exceptions between processes: keyword-only facts must survive pickling.
        return _restore, (type(self), self.what, self.where, self.todo), self.__dict__


def _restore(kind: type[HistoricalETLError], what: str, where: str | None, todo: str) -> HistoricalETLError:
    return kind(what, where=where, todo=todo)


class ConfigurationError(HistoricalETLError):
    """A setting or an argument is wrong; the message names it and the allowed values."""


class AccessDeniedError(ConfigurationError):
    """A source refused what was asked: the key is wrong, or its plan does not give this."""


class DataQualityError(HistoricalETLError):
    """Data failed validation. Nothing of it was committed; the stored version is untouched."""


class SchemaDriftError(DataQualityError):
    """Columns or dtypes differ from the schema."""


class ChecksumMismatchError(DataQualityError):
    """The bytes of a file are not the ones its manifest names."""


class StorageError(HistoricalETLError):
    """The file system refused to read or write."""


class DiskSpaceError(StorageError):
    """Too little free space on the volume that holds the data."""

    retryable = True


class LockTimeoutError(HistoricalETLError):
    """The writer lock stayed with another holder for the whole time limit."""

    retryable = True


class LockNotHeldError(HistoricalETLError):
    """A write needs the writer lock, and the caller's token is not the current one."""


class ManifestCorruptError(HistoricalETLError):
    """No manifest can be read, neither the current one nor any in the history."""


class ManifestTooNewError(ManifestCorruptError):
    """The manifest was written by a newer release; it is sound and was left alone."""


class ETLProgressError(HistoricalETLError):
    """Progress could not be saved or read."""


class ProviderError(HistoricalETLError):
    """A source of prices failed."""


class ProviderUnavailableError(ProviderError):
    """The source did not answer, or answered with nothing usable."""

    retryable = True


class ProviderNotSupportedError(ProviderError):
    """The source cannot do what was asked of it."""


class RateLimitedError(ProviderError):
    """The source refused because too much was asked in too short a time.

    Args:
        what, where, todo: as of every error.
        alone: whether other symbols go on coming, so that a run goes on with them.
    """

    retryable = True

    def __init__(self, what: str, *, where: str | Path | None = None, todo: str = "", alone: bool = False) -> None:
        self.alone = alone
        super().__init__(what, where=where, todo=todo)


class NotPublishedError(ProviderError):
    """The source does not have it yet, and will later."""

    retryable = True


class CoverageError(ProviderError):
    """The requested range lies outside what the source covers."""


class CatalogError(HistoricalETLError):
    """The DuckDB catalog cannot be built, opened or queried."""


class WorkerStoppedError(HistoricalETLError):
    """Work on input that nobody vouches for went beyond its time or memory, or broke the process that did it.

    Args:
        what: as in the base.
        where: as in the base.
        todo: as in the base.
        late: whether its time was up.
    """

    def __init__(self, what: str, *, where: str | Path | None = None, todo: str = "", late: bool = False) -> None:
        self.late = late
        super().__init__(what, where=where, todo=todo)
