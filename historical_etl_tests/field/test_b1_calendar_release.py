"""A release of the calendar drops a stored day, or adds one: rows are moved, gaps are opened, and no run is stuck.

Two files of corrections stand for two releases.
"""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from historical_etl import ConfigurationError, HistoricalETL, get_calendar
from historical_etl.etl.health.doctor import examine
from historical_etl.etl.health.status import read_status
from historical_etl_tests.field.calendars import DayVendor, bar, close_of, corrections, settings
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import current_manifest, store, stored, tree

DROPPED = date(2025, 1, 9)  # a day of mourning, which no calendar had in time
NEXT = date(2025, 1, 10)
SYMBOLS = ("ACME", "BETA")
FIRST, THROUGH, TODAY = date(2024, 12, 2), date(2025, 1, 15), date(2025, 1, 17)


def evening(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 23, tzinfo=UTC)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The earlier release: it takes the day of mourning for a session."""
    return corrections(tmp_path, f"XNYS,{DROPPED},added,not known yet,", name="old.csv")


def vendor(calendar: Path | None) -> DayVendor:
    days = get_calendar("XNYS", calendar).between(FIRST, TODAY).to_list()
    return DayVendor(dict.fromkeys(SYMBOLS, days))


def opened(root: Path, calendar: Path | None, today: date = TODAY, source: DayVendor | None = None) -> HistoricalETL:
    given = source or vendor(calendar)
    return store(root, given, clock=lambda: evening(today), settings=settings(calendar=calendar))


def filled(root: Path, calendar: Path | None, source: DayVendor | None = None) -> HistoricalETL:
    etl = opened(root, calendar, THROUGH, source)
    etl.run_full_etl(SYMBOLS, FIRST, THROUGH)
    return etl


def ret(etl: HistoricalETL, symbol: str, day: date) -> float:
    return etl.scan(symbol, day, day).collect().item(0, "ret")


# ── a day leaves ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_that_leave_the_calendar_are_moved_by_the_next_update(root: Path, old: Path) -> None:
    etl = filled(root, old)
    assert stored(etl).filter(pl.col("date") == DROPPED).height == 2
    assert ret(etl, "ACME", NEXT) == pytest.approx(close_of(NEXT) / close_of(DROPPED) - 1)

    etl = opened(root, None)
    result = etl.run_incremental_etl()

    assert stored(etl).filter(pl.col("date") == DROPPED).is_empty()
    assert stored(etl)["date"].max() == TODAY
    assert ret(etl, "ACME", NEXT) == pytest.approx(close_of(NEXT) / close_of(date(2025, 1, 8)) - 1)
    moved = etl.ledger("replaced_rows")
    assert moved.select("symbol", "date", "close").rows() == [(s, DROPPED, close_of(DROPPED)) for s in SYMBOLS]
    assert set(moved["reason"]) == {f"no session of {get_calendar('XNYS').version}"}
    assert etl.ledger("restatements").is_empty()
    assert etl.gaps(all=True).is_empty()
    (note,) = result.calendar_notes
    assert note == Saying("2 stored row", "1 day", "no session", "2025-01-09")
    assert result.complete
    assert current_manifest(etl).calendar == get_calendar("XNYS").version
    events = etl.explain("ACME", DROPPED).filter(pl.col("event") == "removed")
    assert events["why"].unique().to_list() == moved["reason"].unique().to_list()


def test_a_rollback_brings_the_rows_back_until_the_next_update(root: Path, old: Path) -> None:
    version = current_manifest(filled(root, old)).version
    etl = opened(root, None)
    etl.run_incremental_etl()
    etl.rollback(version)
    assert stored(etl).filter(pl.col("date") == DROPPED).height == 2
    assert etl.run_incremental_etl().calendar_notes
    assert stored(etl).filter(pl.col("date") == DROPPED).is_empty()
    assert not etl.verify().findings


def test_a_history_that_is_replaced_in_the_same_run_does_not_miss_them(root: Path, old: Path) -> None:
    """The history as it comes now lacks the day; that it was stored is no reason to hold the symbol."""
    filled(root, old)
    source = vendor(None)
    halved = DayVendor(source.days, halve=("ACME",))
    etl = opened(root, None, source=halved)
    result = etl.run_full_etl(["ACME"], FIRST, TODAY, rebuild=True)
    assert result.held == {}
    assert result.restated_symbols == ("ACME",)
    assert stored(etl).filter(pl.col("date") == DROPPED).is_empty()
    reasons = dict(etl.ledger("replaced_rows").group_by("reason").len().iter_rows())
    assert len(reasons) == 2
    assert reasons[f"no session of {get_calendar('XNYS').version}"] == 2


def test_it_is_reported_once(root: Path, old: Path) -> None:
    filled(root, old)
    opened(root, None).run_incremental_etl()
    before = tree(root)
    again = opened(root, None).run_incremental_etl()
    assert again.calendar_notes == ()
    assert not again.changed
    assert tree(root / "historical") == {
        name.removeprefix("historical/"): content for name, content in before.items() if name.startswith("historical/")
    }


def test_a_vendor_that_still_gives_the_day_does_not_bring_it_back(root: Path, old: Path) -> None:
    filled(root, old)
    etl = opened(root, None, source=vendor(old))
    result = etl.run_incremental_etl()
    assert stored(etl).filter(pl.col("date") == DROPPED).is_empty()
    assert stored(etl)["date"].max() == TODAY
    assert result.rejected_by_reason == {"off_session": 2}


def test_a_backfill_of_another_year_moves_them_as_well(root: Path, old: Path) -> None:
    filled(root, old)
    etl = opened(root, None)
    etl.run_year(2024, SYMBOLS)
    assert stored(etl).filter(pl.col("date") == DROPPED).is_empty()
    assert etl.ledger("replaced_rows").height == 2
    assert etl.verify().ok


@pytest.mark.parametrize("on", [date(2025, 1, 8), DROPPED, NEXT, date(2025, 1, 16)])
def test_a_split_before_the_next_update_leaves_the_rows_to_it(root: Path, old: Path, on: date) -> None:
    filled(root, old)
    etl = opened(root, None)
    etl.split("ACME", on, as_="ACME-1", reason="another one", by="me")
    assert stored(etl).filter(pl.col("date") == DROPPED).height == 2
    moves_them_away(etl)


@pytest.mark.parametrize("bars", [(FIRST, THROUGH), (FIRST, DROPPED), (DROPPED, THROUGH)])
def test_a_rename_before_the_next_update_leaves_the_rows_to_it(root: Path, old: Path, bars: tuple[date, date]) -> None:
    """The history that goes on may begin or end on the day."""
    days = vendor(old).days
    mine = [day for day in days["ACME"] if bars[0] <= day <= bars[1]]
    opened(root, old, THROUGH, DayVendor({**days, "ACME": mine})).run_full_etl(SYMBOLS, FIRST, THROUGH)
    on = NEXT if bars[1] == DROPPED else date(2025, 1, 16)
    after = [day for day in [*mine, *days["BETA"]] if day != DROPPED and (day in mine or day >= on)]
    etl = opened(root, None, source=DayVendor({**vendor(None).days, "FRESH": sorted(set(after))}))
    etl.rename("ACME", "FRESH", on)
    assert stored(etl).filter(pl.col("date") == DROPPED)["symbol"].to_list() == ["BETA", "FRESH"]
    moves_them_away(etl)


def moves_them_away(etl: HistoricalETL) -> None:
    """The next update does, and everything is as ever."""
    assert {finding.field for finding in etl.verify().findings} == {"calendar"}
    result = etl.run_incremental_etl()
    assert result.held == {}
    assert stored(etl).filter(pl.col("date") == DROPPED).is_empty()
    assert etl.ledger("replaced_rows").filter(pl.col("date") == DROPPED).height == 2
    assert not etl.verify().findings
    assert etl.gaps(all=True).is_empty()


@pytest.mark.parametrize("bars", [[DROPPED, NEXT], [date(2025, 1, 8), DROPPED]])
def test_a_symbol_that_begins_or_ends_on_the_day_begins_or_ends_beside_it(
    root: Path, old: Path, bars: list[date]
) -> None:
    source = DayVendor({**vendor(old).days, "EDGE": bars})
    etl = opened(root, old, THROUGH, source)
    etl.run_full_etl([*SYMBOLS, "EDGE"], FIRST, THROUGH)

    etl = opened(root, None, source=DayVendor({**vendor(None).days, "EDGE": bars}))
    etl.run_incremental_etl(list(SYMBOLS))

    (kept,) = [day for day in bars if day != DROPPED]
    life = etl.ledger("symbols").filter(pl.col("symbol") == "EDGE").row(0, named=True)
    assert (life["first_session"], life["last_session"], life["contiguous_through"]) == (kept, kept, kept)
    assert etl.verify().ok


def test_a_symbol_of_which_nothing_is_left_is_not_known_any_more(root: Path, old: Path) -> None:
    source = DayVendor({**vendor(old).days, "ONCE": [DROPPED]})
    opened(root, old, THROUGH, source).run_full_etl([*SYMBOLS, "ONCE"], FIRST, THROUGH)
    etl = opened(root, None)
    etl.run_incremental_etl(list(SYMBOLS))
    assert sorted(etl.cursors()) == list(SYMBOLS)
    assert etl.ledger("replaced_rows").filter(pl.col("symbol") == "ONCE").height == 1
    assert etl.verify().ok


def test_a_year_of_which_nothing_is_left_goes(root: Path, tmp_path: Path) -> None:
    eve = date(2024, 12, 25)
    old = corrections(tmp_path, f"XNYS,{eve},added,not known yet,")
    source = DayVendor({"ACME": [eve, *get_calendar("XNYS").between(date(2025, 1, 2), TODAY).to_list()]})
    opened(root, old, THROUGH, source).run_full_etl(["ACME"], eve, THROUGH)
    assert [p.year for p in current_manifest(opened(root, old)).partitions] == [2024, 2025]

    etl = opened(root, None, source=source)
    etl.run_incremental_etl()

    assert [p.year for p in current_manifest(etl).partitions] == [2025]
    assert etl.ledger("replaced_rows")["date"].to_list() == [eve]
    assert etl.ledger("symbols").item(0, "first_session") == date(2025, 1, 2)
    assert etl.scan("ACME").collect().sort("date").item(0, "ret") is None
    assert not etl.verify().findings
    assert etl.diff(1)["change"].to_list()[0] == "removed"


@pytest.mark.parametrize("before", [None, date(2024, 12, 30)])
def test_the_next_bar_follows_on_what_is_left(root: Path, old: Path, before: date | None) -> None:
    """The day was the only bar of its month, and the next one lies in a later month that nothing else touches."""
    march = date(2025, 3, 3)
    mine = [*([before] if before else []), DROPPED, march]
    later = date(2025, 3, 10)

    def source(calendar: Path | None) -> DayVendor:
        days = get_calendar("XNYS", calendar).between(FIRST, later).to_list()
        return DayVendor({"ACME": days, "RARE": mine})

    opened(root, old, later, source(old)).run_full_etl(["ACME", "RARE"], FIRST, later)
    etl = opened(root, None, later, source(None))
    etl.run_year(2024, ["ACME"])

    assert etl.scan("RARE").collect()["date"].sort().to_list() == [day for day in mine if day != DROPPED]
    if before:
        assert ret(etl, "RARE", march) == pytest.approx(close_of(march) / close_of(before) - 1)
    else:
        assert ret(etl, "RARE", march) is None


def test_verify_doctor_and_status_report_it_before(root: Path, old: Path) -> None:
    etl = filled(root, old)
    for today in (etl, opened(root, old)):
        assert not today.verify().findings
    changed = opened(root, None)

    (finding,) = changed.verify().findings
    assert (finding.field, finding.severity) == ("calendar", "warning")
    assert "no session any more (2025-01-09)" in finding.message
    assert "replaced_rows" in finding.todo
    checked = examine(settings(data_dir=root), offline=True, clock=lambda: evening(TODAY)).check("calendar")
    assert checked.verdict == "warning"
    assert "2025-01-09" in checked.what
    found = read_status(changed.layout, lambda: evening(TODAY), settings())
    assert any("2025-01-09" in note for note in found.calendar_notes)

    changed.run_incremental_etl()
    assert not changed.verify().findings
    assert read_status(changed.layout, lambda: evening(TODAY), settings()).calendar_notes == ()


def test_a_store_of_an_earlier_release_says_only_the_package(root: Path, old: Path) -> None:
    """Its manifest has no digest: whether days have left is looked for, and what stands is not touched without need."""
    etl = filled(root, None)
    manifest = current_manifest(etl)
    forgotten = manifest.model_copy(update={"calendar": "exchange_calendars 4.11.1"})
    with etl.store.context.lock() as token:
        etl.manifests.save_manifest(forgotten, token)
    etl = opened(root, None, THROUGH)
    version = current_manifest(etl).version

    result = etl.run_incremental_etl()

    assert (result.version, result.calendar_notes) == (version, ())
    assert not etl.verify().findings
    assert opened(root, old, THROUGH).run_incremental_etl().complete
    assert stored(etl).filter(pl.col("date") == DROPPED).height == 2


# ── a day joins ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_that_joins_is_a_gap_until_it_is_filled(root: Path, old: Path) -> None:
    source = DayVendor({**vendor(None).days, "LATER": [date(2025, 1, 14), THROUGH]})
    etl = opened(root, None, THROUGH, source)
    etl.run_full_etl([*SYMBOLS, "LATER"], FIRST, THROUGH)

    etl = opened(root, old, THROUGH, source)
    result = etl.run_incremental_etl()
    gaps = etl.gaps()
    assert gaps.select("symbol", "first_session", "last_session").rows() == [(s, DROPPED, DROPPED) for s in SYMBOLS]
    assert gaps["version"].null_count() == 0
    assert Saying("gained 2 session", "2 symbol", "nothing was stored", "2025-01-09") in result.calendar_notes
    assert etl.cursors() == {"ACME": date(2025, 1, 8), "BETA": date(2025, 1, 8), "LATER": THROUGH}
    assert etl.verify().ok

    etl = opened(root, old, source=vendor(old))
    result = etl.run_incremental_etl(list(SYMBOLS))
    assert result.calendar_notes == ()
    assert etl.gaps().filter(pl.col("symbol").is_in(SYMBOLS)).is_empty()
    assert stored(etl).filter(pl.col("date") == DROPPED).height == 2
    assert ret(etl, "ACME", NEXT) == pytest.approx(close_of(NEXT) / close_of(DROPPED) - 1)


def test_a_session_that_joins_is_reported_before(root: Path, old: Path) -> None:
    filled(root, None)
    (finding,) = opened(root, old).verify().findings
    assert finding.message == Saying("gained 2 session", "2 symbol", "nothing was stored", "2025-01-09")


# ── another calendar ───────────────────────────────────────────────────────────────────────────────────────────────


COMMANDS = {
    "update": lambda etl: etl.run_incremental_etl(),
    "year": lambda etl: etl.run_year(2024, SYMBOLS),
    "rename": lambda etl: etl.rename("ACME", "FRESH", date(2025, 1, 16)),
    "split": lambda etl: etl.split("ACME", NEXT, as_="ACME-1", reason="another one", by="me"),
    "waive": lambda etl: etl.waive("ACME", NEXT, reason="not traded", by="me"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_another_exchange_moves_nothing(root: Path, command: str) -> None:
    filled(root, None)
    etl = store(root, vendor(None), clock=lambda: evening(TODAY), settings=settings("XLON"))
    before = tree(root)
    with pytest.raises(ConfigurationError, match=r"XNYS.*now XLON"):
        COMMANDS[command](etl)
    assert tree(root) == before
    (finding,) = etl.verify().findings
    assert "XLON" in finding.message
    checked = examine(settings("XLON", data_dir=root), offline=True, clock=lambda: evening(TODAY)).check("calendar")
    assert checked.verdict == "problem"
    assert etl.completeness().missing() == 0


def test_a_calendar_that_knows_fewer_years_moves_nothing(root: Path) -> None:
    days = get_calendar("XNYS").between(FIRST, THROUGH).to_list()
    etl = store(root, DayVendor({"ACME": days}), clock=lambda: evening(THROUGH), settings=settings())
    etl.run_full_etl(["ACME"], FIRST, THROUGH)
    calendar = get_calendar("XTAE")  # it builds from 2026 on
    shorter = current_manifest(etl).model_copy(
        update={"calendar": str(calendar.record).replace(calendar.record.sessions, "0" * 16)}
    )
    with etl.store.context.lock() as token:
        etl.manifests.save_manifest(shorter, token)
    later = datetime(2026, 7, 8, 20, tzinfo=UTC)
    etl = store(root, DayVendor({"ACME": days}), clock=lambda: later, settings=settings("XTAE"))
    if calendar.known_from > FIRST:
        with pytest.raises(ConfigurationError, match="knows 2026-01-05 to 2050-12-31 only"):
            etl.run_incremental_etl()
    assert stored(etl).height == len(days)


def test_bars_of_this_test_are_as_they_are_taken_to_be() -> None:
    assert bar("ACME", NEXT)["close"] != bar("ACME", DROPPED)["close"]
