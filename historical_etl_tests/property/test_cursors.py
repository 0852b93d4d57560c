"""Cursors against loops: the last session before the first hole, whatever is stored and however it came."""

import itertools
import tempfile
from datetime import date
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from historical_etl import ManifestManager, get_calendar
from historical_etl.etl.cursors import Cursors
from historical_etl.store.layout import Layout
from historical_etl_tests.property.test_merge import commit
from historical_etl_tests.scenario import COLUMNS, LAST, at, sessions

#: Across two year ends; a symbol may begin late, end early, and lack whole years.
DAYS = sessions(date(2010, 12, 28), date(2011, 1, 4)) + sessions(date(2011, 1, 5), date(2012, 1, 5))
EDGES = [day for day in DAYS if day <= date(2011, 1, 10) or day >= date(2011, 12, 22)]
CALENDAR = get_calendar("XNYS")


def naive(days: set[date], start: date | None = None) -> date | None:
    """The last session reached from the first stored one, or from `start`, without a gap."""
    ordered = DAYS[DAYS.index(start) + 1 :] if start else DAYS[DAYS.index(min(days)) :]
    reached = start
    for day in itertools.takewhile(days.__contains__, ordered):
        reached = day
    return reached


holes = st.sets(st.sampled_from(EDGES), max_size=6)
lives = st.tuples(st.integers(0, len(DAYS) - 1), st.integers(0, len(DAYS) - 1)).map(sorted)


def frame_of(stored: dict[str, set[date]]) -> pl.DataFrame:
    rows = [
        {"date": day, "symbol": symbol, "close": 1.0, "volume": 1.0} for symbol, days in stored.items() for day in days
    ]
    return pl.DataFrame(rows, schema=COLUMNS).sort("symbol", "date")


@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), st.tuples(lives, holes), min_size=1))
@settings(deadline=None, max_examples=30)
def test_rebuilt_from_the_data_they_stand_before_the_first_hole(listed):
    stored = {
        symbol: days for symbol, ((low, high), lost) in listed.items() if (days := set(DAYS[low : high + 1]) - lost)
    }
    if not stored:
        return
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        manager = ManifestManager(root, clock=at(LAST))
        manifest, _ = commit(manager, frame_of(stored))
        cursors = Cursors(manager.layout, CALENDAR)
        expected = {symbol: naive(days) for symbol, days in sorted(stored.items())}
        assert cursors.rebuild(manifest) == expected
        assert cursors.rebuild(manifest) == expected, "also from what it remembers"


def test_a_year_missing_in_the_middle_is_a_hole():
    first, last = sessions(date(2010, 12, 28), date(2010, 12, 31)), sessions(date(2012, 1, 3), date(2012, 1, 5))
    with tempfile.TemporaryDirectory() as root:
        manager = ManifestManager(root, clock=at(LAST))
        manifest, _ = commit(manager, frame_of({"A": {*first, *last}, "B": set(last)}))
        assert Cursors(manager.layout, CALENDAR).rebuild(manifest) == {"A": first[-1], "B": last[-1]}


def test_nothing_stored_has_no_cursors(root):
    cursors = Cursors(Layout(root), CALENDAR)
    assert cursors.rebuild(None) == {}
    assert cursors.advance({}, pl.DataFrame(schema={"symbol": pl.String, "date": pl.Date})) == {}


@given(
    st.dictionaries(st.sampled_from(["A", "B", "C"]), st.sets(st.sampled_from(EDGES), min_size=1), min_size=1),
    st.dictionaries(st.sampled_from(["A", "B", "D"]), st.sampled_from(EDGES)),
)
@settings(deadline=None, max_examples=100)
def test_moved_on_they_step_over_no_hole_and_never_back(rows, stood):
    moved = Cursors(Layout("unused"), CALENDAR).advance(stood, frame_of(rows).select("symbol", "date"))
    assert moved == {symbol: naive(days, stood.get(symbol)) for symbol, days in rows.items()}
    assert all(moved[symbol] >= day for symbol, day in stood.items() if symbol in moved)
