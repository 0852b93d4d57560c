"""How old the newest year may look: longer than the exchange ever rests, and nothing where nothing more can come."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from historical_etl import Coverage, Settings, get_calendar
from historical_etl.assets.freshness import freshness_policy, longest_rest
from historical_etl_tests.orchestration.harness import PRICES, Project

LIVE = Coverage(date(1990, 1, 2))


def clock() -> datetime:
    return datetime(2026, 11, 24, tzinfo=UTC)


def windows(exchange: str, coverage: Coverage | None = LIVE) -> tuple[timedelta, timedelta]:
    settings = Settings(_env_file=None).changed({"exchange": exchange})  # pyright: ignore[reportCallIssue]
    policy = freshness_policy(settings, coverage, clock)
    assert policy == dg.FreshnessPolicy.time_window(
        fail_window=policy.fail_window.to_timedelta(),  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
        warn_window=policy.warn_window.to_timedelta(),  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    )
    return policy.warn_window.to_timedelta(), policy.fail_window.to_timedelta()  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]


@pytest.mark.parametrize(
    ("exchange", "rest"),
    [
        ("XNYS", timedelta(days=4, hours=3)),  # a half day, a holiday, a weekend
        ("XLON", timedelta(days=5, hours=4)),
        ("XTKS", timedelta(days=7)),  # the golden week
        ("24/7", timedelta(days=1)),
    ],
)
def test_no_weekend_and_no_holiday_is_late(exchange: str, rest: timedelta) -> None:
    assert longest_rest(get_calendar(exchange), 2026) == rest

    settle = timedelta(hours=1)
    assert windows(exchange) == (rest + settle + timedelta(hours=12), rest + settle + timedelta(hours=36))


def test_a_source_that_says_nothing_of_its_coverage_has_a_policy_too() -> None:
    assert windows("XNYS", None) == windows("XNYS", Coverage(date(1990, 1, 2), date(2026, 11, 20)))


def test_a_source_that_has_ended_has_none(sample_project: Project) -> None:
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue]

    assert freshness_policy(settings, Coverage(date(2000, 3, 1), date(2013, 3, 1)), clock) is None
    assert sample_project.defs.resolve_asset_graph().get(PRICES).freshness_policy is None


def test_a_calendar_that_ends_before_the_year_is_no_error() -> None:
    assert longest_rest(get_calendar("XNYS"), 2300) < timedelta(days=6)
