"""The checks on sessions, holds and corrections: when they warn, when they fail, and what they show."""

from collections.abc import Callable
from datetime import date

import dagster as dg
import polars as pl

from historical_etl_tests.orchestration.harness import CATALOG, CHECKS, Project, filled, scripted
from historical_etl_tests.orchestration.test_changes import jumping, restating
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import INFO, LAST, Alter, Market, changing, doubling, evening, losing

Make = Callable[..., Project]
FEBRUARY_26, FEBRUARY_28 = date(2013, 2, 26), date(2013, 2, 28)


def found(scene: Project, name: str) -> dg.AssetCheckEvaluation:
    """The newest evaluation that the UI shows."""
    key = dg.AssetCheckKey(CATALOG, name)
    (record,) = scene.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)
    assert record.event is not None
    assert record.event.dagster_event is not None
    return record.event.dagster_event.asset_check_evaluation_data


def rows(evaluation: dg.AssetCheckEvaluation, name: str) -> list[dict[str, object]]:
    value = evaluation.metadata[name]
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def recounted(*symbols: str) -> Alter:
    """A vendor that has counted all volumes anew."""
    return lambda bars: bars.with_columns(
        pl.when(pl.col("symbol").is_in(symbols)).then(pl.col("volume") + 100).otherwise("volume").alias("volume")
    )


def test_an_increment_is_judged_though_nobody_materializes_the_catalog(project: Make) -> None:
    scene = filled(project)

    assert scene.update().success

    assert {name: found(scene, name).passed for name in CHECKS} == dict.fromkeys(CHECKS, True)
    assert sorted(scene.checks()) == sorted((name, "SUCCEEDED", None) for name in CHECKS)


# ── sessions_complete ──────────────────────────────────────────────────────────────────────────────────────────────


def test_open_gaps_are_a_warning_until_they_are_filled(project: Make) -> None:
    scene = filled(project, at=evening(LAST), source=scripted(alter=losing("HALT", FEBRUARY_28)))
    assert scene.update().success

    lacking = found(scene, "sessions_complete")
    assert (lacking.passed, lacking.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert rows(lacking, "gaps")[0] == {
        "symbol": "HALT",
        "first_session": "2013-02-28",
        "last_session": "2013-02-28",
        "sessions": 1,
        "why": "the source has no bar",
        "attempts": 1,
        "due": "2013-03-01",
    }
    assert lacking.metadata["sessions_missing"].value == 1
    assert str(lacking.description) == Saying("1 session", "1 symbol", "missing")

    scene.source = scripted()
    assert scene.update().success
    assert found(scene, "sessions_complete").passed


def test_a_gap_that_was_waived_is_settled(project: Make) -> None:
    scene = filled(project, at=evening(LAST), source=scripted(alter=losing("HALT", FEBRUARY_28)))
    scene.update()
    scene.etl.waive("HALT", FEBRUARY_28, reason="a halt", by="a test")

    scene.update()

    assert found(scene, "sessions_complete").passed


# ── no_open_holds ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hold_warns_with_its_evidence_and_the_way_out(project: Make) -> None:
    scene = filled(project, at=evening(LAST), source=scripted(alter=jumping("BRK.B", LAST, 100)))
    assert scene.update().success

    held = found(scene, "no_open_holds")
    assert (held.passed, held.severity) == (False, dg.AssetCheckSeverity.WARN)
    (row,) = rows(held, "held")
    assert (row["symbol"], row["code"], row["attempts"]) == ("BRK.B", "level_jump", 1)
    assert row["evidence"]
    assert row["way_out"] == Saying("historical-etl holds accept BRK.B --reason")

    scene.source = scripted()
    assert scene.update().success
    assert found(scene, "no_open_holds").passed


def test_a_hold_that_was_asked_for_often_enough_is_an_error(project: Make) -> None:
    days = [date(2013, 2, 26), date(2013, 2, 27), date(2013, 2, 28)]
    scene = filled(project, until=date(2013, 2, 25))
    severities: list[dg.AssetCheckSeverity] = []
    for day in days:
        source = scripted(info=INFO, alter=_until(day, jumping("BRK.B", days[0], 100)))
        evening_of = Project(scene.root, scene.instance, source, evening(day))
        assert evening_of.update().success
        severities.append(found(scene, "no_open_holds").severity)

    assert severities == [dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR]


def test_what_was_refused_cannot_be_accepted_and_says_so(project: Make) -> None:
    scene = filled(project, at=evening(LAST), source=scripted(alter=doubling("HALT", FEBRUARY_28, close=1.0, low=1.0)))
    assert scene.update().success

    (row,) = rows(found(scene, "no_open_holds"), "held")
    assert (row["symbol"], row["code"]) == ("HALT", "refused")
    assert row["way_out"] == Saying("no valid bar", "waits")


def _until(day: date, alter: Alter) -> Alter:
    return lambda bars: alter(bars.filter(pl.col("date") <= day))


# ── corrections_within_bounds ──────────────────────────────────────────────────────────────────────────────────────


def test_a_lone_correction_passes(project: Make) -> None:
    scene = filled(project, at=evening(LAST), source=scripted(alter=changing("HALT", FEBRUARY_26, volume=1000.0)))
    assert scene.update().success

    bounds = found(scene, "corrections_within_bounds")
    assert bounds.passed
    assert bounds.metadata["corrected"].value == 1
    # Five stored sessions of six symbols were fetched again.
    assert bounds.metadata["compared"].value == 30 * 6
    assert bounds.metadata["allowed"].value == 6, "one whole bar"
    assert rows(bounds, "corrections")[0]["symbol"] == "HALT"


def test_many_corrections_are_a_warning_once(project: Make) -> None:
    scene = filled(project, at=evening(LAST), source=scripted(alter=recounted("HALT", "RAWP")))
    assert scene.update().success

    bounds = found(scene, "corrections_within_bounds")
    assert (bounds.passed, bounds.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert bounds.metadata["corrected"].value == 10
    assert str(bounds.description) == Saying("10 of 180", "differ", "5.6%", "up to 6")

    scene.source = scripted(alter=_until(LAST, recounted("HALT", "RAWP")))
    assert scene.update().success
    assert not found(scene, "corrections_within_bounds").passed, "the newest version is the same"


def test_a_restated_history_is_no_correction(project: Make) -> None:
    scene = filled(project, at=evening(LAST), source=scripted(alter=restating("SPLT", 0.5)))
    assert scene.update().success

    bounds = found(scene, "corrections_within_bounds")
    assert (bounds.passed, bounds.metadata["corrected"].value) == (True, 0)
    assert bounds.metadata["compared"].value == 25 * 6


def test_all_versions_since_the_last_look_count(project: Make) -> None:
    scene = project()
    assert scene.run(2010, 2013).success
    scene.source = scripted(alter=recounted(*Market().symbols))

    assert scene.run(2012, 2013).success

    bounds = found(scene, "corrections_within_bounds")
    assert not bounds.passed
    assert bounds.metadata["corrected"].value == scene.etl.ledger("corrections").height
    assert bounds.metadata["since_version"].value == 4
