"""A7: the more absurd a jump, the more it is suspected; what the next bars take back is an error whatever its size."""

import pytest

from historical_etl_tests.field.series import Series, backfill, codes, column, update, walk

ABSURD = [10.0, 20.0, 190.0, 1000.0, 19_110.0, 1 / 1500, 0.1, 13.7]


def jumping(count: int, at: int, factor: float, *, until: int | None = None) -> list[float]:
    end = count if until is None else until
    return [price * (factor if at <= number < end else 1) for number, price in enumerate(walk(count, 800.0))]


@pytest.mark.parametrize("factor", ABSURD)
def test_an_absurd_jump_of_the_newest_bar_is_held(root, factor):
    close = jumping(31, 30, factor)
    source = Series(close, close if factor > 15 else None)
    backfill(root, source, 29)
    etl, result = update(root, source, 30)
    assert set(result.held) == {"ACME"}
    assert codes(etl) == ["level_jump"]
    assert column(etl, "close") == close[:30]


@pytest.mark.parametrize("factor", [10.0, 190.0, 19_110.0, 1 / 1500])
@pytest.mark.parametrize("until", [None, 16, 21], ids=["for good", "one bar", "a week"])
def test_an_absurd_jump_in_a_first_history_is_held(root, factor, until):
    close = jumping(40, 15, factor, until=until)
    etl, result = backfill(root, Series(close, close))
    assert set(result.held) == {"ACME"}
    assert codes(etl) == ["level_jump"]
    assert etl.holds()["session"].to_list() == [Series(close).days[15]]


@pytest.mark.parametrize("factor", [2.3, 0.44, 1 / 3, 3.6])
def test_what_the_next_bars_take_back_is_held_in_a_first_history(root, factor):
    close = jumping(40, 15, factor, until=17)
    _, result = backfill(root, Series(close, close))
    assert set(result.held) == {"ACME"}
    assert "takes it back" in result.held["ACME"]


@pytest.mark.parametrize("factor", [2.3, 0.44, 3.6, 0.25])
def test_a_large_move_that_lasts_is_stored_with_a_warning(root, factor):
    close = jumping(40, 15, factor)
    etl, result = backfill(root, Series(close, close))
    assert not result.held
    assert any("ACME" in warning for warning in result.warnings)
    assert column(etl, "close") == close


@pytest.mark.parametrize(
    ("factor", "words"), [(100.0, "divide"), (0.01, "multiply"), (10.0, "divide"), (1e-3, "multiply")]
)
def test_the_evidence_proposes_a_repair_where_a_unit_explains_the_jump(root, factor, words):
    close = jumping(31, 30, factor)
    source = Series(close)
    backfill(root, source, 29)
    etl, _ = update(root, source, 30)
    evidence = etl.holds()["evidence"][0]
    assert words in evidence
    assert f"by {max(factor, 1 / factor):g}" in evidence


@pytest.mark.parametrize("factor", [2.2, 0.45, 1.5, 190.0])
def test_a_correction_that_makes_a_spike_is_held(root, factor):
    good = walk(31)
    source = Series(good, good)
    backfill(root, source, 29)
    bad = [price * (factor if at == 27 else 1) for at, price in enumerate(good)]
    source.close = source.adj_close = bad
    etl, result = update(root, source, 30)
    assert set(result.held) == {"ACME"}
    assert column(etl, "close") == good, "the stored bar stands, and the new session is let in"


def test_a_correction_that_takes_a_spike_away_is_stored(root):
    good = walk(31)
    bad = [price * (1.7 if at == 27 else 1) for at, price in enumerate(good)]
    source = Series(bad, bad)
    backfill(root, source, 29)
    source.close = source.adj_close = good
    etl, result = update(root, source, 30)
    assert not result.held
    assert column(etl, "close") == good


def test_a_person_may_accept_the_next_record(root):
    close = jumping(31, 30, 14.0)
    source = Series(close, close)
    backfill(root, source, 29)
    etl, _ = update(root, source, 30)
    result = etl.accept("ACME", reason="it was in the news", by="anna")
    assert not result.held
    assert column(etl, "close") == close


@pytest.mark.parametrize("split", [0.5, 2.0, 3.0])
@pytest.mark.parametrize("beside", [1.03, 0.97])
def test_a_wrong_split_on_a_lively_day_is_held(root, split, beside):
    """The stock moves by 2 % on most days: what is left of the split is no more than it does anyhow."""
    close = walk(31, daily=0.02)
    close = [*close[:30], round(close[29] * beside * split, 4)]
    source = Series(close, close)
    backfill(root, source, 29)
    _, result = update(root, source, 30)
    assert set(result.held) == {"ACME"}


def test_the_same_move_of_a_calm_stock_is_a_move(root):
    close = walk(31, daily=0.004)
    close = [*close[:30], round(close[29] * 1.035 * 0.5, 4)]
    source = Series(close, close)
    backfill(root, source, 29)
    _, result = update(root, source, 30)
    assert not result.held
    assert result.warnings
