"""Files that change while a store that takes prices from them is open: the next run sees them as they are then."""

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from historical_etl import ConfigurationError, HistoricalETL
from historical_etl.models import Outcome
from historical_etl.settings import FilesSettings, Settings
from historical_etl.sources.base import FetchRequest
from historical_etl.sources.fetcher import UnifiedDataFetcher
from historical_etl.sources.file_probe import probed
from historical_etl.sources.files import FilesSource, survey
from historical_etl_tests.saying import Saying
from historical_etl_tests.shares import examples

HEADER = "date,close,volume\n"
EVER = date(1900, 1, 1), date(2100, 1, 1)


def bars(closes: Mapping[str, float]) -> str:
    return HEADER + "".join(f"{day},{close},1000\n" for day, close in closes.items())


def put(path: Path, text: str) -> None:
    """Write a file as somebody did an hour ago: one that was written just now is always read again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    an_hour_ago = datetime.now(UTC).timestamp() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))


def source(path: Path) -> FilesSource:
    return FilesSource(FilesSettings(path=str(path)))


def closes(files: FilesSource) -> dict[tuple[str, date], float]:
    frame = files.fetch(FetchRequest(tuple(files.members(None, None)), *EVER)).frame
    return {(symbol, day): close for day, symbol, close in frame.select("date", "symbol", "close").iter_rows()}


def opened(root: Path, folder: Path) -> HistoricalETL:
    return HistoricalETL.open(
        root / "store",
        clock=lambda: datetime(2024, 1, 31, 23, 30, tzinfo=UTC),
        source="files",
        files={"path": str(folder)},
    )


def test_a_store_that_stays_open_takes_what_was_added_to_its_files(tmp_path):
    put(tmp_path / "csv" / "X.csv", bars({"2024-01-02": 10, "2024-01-03": 11}))
    etl = opened(tmp_path, tmp_path / "csv")
    etl.run_full_etl("X", "2024-01-02", "2024-01-31")
    put(tmp_path / "csv" / "X.csv", bars({"2024-01-02": 10, "2024-01-03": 11, "2024-01-04": 12}))
    assert etl.available_through() == date(2024, 1, 4)
    result = etl.run_incremental_etl()
    assert result.changed
    assert etl.scan().collect().get_column("close").to_list() == [10, 11, 12]
    assert not etl.run_incremental_etl().changed


@pytest.mark.parametrize("run", ["full", "year", "prefetched"])
def test_every_run_looks_at_the_folder_anew(tmp_path, run):
    put(tmp_path / "csv" / "X.csv", bars({"2024-01-02": 10}))
    etl = opened(tmp_path, tmp_path / "csv")
    etl.run_year(2024)
    put(tmp_path / "csv" / "Y.csv", bars({"2024-01-02": 20}))
    if run == "full":
        etl.run_full_etl(["X", "Y"], "2024-01-02", "2024-01-31")
    elif run == "year":
        etl.run_year(2024)
    else:
        with etl.prefetched([2024]) as ready:
            ready.run_year(2024)
    assert etl.scan().collect().get_column("symbol").to_list() == ["X", "Y"]


def test_a_folder_that_is_gone_fails_the_run_and_is_seen_once_it_is_back(tmp_path):
    folder, away = tmp_path / "csv", tmp_path / "away"
    put(folder / "X.csv", bars({"2024-01-02": 10}))
    etl = opened(tmp_path, folder)
    etl.run_year(2024)
    folder.rename(away)
    with pytest.raises(ConfigurationError, match="does not exist"):
        etl.run_incremental_etl()
    away.rename(folder)
    assert etl.run_incremental_etl().outcomes == {"X": Outcome.OK}


def test_what_is_deleted_or_replaced_is_seen(tmp_path):
    put(tmp_path / "A.csv", bars({"2024-01-02": 1}))
    put(tmp_path / "B.csv", bars({"2024-01-02": 2}))
    files = source(tmp_path)
    assert closes(files) == {("A", date(2024, 1, 2)): 1, ("B", date(2024, 1, 2)): 2}
    before, version = (tmp_path / "A.csv").stat(), files.info.version
    (tmp_path / "B.csv").unlink()
    (tmp_path / "new").write_text(bars({"2024-01-02": 3}))
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").replace(tmp_path / "A.csv")  # of the same size, and with the same stamp
    assert closes(files) == {("A", date(2024, 1, 2)): 1} | {("B", date(2024, 1, 2)): 2}
    files.look_anew()
    assert closes(files) == {("A", date(2024, 1, 2)): 3}
    assert files.info.version != version
    assert [path.name for path in files.paths] == ["A.csv"]
    answer = files.fetch(FetchRequest(("B",), *EVER))
    assert answer.outcomes == {"B": Outcome.NOT_FOUND}


def test_only_what_has_changed_is_read_again(tmp_path, monkeypatch):
    days = pl.date_range(date(2023, 1, 2), date(2023, 12, 29), eager=True)
    for name in "ABCD":
        put(tmp_path / f"{name}.csv", bars({str(day): 10 for day in days}))
    read: list[str] = []
    look, plan = survey.probed, survey.csv_plans

    def probing(paths, memory):
        read.extend(f"probe {path.name}" for path in paths)
        return look(paths, memory)

    def planning(path, *arguments, **named):
        read.append(f"plan {path.name}")
        return plan(path, *arguments, **named)

    monkeypatch.setattr(survey, "probed", probing)
    monkeypatch.setattr(survey, "csv_plans", planning)
    files = source(tmp_path)
    assert files.members(None, None) == ["A", "B", "C", "D"]
    read.clear()
    files.look_anew()
    assert files.members(None, None) == ["A", "B", "C", "D"]
    assert read == []
    put(tmp_path / "B.csv", bars({"2024-01-02": 2}))
    put(tmp_path / "E.csv", bars({"2024-01-02": 5}))
    (tmp_path / "C.csv").unlink()
    files.look_anew()
    assert files.members(None, None) == ["A", "B", "D", "E"]
    assert read == ["probe B.csv", "probe E.csv", "plan B.csv", "plan E.csv"]
    assert files.fetch(FetchRequest(("B", "E"), *EVER)).frame.get_column("close").to_list() == [2, 5]


def test_a_file_that_was_written_a_moment_ago_is_read_again(tmp_path):
    """One that follows it at once may have the same size and, on a coarse clock, the same stamp."""
    path = tmp_path / "A.csv"
    path.write_text(bars({"2024-01-02": 1}))
    now = path.stat()
    files = source(tmp_path)
    assert list(closes(files).values()) == [1]
    with path.open("r+") as file:
        file.write(bars({"2024-01-02": 2}))
    os.utime(path, ns=(now.st_atime_ns, now.st_mtime_ns))
    files.look_anew()
    assert list(closes(files).values()) == [2]


def test_a_run_that_is_under_way_keeps_the_files_that_it_has(tmp_path):
    """The scratch copy of what was read before goes once nobody reads it."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    put(tmp_path / "csv" / "A.csv", bars({"2024-01-02": 1}))
    files = FilesSource(FilesSettings(path=str(tmp_path / "csv")), scratch=scratch)
    assert list(closes(files).values()) == [1]
    put(tmp_path / "csv" / "A.csv", bars({"2024-01-02": 22}))
    assert list(closes(files).values()) == [1]
    files.look_anew()
    assert list(closes(files).values()) == [22]
    assert len(list(scratch.iterdir())) == 1
    del files
    assert list(scratch.iterdir()) == []


def test_an_order_of_dates_that_other_files_show_is_found_anew(tmp_path):
    """Of 03/04/2024 only other files tell whether it is in March; they may come, and go again."""
    filler = {str(day): 10 for day in pl.date_range(date(2022, 1, 3), date(2022, 12, 30), eager=True)}
    put(tmp_path / "FILLER.csv", bars(filler))
    put(tmp_path / "A.csv", HEADER + "03/04/2024,1,1000\n")
    files = source(tmp_path)
    request = FetchRequest(("A",), date(2024, 1, 1), date(2024, 12, 31))
    assert files.fetch(request).outcomes == {"A": Outcome.ERROR}
    for text, month in (("25/01/2024", 4), ("01/25/2024", 3)):
        put(tmp_path / "B.csv", f"{HEADER}{text},1,1000\n")
        files.look_anew()
        assert files.fetch(request).frame.get_column("date").dt.month().to_list() == [month]
    (tmp_path / "B.csv").unlink()
    files.look_anew()
    assert files.fetch(request).outcomes == {"A": Outcome.ERROR}


#: What a file may hold: bars, another order of dates, a row that cannot be read, a line of another width, weeks, a
#: currency, none of the columns, no rows, nothing.
CONTENTS = (
    *(bars({f"2024-01-{day:02}": day, f"2024-02-{day:02}": day}) for day in (2, 3)),
    f"{HEADER}25/01/2024,1,1000\n26/01/2024,2,1000\n",
    f"{HEADER}03/04/2024,1,1000\n04/04/2024,2,1000\n",
    f"{HEADER}2024-01-02,1,1000\n2024-01-03,odd,1000\n2024-01-04,2,1000\n",
    f"{HEADER}2024-01-02,1,1000\n2024-01-03,2\n2024-01-04,2,1000\n2024-01-05,2,1000\n",
    HEADER + "".join(f"{day},5,1000\n" for day in pl.date_range(date(2023, 1, 2), date(2023, 6, 1), "7d", eager=True)),
    *(f"date,close,volume,currency\n2024-01-02,1,1000,{currency}\n" for currency in ("USD", "EUR")),
    "date,symbol,close,volume\n2024-01-02,A,1,1000\n2024-01-02,Z,1,1000\n",
    "some,thing\n1,2\n",
    HEADER,
    "",
)
NAMES = ("A.csv", "B.csv", "C.csv", "old/A.csv", "D.parquet")


def write(path: Path, content: str) -> None:
    put(path, content)
    if path.suffix == ".parquet":
        pl.DataFrame({"date": [date(2024, 1, 2)], "close": [float(len(content))], "volume": [1.0]}).write_parquet(path)


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rounds=st.lists(
        st.dictionaries(st.sampled_from(NAMES), st.none() | st.sampled_from(CONTENTS), max_size=3),
        min_size=2,
        max_size=4,
    )
)
@example(
    rounds=[
        {"A.csv": "date,close,volume\n03/04/2024,1,1000\n04/04/2024,2,1000\n"},
        {"B.csv": "date,close,volume\n25/01/2024,1,1000\n26/01/2024,2,1000\n"},
    ]
)
def test_a_source_that_looks_anew_says_what_a_new_one_does(tmp_path_factory, rounds):
    folder = tmp_path_factory.mktemp("files")
    put(
        folder / "ALWAYS.csv",
        bars({str(day): 10 for day in pl.date_range(date(2022, 1, 3), EVER[0].replace(year=2023), eager=True)}),
    )
    files = source(folder)
    for changes in rounds:
        for name, content in changes.items():
            if content is None:
                (folder / name).unlink(missing_ok=True)
            else:
                write(folder / name, content)
        files.look_anew()
        fresh = source(folder)
        assert files.info == fresh.info
        assert files.members(None, None) == fresh.members(None, None)
        request = FetchRequest((*fresh.members(None, None), "NONE"), *EVER)
        answer, expected = files.fetch(request), fresh.fetch(request)
        assert_frame_equal(answer.frame, expected.frame)
        assert answer.outcomes == expected.outcomes
        assert sorted(answer.set_aside) == sorted(expected.set_aside)
        assert sorted(answer.notes) == sorted(expected.notes)
        assert answer.rejected is not None
        assert expected.rejected is not None
        assert_frame_equal(answer.rejected, expected.rejected, check_row_order=False)
        assert (files.rows, files.year_files, files.paths) == (fresh.rows, fresh.year_files, fresh.paths)


def test_a_universe_that_changes_is_read_again(tmp_path):
    table = tmp_path / "universe.csv"
    put(table, "ticker,start_date,end_date\nIBM,2000-01-03,\n")
    fetcher = UnifiedDataFetcher(Settings(universe=str(table)))
    assert fetcher.get_universe("2004-01-05") == ["IBM"]
    put(table, "ticker,start_date,end_date\nIBM,2000-01-03,\nMSFT,2000-01-03,\n")
    assert fetcher.get_universe("2004-01-05") == ["IBM", "MSFT"]
    assert fetcher.members(None, None) == ["IBM", "MSFT"]
    assert set(fetcher.member_since(["MSFT"])) == {"MSFT"}


def test_what_is_gone_is_not_called_a_link(tmp_path):
    gone, link = tmp_path / "A.csv", tmp_path / "B.csv"
    link.symlink_to(gone)
    refused = probed([gone, link], 1 << 28).refused
    assert Saying("link") != str(refused[gone])
    assert Saying("link", "mount") == str(refused[link])
