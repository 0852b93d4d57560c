import pytest

from historical_etl_tests.saying import Saying

TEXT = "AAPL has 8 day(s) with different values\nMSFT: 1,205 rows from 2012-01-03, x0.5"


@pytest.mark.parametrize("facts", [("AAPL", "8 day"), ("8", "AAPL"), ("1,205", "MSFT:"), ("2012-01-03", "x0.5")])
def test_facts_of_one_line_are_found_in_any_order(facts: tuple[str, ...]) -> None:
    assert Saying(*facts) == TEXT
    assert Saying(*facts) == TEXT
    assert [Saying(*facts)] == [TEXT]


@pytest.mark.parametrize("facts", [("AAPL", "9"), ("AAPL", "MSFT"), ("205",), ("2012",), ("01-03",), ("x0",), ("APL",)])
def test_another_fact_or_one_of_another_line_or_a_part_of_one_is_not(facts: tuple[str, ...]) -> None:
    assert Saying(*facts) != TEXT


def test_without_facts_nothing_is_proven_and_none_can_be_made() -> None:
    with pytest.raises(ValueError, match="fact"):
        Saying()
