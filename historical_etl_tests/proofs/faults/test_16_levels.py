"""Points 16 and 17: wrong splits and units, and real crashes that look like them."""

import pytest

from historical_etl import Outcome
from historical_etl_tests.proofs.faults.stage import FIRST, close, codes, count, day, is_true, of
from historical_etl_tests.proofs.simulation.faults import Pence, WrongSplit
from historical_etl_tests.proofs.simulation.market import SimListing
from historical_etl_tests.proofs.simulation.run import compare
from historical_etl_tests.scenario import current_manifest, daily_bytes

SUBJ = SimListing("SUBJ", dividends=((day(-20), 0.01),))


@pytest.mark.parametrize("factor", [100.0, 0.01])
@pytest.mark.parametrize("since", [2, -1, -40], ids=["new", "overlap", "all"])
@pytest.mark.parametrize("style", ["raw", "split_adjusted", "unadjusted"])
def test_16_another_unit_is_held_and_released_once_it_is_right(stage, factor, since, style):
    """From the newest session on, from one that is stored on, and in the whole history."""
    life = stage(
        SUBJ, faults=[Pence("SUBJ", day(since), factor, start=day(2), until=day(6))], style=style, last=day(10)
    )
    life.through(day(1))
    rows, price = count(life.etl, "SUBJ"), close(life.etl, "SUBJ", day(1), "close")
    for number in range(2, 6):
        result = life.evening(day(number))
        assert result.outcomes["SUBJ"] is Outcome.HELD
        assert result.outcomes["PLAIN0"] is Outcome.OK
        assert "SUBJ" in result.held
    assert codes(life.etl) == {"SUBJ": "level_jump"}
    assert count(life.etl, "SUBJ") == rows
    assert close(life.etl, "SUBJ", day(1), "close") == price
    hold = of(life.etl, "holds", "SUBJ").row(0, named=True)
    assert hold["attempts"] == 4
    assert hold["ratio"] == pytest.approx(factor, rel=0.05)
    life.through(day(6))
    assert of(life.etl, "holds", "SUBJ")["status"].to_list() == ["released"]
    is_true(life)


@pytest.mark.parametrize("factor", [0.5, 2.0, 1 / 3, 10.0, 0.1, 1 / 7])
@pytest.mark.parametrize("since", [2, -1], ids=["new", "overlap"])
def test_16_a_split_that_never_was_is_held(stage, factor, since):
    life = stage(SUBJ, faults=[WrongSplit("SUBJ", day(since), factor, start=day(2), until=day(6))], last=day(10))
    life.through(day(5))
    assert codes(life.etl) == {"SUBJ": "level_jump"}
    assert close(life.etl, "SUBJ", day(2)) is None
    is_true(life)


def test_16_a_symbol_that_stays_odd_is_asked_again_and_a_person_may_take_it(stage):
    life = stage(SUBJ, faults=[WrongSplit("SUBJ", day(2), start=day(2))])
    life.through(day(5))
    life.etl.accept("SUBJ", reason="a spin-off", by="anna")
    assert not codes(life.etl)
    raw = life.vendor.market.bars(["SUBJ"], day(2), day(2), day(2))["close"][0]
    assert close(life.etl, "SUBJ", day(2), "close") == pytest.approx(raw / 2)
    for number in range(6, 12):  # what was decided stays decided
        life.vendor.today = day(number)
        assert life.etl.run_incremental_etl(publish=False).outcomes["SUBJ"] is Outcome.OK


def test_16_what_was_accepted_is_only_what_was_seen(stage):
    """Accepted was a wrong split; when prices come in pence too, that is another thing."""
    life = stage(SUBJ, faults=[WrongSplit("SUBJ", day(2), start=day(2)), Pence("SUBJ", day(8), start=day(8))])
    life.through(day(5))
    life.etl.accept("SUBJ", reason="a spin-off", by="anna")
    life.vendor.today = day(7)
    life.etl.run_incremental_etl()
    life.vendor.today = day(8)
    life.etl.run_incremental_etl()
    assert codes(life.etl) == {"SUBJ": "level_jump"}
    assert close(life.etl, "SUBJ", day(8)) is None


def test_16_a_held_symbol_holds_nobody_else_and_makes_no_version_when_asked_again(stage):
    life = stage(SUBJ, faults=[Pence("SUBJ", day(2), start=day(2))])
    life.through(day(2))
    version, files = current_manifest(life.etl).version, daily_bytes(life.etl)
    assert not life.evening(day(2)).changed
    assert current_manifest(life.etl).version == version
    assert daily_bytes(life.etl) == files


@pytest.mark.parametrize("style", ["raw", "split_adjusted", "unadjusted"])
@pytest.mark.parametrize("move", [-0.52, -0.38, 0.45, 0.65, -0.519])
def test_17_a_real_crash_is_stored_at_once(stage, style, move):
    life = stage(SimListing("SUBJ", crashes=((day(3), move),)), style=style, last=day(8))
    life.through(day(3))
    assert close(life.etl, "SUBJ", day(3), "ret") == pytest.approx(move, abs=1e-3)
    assert not life.etl.holds(all=True).height
    is_true(life)


def test_17_a_large_move_of_the_adjusted_price_warns(stage):
    life = stage(SimListing("SUBJ", crashes=((day(3), -0.52),)))
    life.through(day(2))
    result = life.evening(day(3))
    assert any("SUBJ" in warning for warning in result.warnings)


def test_17_the_fall_of_a_raw_price_on_a_split_is_no_crash(stage):
    """As AAPL on 2000-06-21: the raw price falls by 45 %, two for one, after a rise of a tenth."""
    life = stage(SimListing("SUBJ", splits=((day(3), 2.0),), crashes=((day(3), 0.1),)))
    life.through(day(3))
    assert close(life.etl, "SUBJ", day(3), "ret") == pytest.approx(0.1, abs=1e-3)
    before, after = (close(life.etl, "SUBJ", day(number), "close") for number in (2, 3))
    assert before is not None
    assert after == pytest.approx(0.55 * before, rel=1e-3)
    assert not life.etl.holds(all=True).height
    is_true(life)


def test_17_a_fall_by_half_is_held_until_a_person_says_that_it_was_one(stage):
    life = stage(SimListing("SUBJ", crashes=((day(3), -0.5),)))
    life.through(day(6))
    assert codes(life.etl) == {"SUBJ": "level_jump"}
    life.etl.accept("SUBJ", reason="it was in the news", by="anna")
    life.witness.look(life.etl)
    assert close(life.etl, "SUBJ", day(3), "ret") == pytest.approx(-0.5, abs=1e-3)
    is_true(life)


def test_17_a_crash_of_the_past_comes_with_a_backfill(stage):
    life = stage(SimListing("SUBJ", crashes=((day(-30), -0.5), (day(-20), 0.9))))
    assert not codes(life.etl)
    assert close(life.etl, "SUBJ", FIRST) is not None
    is_true(life)
    assert not compare(life.etl, life.vendor.market).held


@pytest.mark.parametrize("style", ["raw", "split_adjusted"])
@pytest.mark.parametrize("names_actions", [False, True])
@pytest.mark.parametrize("kind", [Pence, WrongSplit])
def test_16_a_restatement_brings_no_wrong_level_in_with_it(stage, kind, style, names_actions):
    """Stored sessions come a hundred times too high, and the evening after a dividend restates the whole history."""
    listing = SimListing("SUBJ", dividends=((day(-20), 0.01), (day(5), 0.02)))
    fault = kind("SUBJ", day(3), start=day(4), until=day(9))
    life = stage(listing, faults=[fault], style=style, names_actions=names_actions)
    life.through(day(8))
    assert (
        close(life.etl, "SUBJ", day(3), "close")
        == life.vendor.market.bars(["SUBJ"], day(3), day(3), day(3))["close"][0]
    )
    assert "SUBJ" in codes(life.etl)
    is_true(life)
