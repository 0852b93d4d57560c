"""Symbols are written one way everywhere, and what cannot be one is refused by name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historical_etl import ConfigurationError, normalize_symbols


@pytest.mark.parametrize(
    ("given_symbols", "clean"),
    [
        ([" aapl", "AAPL ", "Msft"], ["AAPL", "MSFT"]),
        ("brk.b, bf-b ,BRK.B", ["BRK.B", "BF-B"]),
        (("^GSPC"[1:], "EURUSD=X", "0700.HK", "A^B"), ["GSPC", "EURUSD=X", "0700.HK", "A^B"]),
        ({"A": 1}, ["A"]),
        (iter(["b", "a"]), ["B", "A"]),
        (["A" * 32], ["A" * 32]),
        (["^gspc", "bf/b", "m&m.ns", "rds_a"], ["^GSPC", "BF/B", "M&M.NS", "RDS_A"]),
    ],
)
def test_symbols_are_stripped_upper_cased_and_named_once_in_order(given_symbols, clean):
    assert normalize_symbols(given_symbols) == clean


@pytest.mark.parametrize(
    "symbol", ["", " ", ".A", "-A", "^", "A B", "A//B", "A" * 33, "Ä", "A\n B", "'; DROP", "../X", "A,B", "NULL\0"]
)
def test_what_cannot_be_a_symbol_is_refused_by_name(symbol):
    with pytest.raises(ConfigurationError) as caught:
        normalize_symbols(["AAPL", symbol])
    assert repr(symbol.strip().upper()) in str(caught.value)
    assert "1 to 32 of A-Z 0-9" in caught.value.todo


def test_an_empty_list_is_refused():
    with pytest.raises(ConfigurationError, match="empty"):
        normalize_symbols([])


def test_many_refused_symbols_are_counted_and_ten_are_named():
    with pytest.raises(ConfigurationError, match=r"^30 symbol\(s\) refused") as caught:
        normalize_symbols([f"!{number}" for number in range(30)])
    assert "'!9'" in str(caught.value)
    assert "'!10'" not in str(caught.value)


written = st.from_regex(r"\A\^?[A-Za-z0-9][A-Za-z0-9.\-^=&_]{0,14}(/[A-Za-z0-9][A-Za-z0-9.\-^=&_]{0,13})?\Z")


@given(st.lists(written.filter(lambda text: "p" not in text[1:]), min_size=1))  # of preferred shares: refused
def test_normalising_twice_changes_nothing(symbols):
    once = normalize_symbols(symbols)
    assert normalize_symbols(once) == once
    assert len(set(once)) == len(once)
    assert {symbol.upper() for symbol in symbols} == set(once)
