"""Staging: a unit counts once its record is written, and as long as its files are what the record says."""

from datetime import date

import polars as pl
import pytest

from historical_etl import Outcome, StorageError
from historical_etl.store.layout import Layout
from historical_etl.store.staging import Staging, damaged_units
from historical_etl_tests.store.small import spoil

REQUEST = "0123456789abcdef" * 4
LOW, HIGH = date(2019, 1, 2), date(2019, 1, 4)
ROWS = pl.DataFrame({"date": [date(2019, 1, day) for day in range(1, 6)], "symbol": ["AAA"] * 5})


@pytest.fixture
def staging(root) -> Staging:
    return Staging(Layout(root), REQUEST)


def collected(frame: pl.LazyFrame | None) -> list[date]:
    assert frame is not None
    return frame.collect().get_column("date").to_list()


def test_units_come_back_with_their_rows_and_actions(staging, root):
    assert staging.units() == []
    assert staging.rows([], LOW, HIGH) is None
    one = staging.put(
        {"rows": ROWS, "actions": ROWS.head(3)}, {"BBB": Outcome.OK, "AAA": Outcome.EMPTY}, {"AAA": "nothing"}
    )
    assert one.symbols == ("AAA", "BBB")
    assert (one.outcomes["AAA"], one.details) == (Outcome.EMPTY, {"AAA": "nothing"})
    assert staging.units() == [one]
    other = staging.put({"rows": ROWS.tail(2)}, {"CCC": Outcome.OK}, {})
    assert sorted(staging.units(), key=lambda unit: unit.symbols) == [one, other]
    assert collected(staging.rows([one], LOW, HIGH)) == [date(2019, 1, day) for day in (2, 3, 4)]
    assert collected(staging.actions([one, other], LOW, HIGH)) == [date(2019, 1, day) for day in (2, 3)]
    assert staging.actions([other], LOW, HIGH) is None
    assert Staging(Layout(root), "f" * 64).units() == []
    assert (root / "staging" / REQUEST[:16]).is_dir()


def test_a_unit_staged_again_replaces_the_one_before(staging):
    staging.put({"rows": ROWS}, {"AAA": Outcome.ERROR}, {})
    again = staging.put({"rows": ROWS.head(1)}, {"AAA": Outcome.OK}, {})
    assert staging.units() == [again]


@pytest.mark.parametrize("kind", ["json", "parquet", "actions"])
def test_a_damaged_unit_does_not_count_and_the_others_do(staging, root, kind):
    whole = staging.put({"rows": ROWS, "actions": ROWS.head(3)}, {"AAA": Outcome.OK}, {})
    staging.put({"rows": ROWS, "actions": ROWS.head(3)}, {"BBB": Outcome.OK}, {})
    bad = next(
        p for p in sorted(staging.folder.glob(f"*.{kind}")) if not p.samefile(staging._file(whole, _NAMES[kind]))
    )
    spoil(bad)
    assert staging.units() == [whole]
    assert damaged_units(Layout(root)) == [bad.with_suffix(".json")]
    bad.unlink()
    assert staging.units() == [whole]
    assert damaged_units(Layout(root)) == ([] if kind == "json" else [bad.with_suffix(".json")])


def test_rows_are_proven_also_where_the_actions_are_the_same_bytes(staging):
    staging.put({"rows": ROWS, "actions": ROWS}, {"AAA": Outcome.OK}, {})
    spoil(next(staging.folder.glob("*.parquet")))
    assert staging.units() == []


_NAMES = {"json": "record", "parquet": "rows", "actions": "actions"}


def test_a_unit_that_leaves_a_symbol_without_an_outcome_does_not_count(staging):
    unit = staging.put({"rows": ROWS}, {"AAA": Outcome.OK}, {})
    (record,) = staging.folder.glob("*.json")
    body = unit.model_copy(update={"outcomes": {"BBB": Outcome.OK}})
    record.write_text(body.model_dump_json())
    assert staging.units() == []


def test_units_are_cleared(staging):
    staging.clear()
    staging.put({"rows": ROWS}, {"AAA": Outcome.OK}, {})
    staging.clear()
    assert not staging.folder.exists()
    assert staging.folder.parent.is_dir()


def test_a_refusal_of_the_file_system_is_reported_in_our_words(staging):
    staging.folder.parent.mkdir(parents=True)
    staging.folder.write_bytes(b"a file is in the place of the folder")
    with pytest.raises(StorageError, match="what was staged before is unchanged"):
        staging.put({"rows": ROWS}, {"AAA": Outcome.OK}, {})
