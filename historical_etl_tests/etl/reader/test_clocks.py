"""A clock that jumps: stamps never go back, `as_of` says what it said, and the retention is not fooled."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from historical_etl import HistoricalETL, ManifestManager
from historical_etl.etl.maintenance.archive import import_store
from historical_etl.models import SyncManifest
from historical_etl.store.manifest_file import render_manifest
from historical_etl.store.vacuum import Retention
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, store
from historical_etl_tests.store.small import KEEP_ALL, Hand, commit, spoil

START = datetime(2012, 7, 2, 12, tzinfo=UTC)
A_STEP = timedelta(microseconds=1)
YEAR = timedelta(days=365)


@pytest.fixture
def clock() -> Hand:
    return Hand(START)


@pytest.fixture
def manager(root: Path, clock: Hand) -> ManifestManager:
    return ManifestManager(root, clock=clock)


@pytest.fixture
def etl(root: Path, clock: Hand) -> HistoricalETL:
    return store(root, ScriptedFetcher(SHORT), clock=clock, keep_versions=2, keep_days=7)


def stamps(manager: ManifestManager) -> list[datetime]:
    return [manager.load_version(version).sync_timestamp for version in manager.list_versions()]


def as_of(etl: HistoricalETL, moment: datetime | date | str) -> int:
    manifest = etl.manifest(as_of=moment)
    assert manifest is not None
    return manifest.version


def committed_at(manager: ManifestManager, clock: Hand, *moments: datetime, retention: Retention = KEEP_ALL) -> None:
    """One version at each moment."""
    base = manager.load_manifest()
    for number, clock.now in enumerate(moments, start=base.version if base else 0):
        commit(manager, {2019: number + 1.0}, retention=retention)


def test_a_clock_that_went_back_does_not_change_what_stood_at_a_time(etl, manager, clock):
    """Version 1 on 2 July, version 2 on 5 July, the clock is set to 3 July, version 3."""
    committed_at(manager, clock, START, START + timedelta(days=3))
    assert as_of(etl, "2012-07-04") == 1
    committed_at(manager, clock, START + timedelta(days=1))
    assert as_of(etl, "2012-07-04") == 1
    assert as_of(etl, "2012-07-05") == 3
    assert stamps(manager)[2] == START + timedelta(days=3) + A_STEP
    assert manager.load_version(3).clock_timestamp == START + timedelta(days=1), "what the clock said is kept, too"
    assert manager.load_version(2).clock_timestamp is None, "where it is the stamp, it is not said twice"


@pytest.mark.parametrize(
    "jumps",
    [
        [timedelta(hours=-1)],
        [timedelta(0)],
        [-3 * YEAR, -3 * YEAR, timedelta(0)],
        [YEAR, timedelta(0), timedelta(hours=1)],
        [YEAR, 2 * YEAR, timedelta(0)],
        [timedelta(hours=9), timedelta(0), timedelta(hours=9), timedelta(0)],
        [-YEAR, YEAR, -YEAR, YEAR],
    ],
    ids=["back an hour", "stands", "back years", "ahead once", "ahead twice", "a zone to and fro", "all over"],
)
def test_whatever_the_clock_does_stamps_ascend_and_every_answer_stays(etl, manager, clock, jumps):
    committed_at(manager, clock, START, START + timedelta(days=1))
    reported: dict[datetime, int] = {}
    for number, jump in enumerate(jumps, start=2):
        for stamp in stamps(manager):
            for moment in (stamp - A_STEP, stamp, stamp + A_STEP):
                if START <= moment < stamps(manager)[-1]:
                    reported[moment] = as_of(etl, moment)
        committed_at(manager, clock, START + timedelta(days=number) + jump)
        assert {moment: as_of(etl, moment) for moment in reported} == reported
    assert stamps(manager) == sorted(set(stamps(manager)))


def test_a_rollback_with_the_clock_behind_is_the_newest_version_at_its_time(etl, manager, clock):
    committed_at(manager, clock, START, START + timedelta(days=3))
    clock.now = START + timedelta(days=1)
    etl.rollback(1, publish=False)
    assert as_of(etl, START + timedelta(days=2)) == 1
    assert as_of(etl, START + timedelta(days=3)) == 2
    assert stamps(manager)[2] == START + timedelta(days=3) + A_STEP
    runs = etl.ledger("runs").filter(version=3)
    assert runs.item(0, "started") == stamps(manager)[2], "the ledgers bear the same stamp"


def test_the_version_after_a_rollback_keeps_its_own_word_of_the_clock(etl, manager, clock):
    """The older version that is current again was itself made with the clock behind."""
    committed_at(manager, clock, START, START - YEAR, START + timedelta(days=1))
    assert manager.load_version(2).clock_timestamp == START - YEAR
    clock.now = START + timedelta(days=2)
    rolled = etl.rollback(2, publish=False)
    assert (rolled.sync_timestamp, rolled.clock_timestamp) == (START + timedelta(days=2), None)


def test_an_import_of_a_store_from_the_future_is_gone_on_from(etl, manager, clock, root, tmp_path):
    committed_at(manager, clock, START + YEAR)
    etl.export(tmp_path / "copy")
    clock.now = START
    other = ManifestManager(root.parent / "other", clock=clock)
    taken = store(other.layout.root, ScriptedFetcher(SHORT), clock=clock)
    import_store(taken.store.state, tmp_path / "copy")
    commit(other, {2019: 7})
    assert stamps(other) == [START + YEAR, START + YEAR + A_STEP]


def test_a_stamp_is_later_than_those_of_all_kept_versions_whoever_wrote_them(etl, manager, clock):
    """An earlier release took the clock as it was: version 3 has an earlier stamp than version 2."""
    committed_at(manager, clock, START, START + timedelta(days=3), START + timedelta(days=4))
    back = manager.load_version(3).model_copy(update={"sync_timestamp": START + timedelta(days=1)})
    for path in (manager.layout.history_file(3), manager.layout.manifest_file()):
        path.write_bytes(render_manifest(back))
    assert as_of(etl, "2012-07-04") == 1, "version 2 had not come yet, so version 3 had not either"
    assert as_of(etl, "2012-07-05") == 3
    committed_at(manager, clock, START + timedelta(days=2))
    assert stamps(manager)[3] == START + timedelta(days=3) + A_STEP
    assert as_of(etl, "2012-07-04") == 1


def test_a_manifest_that_is_saved_by_hand_gets_a_later_stamp(manager, clock):
    committed_at(manager, clock, START)
    current = manager.load_manifest()
    assert isinstance(current, SyncManifest)
    with manager.acquire_lock() as token:
        saved = manager.save_manifest(current.model_copy(update={"sync_timestamp": START - YEAR}), token)
    assert (saved.sync_timestamp, saved.clock_timestamp) == (START + A_STEP, START - YEAR)


def test_a_repair_that_falls_back_to_an_older_manifest_goes_on_after_it(manager, clock):
    committed_at(manager, clock, START, START + timedelta(days=3))
    spoil(manager.layout.manifest_file())
    committed_at(manager, clock, START - timedelta(days=1))
    assert stamps(manager)[2] == START + timedelta(days=3) + A_STEP


def test_at_the_end_of_time_a_commit_still_goes_through(etl, manager, clock):
    last = datetime.max.replace(tzinfo=UTC)
    committed_at(manager, clock, last, last, START)
    assert as_of(etl, last) == 3


# ── retention ──────────────────────────────────────────────────────────────────────────────────────────────────────

WEEK = Retention(versions=2, days=7)


def days(*numbers: float) -> list[datetime]:
    return [START + timedelta(days=number) for number in numbers]


@pytest.mark.parametrize(
    "wrong",
    [[YEAR], [YEAR, YEAR + timedelta(hours=1), YEAR + timedelta(days=1)], [100 * YEAR], [-3 * YEAR, 3 * YEAR]],
    ids=["one commit", "several", "a century", "back and ahead"],
)
def test_commits_with_the_clock_ahead_remove_nothing_that_is_recent(manager, clock, wrong):
    committed_at(manager, clock, *days(0, 1, 2, 3), retention=WEEK)
    committed_at(manager, clock, *(START + timedelta(days=4) + jump for jump in wrong), retention=WEEK)
    assert manager.list_versions() == list(range(1, 5 + len(wrong)))
    committed_at(manager, clock, *days(5, 6), retention=WEEK)
    assert manager.list_versions() == list(range(1, 7 + len(wrong))), "nor once it is right again"


def test_a_clock_that_goes_to_and_fro_adds_no_days(manager, clock):
    """Forty jumps within an hour or two, each by a year."""
    moments = [START + timedelta(minutes=3 * n) + (YEAR if n % 2 else timedelta(0)) for n in range(40)]
    committed_at(manager, clock, *moments, retention=WEEK)
    assert len(manager.list_versions()) == 40


def test_after_a_jump_old_versions_go_as_ever(manager, clock):
    committed_at(manager, clock, *days(0, 1, 2), START + YEAR, *days(3, 4), retention=WEEK)
    committed_at(manager, clock, *days(*range(5, 20)), retention=WEEK)
    kept = manager.list_versions()
    assert kept[0] > 6, "what is older than the jump has gone"
    assert len(kept) == 10


def test_a_store_that_was_not_used_for_a_year_gets_rid_of_its_old_versions(manager, clock):
    committed_at(manager, clock, *days(*range(8)), retention=WEEK)
    committed_at(manager, clock, START + YEAR, retention=WEEK)
    assert 1 in manager.list_versions(), "one step of the clock proves no year"
    committed_at(manager, clock, *(START + YEAR + timedelta(days=n) for n in range(1, 10)), retention=WEEK)
    assert manager.list_versions()[0] > 8


def test_a_version_that_stood_within_the_last_days_is_kept_however_old_it_is(manager, clock):
    """Version 1 stood for weeks and was replaced a moment ago: three days ago it was the answer."""
    committed_at(manager, clock, START, *days(*(30 + n / 24 for n in range(4))), retention=WEEK)
    assert manager.list_versions() == [1, 2, 3, 4, 5]


def test_weekly_commits_with_a_long_retention_count_whole_weeks(manager, clock):
    long = Retention(versions=2, days=70)
    committed_at(manager, clock, *days(*range(0, 7 * 30, 7)), retention=long)
    assert len(manager.list_versions()) == 13


def test_a_vacuum_by_hand_that_keeps_no_days_takes_what_the_clock_holds(etl, manager, clock):
    """The way out where a wrong clock keeps too much."""
    committed_at(manager, clock, *days(0, 1), START + YEAR, *days(2, 3), retention=WEEK)
    assert etl.vacuum(keep_days=0).removed == (1, 2, 3)
