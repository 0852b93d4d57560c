"""What a run changed of that which was stored before: shown on every year it touched, with the reason."""

from collections.abc import Callable
from datetime import date

import dagster as dg
import polars as pl

from historical_etl_tests.orchestration.harness import CATALOG, Project, changed, facts, filled, scripted, steps
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import LAST, Alter, changing, current_manifest, in_turn, is_row, losing

Make = Callable[..., Project]
FEBRUARY_26, FEBRUARY_28 = date(2013, 2, 26), date(2013, 2, 28)
PRICES = ("open", "high", "low", "close", "adj_close")


def restating(symbol: str, ratio: float) -> Alter:
    """A vendor that has put the whole history of a symbol on another level."""
    return lambda bars: bars.with_columns(
        pl.when(pl.col("symbol") == symbol).then(pl.col("adj_close") * ratio).otherwise("adj_close").alias("adj_close")
    )


def jumping(symbol: str, day: date, factor: float) -> Alter:
    """A vendor that quotes one bar in another unit."""
    return lambda bars: bars.with_columns(
        pl.when(is_row(symbol, day)).then(pl.col(name) * factor).otherwise(name).alias(name) for name in PRICES
    )


def table(event: dg.AssetMaterialization, name: str) -> list[dict[str, object]]:
    value = event.metadata[name]
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def of_the_job(scene: Project) -> dict[str, dg.AssetMaterialization]:
    """The events that the increment wrote, without the years that were only found in the store."""
    return {str(e.partition): e for e in scene.events() if not str(e.description).startswith("Found in the store")}


# ── restated ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_restated_history_is_shown_on_every_year_it_touched(project: Make) -> None:
    scene = filled(project, source=scripted(alter=restating("SPLT", 0.5)))

    assert scene.update().success

    events = of_the_job(scene)
    assert sorted(events) == ["2010", "2011", "2012", "2013"]
    ledger = scene.etl.ledger("restatements")
    for year, event in events.items():
        assert changed(event) == Saying("SPLT restated", "×0.5", "0.5 times the stored one")
        assert table(event, "restated") == [
            {
                "symbol": "SPLT",
                "ratio": 0.5,
                "close_ratio": 1.0,
                "evidence": ledger.item(0, "evidence"),
                "rows_replaced": ledger.item(0, "rows_replaced"),
            }
        ]
        stored = current_manifest(scene.etl).partition(int(year))
        assert stored is not None
        assert facts(event)["checksum"] == stored.checksum


def test_a_history_that_began_later_leaves_earlier_years_alone(project: Make) -> None:
    scene = filled(project, source=scripted(alter=restating("IPOX", 0.98)))

    assert scene.update().success

    assert {year: changed(e)[:20] for year, e in of_the_job(scene).items()} == {
        "2012": "IPOX restated ×0.98:",
        "2013": "IPOX restated ×0.98:",
    }


def test_a_year_that_is_fetched_alone_shows_the_others_that_it_had_to_change(project: Make) -> None:
    scene = project()
    assert scene.run(2010, 2013).success
    scene.source = scripted(alter=restating("SPLT", 0.5))

    assert scene.run(2013).success

    events = {str(event.partition): event for event in scene.events()[4:]}
    assert sorted(events) == ["2010", "2011", "2012", "2013"]
    for year in ("2010", "2011", "2012"):
        assert str(events[year].description) == Saying("commit of 2013", "SPLT restated", "×0.5")
    assert str(facts(events["2013"])["what_changed"]).startswith("SPLT restated ×0.5: "), "Dagster's own event"
    assert {str(table(event, "restated")[0]["symbol"]) for event in events.values()} == {"SPLT"}
    assert scene.update().success
    assert len(scene.events()) == 8, "each year is shown as it is: nothing is left to be found in the store"


def test_a_range_shows_each_year_as_it_is_in_the_end(project: Make) -> None:
    """The last year of the run restates the ones before it, which the run has committed already."""
    scene = project()
    assert scene.run(2010, 2012).success
    scene.source = scripted(alter=_restated_in_2013)

    assert scene.run(2012, 2013).success

    newest = {str(event.partition): event for event in scene.events()}
    for year, event in newest.items():
        stored = current_manifest(scene.etl).partition(int(year))
        assert stored is not None
        assert facts(event)["checksum"] == stored.checksum, year
    assert {year for year, event in newest.items() if "restated" in event.metadata} == {"2010", "2011", "2012"}
    assert facts(newest["2012"])["changed"] is False, "when it was asked for itself; then 2013 changed it"


def _restated_in_2013(bars: pl.DataFrame) -> pl.DataFrame:
    return restating("SPLT", 0.5)(bars) if bars.filter(pl.col("date") >= date(2013, 1, 2)).height else bars


# ── the rest ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_corrections_are_counted_and_shown(project: Make) -> None:
    scene = filled(project, source=scripted(alter=changing("HALT", FEBRUARY_26, volume=1000.0)))
    before = scene.etl.scan("HALT", FEBRUARY_26, FEBRUARY_26).collect().item(0, "volume")

    assert scene.update().success

    (event,) = of_the_job(scene).values()
    assert changed(event) == "corrected: HALT volume of 2013-02-26"
    assert facts(event)["corrections"] == 1
    assert table(event, "corrected") == [
        {"date": "2013-02-26", "symbol": "HALT", "column": "volume", "old": before, "new": 1000.0}
    ]


def test_what_is_held_and_what_is_missing_is_shown_with_the_evidence(project: Make) -> None:
    spoilt = in_turn(jumping("BRK.B", LAST, 100), losing("HALT", FEBRUARY_28))
    scene = filled(project, source=scripted(alter=spoilt))

    assert scene.update().success, "neither is an error of the run"

    (event,) = of_the_job(scene).values()
    (held,) = table(event, "held")
    assert held["symbol"] == "BRK.B"
    assert str(held["why"]).startswith("level_jump: ")
    assert facts(event)["sessions_missing"] == scene.etl.completeness().missing()
    assert {"symbol": "HALT", "first_session": "2013-02-28", "last_session": "2013-02-28"}.items() <= table(
        event, "gaps_open"
    )[0].items() | table(event, "gaps_open")[-1].items()
    assert facts(scene.events(CATALOG)[-1])["sessions_missing"] == scene.etl.completeness().missing()


def test_a_gap_that_was_filled_is_reported(project: Make) -> None:
    scene = filled(project, source=scripted(alter=losing("HALT", FEBRUARY_28)))
    assert scene.update().success
    scene.source = scripted()

    assert scene.update().success

    assert changed(scene.events()[-1]) == "filled: HALT 2013-02-28"


def test_an_ordinary_session_says_nothing(project: Make) -> None:
    scene = filled(project)

    result = scene.update()

    (event,) = of_the_job(scene).values()
    assert set(steps(result).values()) == {"success"}
    assert changed(event) == ""
    assert not {"restated", "corrected", "held", "gaps_open", "warnings", "what_changed"} & set(event.metadata)


def test_a_damaged_ledger_hides_no_commit(project: Make) -> None:
    scene = filled(project, source=scripted(alter=changing("HALT", FEBRUARY_26, volume=1000.0)))
    assert scene.update().success
    (file,) = current_manifest(scene.etl).ledgers["corrections"]
    path = scene.etl.layout.resolve(file.path)
    path.chmod(0o644)
    path.write_bytes(b"damage")
    scene.source = scripted()

    result = scene.update()

    assert result.success
    event = scene.events()[-1]
    assert "'corrections' is missing or was changed" in str(facts(event)["ledgers_unread"])
    assert facts(event)["version"] == facts(scene.events(CATALOG)[-1])["version"] == current_manifest(scene.etl).version
    (found,) = (e for e in result.get_asset_check_evaluations() if e.check_name == "corrections_within_bounds")
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "'corrections' is missing or was changed" in str(found.description)
