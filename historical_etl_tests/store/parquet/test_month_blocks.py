"""Year files out of month blocks: what is written reads the same everywhere, and no path shows in the bytes."""

import hashlib
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from functools import cache
from io import BytesIO
from os import environ
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from historical_etl.errors import ChecksumMismatchError, DataQualityError, SchemaDriftError, StorageError
from historical_etl.schema import SCHEMA, VALUE_COLUMNS, empty_frame
from historical_etl.store.parquet.footer import Shape, decode, encode
from historical_etl.store.parquet.month_blocks import Block, encode_block, read_blocks, write_year, writer_name
from historical_etl.store.parquet.row_groups import RowGroup
from historical_etl_tests.shares import examples

#: With dots and dashes as vendors write them; sorted by bytes, `A.B` before `AB`.
SYMBOLS = ["A", "A.B", "AB", "BF-B", "BRK.B", "X^P", "ZZZ9"]
#: Two of them begin a row group, I0458 and I0893.
MANY = [f"I{i:04}" for i in range(1000)]


def bars(days: Iterable[date], symbols: Iterable[str]) -> pl.DataFrame:
    """One bar for each symbol and day: prices exact in binary, a null here and a negative zero there."""
    keys = [(day, symbol) for symbol in symbols for day in days]
    values = [None if i % 11 == 3 else -0.0 if i % 13 == 5 else (i * 37 % 4096) / 64 for i in range(len(keys) * 7)]
    columns = {name: values[i :: len(VALUE_COLUMNS)] for i, name in enumerate(VALUE_COLUMNS)}
    return pl.DataFrame({"date": [d for d, _ in keys], "symbol": [s for _, s in keys], **columns}, schema=SCHEMA)


def days(month: int, count: int) -> list[date]:
    return [date(2024, month, 1) + timedelta(day) for day in range(count)]


def by_month(frame: pl.DataFrame) -> list[pl.DataFrame]:
    ordered = frame.sort(pl.col("date").dt.month(), "symbol", "date").with_columns(month=pl.col("date").dt.month())
    return ordered.partition_by("month", maintain_order=True, include_key=False)


def write(path: Path, blocks: list[Block]) -> bytes:
    """Write a year file, hold the report against it, and return its bytes."""
    with path.open("wb") as out:
        report = write_year(blocks, out)
    data = path.read_bytes()
    span = (blocks[0].first, blocks[-1].last) if blocks else (None, None)
    assert report == (hashlib.sha256(data).hexdigest(), len(data), sum(block.rows for block in blocks), *span)
    return data


def wipe(data: bytearray, groups: Iterable[RowGroup]) -> None:
    """Overwrite the pages of some groups."""
    for chunk in (chunk for group in groups for chunk in group.chunks):
        data[chunk.start : chunk.stop] = bytes(chunk.stop - chunk.start)


def duckdb_rows(path: Path, where: str = "true") -> pl.DataFrame:
    rows = duckdb.execute(f"SELECT * FROM read_parquet('{path}') WHERE {where}").fetchall()
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def stored(path: Path, *frames: pl.DataFrame) -> bytes:
    return write(path, [encode_block(frame) for frame in frames])


@pytest.fixture
def year(tmp_path: Path) -> Path:
    """January, March and December; the first in three row groups, the second with a single row."""
    path = tmp_path / "2024.parquet"
    stored(path, bars(days(1, 20), MANY), bars(days(3, 1), ["BRK.B"]), bars(days(12, 31), SYMBOLS))
    return path


@cache
def whole() -> pl.DataFrame:
    """The rows of `year`; not made on import, since Polars' threads do not survive a fork."""
    return pl.concat([bars(days(1, 20), MANY), bars(days(3, 1), ["BRK.B"]), bars(days(12, 31), SYMBOLS)])


def test_polars_reads_the_rows_back_in_order(year: Path) -> None:
    assert pl.read_parquet(year).equals(whole())
    assert pl.scan_parquet(year).collect(engine="streaming").equals(whole())


def test_duckdb_reads_the_same_rows(year: Path) -> None:
    assert duckdb_rows(year).equals(whole())


def test_negative_zero_keeps_its_sign(year: Path) -> None:
    zeros = [value for value in pl.read_parquet(year)["close"] if value == 0]
    assert -1.0 in {math.copysign(1, zero) for zero in zeros}
    assert zeros == [value for value in whole()["close"] if value == 0]


def test_blocks_of_a_file_say_what_they_hold_and_read_alone(year: Path) -> None:
    blocks = read_blocks(year)
    assert [(block.year, block.month, block.rows) for block in blocks] == [
        (2024, 1, 20_000),
        (2024, 3, 1),
        (2024, 12, 217),
    ]
    assert [(block.first.day, block.last.day) for block in blocks] == [(1, 20), (1, 1), (1, 31)]
    assert all(block.current and block.source.path == year for block in blocks)
    assert [len(block.groups) for block in blocks] == [3, 1, 1]
    for block, frame in zip(blocks, by_month(whole()), strict=True):
        assert block.read().equals(frame)


def test_a_block_in_memory_reads_too() -> None:
    assert encode_block(bars(days(2, 3), SYMBOLS)).read().equals(bars(days(2, 3), SYMBOLS))


def test_no_blocks_make_a_file_without_rows(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    write(path, [])
    assert read_blocks(path) == []
    assert pl.read_parquet(path).equals(empty_frame())
    assert duckdb_rows(path).is_empty()


@pytest.mark.parametrize("month", [1, 3, 12])
def test_a_filter_reads_no_page_of_other_months(year: Path, month: int) -> None:
    # The strictest proof that row groups are skipped: there is nothing left in them to read.
    wanted = next(block for block in read_blocks(year) if block.month == month)
    data = bytearray(year.read_bytes())
    for block in read_blocks(year):
        if block.month != month:
            wipe(data, block.groups)
    expected = wanted.read()
    year.write_bytes(data)

    first, last = expected["date"].min(), expected["date"].max()
    assert pl.scan_parquet(year).filter(pl.col("date").is_between(first, last)).collect().equals(expected)
    assert duckdb_rows(year, f"date BETWEEN '{first}' AND '{last}'").equals(expected)
    with pytest.raises(ChecksumMismatchError):
        pl.concat([block.read() for block in read_blocks(year)])


def test_a_filter_by_symbol_reads_one_row_group_of_three(year: Path) -> None:
    data = bytearray(year.read_bytes())
    wipe(data, read_blocks(year)[0].groups[:-1])
    year.write_bytes(data)
    january = pl.scan_parquet(year).filter(pl.col("symbol") == MANY[-1], pl.col("date") < date(2024, 2, 1))
    assert january.collect().equals(bars(days(1, 20), MANY).filter(pl.col("symbol") == MANY[-1]))


@st.composite
def cut_years(draw: st.DrawFn) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """A year of rows, and the same rows cut into increments at random."""
    keys = draw(
        st.lists(
            st.tuples(st.integers(1, 12), st.integers(1, 28), st.sampled_from(SYMBOLS)),
            min_size=1,
            max_size=80,
            unique=True,
        )
    )
    price = st.one_of(st.none(), st.just(-0.0), st.floats(allow_nan=False))
    prices = draw(st.lists(price, min_size=len(keys), max_size=len(keys)))
    columns = dict.fromkeys(VALUE_COLUMNS, prices)
    rows = pl.DataFrame(
        {"date": [date(2024, m, d) for m, d, _ in keys], "symbol": [s for _, _, s in keys], **columns}, schema=SCHEMA
    )
    parts = draw(st.lists(st.integers(0, 4), min_size=len(keys), max_size=len(keys)))
    return rows, rows.with_columns(part=pl.Series(parts)).partition_by("part", include_key=False)


@given(cut_years())
@settings(max_examples=examples(60))
def test_no_path_shows_in_the_bytes(cut: tuple[pl.DataFrame, list[pl.DataFrame]]) -> None:
    rows, increments = cut
    with tempfile.TemporaryDirectory() as folder:
        at_once = stored(Path(folder, "at once"), *by_month(rows))
        path, blocks = Path(folder), dict[int, Block]()
        for number, increment in enumerate(increments):
            for new in by_month(increment):
                month = new["date"][0].month
                old = [blocks[month].read()] if month in blocks else []
                blocks[month] = encode_block(pl.concat([*old, new]).sort("symbol", "date"))
            path = Path(folder, f"{number}.parquet")
            write(path, [blocks[month] for month in sorted(blocks)])
            blocks = {block.month: block for block in read_blocks(path)}
        assert path.read_bytes() == at_once


def test_many_row_groups_survive_being_copied_again_and_again(year: Path, tmp_path: Path) -> None:
    whole = year.read_bytes()
    january, march, december = read_blocks(year)
    without = tmp_path / "without.parquet"
    write(without, [march, december])
    assert write(tmp_path / "again.parquet", [january, *read_blocks(without)]) == whole


def test_chunks_of_the_frame_do_not_show() -> None:
    frame = bars(days(1, 20), MANY)
    scattered = pl.concat([frame.slice(start, 777) for start in range(0, frame.height, 777)], rechunk=False)
    filtered = pl.concat([frame, bars(days(2, 9), MANY)]).filter(pl.col("date").dt.month() == 1)
    first, *others = [BytesIO() for _ in range(3)]
    for out, version in zip((first, *others), (frame, scattered, filtered), strict=True):
        write_year([encode_block(version)], out)
    assert [out.getvalue() == first.getvalue() for out in others] == [True, True]


def test_threads_do_not_show() -> None:
    script = (
        "import io; from historical_etl_tests.store.parquet.test_month_blocks import *;"
        "print(write_year([encode_block(bars(days(1, 20), MANY))], io.BytesIO()).sha256)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**environ, "POLARS_MAX_THREADS": threads, "PYTHONPATH": str(Path(__file__).parents[3])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "5")
    }
    assert hashes == {write_year([encode_block(bars(days(1, 20), MANY))], BytesIO()).sha256 + "\n"}


def test_blocks_of_another_polars_are_encoded_anew(year: Path, tmp_path: Path) -> None:
    whole = year.read_bytes()
    other = pl.__version__.encode()[:-1] + b"~"
    assert len(other) == len(pl.__version__)
    year.write_bytes(whole.replace(f"version {pl.__version__}".encode(), b"version " + other))
    assert writer_name().startswith(f"Polars (python) version {pl.__version__}")
    old = read_blocks(year)
    assert not any(block.current for block in old)
    assert write(tmp_path / "new.parquet", [old[0], encode_block(old[1].read()), old[2]]) == whole


def test_a_plain_polars_file_can_be_taken_in(tmp_path: Path) -> None:
    frame = bars(days(2, 20), SYMBOLS)
    plain, own = tmp_path / "plain.parquet", tmp_path / "own.parquet"
    frame.sort("date", "symbol").write_parquet(plain)
    [block] = read_blocks(plain)
    assert not block.current
    assert write(own, [block]) == stored(tmp_path / "expected.parquet", frame)


def test_a_file_that_is_not_made_of_months_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixed.parquet"
    whole().write_parquet(path)
    with pytest.raises(DataQualityError, match=r"from 2024-01-\d+ to 2024-.*mixed\.parquet"):
        read_blocks(path)
    pl.concat([bars(days(3, 4), SYMBOLS), bars(days(2, 4), SYMBOLS)]).write_parquet(path, row_group_size=28)
    with pytest.raises(DataQualityError, match=r"\(2024, 3\), \(2024, 2\)"):
        read_blocks(path)


def test_other_columns_are_refused(tmp_path: Path) -> None:
    frame = bars(days(2, 4), SYMBOLS).rename({"ret": "return"})
    with pytest.raises(SchemaDriftError, match="return"):
        encode_block(frame)
    path = tmp_path / "drift.parquet"
    frame.write_parquet(path)
    with pytest.raises(SchemaDriftError, match=r"drift\.parquet"):
        read_blocks(path)[0].read()


@pytest.mark.parametrize(
    "make",
    [
        empty_frame,
        lambda: pl.concat([bars(days(1, 1), ["A"]), bars(days(2, 1), ["B"])]),
        lambda: bars(days(1, 2), ["A"]).reverse(),
        lambda: bars(days(1, 2), ["B", "A"]),
        lambda: pl.concat([bars(days(1, 1), ["A"])] * 2),
        lambda: bars(days(1, 2), ["A"]).with_columns(date=pl.lit(None, pl.Date)),
        lambda: bars(days(1, 2), ["A"]).with_columns(symbol=pl.lit(None, pl.String)),
    ],
    ids=["no rows", "two months", "dates descend", "symbols descend", "key twice", "no date", "no symbol"],
)
def test_a_frame_that_is_no_block_is_the_callers_mistake(make: Callable[[], pl.DataFrame]) -> None:
    with pytest.raises(ValueError, match="one month, ascending"):
        encode_block(make())


def test_months_must_ascend_within_one_year() -> None:
    january, february = (encode_block(bars(days(month, 2), SYMBOLS)) for month in (1, 2))
    later = encode_block(bars([date(2025, 3, 1)], SYMBOLS))
    for blocks in ([february, january], [january, january], [january, later]):
        out = BytesIO()
        with pytest.raises(ValueError, match="one year, by month"):
            write_year(blocks, out)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"PAR1",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[100:],
        lambda data: b"symbol,date\n" * 1000,
        lambda data: data[:-8] + b"\xff\xff\xff\x7f" + b"PAR1",
        lambda data: data[:-8] + b"\x02\x00\x00\x00" + b"PAR1",
        lambda data: data[:-2400] + b"\xff" * 99 + data[-2301:],
        lambda data: data[:-8000] + data[-7999:],
    ],
    ids=["empty", "magic", "half", "cut", "headless", "csv", "length", "short", "overwritten", "byte lost"],
)
def test_a_damaged_file_is_named(year: Path, damage: Callable[[bytes], bytes]) -> None:
    year.write_bytes(damage(year.read_bytes()))
    with pytest.raises(ChecksumMismatchError, match=r"2024\.parquet.*Next: "):
        read_blocks(year)


def test_a_footer_whose_rows_do_not_add_up_is_named(year: Path) -> None:
    content = year.read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    rows: Shape = {3: {}}
    footer = decode(content[start:-8], rows)
    footer.write(3, footer.read(3, int) + 1)
    changed = encode(footer)
    year.write_bytes(content[:start] + changed + len(changed).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(ChecksumMismatchError, match=r"do not add up.*2024\.parquet"):
        read_blocks(year)


def test_a_month_of_several_mebibytes_is_copied_whole(tmp_path: Path) -> None:
    """It is copied in pieces of one."""
    dice = random.Random(1)
    keys = [(day, f"S{number:04}") for number in range(3000) for day in days(1, 20)]
    values = {name: [dice.random() for _ in keys] for name in VALUE_COLUMNS}
    frame = pl.DataFrame({"date": [d for d, _ in keys], "symbol": [s for _, s in keys], **values}, schema=SCHEMA)
    path = tmp_path / "2024.parquet"
    content = stored(path, frame)
    assert len(content) > 3 << 20
    assert write(tmp_path / "copy.parquet", read_blocks(path)) == content


@given(st.data())
@settings(max_examples=examples(200))
def test_no_edit_of_a_footer_raises_anything_but_our_error(data: st.DataObject) -> None:
    whole = BytesIO()
    write_year([encode_block(bars(days(month, 2), SYMBOLS)) for month in (1, 2)], whole)
    edited = bytearray(whole.getvalue())
    length = int.from_bytes(edited[-8:-4], "little")
    for place, value in data.draw(st.lists(st.tuples(st.integers(1, length + 8), st.integers(0, 255)), max_size=4)):
        edited[-place] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "edited.parquet")
        path.write_bytes(edited)
        try:
            for block in read_blocks(path):
                block.read()
        except DataQualityError as error:
            assert error.where == str(path)  # noqa: PT017 - many edits do no harm, and then nothing is raised


def test_damaged_pages_are_named(year: Path) -> None:
    block = read_blocks(year)[0]
    data = bytearray(year.read_bytes())
    data[200:2000] = bytes(1800)
    year.write_bytes(data)
    with pytest.raises(ChecksumMismatchError, match=r"2024\.parquet"):
        read_blocks(year)[block.month - 1].read()


def test_a_file_changed_after_its_blocks_were_read_is_not_copied(year: Path) -> None:
    blocks = read_blocks(year)
    stored(year, bars(days(1, 20), MANY[:-1]))
    with pytest.raises(ChecksumMismatchError, match="changed after"):
        write_year(blocks, BytesIO())


def test_a_missing_file_is_a_storage_error(year: Path) -> None:
    blocks = read_blocks(year)
    year.unlink()
    with pytest.raises(StorageError, match=r"2024\.parquet"):
        read_blocks(year)
    with pytest.raises(StorageError, match=r"2024\.parquet"):
        blocks[0].read()
