"""`quarantine`: listed, shown, put back, purged; on refused rows and on files that were replaced."""

import polars as pl
import pytest

from historical_etl_tests.cli.conftest import CommandLine, Stage, evening
from historical_etl_tests.saying import Saying

FINE, FAILED, USAGE = 0, 1, 2


@pytest.fixture
def replaced(filled: CommandLine) -> CommandLine:
    """A store in whose daily/ somebody put a file, which the next write has quarantined."""
    daily = filled.data / "historical" / "daily" / "2012.parquet"
    daily.unlink()
    daily.write_bytes(b"edited")
    assert filled("backfill", "--from", "2012", "--no-resume").code == FINE
    return filled


def test_nothing_in_quarantine(common: CommandLine):
    for arguments in (["quarantine"], ["quarantine", "list"]):
        answer = common(*arguments)
        assert (answer.code, answer.out.startswith("Nothing is in quarantine")) == (FINE, True)
    assert common("quarantine", "--json").document["entries"] == []
    assert common("quarantine", "purge", "--older-than", "0", "--yes").out == "Nothing to purge\n"


def test_a_replaced_file_is_listed_shown_and_put_back_elsewhere(replaced: CommandLine):
    cli = replaced
    answer = cli("quarantine", "list")
    assert answer.code == FINE
    assert "_2012.parquet" in answer.out
    assert answer.out == Saying("a file in daily/", "no commit")
    (entry,) = cli("quarantine", "list", "--json").document["entries"]
    assert (entry["file"], entry["moved_from"]) == ("2012.parquet", "historical/daily/2012.parquet")
    shown = cli("quarantine", "show", entry["name"][:10])
    assert "was at:    historical/daily/2012.parquet" in shown.out
    refused = cli("quarantine", "restore", entry["name"])
    assert refused.code == USAGE
    assert "left alone" in refused.err
    target = cli.folder / "mine.parquet"
    assert cli("quarantine", "restore", entry["name"], "--to", "mine.parquet", "--json").document == {
        "restored": str(target),
        "entry": entry["name"],
        "bytes": 6,
    }
    assert target.read_bytes() == b"edited"
    assert cli("verify").code == FINE


def test_a_file_is_put_back_where_it_was(replaced: CommandLine):
    cli = replaced
    (cli.data / "historical" / "daily" / "2012.parquet").unlink()
    (entry,) = cli("quarantine", "--json").document["entries"]
    answer = cli("quarantine", "restore", entry["name"])
    assert (answer.code, "the entry stays" in answer.out) == (FINE, True)
    assert (cli.data / "historical" / "daily" / "2012.parquet").read_bytes() == b"edited"
    assert cli("verify").code == FAILED


def test_refused_rows_are_shown_with_a_count_for_each_reason(stage: Stage):
    cli = stage()
    evening(cli, 4)
    (entry,) = [e for e in cli("quarantine", "--json").document["entries"] if e["file"].endswith(".rows.parquet")][:1]
    document = cli("quarantine", "show", entry["name"], "--json").document
    rows = pl.read_parquet(f"{entry['path']}/{entry['file']}")
    assert (document["rows"], document["intact"]) == (rows.height, True)
    assert sum(document["by_reason"].values()) == rows.get_column("reasons").list.len().sum()
    assert document["sample"][0]["symbol"] == "BAD"
    shown = cli("quarantine", "show", entry["name"])
    (reason, *_) = document["by_reason"]
    assert f"{rows.height} refused row(s)" in shown.out
    assert reason in shown.out
    assert "BAD" in shown.out


def test_rows_that_are_not_finite_are_json_all_the_same(cli: CommandLine):
    from historical_etl import ManifestManager

    rows = pl.DataFrame({"close": [float("nan"), float("inf")], "reasons": [["no_close"], ["not_finite"]]})
    ManifestManager(cli.data).quarantine.keep_rows("x.rows.parquet", rows, "bad", "d")
    name = cli("quarantine", "--json").document["entries"][0]["name"]
    answer = cli("quarantine", "show", name, "--json")
    assert "NaN" not in answer.out
    assert [row["close"] for row in answer.document["sample"]] == ["nan", "inf"]


def test_purge_asks_for_yes(replaced: CommandLine):
    cli = replaced
    before = cli("quarantine", "--json").document["entries"]
    name = before[0]["name"]
    asked = cli("quarantine", "purge", name)
    assert (asked.code, "--yes" in asked.err, name in asked.out) == (USAGE, True, True)
    assert cli("quarantine", "purge", name, "--json").document["purged"] is False
    assert cli("quarantine", "--json").document["entries"] == before
    assert cli("quarantine", "purge", "--older-than", "1", "--yes").out == "Nothing to purge\n"
    answer = cli("quarantine", "purge", name, "--older-than", "0", "--yes")
    assert (answer.code, answer.out.startswith("Purged 1 entry, ")) == (FINE, True)
    assert cli("quarantine", "--json").document["entries"] == []


def test_purge_needs_to_know_what(replaced: CommandLine):
    for arguments in (["purge", "--yes"], ["purge", "nobody", "--yes"], ["purge", "--older-than", "-1"]):
        assert replaced("quarantine", *arguments).code == USAGE
    assert len(replaced("quarantine", "--json").document["entries"]) == 1


def test_a_damaged_entry_is_shown_as_such(replaced: CommandLine):
    cli = replaced
    (entry,) = cli("quarantine", "--json").document["entries"]
    kept = cli.data / "quarantine" / entry["name"] / "2012.parquet"
    kept.write_bytes(b"other")
    shown = cli("quarantine", "show", entry["name"])
    assert (shown.code, "not the one that was quarantined" in shown.err) == (FINE, True)
    assert cli("quarantine", "restore", entry["name"], "--to", "x").code == FAILED
    kept.unlink()
    assert "is missing" in cli("quarantine").out


def test_the_help_names_the_commands(cli: CommandLine):
    answer = cli("quarantine", "--help")
    assert answer.code == FINE
    for command in ("list", "show", "restore", "purge"):
        assert command in answer.out
