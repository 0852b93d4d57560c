"""The DuckDB catalog: a file with views over exactly one committed version, for any DuckDB client.

It is built aside and swapped in, never opened for writing where readers may have it open: DuckDB shuts out
readers of other processes while one writes. The store's own queries do not go through the file at all: they
lay the same views over the manifest in memory, so that they can be neither stale nor locked out.
"""

import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

import duckdb
import polars as pl

from historical_etl.catalog.limits import Watch, limit_memory
from historical_etl.catalog.plan import files_opened
from historical_etl.catalog.views import escape_glob, quote_text, view_statements
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
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import is_of, read_catalog_pointer
from historical_etl.store.sealed import sealed
from historical_etl.store.sound import require_sound

__all__ = ["Catalog"]

#: What the oldest client we promise to serve can read.
_STORAGE_VERSION: Final = "v1.4.0"
#: Of a version without years the view's comment tells.
_VERSION_SHOWN: Final = (
    "SELECT coalesce((SELECT max(version) FROM catalog.partitions), (SELECT any_value(comment)::INTEGER FROM "
    "duckdb_views() WHERE database_name = 'catalog' AND view_name = 'partitions'))"
)
_READING: Final = {duckdb.StatementType.SELECT}
_EXPLAIN: Final = re.compile(r"^\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)


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
        try:
            with duckdb.connect(":memory:") as connection:
                # Attached, not opened: an open one in this process would be served from DuckDB's cache.
                connection.execute(f"ATTACH {quote_text(str(self.path))} AS catalog (READ_ONLY)")
                row = connection.execute(_VERSION_SHOWN).fetchone()
        except duckdb.Error as error:
            raise CatalogError(f"the file cannot be read: {str(error)[:200]}", where=self.path) from error
        return int(row[0]) if row and row[0] is not None else 0

    def publish(self, manifest: SyncManifest) -> None:
        """Build the catalog of a version and swap it in; readers that have the old one open keep it.

        Call it with the writer lock held, so that an older version never replaces a newer one.

        Raises:
            CatalogError: it could not be built or swapped in. The data is committed, the old catalog stands.
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
            with storage_errors("publishing the catalog", self.path, "the old one stands"):
                make_folder(self.path.parent)
                for leftover in self.path.parent.glob(f".{self.path.name}.*{TEMP_SUFFIX}*"):
                    leftover.unlink(missing_ok=True)
                _build(temp, manifest, self._layout)
                with temp.open("rb") as built:
                    os.fsync(built.fileno())
                checksum = sha256_of(temp)
                old = read_catalog_pointer(self._layout)
                if old is not None and old.version == manifest.version:  # else its version tells that it is old
                    self._point(old.model_copy(update={"following": checksum}))
                temp.replace(self.path)
                fsync_folder(self.path.parent)
                objects = str(self._layout.objects)
                self._point(CatalogPointer(version=manifest.version, objects=objects, checksum=checksum))
        except (duckdb.Error, StorageError) as error:
            reason = error.what if isinstance(error, StorageError) else str(error)
            raise CatalogError(
                f"The catalog could not be published: {reason}. Version {manifest.version} is committed; "
                "the catalog shows an older one",
                where=self.path,
                todo="remove the cause, then run `historical-etl update` or materialize price_catalog",
            ) from error
        finally:
            with suppress(OSError):
                temp.unlink()

    def _point(self, pointer: CatalogPointer) -> None:
        write_atomic(self._layout.catalog_pointer(), sealed(pointer))

    def query(
        self,
        sql: str,
        manifest: SyncManifest,
        params: Sequence[object] | Mapping[str, object] | None = None,
        *,
        seconds: float = math.inf,
        memory: int = sys.maxsize,
    ) -> pl.DataFrame:
        """Run one reading SQL statement over the views of a version.

        It can read the files of that version and nothing else, and change nothing. The files that it opens are proven
        to be the committed ones first.

        Args:
            sql: the statement.
            manifest: the version.
            params: values for `?` or `$name`.
            seconds: how long it may run.
            memory: how many bytes it may take, its answer included.

        Raises:
            CatalogError: the statement is not a query, it went beyond a limit, or DuckDB refused it; DuckDB's words are
                in the message.
            ChecksumMismatchError: a file that it opens is not what was committed.
        """
        watch: Watch | None = None
        _refuse_half_characters(sql)
        try:
            with duckdb.connect(":memory:") as connection:
                for statement in view_statements(manifest, self._layout):
                    connection.execute(statement)
                allowed = limit_memory(connection, memory)
                _confine(connection, manifest, self._layout)
                _refuse_writing(connection, sql)
                require_sound(self._layout, files_opened(connection, _EXPLAIN.sub("", sql), params, manifest))
                with Watch(connection, seconds, allowed) as watch:
                    relation = connection.sql(sql, params=params)
                    _refuse_intervals(relation)
                    return pl.DataFrame(relation)
        except (duckdb.Error, pl.exceptions.ComputeError, pl.exceptions.DuplicateError) as error:
            if (watch and watch.exceeded) or isinstance(error, duckdb.OutOfMemoryException):
                raise CatalogError(
                    f"The query was stopped: {(watch and watch.exceeded) or error}",
                    where="query_sql",
                    todo="ask for less, or raise HISTORICAL_ETL_QUERY_TIMEOUT_SECONDS or HISTORICAL_ETL_QUERY_MEMORY",
                ) from error
            if isinstance(error, pl.exceptions.DuplicateError):
                raise CatalogError(
                    "Two columns of the answer have one name", where="query_sql", todo="name them apart, with AS"
                ) from error
            raise CatalogError(
                f"DuckDB refused the query: {error}",
                where="query_sql",
                todo="`SHOW TABLES` lists the views; try `SELECT * FROM daily_prices LIMIT 5`",
            ) from error


def _refuse_intervals(relation: duckdb.DuckDBPyRelation) -> None:
    # Polars has no such type, and panics.
    columns = [name for name, kind in zip(relation.columns, relation.types, strict=True) if "INTERVAL" in str(kind)]
    if columns:
        raise CatalogError(
            f"The answer has column(s) of type INTERVAL, which a frame cannot hold: {', '.join(columns)}",
            where="query_sql",
            todo="cast them, e.g. CAST(x AS VARCHAR) or date_diff('day', a, b)",
        )


def _build(path: os.PathLike[str], manifest: SyncManifest, layout: Layout) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH {quote_text(os.fspath(path))} AS catalog (STORAGE_VERSION '{_STORAGE_VERSION}')")
        connection.begin()
        for statement in view_statements(manifest, layout, database="catalog"):
            connection.execute(statement)
        connection.commit()
        connection.execute("DETACH catalog")


def _confine(connection: duckdb.DuckDBPyConnection, manifest: SyncManifest, layout: Layout) -> None:
    paths = [str(layout.resolve(path)) for path in manifest.named_paths()]
    # DuckDB checks a path as it is written in the query and again as the file it opens.
    allowed = ", ".join(quote_text(path) for path in sorted({*paths, *map(escape_glob, paths)}))
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _refuse_half_characters(sql: str) -> None:
    try:
        sql.encode()
    except UnicodeEncodeError as error:  # DuckDB's binding would say that the text is of the wrong type
        raise CatalogError(
            f"The query holds half a character at position {error.start}", where="query_sql", todo="write it in UTF-8"
        ) from None


def _refuse_writing(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    # COPY could still overwrite the files that may be read, also from inside EXPLAIN ANALYZE.
    statements = connection.extract_statements(_EXPLAIN.sub("", sql))
    if len(statements) != 1 or statements[0].type not in _READING:
        raise CatalogError(
            f"query_sql takes one reading statement; got {len(statements)}: "
            f"{', '.join(statement.type.name for statement in statements) or 'none'}",
            where="query_sql",
            todo="write a single SELECT; data is changed by backfill and update only",
        )
