"""Tables in Dagster's metadata: few rows, short cells. How many rows there are in all is said beside them."""

from collections.abc import Iterable, Sequence
from typing import Final

import dagster as dg
import polars as pl

__all__ = ["TABLE_ROWS", "frame_table", "markdown_table"]

#: The most rows that a table shows.
TABLE_ROWS: Final = 100
_TYPES: Final = {"Int64": "int", "Float64": "float", "Boolean": "bool"}


def frame_table(frame: pl.DataFrame) -> dg.TableMetadataValue:
    """The first rows of a frame."""
    records = [
        dg.TableRecord({name: _plain(value) for name, value in row.items()})
        for row in frame.head(TABLE_ROWS).iter_rows(named=True)
    ]
    columns = [dg.TableColumn(name, _TYPES.get(str(dtype), "string")) for name, dtype in frame.schema.items()]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """A small table as Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return dg.MetadataValue.md("\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines))


def _plain(value: object) -> str | int | float | bool:
    if isinstance(value, int | float | str):
        return value
    return "" if value is None else str(value)


def _cell(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)
