"""Turns, budgets and the breaker: by a clock that only moves when something sleeps, and between real processes."""

import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from historical_etl import ConfigurationError, Outcome, RateLimitedError, StorageError
from historical_etl.sources.vendors import throttle as politeness
from historical_etl.sources.vendors.refusals import Refusal, clock_offset, retry_after
from historical_etl.sources.vendors.throttle import Breaker, Throttle, Turnstile
from historical_etl.vendor_settings import TiingoSettings
from historical_etl_tests.cli.conftest import command_line
from historical_etl_tests.saying import Saying
from historical_etl_tests.sources.vendors.conftest import SYMBOLS
from historical_etl_tests.sources.vendors.loopback import ENVIRONMENT, Fault, always, fixed_clock


def limits(**values) -> TiingoSettings:
    return TiingoSettings.model_validate({"rate": "3/minute", "daily_budget": None} | values)


@pytest.fixture
def turnstile(tmp_path, clock):
    opened: list[Turnstile] = []

    def make(**values) -> Turnstile:
        opened.append(Turnstile("tiingo", limits(**values), clock.pace, tmp_path))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_no_more_than_the_rate_pass_in_any_period(turnstile, clock):
    throttle, passed = turnstile(), []
    for _ in range(10):
        throttle.pass_through()
        passed.append(clock.moment)
        clock.sleep(5)
    for first, fourth in zip(passed, passed[3:], strict=False):
        assert fourth - first >= timedelta(minutes=1)
    assert passed[2] - passed[0] == timedelta(seconds=10)  # and none waits without need


def test_long_waits_are_reported_once_a_minute(turnstile, clock, caplog):
    """At 5 requests a minute a backfill would say nothing for hours."""
    caplog.set_level("INFO", "historical_etl.progress")
    throttle, began = turnstile(rate="5/minute"), clock.moment
    for _ in range(20):
        throttle.pass_through()
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == Saying("tiingo", "5 requests", "5/minute", "60 s")
    assert len(messages) == 3 == (clock.moment - began) // timedelta(minutes=1)


def test_short_waits_are_not_reported(turnstile, caplog):
    caplog.set_level("INFO", "historical_etl.progress")
    throttle = turnstile(rate="2/second")
    for _ in range(9):
        throttle.pass_through()
    assert caplog.records == []


@pytest.mark.parametrize(("options", "shown"), [((), True), (("--quiet",), False)])
def test_the_command_line_reports_waits_where_nobody_sees_a_spinner(
    options, shown, serve, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(politeness, "_LONG", 0.0)
    line = command_line(tmp_path, capsys, monkeypatch)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    line.set(SOURCE="massive", SYMBOLS="HALT,SPLT", MASSIVE_BASE_URL=serve().url, MASSIVE_RATE="2/second")
    ran = line(*options, "backfill", "--from", "2013", "--to", "2013")
    assert (ran.err == Saying("2 requests", "2/second")) is shown


def test_a_spent_daily_budget_stops_and_says_when_to_go_on(turnstile, clock):
    throttle = turnstile(rate="3/second", daily_budget=5)
    for _ in range(5):
        throttle.pass_through()
        clock.sleep(1)
    with pytest.raises(Refusal, match="limit of 5 a day") as caught:
        throttle.pass_through()
    assert caught.value.outcome is Outcome.RATE_LIMITED
    clock.sleep(caught.value.wait)
    throttle.pass_through()


def test_a_wait_beyond_the_longest_stops_instead(turnstile, clock):
    throttle = turnstile(rate="2/hour", max_wait_seconds=60)
    throttle.pass_through()
    throttle.pass_through()
    with pytest.raises(Refusal, match="limit of 2/hour"):
        throttle.pass_through()
    assert clock.slept == []


@pytest.mark.parametrize(
    ("rate", "budget", "passes"),
    [("10/minute", 4, 4), ("5/day", 4, 4), ("4/day", 9, 4), ("1/hour", 100, 1), ("4/hour", None, 4)],
)
def test_a_rate_and_a_budget_go_together_however_they_compare(turnstile, rate, budget, passes):
    throttle = turnstile(rate=rate, daily_budget=budget, max_wait_seconds=0)
    for _ in range(passes):
        throttle.pass_through()
    with pytest.raises(Refusal):
        throttle.pass_through()


def test_what_counts_for_more_takes_more(turnstile):
    throttle = turnstile(rate="300/minute", daily_budget=500, max_wait_seconds=0)
    throttle.pass_through(100)
    throttle.pass_through(100)
    throttle.pass_through(100)
    with pytest.raises(Refusal):
        throttle.pass_through(1)
    with pytest.raises(ConfigurationError, match="counts as 1000"):
        throttle.pass_through(1000)


def test_another_instance_finds_what_passed(turnstile):
    first, second = turnstile(daily_budget=2, rate="9/second"), turnstile(daily_budget=2, rate="9/second")
    first.pass_through()
    second.pass_through()
    with pytest.raises(Refusal):
        first.pass_through()


def test_threads_share_the_limit(turnstile):
    throttle, passed, refused = turnstile(rate="20/day"), [], []

    def run():
        for _ in range(10):
            try:
                throttle.pass_through()
                passed.append(1)
            except Refusal:
                refused.append(1)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(passed), len(refused)) == (20, 20)


def test_processes_share_the_limit(tmp_path):
    """A Dagster run and a command line are two processes with one account."""
    program = (
        "import sys; from pathlib import Path\n"
        "from historical_etl.sources.vendors.throttle import Pace, Turnstile\n"
        "from historical_etl.sources.vendors.refusals import Refusal\n"
        "from historical_etl.vendor_settings import TiingoSettings\n"
        "settings = TiingoSettings(rate='30/day', daily_budget=None)\n"
        "gate, passed = Turnstile('tiingo', settings, Pace(), Path(sys.argv[1])), 0\n"
        "try:\n"
        "    while True: gate.pass_through(); passed += 1\n"
        "except Refusal: print(passed)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert sum(int(process.communicate()[0]) for process in running) == 30


def test_a_damaged_count_is_reported_by_its_file(tmp_path, clock):
    (tmp_path / "tiingo-default.sqlite").write_text("not a database" * 100)
    with pytest.raises(StorageError, match="remove the file") as caught:
        Turnstile("tiingo", limits(), clock.pace, tmp_path).pass_through()
    assert str(caught.value.where).endswith("tiingo-default.sqlite")


def failure(**values) -> Refusal:
    return Refusal(Outcome.ERROR, "it failed", **values)


def test_the_breaker_opens_after_failures_in_a_row_and_tries_once_after_a_pause(clock):
    breaker = Breaker(limits(breaker_failures=3, breaker_seconds=60), clock)
    breaker.failed(failure())
    breaker.failed(failure())
    breaker.answered()
    breaker.failed(failure())
    breaker.failed(failure())
    breaker.guard()
    breaker.failed(failure())
    with pytest.raises(Refusal, match="Not asked any more"):
        breaker.guard()
    clock.sleep(60)
    breaker.guard()
    breaker.failed(failure())
    with pytest.raises(Refusal):
        breaker.guard()
    clock.sleep(60)
    breaker.guard()
    breaker.answered()
    breaker.failed(failure())
    breaker.guard()


@pytest.mark.parametrize("budget", [None, 3])
def test_a_clock_that_was_ahead_holds_no_request_back_for_longer_than_the_limit(turnstile, clock, budget):
    throttle = turnstile(daily_budget=budget)
    clock.moment += timedelta(days=365)
    for _ in range(3):
        throttle.pass_through()
    clock.moment -= timedelta(days=365)
    assert throttle.allowances()[-1].wait in (60, 86400)
    if budget:
        with pytest.raises(Refusal) as caught:
            throttle.pass_through()
        assert caught.value.wait == pytest.approx(86400, abs=1)
    else:
        throttle.pass_through()
        assert clock.slept == [pytest.approx(60, abs=1)]


def test_a_breaker_whose_clock_went_back_is_not_open_for_as_long(clock):
    breaker = Breaker(limits(breaker_seconds=60), clock)
    breaker.failed(Refusal(Outcome.RATE_LIMITED, "slow down", wait=10))
    clock.moment -= timedelta(days=365)
    breaker.guard()


def test_the_breaker_opens_at_a_rate_limit_until_the_vendor_wants(clock):
    breaker = Breaker(limits(breaker_seconds=300), clock)
    breaker.failed(Refusal(Outcome.RATE_LIMITED, "slow down", wait=10))
    with pytest.raises(Refusal) as caught:
        breaker.guard()
    assert (caught.value.outcome, caught.value.wait) == (Outcome.RATE_LIMITED, 10)
    clock.sleep(10)
    breaker.guard()


def test_a_symbol_that_is_not_known_is_an_answer(tmp_path, clock):
    throttle = Throttle("tiingo", limits(rate="99/second", breaker_failures=1), clock.pace, tmp_path)

    def unknown():
        raise Refusal(Outcome.NOT_FOUND, "no such symbol")

    for _ in range(3):
        with pytest.raises(Refusal, match="no such symbol"):
            throttle.ask(unknown)
    assert throttle.ask(lambda: 1) == 1
    assert (throttle.requests, clock.slept) == (4, [])
    throttle.close()


def test_a_source_whose_budget_is_spent_keeps_what_arrived(serve, ask):
    server = serve()
    result = ask(server, "tiingo", daily_budget=2)
    assert list(result.outcomes.values()) == [Outcome.OK, Outcome.OK, Outcome.RATE_LIMITED, Outcome.RATE_LIMITED]
    assert set(result.frame["symbol"]) == set(SYMBOLS[:2])
    assert "go on after 2024-06-04 12:00:0" in result.details["SPLT"]
    assert server.asked.total() == 2
    with pytest.raises(RateLimitedError, match="go on after 2024-06-04") as caught:
        ask(server, "tiingo", daily_budget=2)
    assert caught.value.retryable
    assert server.asked.total() == 2


def test_retries_take_turns_too(serve, ask):
    with pytest.raises(RateLimitedError, match="limit of 3 a day"):
        ask(serve(faults=always(Fault.ERROR)), "tiingo", ("A",), daily_budget=3, attempts=9)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("Mon, 03 Jun 2024 12:01:00 GMT", 60),
        ("Mon, 03 Jun 2024 11:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert retry_after(header, fixed_clock().moment) == seconds


def test_what_is_used_is_reported_without_taking_a_turn(turnstile, clock, tmp_path):
    throttle = turnstile(rate="2/minute", daily_budget=5)
    assert [(a.limit, a.period_seconds, a.used, a.wait) for a in throttle.allowances()] == [
        (2, 60, 0, 0.0),
        (5, 86400, 0, 0.0),
    ]
    assert list(tmp_path.glob("*.sqlite")) == []  # not even a file
    throttle.pass_through()
    clock.sleep(10)
    throttle.pass_through()
    minute, day = turnstile(rate="2/minute", daily_budget=5).allowances()  # as another process sees it
    assert (minute.used, day.used, day.wait) == (2, 2, 0.0)
    assert minute.wait == pytest.approx(50, abs=0.1)
    clock.sleep(minute.wait + 0.1)
    assert throttle.allowances()[0].wait == 0
    throttle.pass_through()


def test_a_count_that_cannot_be_read_is_reported_by_its_file(turnstile, tmp_path):
    throttle = turnstile()
    throttle.pass_through()
    throttle.close()
    next(tmp_path.glob("*.sqlite")).write_bytes(b"not a database at all, and longer than a header")
    with pytest.raises(StorageError, match="cannot be read"):
        throttle.allowances()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Date": "Mon, 03 Jun 2024 12:05:00 GMT"}, 300),
        ({"date": "Mon, 03 Jun 2024 11:59:00 GMT", "age": "60"}, 0),
        ({}, None),
        ({"Date": "yesterday"}, None),
        ({"Date": "Mon, 03 Jun 2024 12:05:00 GMT", "Age": "old"}, None),
    ],
)
def test_the_vendors_clock_is_read_from_its_answers(headers, seconds):
    offset = clock_offset(headers, fixed_clock().moment)
    assert offset == (None if seconds is None else timedelta(seconds=seconds))
