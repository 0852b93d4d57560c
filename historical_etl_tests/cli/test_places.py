"""A place without a store, and a symbol that nobody knows: an error that names the nearest, and nothing is made."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from historical_etl import ConfigurationError, HistoricalETL
from historical_etl.errors import CatalogError, HistoricalETLError
from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, store

DAY = "2012-12-14"
WRITES: dict[str, Callable[[HistoricalETL], object]] = {
    "accept": lambda etl: etl.accept("BRK.B", reason="r", by="me"),
    "split": lambda etl: etl.split("BRK.B", reason="r", by="me"),
    "waive": lambda etl: etl.waive("BRK.B", DAY, reason="r", by="me"),
    "waive for all": lambda etl: etl.waive(None, DAY, reason="r", by="me"),
    "rename": lambda etl: etl.rename("BRK.B", "BRK.C", DAY, reason="r", by="me"),
    "pin": lambda etl: etl.pin("name"),
    "unpin": lambda etl: etl.unpin("name"),
    "vacuum": lambda etl: etl.vacuum(),
    "vacuum, dry": lambda etl: etl.vacuum(dry_run=True),
    "rollback": lambda etl: etl.rollback(1),
    "repair": lambda etl: etl.repair(),
    "publish_catalog": lambda etl: etl.publish_catalog(),
    "run_incremental_etl": lambda etl: etl.run_incremental_etl(),
}


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return command_line(tmp_path, capsys, monkeypatch)


def at(root: Path) -> HistoricalETL:
    return store(root, ScriptedFetcher(SHORT))


@pytest.fixture
def filled(root: Path) -> Path:
    at(root).run_full_etl(["BRK.B", "SPLT"], SHORT.first, SHORT.last)
    return root


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_changes_a_store_makes_none_where_there_is_none(filled, write):
    typo = filled.with_name("dtaa")
    with pytest.raises((ConfigurationError, CatalogError), match="there is no store") as caught:
        write(at(typo))
    assert f"the nearest store is {filled}" in caught.value.todo
    assert not typo.exists()


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("dtaa", "the folder does not exist"),
        ("empty", "the folder exists"),
        ("file", "this is a file"),
        ("dangling", "the link leads nowhere"),
        ("data/historical/daily", "the folder exists"),
        ("data/historical/daily/deeper", "the folder does not exist"),
        (".", "the folder exists"),
        ("..", "the folder exists"),
    ],
)
def test_why_there_is_no_store_and_where_one_is(filled, place, why):
    folder = filled.parent
    (folder / "empty").mkdir()
    (folder / "file").write_text("")
    (folder / "dangling").symlink_to(folder / "nowhere")
    with pytest.raises(ConfigurationError, match=why) as caught:
        at(folder / place if place != ".." else folder.parent).scan()
    if place != "..":  # other tests have stores there
        assert f"the nearest store is {filled}" in caught.value.todo


def test_an_error_in_a_folder_above_is_found(tmp_path):
    root = tmp_path / "production" / "prices" / "data"
    at(root).run_full_etl(["BRK.B"], SHORT.first, SHORT.last)
    with pytest.raises(ConfigurationError) as caught:
        at(tmp_path / "prodcution" / "prices" / "data").scan()
    assert f"the nearest store is {root}" in caught.value.todo


def test_the_quarantine_of_a_misspelt_place_is_an_error(cli, filled):
    answer = cli("--data-dir", str(filled.with_name("dtaa")), "quarantine", "list")
    assert answer.code == 2
    assert str(filled) in answer.err


def test_links_in_a_circle_are_an_error_that_names_them(cli):
    (cli.folder / "loop").symlink_to("loop")
    for arguments in (("status",), ("verify",), ("query", "SELECT 1"), ("backfill", "--from", "2012", "--to", "2012")):
        answer = cli("--data-dir", "loop", *arguments)
        assert answer.code in {1, 2}
        assert "loop" in answer.err


USES: dict[str, Callable[[HistoricalETL], object]] = {
    "scan": lambda etl: etl.scan("BKR.B"),
    "explain": lambda etl: etl.explain("BKR.B", DAY),
    "accept": lambda etl: etl.accept("BKR.B", reason="r", by="me"),
    "waive": lambda etl: etl.waive("BKR.B", DAY, reason="r", by="me"),
    "split": lambda etl: etl.split("BKR.B", DAY, reason="r", by="me"),
    "rename": lambda etl: etl.rename("BKR.B", "BRK.C", DAY, reason="r", by="me"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_unknown_symbol_is_an_error_with_the_nearest_names_wherever_it_is_named(filled, use):
    with pytest.raises(ConfigurationError, match=r"BKR\.B") as caught:
        use(at(filled))
    assert "BRK.B" in caught.value.todo


def test_every_command_that_takes_a_symbol_names_the_nearest_one(cli):
    assert cli("backfill", "--from", "2012", "--to", "2012", "--symbols", "AAPL,MSFT").code == 0
    why = ("--reason", "r", "--by", "me")
    for arguments in (
        ("explain", "APPL", DAY),
        ("gaps", "--symbol", "APPL"),
        ("gaps", "waive", "APPL", "--from", DAY, *why),
        ("holds", "accept", "APPL", *why),
        ("holds", "split", "APPL", "--on", DAY, *why),
        ("rename", "APPL", "NEW", "--on", DAY, *why),
    ):
        answer = cli(*arguments)
        assert answer.code == 2, arguments
        assert "AAPL" in answer.err, arguments


def test_a_misspelt_ledger_names_the_nearest_one(filled):
    with pytest.raises(ConfigurationError, match="correctoins") as caught:
        at(filled).ledger("correctoins")
    assert "did you mean corrections?" in caught.value.todo


def test_what_cannot_be_read_is_not_called_empty(filled, monkeypatch):
    """A folder that may not be looked into is no folder without a store."""
    real = os.open

    def refusing(path: object, *arguments: object, **options: object) -> int:
        if str(path).endswith("historical_daily.json"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(HistoricalETLError, match="Permission denied"):
        at(filled).scan()
