"""The SQL of the catalog's views. Text only: nothing is opened here."""

from collections.abc import Iterator, Mapping
from typing import Final

from historical_etl.models import Partition, SyncManifest
from historical_etl.schema import SCHEMA
from historical_etl.store.layout import Layout

__all__ = ["escape_glob", "quote_text", "view_statements"]

_SQL_TYPES: Final = {"Date": "DATE", "String": "VARCHAR", "Float64": "DOUBLE"}


def view_statements(manifest: SyncManifest, layout: Layout, database: str = "") -> Iterator[str]:
    """`CREATE VIEW` statements over exactly the files of one version.

    `daily_prices` holds the bars. `partitions` has one row per year with what the commit recorded of it.

    Each year is a branch of its own, bounded by its dates: so DuckDB drops the years a query cannot need
    while planning. And each branch states its columns, so that planning opens no file either. A query for
    one year then opens that year's file and no other (DuckDB 1.4 and 2.0; checked by a system-call trace).
    """
    prefix = f"{quote_name(database)}." if database else ""
    branches = [_branch(partition, layout) for partition in manifest.partitions]
    yield f"CREATE VIEW {prefix}daily_prices AS\n" + "\nUNION ALL\n".join(branches)
    yield (
        f"CREATE VIEW {prefix}partitions AS\nSELECT * FROM (VALUES\n"
        + ",\n".join(_record(partition, manifest, layout) for partition in manifest.partitions)
        + "\n) AS t(year, rows, symbols, first_session, last_session, size_bytes, checksum, version, path)"
    )


def quote_name(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _branch(partition: Partition, layout: Layout) -> str:
    path = quote_text(escape_glob(str(layout.resolve(partition.path))))
    columns = ", ".join(quote_name(name) for name in SCHEMA)
    return (
        f"SELECT {columns} FROM read_parquet({path}, schema = MAP {{{_COLUMNS}}})\n"  # noqa: S608 - quoted, and DuckDB takes no parameters in a view
        f"WHERE date BETWEEN DATE '{partition.first_session}' AND DATE '{partition.last_session}'"
    )


def escape_glob(path: str) -> str:
    """A path that `read_parquet` takes literally, whatever characters it has."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)


def _record(partition: Partition, manifest: SyncManifest, layout: Layout) -> str:
    p = partition
    facts = (
        f"{p.year}, {p.rows}::BIGINT, {p.symbols}, DATE '{p.first_session}', DATE '{p.last_session}', "
        f"{p.size_bytes}::BIGINT, '{p.checksum}', {manifest.version}, {quote_text(str(layout.resolve(p.path)))}"
    )
    return f"  ({facts})"


def _column_map(types: Mapping[str, str]) -> str:
    return ", ".join(
        f"'{name}': {{name: '{name}', type: '{types[str(dtype)]}', default_value: NULL}}"
        for name, dtype in SCHEMA.items()
    )


_COLUMNS: Final = _column_map(_SQL_TYPES)
