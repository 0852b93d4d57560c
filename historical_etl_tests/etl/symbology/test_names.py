"""Names: which security a ticker means, on which day and for a whole range."""

from datetime import date

import polars as pl
import pytest

from historical_etl.etl.symbology import Names
from historical_etl.store.ledger_schemas import SCHEMAS

MOVED, REUSED_FROM = date(2012, 6, 8), date(2012, 9, 3)
LONG_AGO, TODAY = date(2012, 1, 3), date(2013, 1, 3)


def alias(name: str, symbol: str, kind: str = "renamed", **values: object) -> dict[str, object]:
    return {"alias": name, "symbol": symbol, "kind": kind, "last_session": MOVED, "version": 2} | values


def names(*aliases: dict[str, object]) -> Names:
    return Names(pl.DataFrame(list(aliases), schema=SCHEMAS["aliases"]))


RENAMED = names(alias("FB", "META"))
REUSED = names(alias("OLD", "NEW", "reused", reused_from=REUSED_FROM))
#: The ticker is another security's on all days: no source has the former one any more.
SPLIT = names(alias("OLD", "OLD.1", "split"))


def test_where_nothing_was_renamed_every_name_means_itself():
    none = Names.none()
    assert none.resolve(["B", "A", "B"]) == ["B", "A"]
    assert none.over(["A"], LONG_AGO, TODAY) == ["A"]
    assert none.on("A", LONG_AGO) == "A"
    assert not none.begins


def test_a_renamed_security_is_found_by_both_names_and_once():
    assert RENAMED.resolve(["FB", "META"]) == ["META"]
    assert RENAMED.over(["FB"], LONG_AGO, TODAY) == ["META"]
    assert RENAMED.on("FB", LONG_AGO) == RENAMED.on("FB", TODAY) == "META"
    assert [former.alias for former in RENAMED.former("META")] == ["FB"]


def test_chains_of_names_lead_to_the_newest():
    chain = names(alias("A", "C", last_session=date(2012, 2, 1)), alias("B", "C"))
    assert chain.resolve(["A", "B", "C"]) == ["C"]
    assert [former.alias for former in chain.former("C")] == ["A", "B"]


@pytest.mark.parametrize(
    ("start", "end", "found"),
    [
        (LONG_AGO, MOVED, ["NEW"]),
        (LONG_AGO, TODAY, ["NEW", "OLD"]),
        (REUSED_FROM, TODAY, ["OLD"]),
    ],
    ids=["before", "over both", "after"],
)
def test_a_ticker_that_is_used_again_means_another_security_since_then(start, end, found):
    assert REUSED.over(["OLD"], start, end) == found


def test_a_bar_of_a_day_is_that_of_the_security_which_had_the_ticker_then():
    assert REUSED.on("OLD", MOVED) == "NEW"
    assert REUSED.on("OLD", REUSED_FROM) == "OLD"
    assert REUSED.begins == {"OLD": REUSED_FROM}


def test_a_ticker_whose_former_security_no_source_has_is_the_other_one_on_all_days():
    assert SPLIT.on("OLD", LONG_AGO) == "OLD"
    assert SPLIT.over(["OLD"], LONG_AGO, MOVED) == ["OLD"]
    assert SPLIT.made_up == {"OLD.1"}


def test_the_log_of_a_symbol_is_read_under_the_name_that_each_version_had():
    (now, since, _), then = RENAMED.spans("META", LONG_AGO)
    assert ((now, since), then) == (("META", 0), ("FB", 0, 2)), "version 2 has moved the bar"
    assert [name for name, _, _ in RENAMED.spans("META", TODAY)] == ["META"]
