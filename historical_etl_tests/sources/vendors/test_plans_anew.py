"""What was found out of a plan is reported with every run that it narrows, and how to have it found out anew."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import CoverageError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket, with_returns
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import KEYS, sessions, store, stored
from historical_etl_tests.sources.vendors.conftest import END, START, TRUTH
from historical_etl_tests.sources.vendors.loopback import ENVIRONMENT, Loopback, Truth, fixed_clock
from historical_etl_tests.sources.vendors.whole_store import truth_of

#: The plan begins on 2012-12-03, and what is found out is believed until a week later.
NOW = datetime(2013, 12, 3, 12, tzinfo=UTC)
WORDS = "from 2012-12-03 on, without splits and dividends (found out on 2013-12-03, believed until 2013-12-10; "
ANEW = "`historical-etl backfill --rebuild` requests it again"
NAMES = ["BRK.B", "SPLT"]


@dataclass
class Completeness:
    """A vendor, an account of it whose plan may change, and a store."""

    server: Loopback
    source: Any
    etl: HistoricalETL

    def upgrade(self) -> None:
        self.server.plan = ""
        self.server.asked.clear()


@pytest.fixture
def free(serve, tmp_path, root) -> Iterator[Completeness]:
    """A store that was filled by a free plan, as far as it reaches."""
    server = serve(TRUTH, plan="free", now=NOW)
    source = server.source("eodhd", state_folder=tmp_path, pace=fixed_clock(NOW).pace)
    etl = store(root, source, END)
    assert etl.run_full_etl(NAMES, START, END).complete
    yield Completeness(server, source, etl)
    source.close()


def test_each_run_that_a_plan_clips_says_so(free):
    for _ in range(2):
        assert any(WORDS in note for note in free.etl.run_full_etl(NAMES, START, END).notes)
    assert any(WORDS in note for note in free.etl.run_year(2012, NAMES).notes)


def test_an_update_says_what_it_did_not_ask_for(free):
    """Of a symbol that is stored the plan's dates clip nothing: its events are what is not asked for."""
    result = free.etl.run_incremental_etl()
    assert not result.changed
    (reported,) = [note for note in result.notes if WORDS in note]
    assert reported.count("(") == 1
    assert ANEW in reported


def test_a_plan_that_has_events_is_no_word_with_an_update(serve, tmp_path, root):
    server = serve(TRUTH, plan="free, events", now=NOW)
    source = server.source("eodhd", state_folder=tmp_path, pace=fixed_clock(NOW).pace)
    etl = store(root, source, END)
    etl.run_full_etl(NAMES, START, END)
    assert etl.run_incremental_etl().notes == ()
    assert any("from 2012-12-03 on (" in note for note in etl.run_incremental_etl([*NAMES, "HALT"]).notes)
    source.close()


def test_years_before_a_plan_are_refused_with_its_words(free):
    with pytest.raises(CoverageError) as caught:
        free.etl.run_full_etl(NAMES, date(2011, 1, 3), END)
    assert WORDS in str(caught.value)
    assert ANEW in str(caught.value)
    free.upgrade()
    with pytest.raises(CoverageError, match="requests it again"):
        free.etl.run_full_etl(NAMES, date(2011, 1, 3), END)
    assert not free.server.asked


def test_a_rebuild_asks_anew_what_a_plan_gives(free, tmp_path):
    assert free.etl.ledger("actions").filter(~pl.col("inferred")).is_empty()
    free.upgrade()
    result = free.etl.run_full_etl(NAMES, START, END, rebuild=True)
    assert (result.notes, free.source.info.plan) == ((), "")
    assert not list(tmp_path.glob("*plan.json"))
    expected = with_returns(TRUTH.expected("eodhd", NAMES, START, END).drop("ret")).sort(KEYS)
    assert_frame_equal(stored(free.etl), expected)
    named = free.etl.ledger("actions").filter(~pl.col("inferred"))
    assert named.height == TRUTH.expected_actions("eodhd", NAMES, START, END).height
    assert free.server.asked.total() == 6


def test_a_rebuild_by_the_same_plan_finds_the_same_out(free):
    result = free.etl.run_full_etl(NAMES, START, END, rebuild=True)
    assert any("without splits and dividends" in note or "Only EOD data" in note for note in result.notes)
    assert "from 2012-12-03 on" in free.source.info.plan


# ── the command line ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cli(tmp_path, capsys, monkeypatch) -> CommandLine:
    line = command_line(tmp_path, capsys, monkeypatch)
    for name, value in ENVIRONMENT.items():
        line.patch.setenv(name, value)
    return line


@pytest.fixture
def recent(serve, cli) -> tuple[Loopback, date]:
    """A server with a free plan by the clock of this machine, and where its plan begins."""
    now = datetime.now(UTC)
    edge = now.date().replace(year=now.year - 1, day=min(now.day, 28))
    server = serve(symbol_around(edge, now.date()), plan="free", now=now.replace(day=edge.day))
    cli.set(SOURCE="eodhd", SYMBOLS="OLD", EODHD_BASE_URL=f"{server.url}/api", EODHD_RATE="100000/second")
    return server, edge


def symbol_around(edge: date, last: date) -> Truth:
    """A symbol that has traded since long before a day."""
    first = edge - timedelta(days=500)
    return truth_of(SimMarket(seed=3, symbols=(SimListing("OLD"),), first=first, last=last)).adjusted()


def test_the_command_line_names_the_plan_and_how_to_ask_anew(recent, cli):
    server, edge = recent
    cli("backfill", "--from", str(edge.year))
    server.plan = ""  # upgraded
    again = cli("backfill", "--from", str(edge.year - 1), "--to", str(edge.year))
    assert again.code == 1
    assert again.err == Saying("the plan of this account", f"from {edge.year}-")
    assert ANEW in again.err
    updated = cli("update")
    assert updated.out == Saying("Nothing new", "the plan of this account")
    assert ANEW in updated.out + updated.err
    (checked,) = [check for check in cli("doctor", "--json").document["checks"] if check["check"] == "plan"]
    assert ANEW in checked["what"]
    rebuilt = cli("backfill", "--rebuild", "--from", str(edge.year - 1))
    assert rebuilt.code == 0, rebuilt.err
    assert cli("status", "--json").document["plan"] == ""
    judged = {check["check"]: check["verdict"] for check in cli("doctor", "--json").document["checks"]}
    assert judged["store"] == "ok", "the basis is that of the source as it is set"
    assert "what the source has" in cli("update").out


def test_explain_names_the_plan_where_it_does_not_reach(recent, cli):
    _, edge = recent
    cli("backfill", "--from", str(edge.year), "--to", str(edge.year))
    before = sessions(edge - timedelta(days=10), edge - timedelta(days=1))[-1]
    why = " ".join(cli("explain", "OLD", str(before)).out.split())
    assert why == Saying(before, "the plan of this account", f"from {edge.year}-")
    assert ANEW in why
    assert "backfill from an earlier year" not in why
