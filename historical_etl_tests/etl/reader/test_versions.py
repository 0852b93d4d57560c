"""Any answer again: versions read by number, by name and by time, cited, and kept while somebody reads them."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ChecksumMismatchError, ConfigurationError, HistoricalETL
from historical_etl_tests.etl.conftest import CORRECTED, opened
from historical_etl_tests.scenario import KEYS, SHORT, store, tree

ROWS = "SELECT count(*) AS n, max(date) AS last FROM daily_prices"
SYMBOL, DAY = CORRECTED


def volume(etl: HistoricalETL, **which) -> float:
    rows = etl.scan(SYMBOL, DAY, DAY, **which).collect()
    return rows.item(0, "volume")


def current_manifest(etl: HistoricalETL, moment: datetime | date | str) -> int:
    manifest = etl.manifest(as_of=moment)
    assert manifest is not None
    return manifest.version


def test_each_version_is_read_as_it_was(etl: HistoricalETL):
    true = SHORT.bars([SYMBOL], DAY, DAY).item(0, "volume")
    assert [volume(etl, version=n) for n in (1, 2, 3)] == [true, true, 4321.0]
    assert volume(etl) == volume(etl, version="v3") == volume(etl, version="3") == 4321.0
    assert etl.query_sql(ROWS, version=1).item(0, "last") == date(2012, 12, 31)
    assert etl.query_sql(ROWS, version=2).item(0, "last") == date(2013, 1, 31)
    assert etl.query_sql("SELECT DISTINCT version FROM partitions", version=2).item() == 2
    first = etl.scan(version=1).collect().sort(KEYS)
    assert_frame_equal(first, SHORT.expected(end=date(2012, 12, 31)), check_exact=True)
    assert etl.ledger("corrections", version=2).is_empty()
    assert etl.ledger("corrections", version=3).height == 1


def test_the_version_that_stood_at_a_time(etl: HistoricalETL):
    when = [etl.manifests.load_version(version).sync_timestamp for version in (1, 2, 3)]
    for version, moment in zip((1, 2, 3), when, strict=True):
        for wanted in (moment, moment.isoformat(), moment.astimezone(UTC)):
            assert current_manifest(etl, wanted) == version
    just_before = when[1] - timedelta(microseconds=1)
    assert volume(etl, as_of=just_before) != 4321.0
    assert etl.query_sql(ROWS, as_of=just_before).item(0, "last") == date(2012, 12, 31)
    assert current_manifest(etl, when[0].date()) == 3
    assert current_manifest(etl, datetime(2999, 1, 1, tzinfo=UTC)) == 3


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ({"version": 9}, "Version 9 is not kept"),
        ({"version": "paper"}, "no version 'paper'"),
        ({"version": -1}, "no version -1"),
        ({"version": 1, "as_of": "2013-01-01"}, "exclude each other"),
        ({"as_of": "2001-01-01"}, "is not kept"),
        ({"as_of": "yesterday"}, "not a time"),
        ({"as_of": datetime(2013, 3, 1)}, "no time zone"),  # noqa: DTZ001 - that is what is refused
        ({"as_of": "2013-03-01T12:00:00"}, "no time zone"),
    ],
    ids=str,
)
def test_a_version_that_there_is_not_is_refused(etl, which, words):
    for read in (etl.scan, lambda **kw: etl.query_sql(ROWS, **kw)):
        with pytest.raises(ConfigurationError, match=words) as caught:
            read(**which)
        assert caught.value.todo


def test_a_time_whose_version_was_vacuumed_gets_no_neighbour(etl: HistoricalETL):
    """Versions 1 and 3 are kept, 2 is not: what was in between cannot be distinguished from version 1."""
    second = etl.manifests.load_version(2).sync_timestamp
    etl.pin("first", 1)
    etl.vacuum(keep_versions=1, keep_days=0)
    assert etl.manifests.list_versions() == [1, 3]
    with pytest.raises(ConfigurationError, match="is not kept"):
        etl.manifest(as_of=second)


def test_an_empty_store_has_no_versions(root):
    etl = store(root, None)
    with pytest.raises(ConfigurationError, match="Nothing was committed yet"):
        etl.versions()
    for read in (lambda: etl.scan(version=1), lambda: etl.scan(as_of="2013-01-01")):
        with pytest.raises(ConfigurationError, match="kept") as caught:
            read()
        assert "backfill" in caught.value.todo


def test_a_citation_names_data_and_refuses_all_else(etl: HistoricalETL):
    citation = etl.cite()
    manifest = etl.manifest()
    assert manifest is not None
    assert citation == f"historical_daily@v3:{manifest.checksum}"
    root = etl.layout.root
    for accepted in (citation, citation[:40], f" {citation}\n"):
        cited = HistoricalETL.open(root, None, expect=accepted)
        assert_frame_equal(cited.scan().collect(), etl.scan().collect())
    for refused in (citation.replace("@v3", "@v2"), citation[:24] + "0" * 12, f"other@v3:{manifest.checksum}"):
        with pytest.raises(ChecksumMismatchError, match="Expected"):
            HistoricalETL.open(root, None, expect=refused)
    for malformed in ("", "v3", "historical_daily@v3:", "historical_daily@v3:12", "historical_daily@three:" + "0" * 64):
        with pytest.raises(ConfigurationError, match="not a citation"):
            HistoricalETL.open(root, None, expect=malformed)


def test_a_cited_store_is_not_read_once_it_moved_on_and_never_written(etl: HistoricalETL):
    cited = HistoricalETL.open(etl.layout.root, None, expect=etl.cite())
    with pytest.raises(ConfigurationError, match="nothing else"):
        cited.pin("paper")
    etl.run_full_etl(SHORT.symbols, "2013-02-01", SHORT.last)
    for read in (cited.scan, cited.manifest, lambda: cited.query_sql(ROWS), lambda: cited.ledger("runs")):
        with pytest.raises(ChecksumMismatchError, match="v4"):
            read()
    assert volume(etl, version=3) == 4321.0


def test_a_reader_s_lease_keeps_its_version(etl: HistoricalETL):
    with etl.lease(1) as first:
        report = etl.vacuum(keep_versions=1, keep_days=0)
        assert report.removed == (2,)
        assert report.kept[1] == "open in a reader"
        paths = [etl.layout.resolve(partition.path) for partition in first.partitions]
        assert pl.scan_parquet(paths).collect().height == first.row_count
    assert etl.vacuum(keep_versions=1, keep_days=0).removed == (1,)


def test_a_scan_is_finished_whatever_writers_do(etl: HistoricalETL):
    frame = etl.scan(version=1)
    expected = frame.collect().height
    writer = opened(etl.layout.root, keep_versions=1, keep_days=0)
    writer.run_full_etl(SHORT.symbols, "2013-02-01", SHORT.last)
    assert frame.collect().height == expected


def test_reading_writes_nothing(etl: HistoricalETL):
    """Nor does it need a right to write: a lease is a lock on the version's manifest."""
    before = tree(etl.layout.root)
    etl.query_sql(ROWS, version=1)
    etl.scan(version=1).collect()
    with etl.lease(2):
        assert tree(etl.layout.root) == before
    assert tree(etl.layout.root) == before


def test_what_is_being_verified_is_not_taken_away(etl: HistoricalETL):
    """Else a store that is written all the time would seem to lack files of versions that were vacuumed meanwhile."""
    writer = opened(etl.layout.root)
    removed: list[tuple[int, ...]] = []

    def meanwhile(done: int, _: int) -> None:
        if done == 1:
            removed.append(writer.vacuum(keep_versions=1, keep_days=0).removed)

    assert etl.verify(progress=meanwhile).ok
    assert set(removed) == {()}
    assert writer.vacuum(keep_versions=1, keep_days=0).removed == (1, 2)
