"""A8: another company under an old ticker. A person parts the two; nothing joins them again."""

from datetime import date
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import ConfigurationError, Outcome
from historical_etl_tests.field.files_at_hand import FINE, INCOMPLETE, days, desk
from historical_etl_tests.proofs.faults.stage import FIRST, PLAIN, codes, count, day, of
from historical_etl_tests.proofs.simulation.faults import Pence
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.proofs.simulation.run import Life
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import KEYS, store

__all__ = ["desk"]

#: Silent for 22 sessions, then another company, at 3.7 times the price.
AGAIN, HELD, LATER = day(25), day(30), day(34)
TAKEN = SimListing("SUBJ", away=(day(3), day(24)), again=(AGAIN, 3.7))
MARKET = SimMarket(seed=4, symbols=(*PLAIN, TAKEN), first=FIRST, last=day(45))
WORDS: dict[str, Any] = {"reason": "a fund before, a company now", "by": "anna"}


@pytest.fixture
def held(root):
    """A store with the first company, and a hold on the second."""
    life = Life(root, SimVendor(MARKET))
    life.backfill(day(0))
    life.through(HELD, [day(2), day(24), AGAIN, HELD])
    assert codes(life.etl) == {"SUBJ": "break_after_gap"}
    return life


def truth(first, last):
    rows = MARKET.truth().filter(pl.col("symbol") == "SUBJ", pl.col("date").is_between(first, last))
    return rows.sort("date").drop("symbol")


def bars(etl, symbol):
    return etl.scan(symbol).collect().sort("date").drop("symbol")


def evening(life, night):
    life.vendor.today = night
    return life.etl.run_incremental_etl(publish=False)


def is_parted(etl, through, old="SUBJ-2012"):
    """The old bars under a name of their own, the new ones under the ticker, and nothing between them."""
    before, now = bars(etl, old), bars(etl, "SUBJ")
    assert_frame_equal(before.drop("ret"), truth(FIRST, day(2)).select(before.drop("ret").columns))
    assert_frame_equal(now.drop("ret"), truth(AGAIN, through).select(now.drop("ret").columns))
    assert now["ret"].is_null().to_list() == [True, *([False] * (now.height - 1))]
    assert etl.scan().collect()["ret"].abs().max() < 0.5
    assert not etl.gaps().filter(pl.col("symbol").is_in(["SUBJ", old])).height
    assert etl.cursors()["SUBJ"] == through
    report = etl.verify()
    assert not [finding for finding in report.findings if finding.severity == "error"], report.findings


def test_what_is_held_is_split_off_and_one_update_brings_the_new_company(held):
    etl = held.etl
    stored = bars(etl, "SUBJ")
    change = etl.split("SUBJ", **WORDS)
    assert (change.renames, change.rows) == ((("SUBJ", "SUBJ-2012", AGAIN),), stored.height)
    assert_frame_equal(bars(etl, "SUBJ-2012"), stored)
    assert count(etl, "SUBJ") == 0
    assert not codes(etl)
    (hold,) = of(etl, "holds", "SUBJ").to_dicts()
    assert (hold["status"], hold["reason"], hold["by"]) == ("split", *WORDS.values())
    (alias,) = etl.ledger("aliases").to_dicts()
    assert (alias["alias"], alias["symbol"], alias["kind"]) == ("SUBJ", "SUBJ-2012", "split")
    assert (alias["reused_from"], alias["source"], alias["by"]) == (AGAIN, "person", "anna")
    assert of(etl, "symbols", "SUBJ-2012")["status"].to_list() == ["ended"]
    assert etl.ledger("runs").row(-1, named=True)["command"] == "split"
    result = etl.run_incremental_etl()
    assert result.outcomes["SUBJ"] is Outcome.OK
    assert result.complete
    is_parted(etl, HELD)


def test_bars_of_the_first_company_that_were_kept_out_with_the_second_come_after_the_split(root):
    """The store slept over the end of the first one: one update brings its last bars and the second one."""
    life = Life(root, SimVendor(MARKET))
    life.backfill(day(0))
    life.through(HELD, [HELD])
    assert codes(life.etl) == {"SUBJ": "break_after_gap"}
    life.etl.split("SUBJ", **WORDS)
    assert bars(life.etl, "SUBJ-2012")["date"].max() == day(0)
    assert evening(life, HELD).complete
    is_parted(life.etl, HELD)
    assert of(life.etl, "symbols", "SUBJ-2012")["status"].to_list() == ["ended"]
    life.vendor.asked.clear()
    assert evening(life, day(31)).complete
    assert "SUBJ-2012" not in {symbol for _, request in life.vendor.asked for symbol in request.symbols}


def test_it_stays_so_on_every_later_evening_and_the_former_name_is_never_asked_for(held):
    held.etl.split("SUBJ", **WORDS)
    held.vendor.asked.clear()
    for night in (day(31), day(32), LATER):
        assert evening(held, night).complete
    is_parted(held.etl, LATER)
    assert "SUBJ-2012" not in {symbol for _, request in held.vendor.asked for symbol in request.symbols}
    assert not codes(held.etl)


def test_a_fill_of_old_years_does_not_bring_the_first_company_back_under_the_ticker(held):
    held.etl.split("SUBJ", **WORDS)
    evening(held, LATER)
    etl = held.etl
    before = etl.scan().collect().sort(KEYS)
    result = etl.run_full_etl(["SUBJ", "PLAIN0"], FIRST, LATER, resume=False)
    assert not result.held
    etl.run_full_etl(["SUBJ", "PLAIN0"], FIRST, LATER, rebuild=True)
    assert_frame_equal(etl.scan().collect().sort(KEYS), before)
    is_parted(etl, LATER)


def test_a_wrong_join_is_repaired(held):
    """A person had accepted it: one series with a return across two companies."""
    etl = held.etl
    etl.accept("SUBJ", reason="the same, I thought", by="ben")
    assert bars(etl, "SUBJ")["ret"].max() > 1
    bridged = etl.manifest().version
    with pytest.raises(ConfigurationError, match="not held"):
        etl.split("SUBJ", **WORDS)
    change = etl.split("SUBJ", on=AGAIN, **WORDS)
    assert change.kept == {"SUBJ": 6}
    is_parted(etl, HELD)
    assert of(etl, "symbols", "SUBJ")["first_session"].to_list() == [AGAIN]
    evening(held, LATER)
    is_parted(held.etl, LATER)
    etl = held.etl
    etl.rollback(bridged)
    assert bars(etl, "SUBJ")["ret"].max() > 1
    assert etl.ledger("aliases").is_empty()


def test_the_way_does_not_matter_the_bytes_are_the_same(root, held):
    """Split when it was held, or after it had been joined."""
    etl = held.etl
    etl.pin("held")
    etl.split("SUBJ", **WORDS)
    etl.run_incremental_etl()
    one = etl.manifest().checksum
    etl.rollback("held")
    etl.accept("SUBJ", reason="the same, I thought", by="ben")
    etl.split("SUBJ", on=AGAIN, **WORDS)
    assert etl.manifest().checksum == one


def test_a_first_history_that_is_held_is_split_before_anything_of_it_is_stored(root):
    life = Life(root, SimVendor(MARKET))
    assert life.backfill(HELD).outcomes["SUBJ"] is Outcome.HELD
    etl = life.etl
    etl.split("SUBJ", as_="SUBJ.OLD", **WORDS)
    assert etl.run_incremental_etl().outcomes["SUBJ"] is Outcome.OK
    assert etl.scan("SUBJ").collect()["date"].min() == AGAIN
    etl.run_full_etl(["SUBJ.OLD"], FIRST, HELD)
    is_parted(etl, HELD, "SUBJ.OLD")


def test_explain_takes_either_name(held):
    etl = held.etl
    etl.split("SUBJ", **WORDS)
    etl.run_incremental_etl()
    old = etl.explain("SUBJ", day(1))
    assert_frame_equal(old, etl.explain("SUBJ-2012", day(1)))
    words = f"SUBJ before {AGAIN} is SUBJ-2012 now, by anna (person): a fund before, a company now"
    assert old.row(-1, named=True)["why"] == words
    now = etl.explain("SUBJ", AGAIN)
    assert "split" in now["event"].to_list()
    assert now.filter(pl.col("event") == "split")["why"].to_list() == ["by anna: a fund before, a company now"]


def test_a_second_split_gets_another_name(held):
    etl = held.etl
    etl.split("SUBJ", **WORDS)
    etl.run_incremental_etl()
    etl.split("SUBJ", on=day(27), reason="and once more", by="anna")
    assert {"SUBJ-2012", "SUBJ-2013", "SUBJ"} <= set(etl.cursors())
    etl.split("SUBJ", on=day(28), reason="and again", by="anna")
    assert "SUBJ-2013B" in etl.cursors()
    assert etl.explain("SUBJ", day(1)).equals(etl.explain("SUBJ-2012", day(1)))


@pytest.mark.parametrize(
    ("symbol", "facts", "words"),
    [
        ("PLAIN0", {}, "not held"),
        ("SUBX", {}, "did you mean SUBJ"),
        ("SUBJ", {"as_": "PLAIN0"}, "taken"),
        ("SUBJ", {"as_": "a b c"}, "refused"),
        ("SUBJ", {"on": date(2011, 1, 3)}, "nothing to split off"),
        ("SUBJ", {"reason": " "}, "reason"),
    ],
)
def test_a_split_that_cannot_be_is_refused(held, symbol, facts, words):
    etl = held.etl
    before = etl.manifest()
    with pytest.raises(ConfigurationError, match=words):
        etl.split(symbol, **{**WORDS, **facts})
    assert etl.manifest() == before


def test_accepting_is_still_the_other_way(held):
    etl = held.etl
    assert etl.accept("SUBJ", reason="we want both", by="anna").outcomes["SUBJ"] is Outcome.OK
    assert count(etl, "SUBJ") == truth(FIRST, HELD).height


def test_another_history_of_the_whole_ticker_is_taken_from_its_beginning(root):
    """The source maps the ticker to another company, with all the past that it had under another one."""
    market = SimMarket(seed=4, symbols=(*PLAIN, SimListing("SUBJ")), first=FIRST, last=day(45))
    other = SimMarket(seed=9, symbols=(*PLAIN, SimListing("SUBJ")), first=FIRST, last=day(45))
    life = Life(root, SimVendor(market))
    life.backfill(day(0))
    mapped = SimVendor(other)
    mapped.today = day(2)
    etl = store(root, mapped, day(2))
    etl.run_incremental_etl()
    held_by = codes(etl)
    assert held_by["SUBJ"] in ("other_history", "level_jump")
    if held_by["SUBJ"] == "level_jump":
        pytest.fail("this test is about a hold without a session")
    etl.split("SUBJ", **WORDS)
    etl = store(root, mapped, day(2), start=FIRST)
    assert etl.run_incremental_etl(["SUBJ"]).outcomes == {"SUBJ": Outcome.OK}
    assert etl.scan("SUBJ").collect()["date"].min() == FIRST
    assert etl.scan("SUBJ-2012").collect()["date"].max() == day(0)
    result = etl.run_full_etl(["SUBJ"], FIRST, day(2), resume=False)
    assert (result.outcomes["SUBJ"], result.held) == (Outcome.OK, {})
    assert "SUBJ-2012" not in result.outcomes


def test_a_split_after_another_hold_has_ended(root):
    """The ledger of closed holds goes on, with the types that it has."""
    pence = Pence("PLAIN0", day(4), start=day(4), until=day(6))
    life = Life(root, SimVendor(MARKET, [pence]))
    life.backfill(day(0))
    life.through(HELD, [day(2), day(4), day(6), day(24), AGAIN, HELD])
    life.etl.split("SUBJ", **WORDS)
    closed = life.etl.holds(all=True).filter(pl.col("status") != "open")
    assert closed.select("symbol", "status").rows() == [("PLAIN0", "released"), ("SUBJ", "split")]
    assert life.etl.run_incremental_etl(publish=False).complete
    is_parted(life.etl, HELD)


def test_a_person_who_types_what_is_advised_has_both_histories_of_a_ticker_that_changed_at_once(desk):
    """The break lies in the first file of all: what was before it is brought by the command that is named."""
    old, new = days(40), days(40, date(2024, 7, 15))
    rows = [f"{day},{price + 0.01 * day.day:.2f},100" for price, part in ((10, old), (37, new)) for day in part]
    desk.put("ACME.csv", "\n".join(["date,close,volume", *rows]) + "\n")
    assert desk.backfill().code == INCOMPLETE
    answer = desk.cli("holds", "split", "ACME", "--reason", "another company", "--by", "anna")
    assert desk.cli("update").code == FINE
    assert desk.symbols() == {"ACME": 40}
    command = answer.err.partition("; historical-etl ")[2].partition(" brings")[0]
    assert command == "backfill --symbols ACME-2024 --from 2024"
    assert desk.cli(*command.split()).code == FINE
    assert desk.symbols() == {"ACME": 40, "ACME-2024": 40}
