"""Rows of some symbols in place of others: the year comes out as if it had been encoded at once, and little is read."""

import io
import tempfile
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historical_etl.errors import ChecksumMismatchError
from historical_etl.schema import FIELD_IDS, ORDER, SCHEMA, VALUE_COLUMNS, empty_frame
from historical_etl.store.parquet import month_blocks
from historical_etl.store.parquet.footer import Shape, Structs, decode
from historical_etl.store.parquet.month_blocks import Block, encode_block, read_blocks, write_year
from historical_etl.store.parquet.stored_stretch import StoredStretch
from historical_etl_tests.shares import examples

#: Every other of these begins a row group, or so.
SYMBOLS = [f"{letter}{number}" for letter in "ABCDE" for number in range(5)]


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(month_blocks, "_ONE_IN", 2)


def bars(keys: Iterator[tuple[int, int, str]], value: float) -> pl.DataFrame:
    rows = [(date(2024, month, day), symbol, *[value] * len(VALUE_COLUMNS)) for month, day, symbol in keys]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def blocks_of(rows: pl.DataFrame) -> list[Block]:
    months = rows.sort(pl.col("date").dt.month(), *ORDER).with_columns(month=pl.col("date").dt.month())
    return [encode_block(part) for part in months.partition_by("month", maintain_order=True, include_key=False)]


def written(blocks: list[Block], path: Path | None = None) -> bytes:
    out = io.BytesIO()
    write_year(blocks, out, None if path is None else (path, sha256(path.read_bytes()).hexdigest()))
    return out.getvalue()


KEYS = st.tuples(st.integers(1, 4), st.integers(1, 3), st.sampled_from(SYMBOLS))


@given(
    stored=st.sets(KEYS, min_size=1, max_size=60),
    symbols=st.sets(st.sampled_from(SYMBOLS), min_size=1, max_size=6),
    data=st.data(),
)
@settings(max_examples=examples(150))
def test_no_path_shows_in_the_bytes(stored: set[tuple[int, int, str]], symbols: set[str], data: st.DataObject) -> None:
    first, last = sorted(data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))))
    months = list(range(first, last + 1))
    base = bars(iter(sorted(stored)), 1.0)
    concerned = pl.col("symbol").is_in(symbols) & pl.col("date").dt.month().is_in(months)
    mine = base.filter(concerned)
    dropped = set(data.draw(st.sets(st.sampled_from(mine.rows())))) if mine.height else set()
    changed = data.draw(st.sets(st.sampled_from(VALUE_COLUMNS)))
    added = data.draw(st.sets(KEYS.filter(lambda key: key[2] in symbols and key[0] in months), max_size=5)) - stored
    rows = [row for row in mine.rows() if row not in dropped]
    merged = pl.concat(
        [
            pl.DataFrame(rows, schema=SCHEMA, orient="row").with_columns(pl.col(name) + 1 for name in changed),
            bars(iter(sorted(added)), 3.0),
        ]
    ).sort(ORDER)
    whole = pl.concat([base.filter(~concerned), merged])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "2024.parquet")
        path.write_bytes(written(blocks_of(base)))
        blocks = {block.month: block for block in read_blocks(path)}
        gone = pl.DataFrame(list(dropped), schema=SCHEMA, orient="row").select("symbol", "date")
        stretch = StoredStretch.read(blocks, months, sorted(symbols), gone)
        known = empty_frame() if stretch.rows is None else stretch.rows
        assert known.equals(mine.sort(ORDER))
        new = stretch.replaced_in(blocks, merged)
        assert written([new[month] for month in sorted(new)], path) == written(blocks_of(whole))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "2024.parquet"
    keys = ((month, day, symbol) for month in (1, 2) for symbol in SYMBOLS for day in (1, 2))
    path.write_bytes(written(blocks_of(bars(keys, 1.0))))
    return path


def test_a_dividend_encodes_adj_close_of_its_groups_and_copies_all_else(path: Path) -> None:
    blocks = {block.month: block for block in read_blocks(path)}
    stretch = StoredStretch.read(blocks, [1, 2], ["C2"], empty_frame())
    assert stretch.rows is not None
    new = stretch.replaced_in(blocks, stretch.rows.with_columns(pl.col("adj_close") * 0.99))
    fresh = [
        (month, name)
        for month, block in new.items()
        for group in block.groups
        for name, chunk in zip(SCHEMA, group.chunks, strict=True)
        if chunk.source.path is None
    ]
    assert fresh == [(1, "adj_close"), (2, "adj_close")]


def test_a_file_that_rots_while_it_is_copied_is_named(path: Path) -> None:
    """Rot must not get the name of a new file."""
    blocks, committed = read_blocks(path), sha256(path.read_bytes()).hexdigest()
    content = bytearray(path.read_bytes())
    chunk = blocks[0].groups[-1].chunks[-1]
    content[chunk.stop - 1] ^= 1
    path.write_bytes(content)
    blocks = read_blocks(path)
    last = encode_block(blocks[1].read().with_columns(close=2.0))
    with pytest.raises(ChecksumMismatchError, match=r"changed after its commit.*2024\.parquet"):
        write_year([blocks[0], last], io.BytesIO(), (path, committed))
    with pytest.raises(ChecksumMismatchError, match="changed after its commit"):
        write_year([encode_block(blocks[0].read()), last], io.BytesIO(), (path, committed))


def test_columns_have_the_numbers_that_never_change(path: Path) -> None:
    content = path.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    numbers: Shape = {2: {9: {}}}
    elements = decode(content[start:-8], numbers).read(2, Structs)
    assert {element.text(4).decode(): element.read(9, int) for element in elements[1:]} == FIELD_IDS
    assert list(FIELD_IDS) == list(SCHEMA)
