"""The records on disk: what they refuse, what they convert, and that they come back as they were."""

import hashlib
from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from historical_etl import ETLProgressManifest, ETLResult, Outcome, Partition, SyncManifest
from historical_etl.models import combined_checksum, major_version

ONE, TWO = "1" * 64, "2" * 64


def partition(year: int = 2012, checksum: str = ONE) -> Partition:
    return Partition(
        year=year,
        path=f"historical/objects/{year}-{checksum[:16]}.parquet",
        rows=10,
        symbols=2,
        first_session=date(year, 1, 3),
        last_session=date(year, 12, 31),
        checksum=checksum,
        size_bytes=100,
    )


def manifest(**changes) -> SyncManifest:
    usual = {
        "sync_timestamp": datetime(2013, 3, 1, 23, tzinfo=UTC),
        "start_date": date(2012, 1, 3),
        "end_date": date(2012, 12, 31),
        "row_count": 10,
        "checksum": ONE,
    }
    return SyncManifest.model_validate({**usual, **changes})


def test_a_sync_manifest_has_its_promised_fields_and_defaults():
    made = manifest()
    assert (made.dataset, made.version, made.previous_checksum) == ("historical_daily", 0, None)
    assert (made.checksum_algorithm, made.schema_version, made.validation_status) == ("sha256", 1, "passed")
    assert (made.query_hash, made.file_paths, made.quarantine_path) == ("", (), None)
    assert (made.provider, made.provider_version, made.adjustment, made.partitions) == ("", "", "", ())


def test_query_hash_is_also_read_under_its_old_name():
    assert manifest(wrds_query_hash="abc").query_hash == "abc"
    assert manifest(query_hash="new").query_hash == "new"
    assert "wrds_query_hash" not in manifest(wrds_query_hash="abc").model_dump()


def test_the_end_may_not_lie_before_the_start():
    assert manifest(end_date=date(2012, 1, 3)).end_date == date(2012, 1, 3)
    with pytest.raises(ValidationError, match="is before start_date"):
        manifest(end_date=date(2012, 1, 2))


def test_times_are_aware_and_in_utc():
    with pytest.raises(ValidationError, match="timezone"):
        manifest(sync_timestamp=datetime(2013, 3, 1))  # noqa: DTZ001 - on purpose
    tokyo = manifest(sync_timestamp="2013-03-02T08:00:00+09:00")
    assert tokyo.sync_timestamp == datetime(2013, 3, 1, 23, tzinfo=UTC)
    assert tokyo.sync_timestamp.utcoffset() == UTC.utcoffset(None)


def test_the_checksum_is_over_the_partitions_checksums_in_year_order():
    both = hashlib.sha256((ONE + TWO).encode()).hexdigest()
    assert combined_checksum([ONE, TWO]) == both
    made = manifest(checksum=both, partitions=[partition(2011, ONE), partition(2012, TWO)])
    assert made.partition(2012) == partition(2012, TWO)
    assert made.partition(2013) is None
    with pytest.raises(ValidationError, match="checksum"):
        manifest(checksum=combined_checksum([TWO, ONE]), partitions=[partition(2011, ONE), partition(2012, TWO)])


@pytest.mark.parametrize("years", [(2012, 2011), (2012, 2012)])
def test_partitions_are_in_strict_year_order(years):
    parts = [partition(year) for year in years]
    with pytest.raises(ValidationError, match="year order"):
        manifest(checksum=combined_checksum(p.checksum for p in parts), partitions=parts)


@pytest.mark.parametrize(
    "changes",
    [
        {"validation_status": "maybe"},
        {"checksum_algorithm": "md5"},
        {"row_count": -1},
        {"version": -1},
        {"start_date": "soon"},
        {"schema_version": "one"},
    ],
)
def test_values_outside_what_is_allowed_are_refused(changes):
    with pytest.raises(ValidationError):
        manifest(**changes)


@pytest.mark.parametrize("status", ["passed", "failed", "quarantined"])
def test_the_validation_status_is_one_of_three(status):
    assert manifest(validation_status=status).validation_status == status


def test_a_partitions_checksum_is_a_sha256():
    for wrong in ("", "1" * 63, "G" * 64, "A" * 64):
        with pytest.raises(ValidationError):
            partition(checksum=wrong)


def test_records_come_back_from_json_as_they_were():
    made = manifest(checksum=combined_checksum([ONE]), partitions=[partition()], file_paths=[partition().path])
    assert SyncManifest.model_validate_json(made.model_dump_json()) == made
    progress = ETLProgressManifest(
        last_updated=datetime(2013, 3, 1, tzinfo=UTC),
        symbol_last_dates={"A": date(2012, 2, 29)},
        years_completed=[2011],
    )
    assert ETLProgressManifest.model_validate_json(progress.model_dump_json()) == progress


@pytest.mark.parametrize(
    ("given", "major"), [(1, 1), ("1", 1), ("v1.2.0", 1), ("12.0", 12), (None, None), ("x", "x")], ids=repr
)
def test_versions_may_be_written_as_text(given, major):
    assert major_version(given) == major


@pytest.mark.parametrize("status", ["running", "paused", "completed", "failed"])
def test_progress_has_one_of_four_states(status):
    assert ETLProgressManifest(last_updated=datetime(2013, 3, 1, tzinfo=UTC), status=status).status == status


def test_progress_refuses_another_state():
    with pytest.raises(ValidationError):
        ETLProgressManifest.model_validate({"last_updated": datetime(2013, 3, 1, tzinfo=UTC), "status": "asleep"})


def test_a_result_is_complete_only_if_every_symbol_arrived_and_no_row_was_refused():

    def result(**facts: object) -> ETLResult:
        return ETLResult.model_validate({"start_date": date(2012, 1, 3), "end_date": date(2012, 1, 31), **facts})

    assert result(outcomes={"A": Outcome.OK}).complete
    assert not result(outcomes={"A": Outcome.OK, "B": Outcome.EMPTY}).complete
    assert not result(outcomes={"A": Outcome.OK}, rows_rejected=1).complete
    assert not result().changed
    assert result(partitions_written=1).changed


def test_results_and_manifests_do_not_change_in_place():
    with pytest.raises(ValidationError, match="frozen"):
        manifest().row_count = 11  # pyright: ignore[reportAttributeAccessIssue]
