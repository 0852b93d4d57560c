"""Parquet files that are none, or that lie: year files by their footers, and ledgers."""

import io
from datetime import date
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from historical_etl import ChecksumMismatchError, SyncManifest
from historical_etl.errors import DataQualityError, HistoricalETLError
from historical_etl.models import LedgerFile
from historical_etl.store.layout import Layout
from historical_etl.store.ledger_schemas import LOGS, SCHEMAS
from historical_etl.store.ledgers import read_ledger, read_undamaged, write_ledgers
from historical_etl.store.parquet.footer import ThriftError, decode, encode
from historical_etl.store.parquet.month_blocks import encode_block, read_blocks, write_year
from historical_etl_tests.proofs.hostile.mutations import fuzz, spoilt_bytes
from historical_etl_tests.scenario import COLUMNS, SHORT, evening

DAY = date(2013, 3, 1)
MAGIC = b"PAR1"


def year_file() -> bytes:
    rows = SHORT.bars(end=date(2012, 11, 9)).with_columns(pl.lit(None, pl.Float64).alias("ret")).select(list(COLUMNS))
    october = pl.col("date").dt.month() == 10
    months = [rows.filter(month).sort("symbol", "date") for month in (october, ~october)]
    out = io.BytesIO()
    write_year([encode_block(month) for month in months], out)
    return out.getvalue()


YEAR = year_file()
PAGES, FOOTER = (
    YEAR[: -8 - int.from_bytes(YEAR[-8:-4], "little")],
    YEAR[-8 - int.from_bytes(YEAR[-8:-4], "little") : -8],
)
#: As `store.parquet.month_blocks` opens a footer.
CHUNK = {2: {}, 3: {7: {}, 9: {}, 10: {}, 11: {}}}
SHAPE = {3: {}, 4: {1: CHUNK, 3: {}, 5: {}, 7: {}}}


def with_footer(footer: bytes) -> bytes:
    return PAGES + footer + len(footer).to_bytes(4, "little") + MAGIC


def long_list(kind: int) -> bytes:
    """A struct whose first field is a list of 2^62 elements, of which none is there."""
    return bytes([0x19, 0xF0 | kind, *[0x80] * 8, 0x40, 0x00])


@fuzz(200)
@given(st.binary(max_size=300) | spoilt_bytes(FOOTER), st.sampled_from([SHAPE, {}, {1: {}}, {4: {1: {}}}]))
@example(long_list(1), {})  # truths: one byte each
@example(long_list(3), {})  # bytes
@example(long_list(7), {})  # doubles
@example(long_list(12), {1: {}})  # structs
@example(b"\x1c" * 5000, {})
@example(b"\x19\x19" * 5000, {})
def test_thrift(content, shape):
    try:
        found = decode(content, shape)
    except ThriftError:
        return
    assert decode(encode(found), shape) == found


@fuzz(120)
@given(content=spoilt_bytes(FOOTER).map(with_footer) | spoilt_bytes(YEAR))
@example(content=with_footer(long_list(7)))
def test_a_year_file(content, tmp_path_factory):
    """Its blocks are read, or refused; the rows of a block that was not refused are in the schema, or refused too."""
    path = tmp_path_factory.mktemp("years") / "2012.parquet"
    path.write_bytes(content)
    try:
        blocks = read_blocks(path)
        for block in blocks:
            assert block.read().schema == COLUMNS
        write_year(blocks, io.BytesIO())
    except HistoricalETLError as error:
        assert str(path) in str(error)
    assert path.read_bytes() == content


def test_the_intact_one_is_read(tmp_path):
    """The seed of the tests above is what they believe it to be."""
    path = tmp_path / "2012.parquet"
    path.write_bytes(with_footer(FOOTER))
    assert path.read_bytes() == YEAR
    assert [block.month for block in read_blocks(path)] == [10, 11]


def corrections(rows: int = 3) -> pl.DataFrame:
    row = {"date": DAY, "symbol": "BRK.B", "column": "close", "old": 1.0, "new": 2.0, "version": 3}
    return pl.DataFrame([row | {"committed_at": evening(DAY)}] * rows, schema=SCHEMAS["corrections"])


def parquet(frame: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out)
    return out.getvalue()


LEDGER = parquet(corrections())


def listed(root: Path, content: bytes, name: str = "corrections") -> tuple[Layout, SyncManifest]:
    """A version whose ledger is this file, checksum and all: whoever wrote it knew how to."""
    layout, checksum = Layout(root), sha256(content).hexdigest()
    path = layout.ledger_file(name, checksum)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    file = LedgerFile(path=layout.relative(path), rows=3, checksum=checksum, size_bytes=len(content))
    return layout, SyncManifest(
        sync_timestamp=evening(DAY), start_date=DAY, end_date=DAY, row_count=0, checksum="", ledgers={name: (file,)}
    )


@fuzz(80)
@given(content=spoilt_bytes(LEDGER))
@example(content=b"")
@example(content=parquet(pl.DataFrame({"date": ["no date"]})))
@example(content=parquet(corrections().with_columns(pl.lit("x").alias("old"))))
def test_a_ledger(content, tmp_path_factory):
    """It is read in its schema or refused by name; a run goes on without it, and a commit puts new rows beside it."""
    layout, manifest = listed(tmp_path_factory.mktemp("store"), content)
    try:
        rows = read_ledger(layout, manifest, "corrections")
    except ChecksumMismatchError as error:
        assert "corrections" in str(error)
        assert read_undamaged(layout, manifest, "corrections").is_empty()
    else:
        assert rows.schema == SCHEMAS["corrections"]
    after = write_ledgers(layout, manifest.ledgers, {"corrections": corrections(5)})
    last = layout.resolve(after["corrections"][-1].path)
    assert pl.read_parquet(last).height >= 5


@pytest.mark.parametrize("name", LOGS)
def test_a_ledger_with_the_columns_of_another(name, root):
    layout, manifest = listed(root, parquet(pl.DataFrame({"x": [1]})), name)
    with pytest.raises(DataQualityError, match=name):
        read_ledger(layout, manifest, name)
