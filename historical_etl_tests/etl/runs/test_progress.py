"""Resume: an interrupted run goes on where it was committed, and only if it is the very same request."""

import logging
from datetime import date

import pytest
from polars.testing import assert_frame_equal

from historical_etl import DataQualityError
from historical_etl.models import ETLProgressManifest
from historical_etl_tests.scenario import (
    FIRST,
    INFO,
    LAST,
    SYMBOLS,
    Ask,
    Market,
    ScriptedFetcher,
    ScriptedSource,
    Ticking,
    current_manifest,
    daily_bytes,
    store,
    stored,
    tree,
)


class Interrupt(BaseException):
    """As Dagster interrupts a run, and as Ctrl-C does: not an Exception."""


def interrupted_at(*years: int):
    def before(ask: Ask) -> None:
        if ask.end.year in years:
            raise Interrupt

    return before


@pytest.fixture
def halfway(root, market):
    """A store whose full run was interrupted while it fetched 2012; its fetcher is well again."""
    fetcher = ScriptedFetcher(market, before=interrupted_at(2012))
    etl = store(root, fetcher, clock=Ticking())
    with pytest.raises(Interrupt):
        etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2010, 2011, 2012]
    fetcher.before = None
    fetcher.asked.clear()
    return etl, fetcher


@pytest.fixture
def undisturbed(tmp_path, market) -> dict[str, bytes]:
    etl = store(tmp_path / "undisturbed", ScriptedFetcher(market))
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    return daily_bytes(etl)


def test_only_the_missing_years_are_asked_for_again(halfway, undisturbed):
    etl, fetcher = halfway
    result = etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2012, 2013]
    assert result.years_written == (2012, 2013)
    assert daily_bytes(etl) == undisturbed
    assert [partition.year for partition in current_manifest(etl).partitions] == [2010, 2011, 2012, 2013]


def test_progress_of_an_interrupted_run_says_how_far_it_got(halfway):
    etl, _ = halfway
    progress = etl.progress()
    assert progress is not None
    assert (progress.status, progress.years_completed, progress.years_remaining) == (
        "running",
        [2010, 2011],
        [2012, 2013],
    )


def test_the_order_of_symbols_is_not_part_of_the_request(halfway):
    etl, fetcher = halfway
    etl.run_full_etl([symbol.lower() for symbol in reversed(SYMBOLS)], FIRST, LAST)
    assert fetcher.years == [2012, 2013]


@pytest.mark.parametrize(
    ("symbols", "start", "end"),
    [
        ([*SYMBOLS, "NEW"], FIRST, LAST),
        (SYMBOLS[:-1], FIRST, LAST),
        (SYMBOLS, date(2010, 1, 5), LAST),
        (SYMBOLS, FIRST, date(2013, 2, 28)),
    ],
)
def test_other_arguments_do_not_resume(halfway, symbols, start, end):
    etl, fetcher = halfway
    etl.run_full_etl(symbols, start, end)
    assert fetcher.years == [2010, 2011, 2012, 2013]


def test_another_price_basis_does_not_resume_and_is_not_mixed_in(root, market):
    class Stopping(ScriptedSource):
        def fetch(self, request):
            interrupted_at(2012)(Ask(request.symbols, request.start, request.end))
            return super().fetch(request)

    with pytest.raises(Interrupt):
        store(root, Stopping(market)).run_full_etl(SYMBOLS, FIRST, LAST)
    other = ScriptedSource(market, info=INFO.__class__("scripted", "1", "raw"))
    before = tree(root / "historical" / "daily")
    with pytest.raises(DataQualityError, match="another price basis"):
        store(root, other).run_full_etl(SYMBOLS, FIRST, LAST)
    assert {request.end.year for request in other.asked} == {2010, 2011, 2012, 2013}
    assert {name: tree(root / "historical" / "daily")[name] for name in before} == before
    store(root, other).run_full_etl(SYMBOLS, FIRST, LAST, rebuild=True)
    assert_frame_equal(stored(store(root, other)), market.expected(), check_exact=True)
    assert set(store(root, other).ledger("symbols")["adjustment"]) == {"raw"}


def test_resume_can_be_declined(halfway):
    etl, fetcher = halfway
    etl.run_full_etl(SYMBOLS, FIRST, LAST, resume=False)
    assert fetcher.years == [2010, 2011, 2012, 2013]


def test_a_completed_run_asks_for_everything_again(halfway):
    """A backfill that is run again is meant to look for what the vendor corrected."""
    etl, fetcher = halfway
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    fetcher.asked.clear()
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2010, 2011, 2012, 2013]


def test_a_single_year_in_between_does_not_end_the_request(halfway):
    etl, fetcher = halfway
    etl.run_year(2013, ["BRK.B"])
    etl.run_incremental_etl(["BRK.B"])
    fetcher.asked.clear()
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2012, 2013]


def test_interrupted_twice_and_still_every_year_comes(root, market, undisturbed):
    """Every year is asked for exactly once more than it was interrupted: none is skipped."""
    fetcher = ScriptedFetcher(market)
    etl = store(root, fetcher)
    for year in (2010, 2011, 2012, 2013):
        fetcher.before = interrupted_at(year)
        with pytest.raises(Interrupt):
            etl.run_full_etl(SYMBOLS, FIRST, LAST)
    fetcher.before = None
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2010, 2010, 2011, 2011, 2012, 2012, 2013, 2013]
    assert daily_bytes(etl) == undisturbed


def test_only_the_years_that_failed_are_asked_for_again(root, market, undisturbed):
    def broken(ask: Ask) -> None:
        if ask.end.year == 2011:
            raise OSError("no route to host")

    fetcher = ScriptedFetcher(market, before=broken)
    etl = store(root, fetcher)
    with pytest.raises(Exception, match="no route to host"):
        etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert set(fetcher.years) == {2010, 2011, 2012, 2013}
    fetcher.before = None
    fetcher.asked.clear()
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2011]
    assert daily_bytes(etl) == undisturbed


@pytest.mark.parametrize("content", [b"{ not json", b"\xff\xfe\x00garbage", b"", b'{"status": "asleep"}', b"[1, 2]"])
def test_resume_with_corrupted_progress_manifest(halfway, undisturbed, content, caplog):
    """Damaged progress costs work, never data: it is moved aside with a warning, and the run starts over."""
    etl, fetcher = halfway
    etl.layout.progress_file().write_bytes(content)
    with caplog.at_level(logging.WARNING):
        result = etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2010, 2011, 2012, 2013]
    assert result.years_written == (2012, 2013), "what was committed turned out equal"
    assert daily_bytes(etl) == undisturbed
    aside = list(etl.layout.progress_folder.glob("*.corrupted.*"))
    assert [path.read_bytes() for path in aside] == [content]
    assert aside[0].name.startswith("historical_daily_progress.json.corrupted.20130301T23")
    assert "Progress was damaged" in caplog.text
    progress = etl.progress()
    assert progress is not None
    assert (progress.status, progress.years_remaining) == ("completed", [])
    assert progress.symbol_last_dates["GONE"] == date(2011, 8, 31)
    assert progress.symbol_last_dates["BRK.B"] == LAST


def test_etl_progress_manifest_separate_from_sync_manifest(halfway):
    """Progress lies in a file of its own: it changes without a new version, and losing it loses no data."""
    etl, _ = halfway
    manifests, rows = tree(etl.layout.manifests), stored(etl)
    path = etl.layout.progress_file()
    assert path == etl.layout.root / "sync_progress" / "historical_daily_progress.json"
    saved = ETLProgressManifest.model_validate_json(path.read_bytes())
    assert saved.years_remaining == [2012, 2013]
    assert b"years_remaining" not in etl.layout.manifest_file().read_bytes()
    assert b"checksum" not in path.read_bytes()

    path.unlink()
    assert tree(etl.layout.manifests) == manifests
    assert stored(etl).equals(rows)
    assert etl.progress() is None
    assert etl.cursors()["BRK.B"] == date(2011, 12, 30), "rebuilt from the data"


def test_progress_that_is_ahead_of_the_data_is_not_believed(halfway):
    """After a rollback, cursors and years of a version that does not stand mean nothing."""
    etl, fetcher = halfway
    progress = etl.progress()
    assert progress is not None
    ahead = progress.model_copy(
        update={"data_version": 99, "symbol_last_dates": {"BRK.B": LAST}, "years_completed": [2010, 2011, 2012]}
    )
    etl.layout.progress_file().write_text(ahead.model_dump_json())
    assert etl.progress() is None
    assert etl.cursors()["BRK.B"] == date(2011, 12, 30)
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2010, 2011, 2012, 2013]


def test_a_year_that_is_marked_done_but_not_stored_is_asked_for(halfway):
    etl, fetcher = halfway
    progress = etl.progress()
    assert progress is not None
    boasting = progress.model_copy(update={"years_completed": [2010, 2011, 2012]})
    etl.layout.progress_file().write_text(boasting.model_dump_json())
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    assert fetcher.years == [2012, 2013]


def test_a_full_run_leaves_the_cursors_of_every_symbol(root):
    market = Market()
    etl = store(root, ScriptedFetcher(market))
    etl.run_full_etl(SYMBOLS, FIRST, LAST)
    progress = etl.progress()
    assert progress is not None
    assert progress.symbol_last_dates == {**dict.fromkeys(SYMBOLS, LAST), "GONE": date(2011, 8, 31)}
    assert progress.data_version == current_manifest(etl).version
