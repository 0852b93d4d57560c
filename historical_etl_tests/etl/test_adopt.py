"""Adopt: files of other people go through the same gate, and what became of every row of them is reported."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ConfigurationError, DataQualityError, HistoricalETL, Settings
from historical_etl.etl.adopt import RowCounts, adopt, opened_for
from historical_etl_tests.field.series import Series, backfill, walk
from historical_etl_tests.foreign import Foreign
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import (
    SHORT,
    SYMBOLS,
    ScriptedFetcher,
    at,
    current_manifest,
    sessions,
    store,
    stored,
    tree,
)

LAST = date(2013, 3, 1)


@pytest.fixture
def foreign(tmp_path: Path) -> Foreign:
    files = Foreign(tmp_path / "files", symbols=8, first_year=2010, years=3, seed=5)
    files.write()
    return files


def opened(root: Path, path: Path | str, today: date = LAST, **files: str) -> HistoricalETL:
    settings = Settings(_env_file=None, data_dir=root, files={"path": str(path), **files})  # pyright: ignore[reportCallIssue, reportArgumentType]
    return opened_for(settings, clock=at(today))


def total(row_counts: RowCounts) -> int:
    return row_counts.taken + row_counts.repeated + row_counts.refused + row_counts.held + row_counts.outside


def found(row_counts: RowCounts, names: object) -> dict[str, int]:
    return {name: getattr(row_counts, name) for name in names}  # pyright: ignore[reportGeneralTypeIssues]


def csv(folder: Path, symbol: str, rows: list[tuple[object, ...]]) -> Path:
    folder.mkdir(exist_ok=True)
    lines = ["date,close,volume", *(",".join(map(str, row)) for row in rows)]
    path = folder / f"{symbol}.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def quiet(first: date, last: date, close: float = 10.0) -> list[tuple[object, ...]]:
    return [(day, close, 100) for day in sessions(first, last)]


@pytest.mark.parametrize("rehearse", [False, True])
def test_every_planted_row_is_accounted_for(root, foreign, rehearse):
    etl = opened(root, foreign.folder, foreign.today)
    done = adopt(etl, rehearse=rehearse)
    assert found(done.row_counts, foreign.fate) == dict(foreign.fate)
    assert done.row_counts.read == total(done.row_counts) == foreign.rows
    assert done.row_counts.held == 0
    assert done.row_counts.by_reason["no_close"] >= 2
    assert done.years == (2010, 2011, 2012)
    assert not done.complete
    assert (done.files, done.year_files) == (4 + 1 + 3, 0)
    assert (etl.manifest() is None) is rehearse
    if rehearse:
        assert not root.exists()


def test_the_store_holds_the_good_rows_and_no_others(root, foreign):
    etl = opened(root, foreign.folder, foreign.today)
    adopt(etl)
    rows = stored(etl)
    assert rows.height == foreign.fate["taken"]
    for symbol, bars in foreign.good.items():
        mine = rows.filter(pl.col("symbol") == symbol)
        assert mine.select("date", "open", "high", "low", "close", "volume").rows() == sorted(bars)
    kept = [pl.read_parquet(next(entry.glob("*.parquet"))) for entry in etl.manifests.quarantine.entries()]
    assert sum(frame.height for frame in kept) == foreign.fate["refused"]
    assert set(etl.ledger("runs").get_column("command")) == {"adopt"}


def test_adopting_again_changes_nothing_and_says_the_same(root, foreign):
    etl = opened(root, foreign.folder, foreign.today)
    first = adopt(etl)
    before = {k: v for k, v in tree(root).items() if k.endswith((".parquet", ".json"))}
    again = adopt(opened(root, foreign.folder, foreign.today))
    assert again.row_counts == first.row_counts
    assert again.result is not None
    assert not again.result.changed
    after = {k: v for k, v in tree(root).items() if k.endswith((".parquet", ".json"))}
    assert {k for k in before if "objects" in k} == {k for k in after if "objects" in k}


def test_only_the_symbols_that_are_named(root, foreign):
    done = adopt(opened(root, foreign.folder, foreign.today), ["s001", "s005"])
    assert done.symbols == ("S001", "S005")
    assert done.row_counts.read == total(done.row_counts) == foreign.rows
    assert done.row_counts.not_asked > foreign.rows // 2


def test_year_files_of_another_store_come_with_its_price_basis(root, tmp_path):
    other = store(tmp_path / "other", ScriptedFetcher(SHORT), LAST)
    other.run_full_etl(SYMBOLS, SHORT.first, LAST)
    manifest = current_manifest(other)
    etl = opened(root, other.layout.daily)
    done = adopt(etl)
    assert (done.year_files, done.files, done.row_counts.taken) == (2, 2, manifest.row_count)
    assert done.complete
    assert stored(etl).equals(stored(other))
    assert etl.source.info.adjustment == manifest.adjustment
    assert opened(root, other.layout.daily, adjustment="mine").source.info.adjustment == "mine"
    behind = other.layout.daily.resolve(strict=True)
    assert behind != other.layout.daily
    assert opened(root, behind).source.info.adjustment == manifest.adjustment
    assert opened(root, other.layout.daily / "2012.parquet").source.info.adjustment == "unstated"


@pytest.mark.parametrize("split_adjusted", [True, False])
def test_they_come_with_what_it_knows_of_splits(root, tmp_path, split_adjusted):
    other, _ = backfill(tmp_path / "other", Series(walk(20), split_adjusted=split_adjusted))
    etl = opened(root, other.layout.daily, date(2023, 5, 1))
    assert adopt(etl).complete
    assert etl.ledger("symbols")["split_adjusted"].to_list() == [split_adjusted] * 2


def test_a_whole_store_and_its_own_files_are_not_adopted(root, tmp_path):
    other = store(tmp_path / "other", ScriptedFetcher(SHORT), LAST)
    other.run_full_etl(SYMBOLS, SHORT.first, LAST)
    with pytest.raises(ConfigurationError, match="whole store") as caught:
        opened(root, other.layout.root)
    assert "historical-etl import" in caught.value.todo
    with pytest.raises(ConfigurationError, match="inside the data folder"):
        opened(other.layout.root, other.layout.daily)
    with pytest.raises(ConfigurationError, match="no path"):
        opened(root, " ")


def test_years_without_rows_and_symbols_that_ended_are_no_outage(root, tmp_path):
    """Files begin and end where they like, also where the store has more."""
    folder = tmp_path / "files"
    for number in range(5):
        old, new = (date(2005, 3, 1), date(2005, 4, 1)), (date(2012, 3, 1), date(2012, 4, 2))
        csv(folder, f"A{number}", [*quiet(*old), *quiet(*new)])
    done = adopt(opened(root, folder))
    assert (done.years, done.row_counts.taken, done.complete) == ((2005, 2012), done.row_counts.read, True)
    store(root, ScriptedFetcher(SHORT), LAST).run_full_etl(SYMBOLS, SHORT.first, LAST)
    csv(tmp_path / "more", "IPOX", quiet(date(2005, 3, 1), date(2005, 3, 31)))
    csv(tmp_path / "more", "HALT", quiet(date(2005, 3, 1), date(2005, 3, 31)))
    assert adopt(opened(root, tmp_path / "more")).row_counts.taken == 44


def test_prices_on_another_basis_than_what_is_stored_are_refused(root, tmp_path):
    folder = tmp_path / "files"
    csv(folder, "AAA", quiet(date(2012, 3, 1), date(2012, 6, 1)))
    adopt(opened(root, folder, adjustment="raw"))
    before = stored(opened(root, folder))
    with pytest.raises(DataQualityError, match=r"basis .*'raw'.*'files'.*'for splits'"):
        adopt(opened(root, folder, adjustment="for splits"))
    assert stored(opened(root, folder)).equals(before)


def test_what_does_not_fit_what_is_stored_is_held_and_counted(root, tmp_path):
    csv(tmp_path / "old", "AAA", quiet(date(2012, 3, 1), date(2012, 6, 1)))
    csv(tmp_path / "old", "BBB", quiet(date(2012, 3, 1), date(2012, 6, 1)))
    adopt(opened(root, tmp_path / "old"))
    csv(tmp_path / "new", "AAA", quiet(date(2012, 6, 4), date(2012, 7, 2), close=0.1))
    csv(tmp_path / "new", "BBB", quiet(date(2012, 6, 4), date(2012, 7, 2)))
    done = adopt(opened(root, tmp_path / "new"))
    rows = len(sessions(date(2012, 6, 4), date(2012, 7, 2)))
    assert (done.row_counts.taken, done.row_counts.held, done.symbols) == (rows, rows, ("BBB",))
    assert done.result is not None
    assert list(done.result.held) == ["AAA"]
    assert not done.complete


def test_a_row_whose_stored_value_is_kept_over_a_null_is_taken_and_not_held(root, tmp_path):
    rows = quiet(date(2013, 1, 2), date(2013, 1, 31))
    adopt(opened(root, csv(tmp_path / "whole", "ACME", rows)))
    rows[3] = (*rows[3][:2], "")
    done = adopt(opened(root, csv(tmp_path / "hole", "ACME", rows)))
    assert (done.row_counts.taken, done.row_counts.held) == (len(rows), 0)
    assert done.complete
    assert stored(opened(root, tmp_path / "hole"))["volume"].null_count() == 0


def test_nothing_to_adopt(root, tmp_path):
    csv(tmp_path / "files", "AAA", quiet(date(2012, 3, 1), date(2012, 6, 1)))
    with pytest.raises(ConfigurationError, match="none of the symbols") as caught:
        adopt(opened(root, tmp_path / "files"), ["BBB"])
    assert "AAA" in caught.value.todo
    with pytest.raises(ConfigurationError, match="no session that has closed"):
        adopt(opened(root, tmp_path / "files", today=date(2012, 2, 1)))
    csv(tmp_path / "weekend", "AAA", [(date(2012, 3, 3), 10, 1)])
    with pytest.raises(ConfigurationError, match="no session that has closed"):
        adopt(opened(root, tmp_path / "weekend"))
    with pytest.raises(ConfigurationError, match="Only files"):
        adopt(store(root, ScriptedFetcher(SHORT), LAST))
    assert not (root / "historical").exists()


def test_a_date_far_in_the_future_is_reported_and_stops_nothing(root, tmp_path):
    csv(tmp_path / "files", "AAA", [*quiet(date(2012, 3, 1), date(2012, 6, 1)), (date(2099, 1, 2), 10, 1)])
    done = adopt(opened(root, tmp_path / "files"))
    assert (done.row_counts.refused, done.row_counts.taken) == (1, done.row_counts.read - 1)
    assert done.row_counts.by_reason == {"unreadable_date": 1}


def test_a_year_that_is_bad_as_a_whole_is_reported_and_the_others_are_taken(root, tmp_path):
    bad = [(day, -1, 1) for day in sessions(date(2011, 3, 1), date(2011, 6, 1))]
    csv(tmp_path / "files", "AAA", [*bad, *quiet(date(2012, 3, 1), date(2012, 6, 1))])
    etl = opened(root, tmp_path / "files")
    done = adopt(etl)
    assert (done.complete, done.row_counts.refused) == (False, len(bad))
    assert done.result is not None
    assert Saying("2011", "none can be stored", "rejected_rows") in done.result.warnings
    assert [p.year for p in current_manifest(etl).partitions] == [2012]


def test_rows_at_the_edge_of_a_session_day_are_neither_lost_nor_invented(root, tmp_path):
    """The last day that counts is the last session that closed, the day after it does not."""
    rows = quiet(date(2012, 3, 1), date(2012, 3, 30))
    csv(tmp_path / "files", "AAA", rows)
    today = date(2012, 3, 15)
    done = adopt(opened(root, tmp_path / "files", today=today))
    assert done.row_counts.taken == len(sessions(date(2012, 3, 1), today))
    assert done.row_counts.not_closed == len(sessions(today + timedelta(days=1), date(2012, 3, 30)))
