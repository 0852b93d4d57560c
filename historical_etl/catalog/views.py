"""The SQL of the catalog's views. Text only: no file is opened here."""

from collections.abc import Iterator, Mapping
from typing import Final

import polars as pl

from historical_etl.models import LedgerFile, Partition, SyncManifest
from historical_etl.schema import SCHEMA
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import SCHEMAS, VIEWS

__all__ = ["escape_glob", "quote_text", "view_statements"]

_SQL_TYPES: Final[Mapping[pl.DataType, str]] = {
    pl.Date(): "DATE",
    pl.String(): "VARCHAR",
    pl.Float64(): "DOUBLE",
    pl.Int64(): "BIGINT",
    pl.Boolean(): "BOOLEAN",
    pl.List(pl.String()): "VARCHAR[]",
    pl.Datetime("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
}
_NO_YEAR: Final = (
    "SELECT NULL::INTEGER AS year, NULL::BIGINT AS rows, NULL::INTEGER AS symbols, NULL::DATE AS first_session, "
    "NULL::DATE AS last_session, NULL::BIGINT AS size_bytes, NULL::VARCHAR AS checksum, NULL::INTEGER AS version, "
    "NULL::VARCHAR AS path WHERE false"
)


def view_statements(manifest: SyncManifest, layout: Layout, database: str = "") -> Iterator[str]:
    """`CREATE VIEW` statements over exactly the files of one version.

    The view of a ledger that lacks a file refuses to be read, and no other does.

    `daily_prices` holds the bars. `partitions` has one row per year with what the commit recorded of it. Each ledger
    has a view of its name.

    Each year is a branch of its own, bounded by its dates: so DuckDB drops the years a query cannot need
    while planning. And each branch states its columns, so that planning opens no file either. A query for
    one year then opens that year's file and no other (DuckDB 1.4 and 2.0; checked by a system-call trace).
    """
    prefix = f"{quote_name(database)}." if database else ""
    branches = [_branch(partition, layout) for partition in manifest.partitions] or [_nothing(SCHEMA)]
    yield f"CREATE VIEW {prefix}daily_prices AS\n" + "\nUNION ALL\n".join(branches)
    if manifest.partitions:
        yield (
            f"CREATE VIEW {prefix}partitions AS\nSELECT * FROM (VALUES\n"
            + ",\n".join(_record(partition, manifest, layout) for partition in manifest.partitions)
            + "\n) AS t(year, rows, symbols, first_session, last_session, size_bytes, checksum, version, path)"
        )
    else:
        yield f"CREATE VIEW {prefix}partitions AS\n{_NO_YEAR}"
        yield f"COMMENT ON VIEW {prefix}partitions IS '{manifest.version}'"  # no row could name it
    for name, parts in VIEWS.items():
        sources = "\nUNION ALL BY NAME\n".join(_ledger(part, manifest.ledgers.get(part, ()), layout) for part in parts)
        yield f"CREATE VIEW {prefix}{quote_name(name)} AS\n{sources}"


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
        f"SELECT {columns} FROM read_parquet({path}, schema = MAP {{{_column_map(SCHEMA)}}})\n"  # noqa: S608 - quoted, and DuckDB takes no parameters in a view
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


def _nothing(schema: pl.Schema) -> str:
    columns = ", ".join(f"NULL::{_SQL_TYPES[dtype]} AS {quote_name(column)}" for column, dtype in schema.items())
    return f"SELECT {columns} WHERE false"


def _ledger(name: str, files: tuple[LedgerFile, ...], layout: Layout) -> str:
    schema = SCHEMAS[name]
    if not files:
        return _nothing(schema)
    columns = ", ".join(map(quote_name, schema))
    lost = next((file.path for file in files if not layout.resolve(file.path).is_file()), None)
    if lost is not None:
        # DuckDB binds a view when it is made, and would refuse all of them.
        refusal = quote_text(f"The ledger file {lost} is missing; no row of {name} is read")
        nothing = ", ".join(f"NULL::{_SQL_TYPES[dtype]} AS {quote_name(column)}" for column, dtype in schema.items())
        return f"SELECT {columns} FROM (SELECT {nothing}, error({refusal}) AS refusal) WHERE refusal IS NULL"  # noqa: S608 - quoted
    paths = ", ".join(quote_text(escape_glob(str(layout.resolve(file.path)))) for file in files)
    return f"SELECT {columns} FROM read_parquet([{paths}], schema = MAP {{{_column_map(schema)}}})"  # noqa: S608 - likewise


def _column_map(schema: pl.Schema) -> str:
    return ", ".join(
        f"'{name}': {{name: '{name}', type: '{_SQL_TYPES[dtype]}', default_value: NULL}}"
        for name, dtype in schema.items()
    )
