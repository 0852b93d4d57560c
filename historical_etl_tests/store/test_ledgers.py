"""Ledgers as files: logs grow by few files, states are replaced, and every byte is proven when it is read."""

import stat

import polars as pl
import pytest

from historical_etl import ChecksumMismatchError, ConfigurationError
from historical_etl.durable import sha256_of
from historical_etl.models import LedgerFile, SyncManifest
from historical_etl.store.layout import Layout
from historical_etl.store.ledger_schemas import SCHEMAS, VIEWS, empty_ledger
from historical_etl.store.ledgers import Ledgers, read_ledger, read_named_ledger, read_undamaged, write_ledgers
from historical_etl_tests.saying import Saying
from historical_etl_tests.store.small import START, corrections, spoil


@pytest.fixture
def layout(root) -> Layout:
    return Layout(root)


def manifest(ledgers: Ledgers) -> SyncManifest:
    day = START.date()
    return SyncManifest(
        sync_timestamp=START, start_date=day, end_date=day, row_count=0, checksum="", ledgers=dict(ledgers)
    )


def olds(layout: Layout, ledgers: Ledgers) -> list[float]:
    return read_ledger(layout, manifest(ledgers), "corrections").get_column("old").to_list()


def grown(layout: Layout, *heights: int) -> Ledgers:
    """A log that grew by so many rows at a time; its rows are numbered."""
    ledgers: Ledgers = {}
    number = 0
    for height in heights:
        rows = [corrections(number + at) for at in range(height)]
        number += height
        ledgers = write_ledgers(layout, ledgers, {"corrections": pl.concat(rows)})
    return ledgers


@pytest.mark.parametrize(
    ("heights", "files"),
    [
        ([1], [1]),
        ([1, 1], [2]),
        ([1, 1, 1], [2, 1]),
        ([1, 1, 1, 1], [4]),
        ([3, 2], [3, 2]),
        ([3, 2, 1], [3, 2, 1]),
        ([3, 2, 1, 1], [7]),
        ([9, 2, 1, 1], [9, 4]),
        ([2, 3], [5]),
    ],
)
def test_a_log_merges_its_newest_files_once_they_are_no_larger_than_what_comes(layout, heights, files):
    ledgers = grown(layout, *heights)
    assert [file.rows for file in ledgers["corrections"]] == files
    assert olds(layout, ledgers) == list(range(sum(heights))), "oldest first"


def test_a_log_that_gets_nothing_stays_as_it_is(layout):
    ledgers = grown(layout, 1)
    assert write_ledgers(layout, ledgers, {"corrections": empty_ledger("corrections")}) == ledgers
    assert write_ledgers(layout, {}, {"corrections": empty_ledger("corrections")}) == {}


def test_a_state_is_replaced_and_may_become_empty(layout):
    none = empty_ledger("open_gaps")
    one = pl.concat([none, pl.DataFrame({"symbol": ["AAA"]})], how="diagonal")
    assert write_ledgers(layout, {}, {"open_gaps": none}) == {}, "an empty one that never was is not recorded"
    first = write_ledgers(layout, {}, {"open_gaps": one})
    again = write_ledgers(layout, first, {"open_gaps": one})
    assert again == first
    then = write_ledgers(layout, first, {"open_gaps": none})
    assert [file.rows for file in then["open_gaps"]] == [0]
    assert read_ledger(layout, manifest(then), "open_gaps").equals(none)
    assert len(list(layout.ledgers.iterdir())) == 2


def test_files_are_named_by_their_bytes_and_read_only(layout):
    (file,) = grown(layout, 1)["corrections"]
    path = layout.resolve(file.path)
    assert path.name == f"corrections-{file.checksum[:16]}.parquet"
    assert path.stat().st_size == file.size_bytes
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    good = spoil(path)
    assert grown(layout, 1)["corrections"] == (file,)
    assert path.read_bytes() == good, "written again, since it was damaged"
    inode = path.stat().st_ino
    grown(layout, 1)
    assert path.stat().st_ino == inode, "and left alone, since it is not"


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_damage_is_refused_and_a_run_goes_on_without(layout, damage, caplog):
    ledgers = grown(layout, 3, 2)
    path = layout.resolve(ledgers["corrections"][0].path)
    if damage == "changed":
        spoil(path)
    else:
        path.unlink()
    with pytest.raises(ChecksumMismatchError, match="missing or was changed"):
        olds(layout, ledgers)
    undamaged = read_undamaged(layout, manifest(ledgers), "corrections")
    assert undamaged.get_column("old").to_list() == [3, 4]
    assert caplog.text == Saying("The run goes on")
    more = write_ledgers(layout, ledgers, {"corrections": pl.concat([corrections(9)] * 5)})
    assert [file.rows for file in more["corrections"]] == [3, 7], "what is damaged stays as it is"
    assert "new entries go to another file" in caplog.text


def test_a_file_with_the_right_sum_and_other_columns_is_refused(layout):
    layout.ledgers.mkdir(parents=True)
    for content in (b"no parquet", None):
        path = layout.ledgers / "corrections-0123456789abcdef.parquet"
        if content is None:
            pl.DataFrame({"other": [1]}).write_parquet(path)
        else:
            path.write_bytes(content)
        file = LedgerFile(path=layout.relative(path), rows=1, checksum=sha256_of(path), size_bytes=1)
        with pytest.raises(ChecksumMismatchError, match="holds no such ledger"):
            olds(layout, {"corrections": (file,)})


def test_names_that_readers_use(layout):
    assert VIEWS["gaps"] == ("closed_gaps", "open_gaps")
    assert {"corrections", "symbols", "actions", "gaps", "holds"} <= VIEWS.keys()
    assert not {"open_gaps", "closed_gaps", "open_holds", "closed_holds"} & VIEWS.keys()
    assert read_named_ledger(layout, None, "gaps").is_empty()
    one = pl.concat([empty_ledger("open_gaps"), pl.DataFrame({"symbol": ["AAA"]})], how="diagonal")
    ledgers = write_ledgers(layout, {}, {"open_gaps": one})
    assert read_named_ledger(layout, manifest(ledgers), "gaps").get_column("symbol").to_list() == ["AAA"]
    assert read_undamaged(layout, None, "corrections").is_empty()
    with pytest.raises(ConfigurationError, match="There is no ledger 'open_gaps'") as caught:
        read_named_ledger(layout, None, "open_gaps")
    assert "gaps, holds" in caught.value.todo


def test_a_file_of_before_a_column_was_added_is_read_with_null_there(layout, monkeypatch):
    ledgers = write_ledgers(layout, {}, {"corrections": corrections(3)})
    monkeypatch.setattr("historical_etl.store.ledgers._decoded", {})  # a later release is another process
    wider = pl.Schema({**SCHEMAS["corrections"], "added": pl.String()})
    monkeypatch.setattr("historical_etl.store.ledgers.SCHEMAS", {**SCHEMAS, "corrections": wider})
    with pytest.raises(ChecksumMismatchError, match="holds no such ledger"):
        read_ledger(layout, manifest(ledgers), "corrections")
    monkeypatch.setattr("historical_etl.store.ledgers.ADDED_COLUMNS", {"corrections": ("added",)})
    assert read_ledger(layout, manifest(ledgers), "corrections").get_column("added").to_list() == [None]


def test_a_ledger_is_decoded_once_however_many_rows_it_has_unless_they_fill_the_memory(layout, monkeypatch):
    rows = pl.concat([corrections(0)] * 50_000)
    files = manifest(write_ledgers(layout, {}, {"corrections": rows}))
    decoded: list[bytes] = []
    monkeypatch.setattr(
        "historical_etl.store.ledgers.pl.read_parquet",
        lambda content, real=pl.read_parquet: decoded.append(b"") or real(content),
    )
    monkeypatch.setattr("historical_etl.store.ledgers._decoded", kept := {})
    for _ in range(3):
        assert read_ledger(layout, files, "corrections").equals(rows)
    assert (len(decoded), len(kept)) == (1, 1)
    monkeypatch.setattr("historical_etl.store.ledgers._MOST_BYTES", rows.estimated_size() - 1)
    kept.clear()
    for _ in range(3):
        assert read_ledger(layout, files, "corrections").equals(rows)
    assert (len(decoded), len(kept)) == (4, 0)
