"""The SQL of the catalog's views. Text only: no file is opened here."""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Final

import polars as pl

from historical_etl.catalog.query_request import NOT_PROVEN
from historical_etl.catalog.quoting import escape_glob, quote_name, quote_text
from historical_etl.models import LedgerFile, Partition, SyncManifest
from historical_etl.schema import SCHEMA
from historical_etl.store.layout import Layout
from historical_etl.store.ledger_schemas import SCHEMAS, VIEWS

__all__ = ["view_statements"]

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


def view_statements(
    manifest: SyncManifest,
    layout: Layout,
    database: str = "",
    proven: Container[str] | None = None,
    *,
    by_year: bool = True,
) -> Iterator[str]:
    """`CREATE VIEW` statements over exactly the files of one version.

    Args:
        manifest: the version.
        layout: the store's folders.
        database: that the views are made in; empty takes the one that is connected to.
        proven: paths, as in the manifest, of the files that may be read; a view that needs another one raises an
            error that holds `NOT_PROVEN`. None takes all.
        by_year: give each year a branch of its own, which a plan shows. Without it years that may all be read are one
            list, which is planned faster, and of which no row is compared with a bound.

    The view of a ledger that lacks a file refuses to be read, and no other does.

    `daily_prices` holds the bars. `partitions` has one row per year with what the commit recorded of it. Each ledger
    has a view of its name.

    Each year is a branch of its own, bounded by its dates: so DuckDB drops the years a query cannot need
    while planning. And each branch states its columns, so that planning opens no file either. A query for
    one year then opens that year's file and no other (DuckDB 1.4 and 2.0; checked by a system-call trace).
    """
    prefix = f"{quote_name(database)}." if database else ""
    yield f"CREATE VIEW {prefix}daily_prices AS\n{_bars(manifest.partitions, layout, proven, by_year=by_year)}"
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
        sources = "\nUNION ALL BY NAME\n".join(
            _ledger(part, manifest.ledgers.get(part, ()), layout, proven) for part in parts
        )
        yield f"CREATE VIEW {prefix}{quote_name(name)} AS\n{sources}"


def _bars(partitions: Sequence[Partition], layout: Layout, proven: Container[str] | None, *, by_year: bool) -> str:
    if not partitions:
        return _nothing(SCHEMA)
    if not by_year and (proven is None or all(partition.path in proven for partition in partitions)):
        return _selected(SCHEMA, _files(SCHEMA, [partition.path for partition in partitions], layout))
    return "\nUNION ALL\n".join(_branch(partition, layout, proven) for partition in partitions)


def _branch(partition: Partition, layout: Layout, proven: Container[str] | None) -> str:
    rows = _files(SCHEMA, [partition.path], layout)
    if proven is not None and partition.path not in proven:
        rows = _refusing(SCHEMA, NOT_PROVEN)
    bounds = f"DATE '{partition.first_session}' AND DATE '{partition.last_session}'"
    return f"{_selected(SCHEMA, rows)}\nWHERE date BETWEEN {bounds}"


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


def _ledger(name: str, files: tuple[LedgerFile, ...], layout: Layout, proven: Container[str] | None) -> str:
    schema = SCHEMAS[name]
    if not files:
        return _nothing(schema)
    rows = _files(schema, [file.path for file in files], layout)
    lost = next((file.path for file in files if not layout.resolve(file.path).is_file()), None)
    if lost is not None:  # DuckDB binds a view when it is made, and would refuse all of them
        rows = _refusing(schema, f"The ledger file {lost} is missing; no row of {name} is read")
    elif proven is not None and not all(file.path in proven for file in files):
        rows = _refusing(schema, NOT_PROVEN)
    return _selected(schema, rows)


def _selected(schema: pl.Schema, rows: str) -> str:
    return " ".join(["SELECT", ", ".join(map(quote_name, schema)), "FROM", rows])


def _files(schema: pl.Schema, paths: Sequence[str], layout: Layout) -> str:
    quoted = [quote_text(escape_glob(str(layout.resolve(path)))) for path in paths]
    listed = quoted[0] if len(quoted) == 1 else f"[{', '.join(quoted)}]"
    return f"read_parquet({listed}, schema = {_column_map(schema)})"


def _refusing(schema: pl.Schema, why: str) -> str:
    """A relation that raises an error when anything of it is read; a plan that leaves it out does not mind."""
    refusal = f"error({quote_text(why)})"
    # Each column must be unknown to the planner: of a constant it would take a filter as settled.
    columns = ", ".join(f"{refusal}::{_SQL_TYPES[dtype]} AS {quote_name(column)}" for column, dtype in schema.items())
    return f"(SELECT {columns} FROM range(1) WHERE {refusal} IS NULL)"  # noqa: S608 - quoted


def _column_map(schema: pl.Schema) -> str:
    """What `read_parquet` takes as `schema`. As one text it is bound in half the time of a MAP of expressions."""
    columns = ", ".join(
        f'{name}={{name: {name}, type: "{_SQL_TYPES[dtype]}", default_value: NULL}}' for name, dtype in schema.items()
    )
    return f"'{{{columns}}}'::MAP(VARCHAR, STRUCT(name VARCHAR, type VARCHAR, default_value VARCHAR))"
