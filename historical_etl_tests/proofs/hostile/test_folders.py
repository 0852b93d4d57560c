"""Folders of a user that only a file system likes: too deep, too many, pipes, and names that are no text."""

import os
import subprocess
from pathlib import Path

import pytest

from historical_etl_tests.field.files_at_hand import FINE, INCOMPLETE, USAGE, Desk, days, desk, lines
from historical_etl_tests.saying import Saying

__all__ = ["desk"]

GOOD = lines("Date,Open,High,Low,Close,Volume", "{d},100,101,99,100,1000", days())


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["MSFT.parquet", "MSFT.csv", "MSFT.txt", "MSFT.txt.gz"])
def test_a_pipe_in_the_folder_does_not_hold_an_adoption(desk: Desk, name: str) -> None:
    desk.put("AAPL.csv", GOOD)
    os.mkfifo(desk.folder / name)
    answer = desk.cli("adopt", str(desk.folder))
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"AAPL": 8}
    assert answer.err == Saying("a pipe", f"[{desk.folder / name}]")
    assert answer.err == Saying("Next", "out of the folder")
    assert "mount" not in answer.err


@pytest.mark.parametrize("command", ["backfill", "adopt"])
def test_a_branch_that_is_too_deep_is_skipped_and_the_rest_is_stored(desk: Desk, command: str) -> None:
    desk.put("AAPL.csv", GOOD)
    desk.put("deep/MSFT.csv", GOOD)
    _dig(desk.folder / "deep", levels=25, content=GOOD)
    answer = desk.backfill() if command == "backfill" else desk.cli("adopt", str(desk.folder))
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"AAPL": 8, "MSFT": 8}
    assert answer.err == Saying("below this folder", "File name too long")
    assert f"[{desk.folder}/deep/{'d' * 20}" in answer.err
    assert all(len(line) < 1_000 for line in answer.err.splitlines())


def test_a_file_whose_path_is_too_long_is_reported(desk: Desk) -> None:
    """Its folder can be listed, and it cannot be opened."""
    desk.put("AAPL.csv", GOOD)
    levels = (4_095 - len(os.fsencode(desk.folder))) // 201
    _dig(desk.folder, levels=levels, content=GOOD, name=f"{'x' * 240}.csv")
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"AAPL": 8}
    assert answer.err == Saying("cannot be read", "File name too long")
    assert answer.err == Saying("Next", "a shorter path")


def test_a_folder_of_which_nothing_can_be_listed_is_no_empty_one(desk: Desk) -> None:
    _dig(desk.folder, levels=25, content=GOOD)
    answer = desk.backfill()
    assert answer.code not in (FINE, INCOMPLETE)
    assert answer.err == Saying("cannot be listed", "File name too long")
    assert len(answer.err) < 2_000


def test_a_name_that_is_no_text_is_reported_as_bytes(desk: Desk) -> None:
    desk.put("AAPL.csv", GOOD)
    for name in (b"MS\xff\xfeFT.csv", b"MS\xff\xfeFT.parquet", b"\xe9t\xe9/IBM.csv"):
        path = Path(os.fsdecode(os.fsencode(desk.folder) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_text(GOOD)
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"AAPL": 8}
    for fact in (r"/MS\xff\xfeFT.csv]", r"/MS\xff\xfeFT.parquet]", r"/\xe9t\xe9/IBM.csv]"):
        assert answer.err == Saying("not UTF-8", f"[{desk.folder}{fact}", "Next: rename it")


def test_a_name_with_line_breaks_is_reported_on_one_line(desk: Desk) -> None:
    desk.put("AAPL.csv", GOOD)
    desk.put("no\nsymbol\x1b[2J.csv", GOOD)
    desk.put("empty\n.csv", "Date,Close,Volume\n")
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert rf"[{desk.folder}/no\nsymbol\x1b[2J.csv]" in answer.err
    assert r"empty\n.csv" in answer.err
    assert "\x1b[2J" not in answer.err


def test_very_many_files_that_are_skipped_take_some_lines(desk: Desk) -> None:
    desk.put("AAPL.csv", GOOD)
    for number in range(70):
        desk.put(f"f{number:02}.csv", "")
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert answer.err == Saying("70 file", "skipped")
    assert "/f19.csv" in answer.err
    assert "/f20.csv" not in answer.err
    assert answer.err == Saying("50 more", "--json")
    assert len(answer.err.splitlines()) < 40
    adopted = ("adopt", str(desk.folder), "--dry-run")
    assert "/f20.csv" not in desk.cli(*adopted).err
    assert len(desk.cli(*adopted, "--json").document["adopted"]["set_aside"]) == 70


def test_what_is_refused_under_a_name_that_is_no_symbol_does_not_end_the_run(desk: Desk) -> None:
    """It could not be asked for: nothing but its rows is lost."""
    weeks = days(60)[::5]
    rows = lines("Date,Symbol,Close,Volume", "{d},MSFT,100,1000\n{d},B RK,100,1000", weeks)
    desk.put("AAPL.csv", GOOD)
    desk.put("weekly.csv", rows)
    answer = desk.backfill()
    assert answer.code == INCOMPLETE
    assert desk.symbols() == {"AAPL": 8}
    assert "they are weekly" in answer.err


@pytest.mark.parametrize("command", ["backfill", "adopt"])
@pytest.mark.parametrize("path", ["x" * 300, "circle", "~nobody-of-this-name/x"], ids=lambda path: path[:9])
def test_a_path_that_can_be_none_is_reported(
    desk: Desk, command: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk.folder)
    (desk.folder / "circle").symlink_to("circle")
    desk.cli.set(SOURCE="files", FILES_PATH=path)
    answer = desk.cli("backfill") if command == "backfill" else desk.cli("adopt", path)
    assert answer.code == USAGE
    assert f"{path[:100]!r} is no path" in answer.err


def test_a_glob_over_folders_that_are_too_deep_is_reported(desk: Desk) -> None:
    _dig(desk.folder, levels=1_100, content=GOOD, folder="d")
    answer = desk.cli("adopt", f"{desk.folder}/**/*.csv")
    try:
        assert answer.code == USAGE
        assert "Folders lie too deep" in answer.err
    finally:
        subprocess.run(["rm", "-rf", desk.folder / "d"], check=True)  # what cleans up calls itself for each of them


def _dig(top: Path, levels: int, content: str, name: str = "GOOGL.csv", folder: str = "d" * 200) -> None:
    """Folders in folders, and a file at the end, of which the last have longer paths than a call takes."""
    at = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(folder, dir_fd=at)
        above, at = at, os.open(folder, os.O_RDONLY, dir_fd=at)
        os.close(above)
    with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=at), "w") as file:
        file.write(content)
    os.close(at)
