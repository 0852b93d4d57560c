"""Is one year file, inside, what its partition says? Judged by its footer and its rows, a month at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from historical_etl.errors import HistoricalETLError
from historical_etl.models import Partition
from historical_etl.schema import PRIMARY_KEYS, SCHEMA
from historical_etl.store.parquet import Block, read_blocks

__all__ = ["content_faults"]


def content_faults(path: Path, partition: Partition) -> Iterator[str]:
    """What in a year file is not as its partition says, in words; nothing if all is well.

    Args:
        path: the file, which exists.
        partition: what was committed.
    """
    try:
        blocks = read_blocks(path)
        schema = pl.read_parquet_schema(path)
    except HistoricalETLError as error:
        yield error.what
        return
    if list(schema.items()) != list(SCHEMA.items()):
        yield f"its columns are {', '.join(f'{name} {dtype}' for name, dtype in schema.items())}"
        return
    rows = sum(block.rows for block in blocks)
    if rows != partition.rows:
        yield f"it has {rows:,} rows, the manifest says {partition.rows:,}"
    if not blocks:
        return
    if {block.year for block in blocks} != {partition.year}:
        yield f"it holds rows of {blocks[0].year}"
    span = blocks[0].first, blocks[-1].last
    if span != (partition.first_session, partition.last_session):
        named = f"{partition.first_session} to {partition.last_session}"
        yield f"its rows run from {span[0]} to {span[1]}, the manifest says {named}"
    yield from _rows(blocks, partition)


def _rows(blocks: Iterable[Block], partition: Partition) -> Iterator[str]:
    symbols: set[str] = set()
    for block in blocks:  # a month at a time: a year of 10,000 symbols need not fit in memory
        try:
            month = block.read()
        except HistoricalETLError as error:
            yield f"month {block.month}: {error.what}"
            continue
        symbols |= set(month.get_column("symbol").drop_nulls().unique())
        if fault := _disorder(month):
            yield f"month {block.month}: {fault}"
        days = month.get_column("date")
        if (month.height, days.min(), days.max()) != (block.rows, block.first, block.last):
            yield f"month {block.month}: its rows are not what its footer says"
    if len(symbols) != partition.symbols:
        yield f"it has {len(symbols):,} symbols, the manifest says {partition.symbols:,}"


def _disorder(month: pl.DataFrame) -> str | None:
    """What is wrong with the keys of a month, which must ascend by (symbol, date)."""
    if any(month.get_column(key).null_count() for key in PRIMARY_KEYS):
        return "rows without a date or symbol"
    symbol, day = pl.col("symbol"), pl.col("date")
    same = symbol == symbol.shift()
    repeated, ascends = month.select(
        (same & (day == day.shift())).sum().alias("repeated"),
        ((symbol > symbol.shift()) | (same & (day >= day.shift()))).all().alias("ascends"),
    ).row(0)
    if repeated:
        return f"{repeated} key(s) (date, symbol) come twice"
    return None if ascends else "rows do not ascend by symbol and date"
