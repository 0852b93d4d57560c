"""`rename` and `holds split`: what people see, and what machines read."""

from pathlib import Path

import pytest

from historical_etl_tests.cli.conftest import CommandLine, Stage
from historical_etl_tests.proofs.faults.stage import day
from historical_etl_tests.saying import Saying

FINE, FAILED, USAGE = 0, 1, 2
ON = "2022-06-09"


def test_facebook_goes_on_as_meta(filled: CommandLine):
    answer = filled("rename", "fb", "META", "--on", ON, "--reason", "the new name", "--by", "ada")
    assert answer.code == FINE
    renamed, version = answer.out.splitlines()
    assert renamed == Saying("META was FB", ON)
    assert version == Saying("Version 3", "196 bar")
    assert "next: historical-etl update" in answer.err
    sql = "SELECT symbol, count(*) AS bars FROM daily_prices WHERE symbol IN ('FB', 'META') GROUP BY 1"
    assert filled("query", sql, "--format", "csv").out == "symbol,bars\nMETA,196\n"
    aliases = filled("query", "SELECT alias, symbol, kind, source, reason FROM aliases", "--format", "csv").out
    assert aliases.splitlines()[1] == "FB,META,renamed,person,the new name"
    reported = filled("explain", "FB", "2012-11-07")
    assert reported.out.startswith("META Wed 2012-11-07\n")
    assert " ".join(reported.out.split()) == Saying(f"FB before {ON}", "is META", "ada (person)", "the new name")
    assert filled("update", "--symbols", "FB").code == FINE
    assert filled("gaps", "--symbol", "FB", "--json").document["sessions_missing"] == 0
    document = filled("diff", "2", "--json").document
    assert [document[change] for change in ("added", "removed", "changed", "renamed")] == [0, 0, 0, 196]
    assert "renamed" in filled("diff", "2").out
    assert filled("verify").code == FINE
    assert filled("versions", "--json").code == FINE
    assert filled("rename", "FB", "META", "--on", ON).out == Saying("Nothing to do", "renames")
    assert filled("rollback", "2").code == FINE
    assert "FB,196" in filled("query", sql, "--format", "csv").out


def test_a_backfill_by_the_old_name_fills_the_new_one(cli: CommandLine):
    assert cli("backfill", "--from", "2013", "--symbols", "FB,IBM").code == FINE
    assert cli("rename", "FB", "META", "--on", ON).code == FINE
    assert cli("backfill", "--from", "2012").code == FINE
    sql = "SELECT DISTINCT symbol FROM daily_prices ORDER BY 1"
    assert cli("query", sql, "--format", "csv").out.split() == ["symbol", "AAPL", "GOOG", "IBM", "META", "MSFT"]
    count = "SELECT count(*) AS bars FROM daily_prices WHERE symbol = 'META'"
    assert cli("query", count, "--format", "csv").out == "bars\n196\n"


def test_a_file_of_renames_is_one_commit(filled: CommandLine):
    Path("renames.csv").write_text(
        f"old,new,date,reason\nFB,META,{ON},the new name\nGOOG,GOOGL,2014-04-03,\nX,Y,2020-01-02,\n"
    )
    document = filled("rename", "--file", "renames.csv", "--by", "ada", "--json").document
    assert (document["version"], document["rows"], document["left_out"]) == (3, 487, ["X"])
    assert [(r["old"], r["new"], r["date"]) for r in document["renames"]] == [
        ("GOOG", "GOOGL", "2014-04-03"),
        ("FB", "META", ON),
    ]
    again = filled("rename", "--file", "renames.csv", "--by", "ada")
    assert again.out == Saying("Nothing to do", "renames")
    assert again.err == Saying("1 rename(s) left out", "neither name is stored", "X")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("FB", "META"), "needs both names and a date"),
        (("FB", "--on", ON), "needs both names and a date"),
        (("FB", "META", "--on", ON, "--file", "renames.csv"), "exclude each other"),
        (("--file", "nowhere.csv"), "cannot be read"),
        (("FBX", "META", "--on", ON), "did you mean FB"),
        (("FB", "FB", "--on", ON), "to itself"),
        (("FB", "META", "--on", ON, "--force"), "reason"),
    ],
)
def test_what_cannot_be_renamed_is_reported(common: CommandLine, arguments: tuple[str, ...], words: str):
    answer = common("rename", *arguments)
    assert answer.code == USAGE
    assert words in answer.err


def test_histories_that_do_not_fit_are_a_failure_with_the_evidence(filled: CommandLine):
    before = filled.bytes_stored()
    answer = filled("rename", "IBM", "AAPL", "--on", "2012-06-01")
    assert answer.code == FAILED
    assert answer.err == Saying("IBM and AAPL", "104 session", "2012-01-03", "2012-05-31")
    assert filled.bytes_stored() == before


def test_a_held_symbol_is_split_and_the_next_update_brings_the_other(stage: Stage):
    cli = stage()
    answer = cli("holds", "split", "CRSH", "--reason", "another company", "--by", "ada")
    assert answer.code == FINE
    assert answer.out == Saying("CRSH is another security", f"since {day(2)}", "CRSH-2012")
    assert "next: historical-etl update --symbols CRSH" in answer.err
    assert cli("update").code in (FINE, 3)
    assert cli("holds").out == Saying("Nothing is held", "1 hold(s) are closed", "--all")
    assert " ".join(cli("holds", "--all").out.split()) == Saying("split by ada", "another company", "v5")
    sql = "SELECT min(date) AS first FROM daily_prices WHERE symbol = 'CRSH'"
    assert str(day(2)) in cli("query", sql, "--format", "csv").out
    assert cli("verify").code == FINE
    assert cli("holds", "split", "CRSH", "--reason", "again").code == USAGE
    assert cli("holds", "split", "CRSH", "--on", "2012-01-03", "--reason", "again").code == USAGE
