"""Points 6 to 9: corrections, another price basis, rows that do not come again, state that runs ahead of data."""

import shutil

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import DataQualityError, Outcome
from historical_etl_tests.proofs.faults.stage import FIRST, SINCE, changes_of, close, codes, day, is_true, of
from historical_etl_tests.proofs.simulation.faults import Errors, LateCorrection, LostDays
from historical_etl_tests.proofs.simulation.market import SimListing
from historical_etl_tests.proofs.simulation.run import compare
from historical_etl_tests.scenario import KEYS, current_manifest, daily_bytes

SUBJ = SimListing("SUBJ", dividends=((day(-20), 0.01),))


@pytest.mark.parametrize(("column", "factor"), [("volume", 0.73), ("high", 1.02), ("close", 1.013)])
def test_06_a_late_correction_is_stored_counted_and_logged(stage, column, factor):
    life = stage(SUBJ, faults=[LateCorrection("SUBJ", day(3), column, factor, start=day(3), until=day(6))])
    life.through(day(5))
    wrong = close(life.etl, "SUBJ", day(3), column)
    result = life.evening(day(6))
    right = close(life.etl, "SUBJ", day(3), column)
    assert wrong == pytest.approx(right * factor)
    cells = of(life.etl, "corrections", "SUBJ").filter(pl.col("column") == column)
    assert cells.select("date", "old", "new", "version").rows() == [
        (day(3), wrong, right, current_manifest(life.etl).version)
    ]
    assert result.corrections == of(life.etl, "corrections", "SUBJ").height
    assert of(life.etl, "restatements", "SUBJ").is_empty()
    is_true(life)


def test_06_explain_says_every_value_a_cell_had(stage):
    faults = [
        LateCorrection("SUBJ", day(3), "volume", 0.5, start=day(3), until=day(4)),
        LateCorrection("SUBJ", day(3), "volume", 0.73, start=day(4), until=day(6)),
    ]
    life = stage(SUBJ, faults=faults)
    life.through(day(7))
    right = close(life.etl, "SUBJ", day(3), "volume")
    assert right is not None
    first, second = right * 0.5, round(right * 0.73, 6)
    assert changes_of(life.etl, "SUBJ", day(3), "volume") == [(None, first), (first, second), (second, right)]
    story = life.etl.explain("SUBJ", day(3))
    assert story["version"].is_sorted()
    assert story["why"].null_count() == 0


def test_06_a_correction_of_the_earliest_overlapping_session_is_no_restatement(stage):
    life = stage(SUBJ, faults=[LateCorrection("SUBJ", day(3), "close", 1.013, start=day(3), until=day(8))])
    life.through(day(12))
    assert of(life.etl, "restatements", "SUBJ").is_empty()
    is_true(life)


def test_06_a_correction_coincides_with_a_split(stage):
    """On the evening on which a close is corrected, the history is restated too."""
    fault = LateCorrection("SUBJ", day(3), "close", 1.013, start=day(3), until=day(5))
    life = stage(SimListing("SUBJ", splits=((day(5), 2.0),)), faults=[fault])
    life.through(day(5))
    assert of(life.etl, "restatements", "SUBJ").height == 1
    is_true(life)


def test_07_another_price_basis_is_refused_unless_the_symbols_are_rebuilt(stage):
    life = stage(SimListing("SUBJ", splits=((day(3), 2.0),)))
    life.through(day(5))
    before = daily_bytes(life.etl)
    life.vendor.style = "split_adjusted"
    with pytest.raises(DataQualityError, match="basis"):
        life.evening(day(6))
    assert daily_bytes(life.etl) == before
    with pytest.raises(DataQualityError, match="basis"):
        life.etl.run_full_etl(["SUBJ"], FIRST, day(6))
    assert daily_bytes(life.etl) == before
    names = life.vendor.market.names
    life.etl.run_full_etl(names, FIRST, day(6), rebuild=True)
    assert current_manifest(life.etl).adjustment == life.vendor.info.adjustment
    life.through(life.vendor.market.last)
    assert not compare(life.etl, life.vendor.market, "split_adjusted").held


def test_07_a_rebuild_of_some_symbols_leaves_the_others_on_their_basis(stage):
    life = stage(SimListing("SUBJ", splits=((day(3), 2.0),)))
    life.through(day(5))
    life.vendor.style = "split_adjusted"
    life.etl.run_full_etl(["SUBJ"], FIRST, day(5), rebuild=True)
    life.vendor.today = day(6)
    result = life.etl.run_incremental_etl(publish=False)
    assert result.outcomes["SUBJ"] is Outcome.OK
    assert result.outcomes["PLAIN0"] is Outcome.REFUSED
    assert "basis" in result.details["PLAIN0"] or "stored from" in result.details["PLAIN0"]
    life.vendor.style = "raw"
    result = life.etl.run_incremental_etl(publish=False)
    assert result.outcomes["SUBJ"] is Outcome.REFUSED
    assert result.outcomes["PLAIN0"] is Outcome.OK


def test_07_provider_version_and_basis_are_in_the_manifest(stage):
    life = stage(SUBJ)
    manifest, info = current_manifest(life.etl), life.vendor.info
    assert (manifest.provider, manifest.provider_version, manifest.adjustment) == (
        info.name,
        info.version,
        info.adjustment,
    )
    assert of(life.etl, "symbols", "SUBJ")["adjustment"].to_list() == [info.adjustment]


def test_08_rows_that_do_not_come_again_keep_their_values(stage):
    lost = LostDays("SUBJ", (day(2), day(3)), start=day(5), until=day(30))
    life = stage(SUBJ, faults=[lost])
    life.through(day(4))
    before = life.etl.scan("SUBJ").collect().sort(KEYS)
    life.through(day(7))
    after = life.etl.scan("SUBJ", end=day(4)).collect().sort(KEYS)
    assert_frame_equal(after, before, check_exact=True)
    assert life.etl.gaps(all=True).is_empty()
    is_true(life)


def test_08_updating_one_symbol_leaves_every_other_row(stage):
    life = stage(SUBJ)
    before = life.etl.scan().collect().sort(KEYS)
    life.evening(day(3), ["SUBJ"])
    after = life.etl.scan(end=SINCE).collect().sort(KEYS)
    assert_frame_equal(after, before, check_exact=True)
    assert life.etl.cursors()["PLAIN0"] == SINCE


def test_09_progress_can_always_be_rebuilt_from_what_is_committed(stage):
    life = stage(
        SimListing("SUBJ", halts=(day(2),)), faults=[Errors("PLAIN0", start=day(3), until=day(4))], batch_symbols=1
    )
    life.through(day(3))
    cursors, gaps = life.etl.cursors(), life.etl.gaps(all=True)
    assert cursors["PLAIN0"] == day(2)
    for path in life.etl.layout.root.rglob("*progress*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert life.etl.cursors() == cursors
    assert life.etl.gaps(all=True).equals(gaps)
    is_true(life)


def test_09_the_cursors_of_a_store_without_ledgers_come_from_its_rows(stage):
    """As a store from before there were ledgers."""
    life = stage(SimListing("SUBJ", halts=(day(-5),)))
    manifest = current_manifest(life.etl)
    etl = life.etl
    bare = manifest.model_copy(update={"ledgers": {}})
    with etl.store.context.lock() as token:
        etl.manifests.save_manifest(bare, token)
    assert life.etl.cursors()["SUBJ"] == day(-6)
    assert life.etl.cursors()["PLAIN0"] == SINCE
    life.evening(day(1))
    assert of(life.etl, "gaps", "SUBJ")["first_session"].to_list() == [day(-5)]
    is_true(life)


def test_09_a_held_symbol_does_not_move_its_cursor(stage):
    life = stage(SimListing("SUBJ", crashes=((day(3), -0.5),)))
    life.through(day(5))
    assert codes(life.etl) == {"SUBJ": "level_jump"}
    assert life.etl.cursors()["SUBJ"] == day(2)
