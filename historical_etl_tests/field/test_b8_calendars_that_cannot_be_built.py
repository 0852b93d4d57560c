"""Some calendars build for a part of their years, and some not at all: then it is said which, why, and what works."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from historical_etl import ConfigurationError, get_calendar
from historical_etl_tests.cli.conftest import command_line

pytestmark = pytest.mark.filterwarnings("ignore")  # of exchange_calendars, on the pandas that is installed


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("XNYS", date(1900, 1, 1), date(2050, 12, 31)),
        ("NYSE", date(1900, 1, 1), date(2050, 12, 31)),
        ("XTKS", date(1997, 1, 1), date(2050, 12, 31)),
        ("XSHG", date(1990, 12, 3), date(2026, 12, 31)),
        ("XSAU", date(2021, 1, 1), date(2029, 12, 31)),
        ("24/7", date(1900, 1, 1), date(2050, 12, 31)),
    ],
)
def test_what_builds_says_what_it_knows(name: str, first: date, last: date) -> None:
    calendar = get_calendar(name)
    assert (calendar.known_from, calendar.known_through) == (first, last)
    assert calendar.record.exchange == name


def test_what_builds_for_a_part_of_its_years_is_used_for_these() -> None:
    calendar = get_calendar("XTAE")
    assert calendar.known_from <= date(2026, 1, 5)
    assert calendar.is_session(date(2026, 7, 3)), "a Friday, since the exchange trades from Monday to Friday"
    assert calendar.last_closed(datetime(2026, 7, 5, 12, tzinfo=UTC)) == date(2026, 7, 3)


@pytest.mark.parametrize("name", ["ASEX", "XBEL", "XBSE", "XCYS"])
def test_what_does_not_build_is_an_error_of_ours(name: str) -> None:
    """On the pandas that is locked; a release that builds them makes this test a list of one's own to shorten."""
    with pytest.raises(ConfigurationError, match=f"{name} cannot be built.*exchange_calendars") as e:
        get_calendar(name)
    assert "NotImplementedError" in e.value.what
    assert e.value.where == "HISTORICAL_ETL_EXCHANGE"
    assert "XNYS, XLON, XTKS" in e.value.todo


@pytest.mark.parametrize(("name", "why"), [("ASEX", "cannot be built"), ("NOSUCH", "Unknown exchange 'NOSUCH'")])
def test_the_command_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, why: str
) -> None:
    cli = command_line(tmp_path, capsys, monkeypatch)
    cli.set(EXCHANGE=name)
    answer = cli("backfill", "--from", "2012")
    assert answer.code == 2
    assert why in answer.err.replace("\n", " ")
    assert "report it" not in answer.err
