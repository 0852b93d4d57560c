"""Weeks with nobody there: what the sensor does after a pause, an outage, a hold, and a source that fails for good."""

import json
from collections.abc import Callable
from datetime import date

import pytest

from historical_etl import Outcome
from historical_etl.automation import SESSION_TAG
from historical_etl_tests.orchestration.harness import (
    CATALOG,
    Project,
    facts,
    failure_text,
    filled,
    later,
    launched,
    request,
    scripted,
    stored_years,
    tick,
    why,
)
from historical_etl_tests.orchestration.test_changes import jumping
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import LAST, SYMBOLS, current_manifest, in_turn, losing, sessions, stored

Make = Callable[..., Project]
#: Six sessions before the last one.
A_WEEK_AGO = date(2013, 2, 20)


def asked(scene: Project, result) -> str:
    """Run what a tick asks for; returns the session."""
    scene.run_request(request(result))
    return request(result).tags[SESSION_TAG]


def test_a_missed_week_is_caught_up_in_one_run(project: Make) -> None:
    scene = filled(project, until=A_WEEK_AGO)
    assert len(sessions(A_WEEK_AGO, LAST)) == 8

    result, cursor = tick(scene)
    assert asked(scene, result) == str(LAST)

    assert why(tick(scene, json.dumps(cursor))[0]).startswith("Current through 2013-03-01.")
    assert scene.instance.get_runs_count() == 1
    dates = stored(scene.etl).filter(symbol="HALT")["date"].to_list()
    assert dates[-8:] == sessions(A_WEEK_AGO, LAST)
    assert [event.partition for event in scene.events() if event.description is None] == ["2013"]


def test_an_outage_fails_the_run_and_is_asked_for_again_with_pauses_and_no_pile(project: Make) -> None:
    empty = in_turn(*(losing(symbol) for symbol in SYMBOLS))
    scene = filled(project, source=scripted(alter=empty))
    before = current_manifest(scene.etl)
    result, cursor = tick(scene)

    failed = scene.run_request(request(result))

    assert "returned none" in failure_text(failed, "daily_prices")
    assert current_manifest(scene.etl) == before, "nothing moves"
    for _ in range(3):
        waiting, cursor = tick(later(scene, 1), json.dumps(cursor))
        assert why(waiting) == Saying("Attempt 1", "for 2013-03-01", "FAILURE")
    assert scene.instance.get_runs_count() == 1
    scene.source = scripted()
    again, _ = tick(later(scene, 6), json.dumps(cursor))
    assert request(again).run_key == "2013-03-01:2"
    asked(scene, again)
    assert why(tick(scene)[0]).startswith("Current through 2013-03-01.")


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(scripted(alter=jumping("BRK.B", LAST, 100)), id="held"),
        pytest.param(scripted(alter=losing("HALT", LAST)), id="missing"),
        pytest.param(scripted(outcomes={"HALT": Outcome.NOT_FOUND}, alter=losing("HALT")), id="unknown"),
    ],
)
def test_a_session_is_done_when_the_store_has_it(project: Make, source) -> None:
    """What is held or did not come is asked for again with the next session; a loop would not bring it sooner."""
    scene = filled(project, source=source)
    result, cursor = tick(scene)
    asked(scene, result)

    for minutes in (1, 10, 1000):
        done, cursor = tick(later(scene, minutes), json.dumps(cursor))
        assert why(done).startswith("Current through 2013-03-01.")
    assert scene.instance.get_runs_count() == 1
    assert facts(scene.events(CATALOG)[-1])["version"] == current_manifest(scene.etl).version


def test_a_source_that_never_delivers_a_symbol_is_given_three_runs_a_session(project: Make) -> None:
    scene = filled(project, source=scripted(outcomes={"HALT": Outcome.RATE_LIMITED}))
    cursor: dict[str, object] = {}
    for attempt in (1, 2, 3):
        result, cursor = tick(later(scene, 30 * attempt), json.dumps(cursor))
        assert request(result).run_key == f"2013-03-01:{attempt}"
        asked(scene, result)

    left, cursor = tick(later(scene, 1000), json.dumps(cursor))
    assert why(left) == Saying("Attempt 3", "FAILURE")
    assert why(left) == Saying("left to the next session's", "The source ends on 2013-03-01")
    assert cursor["confirmed"] == "2013-03-01"
    assert "Attempt 3" in why(tick(later(scene, 2000), json.dumps(cursor))[0]), "and it stays so"


def test_a_session_that_is_not_there_is_asked_for_without_end(project: Make) -> None:
    scene = filled(project)
    cursor: dict[str, object] = {}
    for attempt in (1, 2, 3, 4, 5):
        result, cursor = tick(later(scene, 200 * attempt), json.dumps(cursor))
        assert request(result).run_key == f"2013-03-01:{attempt}"
        scene.instance.report_run_failed(launched(scene, result))


def test_a_first_history_that_is_held_is_red_says_what_frees_it_and_comes_with_it(project: Make) -> None:
    """Of the only symbol not one bar is stored: no year is green, every evening asks, and one word lets all in."""
    only = in_turn(*(losing(symbol) for symbol in SYMBOLS if symbol != "BRK.B"))
    in_pence = [jumping("BRK.B", day, 100) for day in sessions(date(2012, 6, 5), LAST)]
    scene = project(source=scripted(alter=in_turn(only, *in_pence)))

    failed = scene.run(2012, 2013)

    message = failure_text(failed, "daily_prices")
    assert message == Saying("delivered nothing for 2012", "5 symbol", "empty", "held", "BRK.B: level_jump")
    assert "historical-etl holds accept BRK.B" in message
    assert (scene.years(), stored_years(scene.etl)) == ([], [])
    asked(scene, tick(scene)[0])
    assert (scene.years(), scene.etl.scan().collect().height) == ([], 0)
    assert ("no_open_holds", "FAILED", None) in scene.checks()

    scene.etl.accept("BRK.B", reason="it is quoted in pence", by="anna")
    assert scene.run(2012, 2013).success
    assert sorted(set(scene.years())) == ["2010", "2011", "2012", "2013"], "the word lets all of the history in"
    assert not scene.etl.holds().height
