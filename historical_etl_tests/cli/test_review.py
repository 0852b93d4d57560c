"""Holds, gaps, explain, and what status and a run tell of them: a store in which all of it has happened."""

import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from historical_etl import ETLResult, HistoricalETL
from historical_etl.cli.ended import Ended
from historical_etl.cli.terminal import Terminal
from historical_etl.etl import pipeline
from historical_etl.sources.fetcher import SOURCES
from historical_etl_tests.cli.conftest import PROGRAM, CommandLine
from historical_etl_tests.cli.test_shell import LIST_IMPORTS
from historical_etl_tests.faults.stage import FIRST, PLAIN, SINCE, day
from historical_etl_tests.scenario import at
from historical_etl_tests.simulation import SimListing, SimMarket
from historical_etl_tests.simulation_faults import (
    ContradictoryDuplicate,
    Fault,
    ImpossibleRows,
    LateCorrection,
    LostDays,
    NotFound,
    RateLimited,
)
from historical_etl_tests.simulation_run import Life
from historical_etl_tests.simulation_vendor import SimVendor

FINE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3
#: One symbol for each thing that happens, on the evenings after the backfill.
LISTINGS = (
    SimListing("CRSH", crashes=((day(2), -0.5),)),  # halves, and nothing explains it: held
    SimListing("SPLT", splits=((day(3), 2.0),)),
    SimListing("CORR"),
    SimListing("LATE"),
    SimListing("LOST"),
    SimListing("BAD"),
)
FAULTS: tuple[Fault, ...] = (
    LateCorrection("CORR", day(2), "volume", 0.73, start=day(2), until=day(3)),
    LostDays("LATE", (day(1),), start=day(1), until=day(2)),
    LostDays("LOST", (day(3),), start=day(3)),
    ImpossibleRows("BAD", day(2), start=day(2), until=day(3)),
)
Stage = Callable[..., CommandLine]


@pytest.fixture
def stage(cli: CommandLine) -> Stage:
    """A command line whose source is a simulated vendor; its evening is set with `vendor.today`."""

    def make(*faults: Fault, until: int = 3) -> CommandLine:
        vendor = SimVendor(
            SimMarket(seed=4, symbols=(*PLAIN, *LISTINGS), first=FIRST, last=day(20)), (*FAULTS, *faults)
        )
        life = Life(cli.data, vendor)
        life.backfill(SINCE)
        life.through(day(until))
        cli.patch.setitem(SOURCES, "simulated", lambda _: vendor)
        cli.patch.setattr(pipeline, "clock_for", lambda *_: at(vendor.today))
        cli.set(SOURCE="simulated", START=FIRST.isoformat())
        cli.vendor = vendor  # pyright: ignore[reportAttributeAccessIssue]
        return cli

    return make


def evening(cli: CommandLine, number: int, *arguments: str):
    cli.vendor.today = day(number)  # pyright: ignore[reportAttributeAccessIssue]
    return cli(*(arguments or ("update",)))


def row_of(text: str, symbol: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(symbol))


# ── holds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_holds_tells_who_is_held_why_since_when_and_what_to_do(stage: Stage):
    cli = stage()
    answer = cli("holds")
    assert answer.code == FINE
    assert row_of(answer.out, "CRSH")[:5] == ["CRSH", "level_jump", "v3,", str(day(2)), str(day(2))]
    assert "0.5001 times the one before; no event explains it" in answer.out
    assert "level_jump: the price moved" in answer.err
    assert "next: historical-etl holds accept CRSH --reason" in answer.err
    document = cli("holds", "--json").document
    assert document["symbols_held"] == 1
    assert [(hold["symbol"], hold["session"], hold["attempts"]) for hold in document["holds"]] == [
        ("CRSH", str(day(2)), 2)
    ]


def test_a_held_symbol_is_accepted_by_name_and_brought_up_to_date(stage: Stage):
    cli = stage()
    answer = cli("holds", "accept", "crsh", "--reason", "bankrupt, seen in the news", "--by", "ada")
    assert "CRSH is accepted by ada: bankrupt, seen in the news" in answer.out
    assert "2 row(s) added" in answer.out
    assert answer.code == FINE
    assert cli("holds").out == "Nothing is held; 1 hold(s) are closed, see --all\n"
    assert "accepted by ada (bankrupt, seen in the news) in v6" in cli("holds", "--all").out
    (hold,) = cli("holds", "--all", "--json").document["holds"]
    assert (hold["status"], hold["by"], hold["reason"]) == ("accepted", "ada", "bankrupt, seen in the news")
    assert "CRSH" not in cli("gaps").out


def test_accept_alone_is_the_same_and_takes_the_name_of_the_user(stage: Stage):
    cli = stage()
    cli.patch.setattr("getpass.getuser", lambda: "grace")
    assert "accept " not in cli("--help").out.replace("accept one", "")
    document = cli("accept", "CRSH", "--reason", "real", "--json").document
    assert (document["rows_added"], document["outcomes"]) == (2, {"CRSH": "ok"})
    assert cli("holds", "--all", "--json").document["holds"][0]["by"] == "grace"


@pytest.mark.parametrize("command", [["holds", "accept", "CRSH"], ["accept", "CRSH"], ["gaps", "waive", "LOST"]])
def test_a_decision_needs_a_reason(stage: Stage, command):
    cli = stage()
    before = cli.bytes_stored()
    more = ["--from", str(day(3))] if "waive" in command else []
    answer = cli(*command, *more)
    assert answer.code == USAGE
    assert "--reason" in answer.err
    blank = cli(*command, *more, "--reason", " ")
    assert blank.code == USAGE
    assert "needs a reason" in blank.err
    assert cli.bytes_stored() == before


def test_only_what_is_held_can_be_accepted(stage: Stage):
    cli = stage()
    answer = cli("holds", "accept", "PLAIN0", "--reason", "why not")
    assert answer.code == USAGE
    assert "PLAIN0 is not held" in answer.err
    assert "held are: CRSH" in answer.err


def test_who_has_no_name_must_give_one(stage: Stage):
    cli = stage()

    def nobody() -> str:
        raise OSError("No username set in the environment")

    cli.patch.setattr("getpass.getuser", nobody)
    answer = cli("holds", "accept", "CRSH", "--reason", "real")
    assert answer.code == USAGE
    assert "--by NAME" in answer.err


def test_refused_rows_cannot_be_accepted_and_are_waited_for(stage: Stage):
    cli = stage(ContradictoryDuplicate("PLAIN1", day(4), start=day(4), until=day(5)))
    answer = evening(cli, 4)
    assert answer.code == INCOMPLETE
    assert "1 symbol(s) did not come, the rows that came were refused: PLAIN1" in answer.err
    assert "refused: the rows contradict each other" in cli("holds").err
    assert cli("holds", "accept", "PLAIN1", "--reason", "please").code == USAGE
    evening(cli, 5)
    assert "released in v" in cli("holds", "--all").out


def test_a_decision_stands_when_the_source_fails_afterwards(stage: Stage):
    cli = stage(RateLimited(start=day(4), until=day(5)))
    answer = evening(cli, 4, "holds", "accept", "CRSH", "--reason", "real")
    assert answer.code == FAILED
    assert "The decision is recorded: the next update lets the symbol pass" in answer.err
    assert "and the next update lets it pass" in cli("holds").out
    evening(cli, 5)
    assert cli("holds").out.startswith("Nothing is held")


# ── gaps ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gaps_tells_what_is_missing_and_what_happens_next(stage: Stage):
    cli = stage()
    answer = cli("gaps")
    assert answer.code == FINE
    assert row_of(answer.out, "LOST")[:5] == ["LOST", "1", str(day(3)), str(day(3)), "open"]
    assert "the source has no bar; asked again by the next update" in answer.out
    assert row_of(answer.out, "CRSH")[:5] == ["CRSH", "2", str(day(2)), str(day(3)), "open"]
    assert "the rows are held; comes when the hold is released or accepted" in answer.out
    assert "3 session(s) of 2 symbol(s) are missing" in answer.err
    assert "next: historical-etl holds" in answer.err
    assert f"gaps waive LOST --from {day(3)} --to {day(3)} --reason" in answer.err
    assert "LATE" not in answer.out
    assert "filled in v3" in cli("gaps", "--all", "--symbol", "late").out
    document = cli("gaps", "--symbol", "lost", "--json").document
    assert (document["sessions_missing"], len(document["gaps"])) == (1, 1)


def test_a_gap_that_never_fills_is_confirmed_and_asked_for_again_later(stage: Stage):
    cli = stage()
    for number in (4, 5, 6):
        evening(cli, number)
    assert "No session of LOST is missing; 1 gap(s) are closed or accounted for" in cli("gaps", "--symbol", "LOST").out
    told = cli("gaps", "--symbol", "LOST", "--all").out
    assert "confirmed" in told
    assert "accounted for; asked again from" in told


def test_a_waived_gap_is_complete(stage: Stage):
    cli = stage()
    answer = cli("gaps", "waive", "lost", "--from", str(day(3)), "--reason", "it never traded", "--by", "ada")
    assert answer.code == FINE
    assert "1 session(s) of LOST are waived by ada: it never traded" in answer.out
    assert cli("gaps", "--symbol", "LOST").out.startswith("No session of LOST is missing")
    assert "waived by ada (it never traded): not asked again" in cli("gaps", "--all").out
    again = cli("gaps", "waive", "LOST", "--from", str(day(3)), "--reason", "again")
    assert again.code == USAGE
    assert "open gap of LOST" in again.err


def test_a_waiver_as_json(stage: Stage):
    cli = stage()
    arguments = ("--from", str(day(2)), "--to", str(day(3)), "--reason", "r", "--by", "b", "--json")
    document = cli("gaps", "waive", "CRSH", *arguments).document
    assert (document["symbol"], document["sessions_waived"], document["sessions_missing"]) == ("CRSH", 2, 0)
    assert document["published"]


@pytest.mark.parametrize(("option", "value"), [("--from", "yesterday"), ("--to", "13")])
def test_a_date_that_is_none(stage: Stage, option, value):
    cli = stage()
    given = {"--from": str(day(3)), option: value}
    answer = cli("gaps", "waive", "LOST", *[word for pair in given.items() for word in pair], "--reason", "r")
    assert answer.code == USAGE
    assert "YYYY-MM-DD" in answer.err


# ── explain ────────────────────────────────────────────────────────────────────────────────────────────────────────


def story(cli: CommandLine, symbol: str, session: date) -> list[str]:
    answer = cli("explain", symbol, str(session))
    assert answer.code == FINE
    return answer.out.splitlines()


def test_explain_tells_of_a_split_on_one_line_an_event(stage: Stage):
    title, first, restated, now = story(stage(), "splt", day(2))
    assert title == f"SPLT {day(2):%a %Y-%m-%d}"
    assert first.startswith(f"v3     {day(2)} 23:00  stored    open ")
    assert restated.startswith(f"v4     {day(3)} 23:00  restated  adj_close ")
    assert f"split 2:1 on {day(3)} (inferred)" in restated
    old, new = restated.split("adj_close ")[1].split(": ")[0].split(" -> ")
    assert float(new) == float(old) / 2
    assert now.startswith("in v4 ")
    assert now.rstrip().endswith(f"adj_close {new}")


def test_explain_tells_of_a_correction_and_of_a_late_bar_and_of_a_refused_one(stage: Stage):
    cli = stage()
    assert "corrected  volume " in story(cli, "CORR", day(2))[2]
    assert "the source gives another value" in story(cli, "CORR", day(2))[2]
    assert [line.split()[3] for line in story(cli, "LATE", day(1))[1:4]] == ["gap", "filled", "stored"]
    assert story(cli, "BAD", day(2))[1].split()[3] == "refused"
    document = cli("explain", "CORR", str(day(2)), "--json").document
    assert document["events"][-1]["event"] == "corrected"
    assert document["events"][-1]["new"] == document["now"]["volume"]
    assert document["not_stored_because"] == []


def test_explain_says_why_there_is_no_such_bar(stage: Stage):
    cli = stage()

    def says(symbol: str, session: date | str) -> str:
        answer = cli("explain", symbol, str(session))
        assert answer.code == FINE
        return answer.out

    assert "Not stored: the source has no bar" in says("LOST", day(3))
    assert "asked again by the next update" in says("LOST", day(3))
    assert "Not stored: CRSH is held since v3, level_jump" in says("CRSH", day(3))
    assert "The first bar of CORR is of 2012-09-04" in says("CORR", "2012-08-31")
    assert "is no session of XNYS: the nearest are 2012-12-24 and 2012-12-26" in says("CORR", "2012-12-25")
    assert "No bar of CORE is stored; 12 symbol(s) are, such as CORR" in says("CORE", day(1))
    assert f"The last bar of CORR is of {day(3)}; later ones were not asked for yet" in says("CORR", day(4))
    assert "has not closed yet" in says("CORR", "2049-06-01")
    assert cli("explain", "CORE", str(day(1)), "--json").document["not_stored_because"]


@pytest.mark.parametrize(
    ("arguments", "words"), [(("A B", "2012-12-13"), "'A B'"), (("CORR", "13.12.2012"), "YYYY-MM-DD")]
)
def test_explain_what_is_none(common: CommandLine, arguments, words):
    answer = common("explain", *arguments)
    assert answer.code == USAGE
    assert words in answer.err


# ── status, update, backfill ───────────────────────────────────────────────────────────────────────────────────────


def test_status_shows_gaps_holds_restatements_and_failures(stage: Stage):
    cli = stage(RateLimited(start=day(4), until=day(5)))
    limited = evening(cli, 4)
    assert limited.code == FAILED
    assert "next:  run the same command again later" in limited.err
    told = cli("status").out
    assert "3 session(s) of 2 symbol(s); see `historical-etl gaps`" in told
    assert f"1 symbol(s): CRSH level_jump of {day(2)}; see `historical-etl holds`" in told
    assert f"SPLT x0.5 (v4, {day(3)})" in told
    assert f"{day(4)} 23:00 UTC increment: 429 Too Many Requests" in told
    assert "a later run has committed" not in told
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


def test_status_imports_polars_only_where_there_is_something_to_tell(stage: Stage):
    stage()
    ran = subprocess.run([sys.executable, "-c", LIST_IMPORTS, "status"], capture_output=True, text=True, check=True)
    assert ran.stderr.splitlines()[-1] == "['polars']"


def test_status_of_a_replay_does_not_count_from_today(cli: CommandLine):
    cli("replay", "--from", "2005-02-14", "--days", "1", "--since", "2005")
    assert "through Mon 2005-02-14, in a replay of the sample; `historical-etl replay` goes on" in cli("status").out
    cli.set(REPLAY_FROM="2005-02-14")
    assert cli("status", "--json").document["days_ago"] == 1


def test_an_update_tells_what_happened_and_what_is_next(stage: Stage):
    cli = stage(until=1)
    second = evening(cli, 2)
    assert second.code == INCOMPLETE
    assert "1 symbol(s) held, nothing new of them is stored: CRSH" in second.err
    assert "  CRSH: level_jump: the level of" in second.err
    assert "next: historical-etl holds; if the new prices of CRSH are right" in second.err
    third = evening(cli, 3)
    assert (
        f"SPLT restated x0.5: {cli('query', SPLT_ROWS, '--json').document[0]['n']} row(s) replaced, {FIRST} to"
        in third.out
    )
    assert f"CORR {day(2)} corrected: volume " in third.out
    assert "3 session(s) are missing" in third.err
    document = evening(cli, 3, "update", "--json").document
    assert (document["complete"], document["held"].keys(), document["restated"]) == (False, {"CRSH"}, [])


SPLT_ROWS = "SELECT rows_replaced AS n FROM restatements WHERE symbol = 'SPLT'"


def test_an_update_with_a_restatement_and_nothing_else_names_the_story(stage: Stage):
    cli = stage(until=2)
    answer = evening(cli, 3, "update", "--symbols", "SPLT")
    assert answer.code in (FINE, INCOMPLETE)
    document = cli("explain", "SPLT", str(day(2)), "--json").document
    assert document["events"][-1]["event"] == "restated"


def test_what_has_ended_is_not_missed(stage: Stage):
    cli = stage(NotFound("PLAIN0", start=day(4)))
    codes = [evening(cli, number).code for number in (4, 5, 6)]
    assert codes[:2] == [INCOMPLETE, INCOMPLETE]
    cli("holds", "accept", "CRSH", "--reason", "real")
    evening(cli, 7)
    later = evening(cli, 20, "update", "--symbols", "PLAIN0,PLAIN1")
    assert later.code == FINE
    assert "1 symbol(s) that have ended gave no rows: PLAIN0" in later.err
    assert "did not come" not in later.err


def test_many_warnings_are_told_in_short(cli: CommandLine, capsys: pytest.CaptureFixture[str]):
    result = ETLResult(start_date=FIRST, end_date=FIRST, warnings=tuple(f"S{number} moved" for number in range(13)))
    Ended(HistoricalETL.open(cli.data), None, result).tell(Terminal())
    told = capsys.readouterr().err
    assert told.count("worth a look") == 10
    assert "and 3 more like these" in told


def test_symbols_of_which_the_same_is_known_share_a_line(stage: Stage):
    cli = stage()
    cli.vendor.style = "split_adjusted"  # pyright: ignore[reportAttributeAccessIssue]
    cli.vendor.today = day(4)  # pyright: ignore[reportAttributeAccessIssue]
    rebuilt = cli("backfill", "--rebuild", "--from", "2012", "--symbols", "SPLT")
    assert "SPLT restated x1 (close x0.5): " in rebuilt.out
    answer = cli("update")
    assert answer.code == INCOMPLETE
    assert answer.err.count("it is stored from 'simulated'") == 1
    assert "next: use the source that the symbols were filled from, or historical-etl backfill --rebuild" in answer.err


def test_another_basis_is_refused_until_the_symbols_are_rebuilt(stage: Stage):
    cli = stage()
    cli.vendor.style = "split_adjusted"  # pyright: ignore[reportAttributeAccessIssue]
    answer = evening(cli, 4)
    assert answer.code == FAILED
    assert "--rebuild" in answer.err
    rebuilt = cli("backfill", "--rebuild", "--from", "2012", "--json")
    assert rebuilt.document["version"] > 4
    assert "SPLT" in {row["symbol"] for row in rebuilt.document["restated"]}
    assert "OHLCV for splits" in cli("status").out


def test_views_of_the_ledgers_can_be_queried_and_are_named_in_the_help(common: CommandLine):
    told = " ".join(common("query", "--help").out.split())
    tables = {row["name"] for row in common("query", "SHOW TABLES", "--json").document}
    assert {name for name in tables if name not in told} == set()


# ── real processes ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_pence_are_held_and_accepted_from_a_shell(cli: CommandLine):
    folder = cli.folder / "prices"
    folder.mkdir()
    cli.set(SOURCE="files", FILES_PATH=str(folder))
    days = [f"2013-02-{number:02}" for number in (4, 5, 6, 7, 8, 11, 12)]

    def deliver(count: int, dear: int) -> None:
        prices = [10 + number / 10 for number in range(count)]
        prices[dear:] = [price * 100 for price in prices[dear:]]
        rows = [f"{day},{p},{p},{p},{p},100" for day, p in zip(days, prices, strict=False)]
        (folder / "abc.csv").write_text("date,open,high,low,close,volume\n" + "\n".join(rows) + "\n")

    deliver(5, 5)
    assert cli.process("backfill").code == FINE
    deliver(7, 5)
    held = cli.process("update")
    assert held.code == INCOMPLETE
    assert "1 symbol(s) held" in held.err
    assert "ABC     level_jump" in cli.process("holds").out
    accepted = cli.process("holds", "accept", "ABC", "--reason", "quoted in pence now", "--by", "ada")
    assert (accepted.code, accepted.err.count("warning")) == (FINE, 1)
    assert "2 row(s) added" in accepted.out
    assert cli.process("verify").code == FINE


@pytest.mark.parametrize("command", [["holds"], ["gaps"], ["explain", "AAPL", "2013-02-04"]])
def test_looking_at_nothing_is_fine_and_creates_nothing(cli: CommandLine, command):
    answer = cli(*command)
    assert answer.code == FINE
    assert "ommitted yet" in answer.out
    assert not Path(cli.data).exists()
    assert isinstance(cli(*command, "--json").document, dict)


def test_a_reader_that_left_is_no_traceback(common: CommandLine):
    ran = subprocess.run(
        ["sh", "-c", f'"{PROGRAM[0]}" -c "{PROGRAM[2]}" explain AAPL 2013-02-04 | true'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in ran.stderr
