"""Something else in the place of a file: it is reported, moved aside, and stops nothing that does not need it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from historical_etl import ChecksumMismatchError, HistoricalETL, ManifestCorruptError, StorageError
from historical_etl.store.quarantine.entries import purge_entries, read_entries
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import SHORT, current_manifest, daily_bytes

Place = Callable[[HistoricalETL], Path]
Kind = Callable[[Path], object]


def folder(path: Path) -> None:
    (path / "of somebody").mkdir(parents=True)


def dangling(path: Path) -> None:
    path.symlink_to("/nonexistent")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


WORDS: dict[Kind, str] = {
    folder: "it is a folder, not a file",
    os.mkfifo: "it is a pipe, not a file",
    dangling: "it is a link that leads nowhere",
    circle: "it is a link in a circle",
}
KINDS = pytest.mark.parametrize("kind", [*WORDS])


def put(path: Path, kind: Kind) -> Path:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    kind(path)
    return path


def object_of(etl: HistoricalETL, year: int = 2012) -> Path:
    return etl.layout.resolve(next(p.path for p in current_manifest(etl).partitions if p.year == year))


def errors(etl: HistoricalETL) -> list[str]:
    return [f"{f.field}: {f.message}" for f in etl.verify().findings if f.severity == "error"]


def moved(etl: HistoricalETL) -> list[Path]:
    return [entry.path / Path(entry.moved_from or "").name for entry in read_entries(etl.layout)]


# ── manifests ────────────────────────────────────────────────────────────────────────────────────────────────────────


@KINDS
def test_in_the_place_of_an_older_manifest(etl: HistoricalETL, kind: Kind):
    rows = etl.scan().collect().height
    stray = put(etl.layout.history_file(1), kind)
    assert Saying("history 1", "The manifest is damaged", WORDS[kind]) in errors(etl)
    with pytest.raises(ManifestCorruptError, match=WORDS[kind]) as caught:
        etl.manifest(1)
    assert "historical-etl repair" in caught.value.todo
    assert etl.scan().collect().height == rows
    assert etl.rollback(2).version == 4, "a write that does not need it goes on"
    report = etl.repair()
    assert report.ok, report
    assert any("version 1 is lost" in line for line in report.lost)
    assert moved(etl) == [next(path for path in moved(etl) if path.name == stray.name)]
    assert not os.path.lexists(stray)
    assert etl.manifests.list_versions() == [2, 3, 4]
    assert errors(etl) == []


@KINDS
@pytest.mark.parametrize("way", ["repair", "write"])
@pytest.mark.parametrize("name", ["historical_daily.json", "history/00000003.json"])
def test_in_the_place_of_the_newest_manifest(etl: HistoricalETL, name: str, kind: Kind, way: str):
    newest = current_manifest(etl)
    stray = put(etl.layout.manifests / name, kind)
    assert any(WORDS[kind] in line for line in errors(etl)), errors(etl)
    assert current_manifest(etl) == newest, "the other copy of it is read"
    if way == "repair":
        assert etl.repair().ok
        assert current_manifest(etl) == newest
    else:
        assert etl.rollback(2).version == 4
    assert stray.is_file()
    assert [path.name for path in moved(etl)] == [stray.name]
    assert errors(etl) == []


# ── other files ──────────────────────────────────────────────────────────────────────────────────────────────────────


@KINDS
def test_in_the_place_of_an_object(etl: HistoricalETL, kind: Kind):
    put(object_of(etl), kind)
    assert any(object_of(etl).name in line for line in errors(etl))
    with pytest.raises(ChecksumMismatchError, match=f"is missing, {WORDS[kind]}") as caught:
        etl.scan(start="2012-12-01", end="2012-12-31")
    assert "historical-etl repair" in caught.value.todo
    with pytest.raises(ChecksumMismatchError, match=WORDS[kind]):
        etl.run_full_etl(SHORT.symbols, "2012-12-01", "2012-12-14")
    assert etl.scan(start="2013-01-01").collect().height > 0, "another year is read"
    report = etl.repair()
    assert report.ok, report
    assert object_of(etl).is_file(), "its link in daily/ has its bytes"
    assert errors(etl) == []


@KINDS
@pytest.mark.parametrize(
    "place",
    [
        lambda etl: etl.layout.progress_file(),
        lambda etl: etl.layout.catalog_pointer(),
        lambda etl: etl.layout.catalog,
        lambda etl: etl.layout.pins / "paper@00000002.json",
        lambda etl: etl.layout.resolve(current_manifest(etl).ledgers["symbols"][0].path),
    ],
    ids=["progress", "catalog's record", "catalog", "pin", "ledger"],
)
def test_in_the_place_of_a_record(etl: HistoricalETL, place: Place, kind: Kind):
    etl.pin("paper", 2)
    stray = put(place(etl), kind)
    assert [f for f in etl.verify().findings if "repair" in f.todo], "the way out is named"
    report = etl.repair()
    assert report.ok, report
    assert stray.is_file() or not os.path.lexists(stray)
    assert any(stray.name in line for line in report.mended), report.mended
    assert errors(etl) == []


@KINDS
def test_in_the_place_of_the_lock(etl: HistoricalETL, kind: Kind):
    stray = put(etl.layout.lock_file(), kind)
    for write in (etl.repair, lambda: etl.rollback(1)):
        with pytest.raises(StorageError, match=WORDS[kind]) as caught:
            write()
        assert caught.value.todo.startswith("move it away")
    stray.rmdir() if kind is folder and not (stray / "of somebody").rmdir() else stray.unlink()
    assert etl.rollback(1).version == 4


@KINDS
def test_among_the_objects_where_no_version_names_it(etl: HistoricalETL, kind: Kind):
    stray = put(etl.layout.objects / "2012-0123456789abcdef.parquet", kind)
    assert etl.rollback(1).version == 4
    assert ("objects/", "files that no commit wrote") in [(f.field, f.message) for f in etl.verify().findings]
    assert any(stray.name in line for line in etl.repair().mended)
    assert moved(etl) == [next(path for path in moved(etl) if path.name == stray.name)]
    assert etl.verify().findings == ()


# ── daily/ ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@KINDS
@pytest.mark.parametrize("way", ["repair", "write"])
@pytest.mark.parametrize("year", [2012, 2015])
def test_in_the_place_of_a_year(etl: HistoricalETL, year: int, kind: Kind, way: str):
    shown = daily_bytes(etl)
    put(etl.layout.daily_file(year), kind)
    assert any(line.startswith(f"daily/{year}.parquet: ") for line in errors(etl)), errors(etl)
    if way == "repair":
        report = etl.repair()
        assert any(f"{year}.parquet" in line for line in report.mended)
    else:
        etl.publish_catalog()
    assert daily_bytes(etl) == shown
    assert [path.name for path in moved(etl)] == [f"{year}.parquet"]
    assert errors(etl) == []


def daily(etl: HistoricalETL) -> Path:
    return etl.layout.daily


def hidden(etl: HistoricalETL) -> Path:
    return etl.layout.daily_folders


def shown_folder(etl: HistoricalETL) -> Path:
    return etl.layout.daily.parent / etl.layout.daily.readlink()


def plain_file(path: Path) -> None:
    path.write_bytes(b"of somebody")


@pytest.mark.parametrize("way", ["repair", "write"])
@pytest.mark.parametrize("place", [hidden, shown_folder, daily])
@pytest.mark.parametrize("kind", [plain_file, os.mkfifo, circle])
def test_in_the_place_of_a_folder_of_years(etl: HistoricalETL, place: Place, kind: Kind, way: str):
    shown, stray = daily_bytes(etl), place(etl)
    etl.layout.lock_file().write_bytes(b"")  # as of a writer that was killed
    stray.rename(etl.layout.root / "aside")
    kind(stray)
    assert any(line.startswith(stray.relative_to(etl.layout.storage).as_posix()) for line in errors(etl)), errors(etl)
    if way == "repair":
        assert any(stray.name in line for line in etl.repair().mended)
    else:
        etl.publish_catalog()
    assert daily_bytes(etl) == shown
    assert [path.name for path in moved(etl)] == [stray.name]
    assert errors(etl) == []


def test_a_folder_of_a_version_that_is_a_link_to_another_is_taken_away_and_the_other_stays(etl: HistoricalETL):
    etl.rollback(2)
    shown = shown_folder(etl)
    before = next(path for path in etl.layout.daily_folders.iterdir() if path != shown)
    notes = before / "notes.txt"
    notes.write_text("mine")
    for path in shown.iterdir():
        path.unlink()
    shown.rmdir()
    shown.symlink_to(before.name)
    assert Saying("a link, not a folder") in errors(etl)
    assert etl.repair().ok
    assert (etl.layout.daily / notes.name).read_text() == "mine", "it was not emptied through the link"
    assert errors(etl) == []


def test_a_folder_of_a_version_with_other_things_in_it_shows_the_version_again(etl: HistoricalETL):
    shown, place = daily_bytes(etl), shown_folder(etl)
    for path in place.iterdir():
        path.unlink()
    (place / "notes").mkdir()
    (place / "notes" / "2012.parquet").write_bytes(b"mine")
    assert etl.repair().ok
    assert daily_bytes(etl) == shown
    assert (etl.layout.daily / "notes" / "2012.parquet").read_bytes() == b"mine"


def test_what_was_moved_aside_is_listed_and_purged_as_all_else(etl: HistoricalETL):
    stray = put(etl.layout.history_file(1), folder)
    (stray / "of somebody" / "x").write_bytes(b"x")
    etl.repair()
    (entry,) = read_entries(etl.layout)
    assert (entry.fault, entry.is_intact(), entry.sha256) == ("", True, None)
    assert entry.facts["kept_as_it_is"] == stray.name
    assert (entry.path / stray.name / "of somebody" / "x").read_bytes() == b"x"
    assert etl.verify().findings == ()
    purge_entries(read_entries(etl.layout))
    assert list(etl.layout.quarantine.iterdir()) == []
