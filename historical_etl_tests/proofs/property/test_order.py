"""Order independence: however the years and days arrive, the files end in the same bytes."""

import tempfile
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from historical_etl import HistoricalETL
from historical_etl.durable import sha256_of
from historical_etl_tests.scenario import (
    STOPS,
    Listing,
    Market,
    ScriptedFetcher,
    current_manifest,
    sessions,
    store,
    stored,
)
from historical_etl_tests.shares import examples

#: Three years that meet at two year ends, with everything that makes the order matter.
MARKET = Market(
    (
        Listing("A.B", split=date(2011, 1, 3)),
        Listing("IPO", first=date(2011, 12, 15)),
        Listing("OLD", last=date(2011, 3, 15)),
        Listing("RAW", adjusted_until=None),
        Listing("AWAY", away=(date(2010, 12, 13), date(2011, 3, 4))),  # longer than any lead-in
        STOPS,  # adj_close ends within a month …
        Listing("ENDS", adjusted_until=date(2011, 11, 30)),  # … and with one
    ),
    first=date(2010, 12, 1),
    last=date(2012, 1, 31),
)
#: The last bar before its absence lies further back than any lead-in: it is right when all is stored.
NOT_AWAY = pl.col("symbol") != "AWAY"
DAYS = sessions(MARKET.first, MARKET.last)
quick = settings(max_examples=examples(3))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, str]:
    """The checksums of the bytes that one whole run leaves; its rows are what the naive computation says."""
    etl = store(tmp_path_factory.mktemp("whole"), ScriptedFetcher(MARKET))
    etl.run_full_etl(MARKET.symbols, MARKET.first, MARKET.last)
    assert_frame_equal(stored(etl), MARKET.expected(), check_exact=True)
    return checksums(etl)


def checksums(etl: HistoricalETL) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in sorted(etl.layout.daily.glob("*.parquet"))}


def folder():
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    return tempfile.TemporaryDirectory(prefix="historical-etl-", dir=memory if memory.is_dir() else None)


@given(st.permutations([2010, 2011, 2012]), st.booleans())
@settings(max_examples=examples(2))
def test_years_may_be_backfilled_in_any_order(whole, years, one_symbol_at_a_time):
    with folder() as root:
        etl = store(Path(root), ScriptedFetcher(MARKET), batch_symbols=1 if one_symbol_at_a_time else 1000)
        for count, year in enumerate(years, 1):
            etl.run_year(year, MARKET.symbols, publish=False)
            # A year is right at once, also where the year before is missing: lead-in rows are its predecessors.
            checked = pl.col("date").dt.year().is_in(years[:count]) & NOT_AWAY
            assert_frame_equal(stored(etl).filter(checked), MARKET.expected().filter(checked), check_exact=True)
        assert checksums(etl) == whole


@st.composite
def pieces(draw):
    """The days cut into ranges, and in each range the symbols into groups; all of it in any order."""
    cuts = sorted(draw(st.sets(st.integers(1, len(DAYS) - 1), max_size=4)))
    ranges = [(DAYS[low], DAYS[high - 1]) for low, high in zip([0, *cuts], [*cuts, len(DAYS)], strict=True)]
    jobs: list[tuple[tuple[str, ...], date, date]] = []
    for start, end in ranges:
        group_of = {symbol: draw(st.integers(0, 1)) for symbol in MARKET.symbols}
        groups = [tuple(s for s in MARKET.symbols if group_of[s] == group) for group in set(group_of.values())]
        jobs += [(group, start, end) for group in sorted(groups)]
    return draw(st.permutations(jobs))


@given(pieces())
@quick
def test_ranges_and_groups_of_symbols_may_come_in_any_order(whole, jobs):
    with folder() as root:
        etl = store(Path(root), ScriptedFetcher(MARKET))
        for symbols, start, end in jobs:
            etl.run_full_etl(symbols, start, end, resume=False)
        assert checksums(etl) == whole
        assert etl.cursors() == {
            **dict.fromkeys(MARKET.symbols, MARKET.last),
            "OLD": date(2011, 3, 15),
            "AWAY": date(2010, 12, 10),
        }


@given(st.sets(st.sampled_from(DAYS[60:-1]), max_size=6), st.integers(0, len(DAYS) - 60))
@quick
def test_increments_may_be_cut_anywhere(whole, evenings, filled_until):
    """A backfill up to some day, then increments on any evenings; the new listing is asked for by name."""
    with folder() as root:
        first = DAYS[filled_until]
        etl = store(Path(root), ScriptedFetcher(MARKET), first)
        etl.run_full_etl(MARKET.symbols, MARKET.first, first)
        for evening in sorted({day for day in evenings if day > first} | {MARKET.last}):
            etl = store(Path(root), ScriptedFetcher(MARKET), evening, start=MARKET.first)
            etl.run_incremental_etl(MARKET.symbols, publish=False)
        assert checksums(etl) == whole
        assert current_manifest(etl).row_count == MARKET.bars().height
