"""The end of a calendar's data in Dagster: a check that is not green in time, a sensor that does not fall silent."""

from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from historical_etl import ConfigurationError, Settings, get_calendar
from historical_etl.markets import assemble
from historical_etl.resources import StoreResource
from historical_etl_tests.field.calendars import DayVendor, settings
from historical_etl_tests.orchestration.harness import CATALOG, Ticked, evaluated, serving
from historical_etl_tests.scenario import store

LAST = date(2026, 12, 31)
DAYS = get_calendar("XBOM").between(date(2026, 9, 1), LAST).to_list()
SOURCE = DayVendor({"TCS": DAYS})


class Bombay(StoreResource):
    """A store of Bombay's whose clock stands still."""

    at: str = ""

    def settings(self) -> Settings:
        return settings("XBOM", data_dir=Path(self.data_dir), start=date(2026, 1, 1))

    def now(self) -> datetime:
        return datetime.fromisoformat(self.at)


def resources(root: Path, at: datetime) -> dict[str, object]:
    return {"store": Bombay(data_dir=str(root), at=at.isoformat()), "source": serving(SOURCE)}


@pytest.mark.parametrize(
    ("at", "passed", "severity"),
    [
        (datetime(2026, 9, 30, 20, tzinfo=UTC), True, "WARN"),
        (datetime(2026, 12, 15, 20, tzinfo=UTC), False, "WARN"),
        (datetime(2027, 1, 12, 20, tzinfo=UTC), False, "ERROR"),
    ],
)
def test_the_check_is_not_green_near_the_end_and_fails_after_it(
    root: Path, tmp_path: Path, at: datetime, passed: bool, severity: str
) -> None:
    etl = store(root, SOURCE, clock=lambda: datetime(2026, 9, 29, 20, tzinfo=UTC), settings=settings("XBOM"))
    etl.run_full_etl(["TCS"], "2026-09-01", "2026-09-29")
    defs = assemble(**resources(root, at))  # pyright: ignore[reportArgumentType]
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        ran = defs.resolve_job_def("daily_incremental_job").execute_in_process(instance=instance, raise_on_error=False)
        key = dg.AssetCheckKey(CATALOG, "calendar_is_current")
        (record,) = instance.event_log_storage.get_asset_check_execution_history(key, limit=1)

    assert ran.success, "what is known is stored and published"
    assert record.event is not None
    assert record.event.dagster_event is not None
    found = record.event.dagster_event.asset_check_evaluation_data
    assert (found.passed, found.severity.value) == (passed, severity)
    assert found.metadata["known_through"].value == "2026-12-31"
    assert ("ends on 2026-12-31" in (found.description or "")) != passed
    assert etl.catalog.shown_version() == (manifest.version if (manifest := etl.manifest()) else 0)


def test_the_sensor_fails_after_the_end_and_does_not_wait_in_silence(root: Path, tmp_path: Path) -> None:
    etl = store(root, SOURCE, clock=lambda: datetime(2026, 12, 31, 20, tzinfo=UTC), settings=settings("XBOM"))
    etl.run_full_etl(["TCS"], "2026-09-01", "2026-12-30")
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:

        def tick(at: datetime) -> Ticked:
            given = resources(root, at)
            defs = assemble(**given)  # pyright: ignore[reportArgumentType]
            return evaluated(instance, defs, resources=given)

        late = datetime(2027, 1, 8, 12, tzinfo=UTC)
        assert [request.run_key for request in tick(late).run_requests] == ["2026-12-31:1"]
        etl.run_incremental_etl(beyond_calendar=True)
        waiting = tick(datetime(2026, 12, 31, 13, tzinfo=UTC)).skip_message
        assert waiting is not None
        assert "Current through 2026-12-31" in waiting
        assert "ends on 2026-12-31" in waiting
        with pytest.raises(ConfigurationError, match="ends on 2026-12-31"):
            tick(late)
