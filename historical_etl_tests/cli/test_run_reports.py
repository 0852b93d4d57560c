"""What status and the end of a run tell of gaps, holds, restatements, corrections and failures."""

import subprocess
import sys

import pytest

from historical_etl import ETLResult, HistoricalETL
from historical_etl.cli.run_summary import RunSummary
from historical_etl.cli.terminal import Terminal
from historical_etl_tests.cli.conftest import CommandLine, Stage, evening
from historical_etl_tests.cli.test_shell import LIST_IMPORTS
from historical_etl_tests.proofs.faults.stage import FIRST, day
from historical_etl_tests.proofs.simulation.faults import NotFound, RateLimited
from historical_etl_tests.saying import Saying

FINE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3


def test_status_shows_gaps_holds_restatements_and_failures(stage: Stage):
    cli = stage(RateLimited(start=day(4), until=day(5)))
    limited = evening(cli, 4)
    assert limited.code == FAILED
    assert limited.err == Saying("next", "run the same command again later")
    output = cli("status").out
    assert output == Saying("3 session", "2 symbol", "historical-etl gaps")
    assert output == Saying("1 symbol", "CRSH level_jump", day(2), "historical-etl holds")
    assert f"SPLT x0.5 (v4, {day(3)})" in output
    assert output == Saying(f"{day(4)} 23:00 UTC", "increment", "429 Too Many Requests")
    assert "a later run has committed" not in output
    evening(cli, 5)
    assert "a later run has committed" in cli("status").out
    document = cli("status", "--json").document
    assert [hold["code"] for hold in document["holds"]] == ["level_jump"]
    assert document["restatements"] == 1
    assert [run["since_then"] for run in document["failed_newest"]] == [True]


def test_status_of_a_damaged_ledger_says_so_and_shows_the_rest(stage: Stage):
    cli = stage()
    (target,) = (cli.data / "historical" / "ledgers").glob("restatements-*")
    target.chmod(0o644)
    target.write_bytes(b"x")
    answer = cli("status")
    assert answer.code == FINE
    assert "not known: a ledger is damaged" in answer.out
    assert "restatements" in answer.err
    assert cli("status", "--json").document["holds"] is None


def test_status_imports_polars_only_where_there_is_something_to_report(stage: Stage):
    stage()
    ran = subprocess.run([sys.executable, "-c", LIST_IMPORTS, "status"], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == "['polars']"


def test_status_of_a_replay_does_not_count_from_today(cli: CommandLine):
    cli("replay", "--from", "2005-02-14", "--days", "1", "--since", "2005")
    assert cli("status").out == Saying("Mon 2005-02-14", "replay of the sample", "historical-etl replay")
    cli.set(REPLAY_FROM="2005-02-14")
    assert cli("status", "--json").document["days_ago"] == 1


def test_an_update_says_what_happened_and_what_is_next(stage: Stage):
    cli = stage(until=1)
    second = evening(cli, 2)
    assert second.code == INCOMPLETE
    assert second.err == Saying("1 symbol(s) held", "CRSH")
    assert "  CRSH: level_jump: the level of" in second.err
    assert second.err == Saying("next: historical-etl holds", "CRSH")
    third = evening(cli, 3)
    replaced = cli("query", SPLT_ROWS, "--json").document[0]["n"]
    assert third.out == Saying("SPLT restated x0.5", f"{replaced} row(s) replaced", FIRST)
    assert f"CORR {day(2)} corrected: volume " in third.out
    assert "3 session(s) are missing" in third.err
    document = evening(cli, 3, "update", "--json").document
    assert (document["complete"], document["held"].keys(), document["restated"]) == (False, {"CRSH"}, [])


SPLT_ROWS = "SELECT rows_replaced AS n FROM restatements WHERE symbol = 'SPLT'"


def test_an_update_with_nothing_but_a_restatement_names_its_story(stage: Stage):
    cli = stage(until=2)
    answer = evening(cli, 3, "update", "--symbols", "SPLT")
    assert answer.code == FINE
    assert answer.err == Saying(f"next: historical-etl explain SPLT {day(2)}")


def test_what_has_ended_is_not_missed(stage: Stage):
    cli = stage(NotFound("PLAIN0", start=day(4)))
    codes = [evening(cli, number).code for number in (4, 5, 6)]
    assert codes[:2] == [INCOMPLETE, INCOMPLETE]
    cli("holds", "accept", "CRSH", "--reason", "real")
    evening(cli, 7)
    later = evening(cli, 20, "update", "--symbols", "PLAIN0,PLAIN1")
    assert later.code == FINE
    assert later.err == Saying("1 symbol", "have ended", "PLAIN0")
    assert "did not come" not in later.err


def test_many_warnings_are_reported_in_short(cli: CommandLine, capsys: pytest.CaptureFixture[str]):
    result = ETLResult(start_date=FIRST, end_date=FIRST, warnings=tuple(f"S{number} moved" for number in range(13)))
    RunSummary(HistoricalETL.open(cli.data), None, result).report(Terminal())
    output = capsys.readouterr().err
    assert output.count("worth a look") == 10
    assert "and 3 more like these" in output


def test_symbols_of_which_the_same_is_known_share_a_line(stage: Stage):
    cli = stage()
    cli.vendor.style = "split_adjusted"
    cli.vendor.today = day(4)
    rebuilt = cli("backfill", "--rebuild", "--from", "2012", "--symbols", "SPLT")
    assert "SPLT restated x1 (close x0.5): " in rebuilt.out
    assert cli("status").out == Saying("11 symbol", "another basis", "raw OHLCV")
    answer = cli("update")
    assert answer.code == INCOMPLETE
    assert answer.err.count("it is stored from 'simulated'") == 1
    assert answer.err == Saying("next", "historical-etl backfill --rebuild --from 2012")


def test_another_basis_is_refused_until_the_symbols_are_rebuilt(stage: Stage):
    cli = stage()
    cli.vendor.style = "split_adjusted"
    answer = evening(cli, 4)
    assert answer.code == FAILED
    assert "--rebuild" in answer.err
    rebuilt = cli("backfill", "--rebuild", "--from", "2012", "--json")
    assert rebuilt.document["version"] > 4
    assert "SPLT" in {row["symbol"] for row in rebuilt.document["restated"]}
    assert "OHLCV for splits" in cli("status").out


def test_views_of_the_ledgers_can_be_queried_and_are_named_in_the_help(common: CommandLine):
    output = " ".join(common("query", "--help").out.split())
    tables = {row["name"] for row in common("query", "SHOW TABLES", "--json").document}
    assert {name for name in tables if name not in output} == set()
