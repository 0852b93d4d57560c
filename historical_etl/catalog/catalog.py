"""The DuckDB catalog: a file with views over exactly one committed version, for any DuckDB client.

It is built aside and swapped in, never opened for writing where readers may have it open: DuckDB shuts out
readers of other processes while one writes. The store's own queries do not go through the file at all: they
lay the same views over the manifest in memory (see `query`), so that they can be neither stale nor locked out.

DuckDB is imported where it is used: most commands do without.
"""

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from historical_etl.catalog.quoting import quote_text
from historical_etl.catalog.views import view_statements
from historical_etl.durable import (
    TEMP_SUFFIX,
    fsync_folder,
    make_folder,
    sha256_of,
    storage_errors,
    temp_name,
    write_atomic,
)
from historical_etl.errors import CatalogError, StorageError
from historical_etl.models import CatalogPointer, SyncManifest
from historical_etl.store.catalog_version import is_of, read_catalog_pointer
from historical_etl.store.checksummed_json import render_checksummed
from historical_etl.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Generator

    import duckdb

__all__ = ["BuiltCatalog", "Catalog"]

#: What the oldest client we promise to serve can read.
_STORAGE_VERSION: Final = "v1.4.0"
#: Of a version without years the view's comment tells.
_VERSION_SHOWN: Final = (
    "SELECT coalesce((SELECT max(version) FROM catalog.partitions), (SELECT any_value(comment)::INTEGER FROM "
    "duckdb_views() WHERE database_name = 'catalog' AND view_name = 'partitions'))"
)


@dataclass(frozen=True)
class BuiltCatalog:
    """A catalog that is not shown yet: the version, the file and its SHA-256."""

    version: int
    path: Path
    checksum: str


class Catalog:
    """The catalog of one store."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.path = layout.catalog

    def shown_version(self) -> int | None:
        """The version that the catalog file shows; None if there is none, or if the data has moved since."""
        pointer = read_catalog_pointer(self._layout)
        if pointer is None or not is_of(pointer, self._layout) or not self.path.is_file():
            return None
        return pointer.version

    def version_in_file(self) -> int:
        """The version that the views of the catalog file itself name.

        Raises:
            CatalogError: the file cannot be read.
        """
        import duckdb

        try:
            with duckdb.connect(":memory:") as connection:
                # Attached, not opened: an open one in this process would be served from DuckDB's cache.
                connection.execute(f"ATTACH {quote_text(str(self.path))} AS catalog (READ_ONLY)")
                row = connection.execute(_VERSION_SHOWN).fetchone()
        except duckdb.Error as error:
            raise CatalogError(
                f"the file cannot be read: {str(error)[:200]}",
                where=self.path,
                todo="run `historical-etl repair`, or materialize price_catalog",
            ) from error
        return int(row[0]) if row and row[0] is not None else 0

    def publish(self, manifest: SyncManifest) -> None:
        """Build the catalog of a version and swap it in; readers that have the old one open keep it.

        Call it with the writer lock held, so that an older version never replaces a newer one.

        Raises:
            CatalogError: it could not be built or swapped in. The data is committed, the old catalog is unchanged.
        """
        with self.built(manifest) as catalog:
            self.show(catalog)

    @contextmanager
    def built(self, manifest: SyncManifest) -> "Generator[BuiltCatalog]":
        """The catalog of a version, built aside under the writer lock; it is gone after the block unless it is shown.

        Raises: as `publish`.
        """
        # DuckDB takes what follows a question mark for options, and a backslash for a slash, which is another folder.
        if odd := next((char for char in "?\\" if char in str(self.path)), ""):
            raise CatalogError(
                f"DuckDB takes no path with {odd!r}: no catalog was published. Version {manifest.version} is "
                "committed, and scan reads it",
                where=self.path,
                todo=f"move the data folder to a path without {odd}, or give another `catalog_path`",
            )
        temp = temp_name(self.path)
        try:
            with self._publishing(manifest.version):
                make_folder(self.path.parent)
                for leftover in self.path.parent.glob(f".{self.path.name}.*{TEMP_SUFFIX}*"):
                    leftover.unlink(missing_ok=True)
                _build(temp, manifest, self._layout)
                with temp.open("rb") as file:
                    os.fsync(file.fileno())
                checksum = sha256_of(temp)
            yield BuiltCatalog(manifest.version, temp, checksum)
        finally:
            with suppress(OSError):
                temp.unlink()

    def show(self, catalog: "BuiltCatalog") -> None:
        """Swap in the catalog of the current version.

        Raises: as `publish`.
        """
        with self._publishing(catalog.version):
            old = read_catalog_pointer(self._layout)
            if old is not None and old.version == catalog.version:  # else its version tells that it is old
                self._point(old.model_copy(update={"following": catalog.checksum}))
            catalog.path.replace(self.path)
            fsync_folder(self.path.parent)
            objects = str(self._layout.objects)
            self._point(CatalogPointer(version=catalog.version, objects=objects, checksum=catalog.checksum))

    @contextmanager
    def _publishing(self, version: int) -> "Generator[None]":
        import duckdb

        try:
            with storage_errors("publishing the catalog", self.path, "the old one is unchanged"):
                yield
        except (duckdb.Error, StorageError) as error:
            reason = error.what if isinstance(error, StorageError) else str(error)
            raise CatalogError(
                f"The catalog could not be published: {reason}. Version {version} is committed; "
                "the catalog shows an older one",
                where=self.path,
                todo="remove the cause, then run `historical-etl update` or materialize price_catalog",
            ) from error

    def _point(self, pointer: CatalogPointer) -> None:
        write_atomic(self._layout.catalog_pointer(), render_checksummed(pointer))


def _build(path: os.PathLike[str], manifest: SyncManifest, layout: Layout) -> None:
    with _building() as connection:
        connection.execute(f"ATTACH {quote_text(os.fspath(path))} AS catalog (STORAGE_VERSION '{_STORAGE_VERSION}')")
        connection.begin()
        for statement in view_statements(manifest, layout, database="catalog"):
            connection.execute(statement)
        connection.commit()
        connection.execute("DETACH catalog")


#: Databases in memory from which catalogs are built: making one takes longer than a catalog. Each is used by one thread
#: at a time.
_SPARE: "list[duckdb.DuckDBPyConnection]" = []
_MOST_SPARE: Final = 2


@contextmanager
def _building() -> "Generator[duckdb.DuckDBPyConnection]":
    """A database to attach a catalog to. It has no thread of its own, and is given up after any error."""
    import duckdb

    try:
        connection = _SPARE.pop()
    except IndexError:
        connection = duckdb.connect(":memory:", config={"threads": 1})
    try:
        yield connection
    except BaseException:
        connection.close()
        raise
    if len(_SPARE) < _MOST_SPARE:
        _SPARE.append(connection)
    else:
        connection.close()
