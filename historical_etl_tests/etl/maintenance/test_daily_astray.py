"""`daily` that is not ours, or no folder: nothing that a version needs is moved through it, and all is reported."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from historical_etl import HistoricalETL
from historical_etl.store.quarantine.entries import read_entries
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import daily_bytes, tree

Write = Callable[[HistoricalETL], object]


def roll_back(etl: HistoricalETL) -> object:
    return etl.rollback(2)


def repair(etl: HistoricalETL) -> object:
    return etl.repair()


def linked_to(etl: HistoricalETL, target: str | Path) -> None:
    etl.layout.daily.unlink()
    etl.layout.daily.symlink_to(target)


def errors(etl: HistoricalETL) -> dict[str, str]:
    return {finding.field: finding.message for finding in etl.verify().findings if finding.severity == "error"}


@pytest.mark.parametrize("write", [repair, roll_back])
@pytest.mark.parametrize("target", ["objects", "..", "daily", "absolute"])
def test_a_link_into_the_store_itself_is_replaced_and_nothing_is_moved_through_it(
    etl: HistoricalETL, target: str, write: Write
):
    shown = daily_bytes(etl)
    before = tree(etl.layout.objects) | tree(etl.layout.ledgers)
    linked_to(etl, etl.layout.objects if target == "absolute" else target)
    assert "link" in errors(etl)["daily"]
    write(etl)
    after = tree(etl.layout.objects) | tree(etl.layout.ledgers)
    assert before.items() <= after.items(), "every file of a kept version is where it was"
    assert etl.layout.daily.readlink().parts[0] == ".daily"
    assert errors(etl) == {}
    if write is repair:
        assert daily_bytes(etl) == shown
    (entry,) = [entry for entry in read_entries(etl.layout) if entry.moved_from == "historical/daily"]
    assert os.path.lexists(entry.path / "daily"), "the link itself is kept"


@pytest.mark.parametrize("what", ["into the store", "a file"])
def test_repair_says_what_it_did_with_what_was_no_folder(etl: HistoricalETL, what: str):
    if what == "a file":
        etl.layout.daily.unlink()
        etl.layout.daily.write_bytes(b"mine")
    else:
        linked_to(etl, "objects")
    report = etl.repair()
    assert report.ok
    assert any(line.startswith("historical/daily was quarantined: it is a ") for line in report.mended), report.mended


def test_a_link_to_a_folder_of_ones_own_within_the_data_folder_is_left_to_its_maker(etl: HistoricalETL):
    shown, own = daily_bytes(etl), etl.layout.storage / "mine"
    own.mkdir()
    linked_to(etl, "mine")
    etl.repair()
    assert etl.layout.daily.readlink() == Path("mine")
    assert {path.name: path.read_bytes() for path in own.iterdir()} == shown


def test_through_the_link_to_another_store_nothing_of_it_is_moved(etl: HistoricalETL, pristine: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(pristine, other)
    objects = tree(other / "historical" / "objects")
    linked_to(etl, other / "historical" / "objects")
    etl.repair()
    left = tree(other / "historical" / "objects")
    assert objects.items() <= left.items()
    assert etl.layout.daily.readlink() == other / "historical" / "objects", "a link to elsewhere is left to its maker"
    assert etl.layout.daily_file(2013).exists()


def test_in_a_folder_of_ones_own_only_what_is_in_the_place_of_a_year_is_replaced(etl: HistoricalETL, tmp_path: Path):
    shown, own = daily_bytes(etl), tmp_path / "own"
    own.mkdir()
    for name in ("2012.parquet", "1999.parquet", "factors.parquet"):
        (own / name).write_bytes(name.encode())
    linked_to(etl, own)
    report = etl.repair()
    assert {entry.file for entry in read_entries(etl.layout)} == {"2012.parquet"}
    assert any("2012.parquet was quarantined" in line for line in report.mended)
    assert {name: (own / name).read_bytes() for name in shown} == shown
    assert (own / "1999.parquet").read_bytes() == b"1999.parquet"
    assert (own / "factors.parquet").read_bytes() == b"factors.parquet"


def test_a_link_to_elsewhere_that_leads_nowhere_stays_and_stops_nothing(etl: HistoricalETL, tmp_path: Path):
    linked_to(etl, tmp_path / "unmounted")
    etl.rollback(2)
    (todo,) = [f.todo for f in etl.verify().findings if f.field == "daily/"]
    assert todo == Saying("mount", "remove the link")
    etl.layout.daily.unlink()
    etl.repair()
    assert errors(etl) == {}


@pytest.mark.parametrize(
    "name", ["02012.parquet", "\u0662\u0660\u0661\u0662.parquet", "\uff12\uff10\uff11\uff12.parquet", "2012 .parquet"]
)
def test_a_name_that_only_reads_as_a_stored_year_is_reported(etl: HistoricalETL, name: str):
    shutil.copyfile(etl.layout.daily_file(2012), etl.layout.daily / name)
    assert errors(etl) == {f"daily/{name}": Saying("no such year")}
    assert any(name in line for line in etl.repair().mended)
    assert errors(etl) == {}
    assert sorted(daily_bytes(etl)) == ["2012.parquet", "2013.parquet"]


@pytest.mark.parametrize("name", ["1999.parquet", "2014.parquet"])
@pytest.mark.parametrize("known", [True, False])
def test_repair_reports_a_year_that_the_version_does_not_have(etl: HistoricalETL, name: str, known: bool):
    """Known: an object of a version that was left behind."""
    extra = etl.layout.daily / name
    shutil.copyfile(etl.layout.daily_file(2012), extra)
    if known:
        (etl.layout.objects / f"{extra.stem}-0123456789abcdef.parquet").hardlink_to(extra)
    assert any(name in line for line in etl.repair().mended)
    assert not extra.exists()
