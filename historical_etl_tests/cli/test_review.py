"""Holds, gaps and explain: the ledgers as people see them, and what people decide."""

import subprocess
from datetime import date
from pathlib import Path

import pytest

from historical_etl_tests.cli.conftest import PROGRAM, CommandLine, Stage, evening
from historical_etl_tests.proofs.faults.stage import day
from historical_etl_tests.proofs.simulation.faults import ContradictoryDuplicate, RateLimited
from historical_etl_tests.saying import Saying

FINE, FAILED, USAGE, INCOMPLETE = 0, 1, 2, 3


def row_of(text: str, symbol: str) -> list[str]:
    return next(line.split() for line in text.splitlines() if line.startswith(symbol))


# ── holds ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_holds_says_who_is_held_why_since_when_and_what_to_do(stage: Stage):
    cli = stage()
    answer = cli("holds")
    assert answer.code == FINE
    assert row_of(answer.out, "CRSH")[:5] == ["CRSH", "level_jump", "v3,", str(day(2)), str(day(2))]
    assert answer.out == Saying("0.5001 times", "no event explains it")
    assert "level_jump: the price moved" in answer.err
    assert "next: historical-etl holds accept CRSH --reason" in answer.err
    assert answer.err == Saying("another security", "historical-etl holds split CRSH --reason")
    document = cli("holds", "--json").document
    assert document["symbols_held"] == 1
    assert [(hold["symbol"], hold["session"], hold["attempts"]) for hold in document["holds"]] == [
        ("CRSH", str(day(2)), 2)
    ]


def test_a_held_symbol_is_accepted_by_name_and_brought_up_to_date(stage: Stage):
    cli = stage()
    answer = cli("holds", "accept", "crsh", "--reason", "bankrupt, seen in the news", "--by", "ada")
    assert answer.out == Saying("CRSH is accepted by ada", "bankrupt, seen in the news")
    assert "2 row(s) added" in answer.out
    assert answer.code == FINE
    assert cli("holds").out == Saying("Nothing is held", "1 hold(s) are closed", "--all")
    assert cli("holds", "--all").out == Saying("accepted by ada", "bankrupt, seen in the news", "v6")
    (hold,) = cli("holds", "--all", "--json").document["holds"]
    assert (hold["status"], hold["by"], hold["reason"]) == ("accepted", "ada", "bankrupt, seen in the news")
    assert "CRSH" not in cli("gaps").out


def test_accept_alone_is_the_same_and_takes_the_name_of_the_user(stage: Stage):
    cli = stage()
    cli.patch.setattr("getpass.getuser", lambda: "grace")
    assert "accept " not in [line[2:9] for line in cli("--help").out.splitlines()]
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
    assert answer.err == Saying("1 symbol", "the fetched rows were refused", "PLAIN1")
    assert "refused: the rows contradict each other" in cli("holds").err
    assert cli("holds", "accept", "PLAIN1", "--reason", "please").code == USAGE
    evening(cli, 5)
    assert "released in v" in cli("holds", "--all").out


def test_a_decision_stays_when_the_source_fails_afterwards(stage: Stage):
    cli = stage(RateLimited(start=day(4), until=day(5)))
    answer = evening(cli, 4, "holds", "accept", "CRSH", "--reason", "real")
    assert answer.code == FAILED
    assert answer.err == Saying("recorded", "the next update")
    assert cli("holds").out == Saying("the next update", "pass")
    evening(cli, 5)
    assert cli("holds").out.startswith("Nothing is held")


# ── gaps ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_gaps_says_what_is_missing_and_what_happens_next(stage: Stage):
    cli = stage()
    answer = cli("gaps")
    assert answer.code == FINE
    assert row_of(answer.out, "LOST")[:5] == ["LOST", "1", str(day(3)), str(day(3)), "1"]
    assert answer.out == Saying("the source has no bar", "the next update")
    assert row_of(answer.out, "CRSH")[:5] == ["CRSH", "2", str(day(2)), str(day(3)), "0"]
    assert answer.out == Saying("held", "released", "accepted")
    assert answer.err == Saying("3 session", "2 symbol", "missing")
    assert "next: historical-etl holds" in answer.err
    assert answer.err == Saying("gaps waive LOST", f"--from {day(3)}", f"--to {day(3)}", "--reason")
    assert "LATE" not in answer.out
    assert "filled in v3" in cli("gaps", "--all", "--symbol", "late").out
    document = cli("gaps", "--symbol", "lost", "--json").document
    assert (document["sessions_missing"], len(document["gaps"])) == (1, 1)


def test_a_gap_that_never_fills_is_confirmed_and_asked_for_again_later(stage: Stage):
    cli = stage()
    for number in (4, 5, 6):
        evening(cli, number)
    closed = cli("gaps", "--symbol", "LOST").out
    assert closed == Saying("No session of LOST is missing", "1 gap", "closed")
    output = cli("gaps", "--symbol", "LOST", "--all").out
    assert "confirmed" in output
    assert "accounted for; asked again from" in output


def test_a_waived_gap_is_complete(stage: Stage):
    cli = stage()
    answer = cli("gaps", "waive", "lost", "--from", str(day(3)), "--reason", "it never traded", "--by", "ada")
    assert answer.code == FINE
    assert answer.out == Saying("1 session", "LOST", "waived by ada", "it never traded")
    assert cli("gaps", "--symbol", "LOST").out.startswith("No session of LOST is missing")
    assert cli("gaps", "--all").out == Saying("waived by ada", "it never traded", "not asked again")
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


def test_explain_reports_a_split_on_one_line_an_event(stage: Stage):
    title, first, restated, now = story(stage(), "splt", day(2))
    assert title == f"SPLT {day(2):%a %Y-%m-%d}"
    assert first.startswith(f"v3     {day(2)} 23:00  stored    open ")
    assert restated.startswith(f"v4     {day(3)} 23:00  restated  adj_close ")
    assert f"split 2:1 on {day(3)} (inferred)" in restated
    old, new = restated.split("adj_close ")[1].split(": ")[0].split(" -> ")
    assert float(new) == float(old) / 2
    assert now.startswith("in v4 ")
    assert now.rstrip().endswith(f"adj_close {new}")


def test_explain_reports_a_correction_a_late_bar_and_a_refused_one(stage: Stage):
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

    assert says("LOST", day(3)) == Saying("Not stored", "the source has no bar")
    assert "asked again by the next update" in says("LOST", day(3))
    assert says("CRSH", day(3)) == Saying("Not stored", "CRSH is held", "v3", "level_jump")
    assert says("CORR", "2012-08-31") == Saying("first bar of CORR", "2012-09-04")
    assert says("CORR", "2012-12-25") == Saying("no session of XNYS", "2012-12-24", "2012-12-26")
    assert says("CORR", day(4)) == Saying("last bar of CORR", day(3), "not asked for yet")
    assert "has not closed yet" in says("CORR", "2049-06-01")
    assert cli("explain", "CORR", str(day(4)), "--json").document["not_stored_because"]
    unknown = cli("explain", "CORE", str(day(1)))
    assert unknown.code == 2
    assert "did you mean CORR" in unknown.err


@pytest.mark.parametrize(
    ("arguments", "words"), [(("A B", "2012-12-13"), "'A B'"), (("CORR", "13.12.2012"), "YYYY-MM-DD")]
)
def test_explain_what_is_none(common: CommandLine, arguments, words):
    answer = common("explain", *arguments)
    assert answer.code == USAGE
    assert words in answer.err


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
def test_looking_at_nothing_is_an_error_and_creates_nothing(cli: CommandLine, command):
    answer = cli(*command)
    assert answer.code == USAGE
    assert answer.out == ""
    assert "ommitted yet" in answer.err
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
