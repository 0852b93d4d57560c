"""Completeness against sets and loops: whatever is stored, and in whatever order it arrived."""

import itertools
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from historical_etl import ManifestManager, get_calendar
from historical_etl.etl.completeness.attempt import REFUSED, FetchAttempt, GapPolicy
from historical_etl.etl.completeness.completeness import Completeness, update_completeness
from historical_etl.etl.completeness.load import ASKED, rebuild_completeness
from historical_etl_tests.etl.merge.test_merge import commit
from historical_etl_tests.scenario import COLUMNS, LAST, at, sessions
from historical_etl_tests.shares import examples

#: Across two year ends; a symbol may begin late, end early, and lack whole years.
DAYS = sessions(date(2010, 12, 28), date(2011, 1, 4)) + sessions(date(2011, 1, 5), date(2012, 1, 5))
EDGES = [day for day in DAYS if day <= date(2011, 1, 10) or day >= date(2011, 12, 22)]
CALENDAR = get_calendar("XNYS")
NEVER_CONFIRMED = GapPolicy(confirm_runs=1_000, ended_after=1_000)
KEYS = {"symbol": pl.String(), "date": pl.Date()}

holes = st.sets(st.sampled_from(EDGES), max_size=6)
lives = st.tuples(st.integers(0, len(DAYS) - 1), st.integers(0, len(DAYS) - 1)).map(sorted)


def naive_cursor(days: set[date]) -> date | None:
    """The last session reached from the first stored one without a gap."""
    reached = None
    for day in itertools.takewhile(days.__contains__, DAYS[DAYS.index(min(days)) :]):
        reached = day
    return reached


def keys_of(stored: dict[str, set[date]]) -> pl.DataFrame:
    rows = [(symbol, day) for symbol in sorted(stored) for day in sorted(stored[symbol])]
    return pl.DataFrame(rows, schema=KEYS, orient="row")


def rows_of(stored: dict[str, set[date]]) -> pl.DataFrame:
    keys = keys_of(stored).with_columns(close=1.0, volume=1.0)
    return pl.DataFrame(keys.to_dicts(), schema=COLUMNS).sort("symbol", "date")


def after_attempt(
    completeness: Completeness, stored: dict[str, set[date]], start: date, end: date, number: int = 1, today=None
) -> Completeness:
    asked = [(symbol, start, end, "ok", "x", "p", *[None] * 5) for symbol in sorted(stored)]
    step = FetchAttempt(
        asked=pl.DataFrame(asked, schema=ASKED, orient="row"),
        stored=keys_of(stored),
        dropped=pl.DataFrame(schema=KEYS),
        refused=pl.DataFrame(schema=REFUSED),
        today=today or end,
        version=number,
        at=datetime(2013, 1, 1, tzinfo=UTC),
    )
    return update_completeness(completeness, step, CALENDAR, NEVER_CONFIRMED, lambda days: days)[0]


def missing(completeness: Completeness) -> dict[str, set[date]]:
    spans = completeness.gaps.select("symbol", "first_session", "last_session").iter_rows()
    found: dict[str, set[date]] = {}
    for symbol, first, last in spans:
        found.setdefault(symbol, set()).update(sessions(first, last))
    return found


@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), st.tuples(lives, holes), min_size=1))
@settings(max_examples=examples(25))
def test_rebuilt_from_the_data_cursors_stand_before_the_first_hole(listed):
    stored = {
        symbol: days for symbol, ((low, high), lost) in listed.items() if (days := set(DAYS[low : high + 1]) - lost)
    }
    if not stored:
        return
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        manager = ManifestManager(root, clock=at(LAST))
        manifest, _ = commit(manager, rows_of(stored))
        assert manifest is not None
        completeness = rebuild_completeness(manager.layout, manifest, CALENDAR)
        assert completeness.cursors() == {symbol: naive_cursor(days) for symbol, days in sorted(stored.items())}


@given(
    st.lists(
        st.tuples(
            st.integers(0, len(EDGES) - 1),
            st.integers(0, 8),
            st.dictionaries(st.sampled_from(["A", "B"]), st.sets(st.integers(0, 8)), min_size=1),
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=examples(60))
def test_whatever_was_fetched_when_the_missing_sessions_are_those_of_a_set(attempts):
    """Every attempt asks for a window and gets some; the rest up to the last session asked for is missing."""
    completeness, stored, through = Completeness.empty(), dict[str, set[date]](), dict[str, date]()
    for number, (low, width, fetched) in enumerate(attempts, start=1):
        window = EDGES[low : low + width + 1]
        rows = {symbol: {window[i] for i in picked if i < len(window)} for symbol, picked in fetched.items()}
        completeness = after_attempt(completeness, rows, window[0], window[-1], number)
        for symbol, days in rows.items():
            if stored.get(symbol) or days:
                stored.setdefault(symbol, set()).update(days)
                through[symbol] = max(through.get(symbol, date.min), window[-1], *stored[symbol])
    expected = {
        symbol: {day for day in DAYS if min(days) <= day <= through[symbol]} - days for symbol, days in stored.items()
    }
    assert missing(completeness) == {symbol: days for symbol, days in expected.items() if days}
    assert completeness.cursors() == {symbol: naive_cursor(days) for symbol, days in sorted(stored.items())}
    lives_reported = {
        row[0]: row[1:] for row in completeness.symbols.select("symbol", "first_session", "last_session").iter_rows()
    }
    assert lives_reported == {symbol: (min(days), max(days)) for symbol, days in stored.items()}


def test_a_year_missing_in_the_middle_is_a_hole_that_was_not_asked_for():
    first, last = sessions(date(2010, 12, 28), date(2010, 12, 31)), sessions(date(2012, 1, 3), date(2012, 1, 5))
    completeness = after_attempt(Completeness.empty(), {"A": set(first)}, first[0], first[-1])
    completeness = after_attempt(completeness, {"A": set(last)}, last[0], last[-1])
    assert completeness.cursors() == {"A": first[-1]}
    gap = completeness.gaps.row(0, named=True)
    assert (gap["first_session"], gap["last_session"]) == (date(2011, 1, 3), date(2011, 12, 30))
    assert (gap["attempts"], gap["asked"], gap["why"]) == (0, None, "not asked for yet")


def test_the_same_attempt_again_changes_nothing():
    days = set(DAYS[:20]) - {DAYS[5], DAYS[6]}
    once = after_attempt(Completeness.empty(), {"A": days, "B": set(DAYS[:18])}, DAYS[0], DAYS[19])
    twice = after_attempt(once, {"A": days, "B": set(DAYS[:18])}, DAYS[0], DAYS[19], number=2)
    assert_frame_equal(once.gaps, twice.gaps)
    assert_frame_equal(once.symbols, twice.symbols)
