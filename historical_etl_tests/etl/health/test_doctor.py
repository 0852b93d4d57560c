"""`doctor` by its real command line, in front of a server on loopback: each thing that is wrong is reported once."""

import fcntl
import os
import re
import threading
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from historical_etl import HistoricalETL, load_settings
from historical_etl.etl.health import doctor
from historical_etl.etl.health.doctor import CheckStatus, examine
from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import at, tree
from historical_etl_tests.sources.vendors.conftest import TRUTH
from historical_etl_tests.sources.vendors.loopback import ENVIRONMENT, KEY, SECRET, Fault, always

FINE, FAILED = 0, 1
LAST = date(2013, 2, 5)
KEYED = ("tiingo", "eodhd", "alpaca", "massive")
NAMES = (
    *("settings", "source", "keys", "vendor", "limits", "clock", "time zone", "calendar", "disk"),
    *("file system", "locks", "hard links", "daily/", "versions", "written by", "store"),
)


@pytest.fixture
def cli(tmp_path, capsys, monkeypatch) -> CommandLine:
    return command_line(tmp_path, capsys, monkeypatch)


@pytest.fixture
def facing(cli, serve):
    """A command line whose source is a vendor on loopback, with its keys."""

    def make(vendor="tiingo", **settings):
        server = serve(**settings)
        for name, value in ENVIRONMENT.items():
            cli.patch.setenv(name, value)
        url = f"{server.url}/api" if vendor == "eodhd" else server.url
        cli.set(SOURCE=vendor, SYMBOLS="SPLT", **{f"{vendor.upper()}_BASE_URL": url})
        return cli, server

    return make


def verdicts(document) -> dict[str, str]:
    return {check["check"]: check["verdict"] for check in document["checks"]}


def check_of(document, name: str) -> Any:
    return next(check for check in document["checks"] if check["check"] == name)


@pytest.mark.parametrize("name", KEYED)
def test_a_vendor_that_is_fine_is_asked_once_and_its_keys_are_nowhere(facing, name, tmp_path):
    cli, server = facing(name)
    answer = cli("doctor", "--json")
    assert answer.code == FINE
    assert tuple(verdicts(answer.document)) == NAMES
    assert set(verdicts(answer.document).values()) <= {"ok", "warning"}
    assert check_of(answer.document, "vendor")["verdict"] == check_of(answer.document, "keys")["verdict"] == "ok"
    assert server.asked.total() == 1
    assert "agrees" in check_of(answer.document, "clock")["what"]  # the server sent its time
    text = cli("doctor", "--verbose")
    assert text.code == FINE
    shown = [part.encode() for part in (answer.out, answer.err, text.out, text.err)]
    left = [*shown, *(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())]
    assert not [content for content in left if KEY.encode() in content or SECRET.encode() in content]


def test_the_bar_of_the_last_closed_session_is_asked_for(facing):
    cli, server = facing()
    found = examine(load_settings(), clock=at(LAST))
    vendor = found.check("vendor")
    assert (vendor.verdict, vendor.facts["symbol"], vendor.facts["session"]) == (CheckStatus.OK, "SPLT", LAST)
    assert "with the bar of SPLT on 2013-02-05" in vendor.what
    assert list(server.asked) == [
        "/tiingo/daily/SPLT/prices endDate=2013-02-05 format=json resampleFreq=daily startDate=2013-01-06"
    ]
    cli.set(SYMBOLS="NEVER")
    unknown = examine(load_settings(), clock=at(LAST)).check("vendor")
    assert unknown.verdict is CheckStatus.WARNING
    assert "does not know NEVER" in unknown.what


@pytest.mark.parametrize(
    ("fault", "verdict", "words"),
    [
        (Fault.DENIED, "problem", "does not accept the key"),
        (Fault.ERROR, "problem", "HTTP 500"),
        (Fault.HTML, "problem", "text/html, not JSON"),
        (Fault.CUT, "problem", "did not answer in full"),
        (Fault.LIMITED_FOR, "warning", "too much was asked"),
    ],
)
def test_a_vendor_that_fails_is_reported_with_the_next_step(facing, fault, verdict, words):
    cli, server = facing(faults=always(fault))
    answer = cli("doctor", "--json")
    vendor = check_of(answer.document, "vendor")
    assert (vendor["verdict"], answer.code) == (verdict, FAILED if verdict == "problem" else FINE)
    assert words in vendor["what"]
    assert vendor["next"]
    assert KEY not in answer.out + answer.err
    assert server.asked.total() == 1  # no retries


def test_a_slow_vendor_is_not_waited_for(facing, monkeypatch):
    monkeypatch.setattr(doctor, "REQUEST_SECONDS", 0.2)
    cli, _ = facing(faults=always(Fault.SLOW), slow=1.0)
    slow = check_of(cli("doctor", "--json").document, "vendor")
    assert (slow["verdict"], "took over 0.2 s" in slow["what"]) == ("problem", True)
    monkeypatch.setattr(doctor, "REQUEST_SECONDS", 10)
    monkeypatch.setattr(doctor, "ANSWER_SECONDS", 0.2)
    assert "has not answered within 0.2 s" in check_of(cli("doctor", "--json").document, "vendor")["what"]


def test_offline_asks_nobody(facing):
    cli, server = facing()
    answer = cli("doctor", "--offline", "--json")
    assert (answer.code, server.asked.total()) == (FINE, 0)
    assert "no other clock" in check_of(answer.document, "clock")["what"]


def test_a_missing_key_is_named_and_all_else_is_looked_at(cli):
    cli.set(SOURCE="alpaca")
    cli.patch.setenv("APCA_API_KEY_ID", KEY)
    answer = cli("doctor")
    assert answer.code == FAILED
    assert "APCA_API_KEY_ID set, APCA_API_SECRET_KEY not set" in answer.out
    assert answer.out == Saying("set APCA_API_SECRET_KEY", ".env")
    assert answer.out == Saying("not asked", "the source cannot be used")
    assert "2 problem(s)" in answer.err


def test_what_is_used_of_the_limits(facing):
    cli, _ = facing()
    cli.set(TIINGO_RATE="2/hour", TIINGO_DAILY_BUDGET="40", TIINGO_MAX_WAIT_SECONDS="5")
    first = check_of(cli("doctor", "--json").document, "limits")
    assert (first["verdict"], first["facts"]["left_today"]) == ("ok", 39)
    assert first["what"] == Saying("1 of 2", "last hour", "1 of 40", "last day")
    used_up = cli("doctor", "--json")
    assert used_up.code == FINE
    assert check_of(used_up.document, "limits")["verdict"] == "warning"
    assert re.search(r"possible after \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", check_of(used_up.document, "limits")["what"])
    spent = check_of(cli("doctor", "--json").document, "vendor")
    assert (spent["verdict"], "is used up" in spent["what"]) == ("warning", True)
    assert "go on after" in spent["next"]


@pytest.mark.parametrize(("minutes", "verdict"), [(0, "ok"), (5, "warning"), (-30, "problem")])
def test_a_clock_that_is_off_is_reported_by_the_vendors(cli, minutes, verdict):
    class Late(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp=None):
            return format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"[]")

        def log_message(self, format, *args):  # noqa: A002 - as it is called
            pass

    with HTTPServer(("127.0.0.1", 0), Late) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        cli.patch.setenv("TIINGO_API_KEY", KEY)
        cli.set(SOURCE="tiingo", TIINGO_BASE_URL=f"http://127.0.0.1:{http.server_port}")
        clock = check_of(cli("doctor", "--json").document, "clock")
        http.shutdown()
    assert clock["verdict"] == verdict
    if minutes:
        assert ("behind tiingo's" if minutes > 0 else "ahead of tiingo's") in clock["what"]
        assert "NTP" in clock["next"]


# ── settings ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_settings_are_shown_with_where_they_stand_and_strangers_by_name_only(cli):
    (cli.folder / ".env").write_text(f"HISTORICAL_ETL_START=2001-02-03\nTIINGO_API_KEY={KEY}\n")
    cli.set(TIINGO_BASE_URL="http://me:hidden@localhost:9", TIINGO_API_KEY="hidden too", SOURCE="sample")
    answer = cli("doctor", "--json", "--data-dir", "elsewhere")
    settings = check_of(answer.document, "settings")
    assert settings["facts"]["given"] == {
        "HISTORICAL_ETL_DATA_DIR": "elsewhere (--data-dir)",
        "HISTORICAL_ETL_SOURCE": "sample (environment)",
        "HISTORICAL_ETL_START": "2001-02-03 (.env)",
        "HISTORICAL_ETL_TIINGO_BASE_URL": "http://***@localhost:9 (environment)",
        "TIINGO_API_KEY": "set (.env)",
    }
    assert settings["verdict"] == "warning"
    assert "HISTORICAL_ETL_TIINGO_API_KEY" in settings["what"]
    assert not [secret for secret in ("hidden", KEY) if secret in answer.out + answer.err]


def test_settings_that_are_refused_are_a_problem_and_not_a_crash(cli):
    cli.set(START="soon")
    answer = cli("doctor", "--json")
    assert answer.code == FAILED
    assert "HISTORICAL_ETL_START" in check_of(answer.document, "settings")["what"]
    assert check_of(answer.document, "versions")["verdict"] == "ok"


def test_the_secret_in_what_another_package_says_is_taken_out(cli, monkeypatch):
    cli.patch.setenv("TIINGO_API_KEY", KEY)
    cli.set(SOURCE="tiingo")

    def leak(*_):
        raise RuntimeError(f"GET /?token={KEY}")

    monkeypatch.setattr("historical_etl.sources.vendors.tiingo.TiingoSource.fetch", leak)
    answer = cli("doctor", "--json")
    assert "GET /?token=***" in check_of(answer.document, "vendor")["what"]
    assert KEY not in answer.out + answer.err


# ── the machine ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_left_behind_where_there_is_no_store_yet(cli):
    before = tree(cli.folder)
    answer = cli("doctor", "--offline")
    assert answer.code == FINE
    assert tree(cli.folder) == before
    assert not cli.data.exists()
    assert "run `historical-etl backfill`" in answer.out


def test_a_store_is_reported_and_left_as_it_is(cli):
    cli("backfill", "--from", "2012")
    before = tree(cli.data)
    answer = cli("doctor", "--json")
    assert answer.code == FINE
    assert check_of(answer.document, "store")["facts"] == {
        "version": 2,
        "current_through": "2013-03-01",
        "sessions_missing": 0,
        "verified": "quick",
    }
    assert check_of(answer.document, "written by")["verdict"] == "ok"
    assert tree(cli.data) == before
    cli.set(SOURCE="yfinance")
    other = check_of(cli("doctor", "--offline", "--json").document, "store")
    assert (other["verdict"], "filled from 'sample'" in other["what"]) == ("problem", True)
    next(cli.data.glob("historical/objects/2012-*")).unlink()
    damaged = cli("doctor", "--offline", "--json")
    assert damaged.code == FAILED
    assert "historical-etl verify" in check_of(damaged.document, "store")["next"]


def test_a_newer_release_wrote_the_store(cli):
    cli("backfill", "--from", "2013")
    manifest = cli.data / "manifests" / "historical_daily.json"
    manifest.write_text(re.sub(r'"schema_version": *\d+', '"schema_version": 99', manifest.read_text()))
    answer = cli("doctor", "--offline", "--json")
    assert answer.code == FAILED
    assert {check_of(answer.document, name)["verdict"] for name in ("written by", "store")} == {"problem"}


def test_another_polars_wrote_the_store(cli, monkeypatch):
    cli("backfill", "--from", "2013")
    monkeypatch.setattr("polars.__version__", "99.0.0")
    writer = check_of(cli("doctor", "--offline", "--json").document, "written by")
    assert (writer["verdict"], "1 year(s) by polars" in writer["what"]) == ("warning", True)


def test_a_store_that_lags_is_asked_to_be_updated(cli):
    HistoricalETL.open(cli.data, settings=load_settings()).run_full_etl(["IBM"], "2012-01-03", "2012-12-28")
    store = check_of(cli("doctor", "--json").document, "store")
    assert (store["verdict"], store["facts"]["sessions_missing"]) == ("warning", 42)
    assert "historical-etl update" in store["next"]


def test_a_file_system_without_locks_is_a_problem(cli, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    locks = check_of(cli("doctor", "--offline", "--json").document, "locks")
    assert (locks["verdict"], "not kept apart" in locks["what"]) == ("problem", True)


def test_a_file_system_without_hard_links_is_a_warning(cli, monkeypatch):
    def refuse(*_):
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(os, "link", refuse)
    links = check_of(cli("doctor", "--offline", "--json").document, "hard links")
    assert (links["verdict"], "Operation not supported" in links["what"]) == ("warning", True)
    daily = check_of(cli("doctor", "--offline", "--json").document, "daily/")
    assert (daily["verdict"], daily["what"]) == ("warning", Saying("one by one", "no hard links"))


def test_where_daily_cannot_be_replaced_at_once_is_a_warning(cli, monkeypatch):
    daily = check_of(cli("doctor", "--offline", "--json").document, "daily/")
    assert (daily["verdict"], daily["what"]) == ("ok", Saying("one rename", "all of its years"))
    (cli.data / "historical").mkdir(parents=True)
    (cli.data / "historical" / "daily").symlink_to("/elsewhere")
    daily = check_of(cli("doctor", "--offline", "--json").document, "daily/")
    assert (daily["verdict"], daily["what"]) == ("warning", Saying("/elsewhere", "not the store's"))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    daily = check_of(cli("doctor", "--offline", "--json").document, "daily/")
    assert daily["what"] == Saying("no symbolic links", "Operation not permitted")


def test_a_folder_in_which_nothing_can_be_written(cli):
    answer = cli("doctor", "--offline", "--data-dir", "/proc/nothing", "--json")
    assert answer.code == FAILED
    assert check_of(answer.document, "locks")["what"].startswith("Nothing can be written in /proc")


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        *(("ext4", CheckStatus.OK), ("nfs4", CheckStatus.WARNING), ("fuse.sshfs", CheckStatus.WARNING)),
        *(("tmpfs", CheckStatus.WARNING), ("vfat", CheckStatus.WARNING), ("overlay", CheckStatus.WARNING)),
    ],
)
def test_the_kind_of_file_system_is_judged(cli, kind, verdict):
    mounts = cli.folder / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nthing {cli.folder} {kind} rw 0 0\n")
    found = examine(load_settings(), offline=True, mounts=mounts).check("file system")
    assert (found.verdict, found.facts["type"]) == (verdict, kind)
    assert bool(found.todo) == (verdict is CheckStatus.WARNING)


def test_a_full_disk_is_a_problem(cli):
    class Full:
        used, free = 99, 1

    found = examine(load_settings(), offline=True, disk_usage=lambda _: Full())
    assert (found.ok, found.check("disk").verdict) == (False, CheckStatus.PROBLEM)


def test_doctor_works_from_python_with_a_truth_that_is_current(facing):
    facing(truth=TRUTH.until(LAST))
    assert examine(load_settings(), clock=at(LAST), mounts=Path("no-such-file")).ok
