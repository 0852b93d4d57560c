"""Where everything lies on disk. Names only: nothing here reads or writes."""

import os
from pathlib import Path
from typing import Final

from historical_etl.errors import ConfigurationError
from historical_etl.models import DATASET_ID

__all__ = ["Layout"]

_NAME_BYTES: Final = 255  # of one name in a folder
_PATH_BYTES: Final = 3800  # of 4096; the rest is for what lies below
_SHOWN: Final = 100


class Layout:
    """Absolute paths of one store.

    Args:
        root: the data folder.
        storage_path: the folder of `daily/`, `objects/`; default `<root>/historical`.
        catalog_path: the DuckDB file; default `<root>/duckdb/historical_catalog.duckdb`.

    Paths are made absolute at once, so that a later change of the working directory moves nothing.

    Raises:
        ConfigurationError: a path is blank, none that a file can have, or not UTF-8.
    """

    def __init__(
        self, root: str | Path, *, storage_path: str | Path | None = None, catalog_path: str | Path | None = None
    ) -> None:
        self.root = _absolute(root)
        self.storage = _absolute(self.root / "historical" if storage_path is None else storage_path)
        self.catalog = _absolute(
            self.root / "duckdb" / "historical_catalog.duckdb" if catalog_path is None else catalog_path
        )
        self.daily = self.storage / "daily"
        self.daily_folders = self.storage / ".daily"
        self.objects = self.storage / "objects"
        self.ledgers = self.storage / "ledgers"
        self.manifests = self.root / "manifests"
        self.pins = self.manifests / "pins"
        self.progress_folder = self.root / "sync_progress"
        self.run_notes = self.progress_folder / "runs"
        self.quarantine = self.root / "quarantine"
        self.staging = self.root / "staging"

    @classmethod
    def of_storage(cls, storage_path: str | Path, catalog_path: str | Path | None = None) -> "Layout":
        """The layout whose `historical` folder is `storage_path`; its root is the folder above."""
        storage = _absolute(storage_path)
        return cls(storage.parent, storage_path=storage, catalog_path=catalog_path)

    def daily_file(self, year: int) -> Path:
        """The current partition of `year`: a plain file that any tool may read."""
        return self.daily / f"{year}.parquet"

    def object_file(self, year: int, checksum: str) -> Path:
        """The immutable object with this SHA-256."""
        return self.objects / f"{year}-{checksum[:16]}.parquet"

    def ledger_file(self, name: str, checksum: str) -> Path:
        """The immutable file of a ledger with this SHA-256."""
        return self.ledgers / f"{name}-{checksum[:16]}.parquet"

    def manifest_file(self, dataset: str = DATASET_ID) -> Path:
        """The current manifest: replacing it is the commit."""
        return self.manifests / f"{dataset}.json"

    def lock_file(self, dataset: str = DATASET_ID) -> Path:
        """The kernel lock, holding the record of its holder."""
        return self.manifests / f"{dataset}.lock"

    def catalog_pointer(self, dataset: str = DATASET_ID) -> Path:
        """Which version the catalog file shows."""
        return self.manifests / f"{dataset}.catalog"

    def history_folder(self, dataset: str = DATASET_ID) -> Path:
        """The manifests of the versions that are kept."""
        history = self.manifests / "history"
        return history if dataset == DATASET_ID else history / dataset

    def history_file(self, version: int, dataset: str = DATASET_ID) -> Path:
        """The manifest of one version."""
        return self.history_folder(dataset) / f"{version:08d}.json"

    def progress_file(self, dataset: str = DATASET_ID) -> Path:
        """Cursors and resume."""
        return self.progress_folder / f"{dataset}_progress.json"

    def found_folders(self) -> list[Path]:
        """The folders in which a writer takes what it finds for durable, and makes it no second time."""
        above = {folder.parent for folder in (self.root, self.storage, self.daily, self.manifests, self.catalog.parent)}
        return sorted({*above, self.daily, self.manifests, self.history_folder()})

    def own_folders(self) -> tuple[Path, ...]:
        """The folders in which nobody but the store puts anything."""
        versioned = (self.objects, self.ledgers, self.daily_folders, self.manifests)
        return (*versioned, self.progress_folder, self.quarantine, self.staging)

    def relative(self, path: Path) -> str:
        """`path` as manifests write it: relative to the root where it lies below it, with forward slashes."""
        return Path(os.path.relpath(path, self.root)).as_posix()

    def resolve(self, recorded: str) -> Path:
        """The absolute path of what a manifest recorded."""
        return self.root / recorded


def _absolute(path: str | Path) -> Path:
    if not str(path).strip():
        raise ConfigurationError("The path of the store is blank", where="root", todo="name a folder; here is .")
    whole = os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - links are kept, not resolved
    try:
        names = whole.encode().split(b"/")
    except UnicodeEncodeError:  # SQL and JSON could not name it
        raise _impossible(whole, "is not UTF-8", "rename the folder") from None
    if b"\0" in b"".join(names):
        raise _impossible(whole, "holds a NUL", "correct the path")
    if max(map(len, names)) > _NAME_BYTES or sum(len(name) + 1 for name in names) > _PATH_BYTES:
        raise _impossible(whole, "is too long", "use a shorter one")
    return Path(whole)


def _impossible(path: str, fault: str, todo: str) -> ConfigurationError:
    return ConfigurationError(f"The path of the store {fault}", where=ascii(path[:_SHOWN]), todo=todo)
