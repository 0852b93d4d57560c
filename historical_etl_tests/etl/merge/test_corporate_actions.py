"""The ledger `actions` against a dict: what prices imply replaces what they implied before, and the order stays."""

from datetime import date

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from historical_etl.etl.merge import with_implied
from historical_etl.quality.events import EVENTS
from historical_etl.schema import ORDER
from historical_etl.store.ledger_schemas import SCHEMAS
from historical_etl_tests.shares import examples

DAYS = [date(2024, 1, day) for day in range(2, 8)]
SYMBOLS = ["A", "B.C", "Z"]
SPAN = {"symbol": pl.String, "low": pl.Date, "high": pl.Date}

key = st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(DAYS))
split = st.sampled_from([2.0, 3.0])
span = st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(DAYS), st.sampled_from(DAYS))
month = st.tuples(st.dictionaries(key, split, max_size=4), st.lists(span, max_size=3, unique_by=lambda one: one[0]))


def frame(rows: list[dict[str, object]], schema: pl.Schema) -> pl.DataFrame:
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


@given(st.dictionaries(key, st.tuples(split, st.booleans())), st.lists(month, max_size=2))
@settings(max_examples=examples(60))
def test_implied_events_equal_updating_a_dict(ledger, months):
    rows = [
        {"symbol": symbol, "date": day, "split": ratio, "inferred": inferred}
        for (symbol, day), (ratio, inferred) in sorted(ledger.items())
    ]
    implied = [
        (
            frame([{"symbol": s, "date": day, "split": ratio} for (s, day), ratio in found.items()], EVENTS),
            pl.DataFrame(spans, schema=SPAN, orient="row"),
        )
        for found, spans in months
    ]
    seen = {(s, day) for _, spans in months for s, low, high in spans for day in DAYS if low <= day <= high}
    named = {symbol for (symbol, _), (_, inferred) in ledger.items() if not inferred}
    expected = {at: (ratio, inferred) for at, (ratio, inferred) in ledger.items() if not (inferred and at in seen)}
    for found, _ in months:
        expected |= {at: (ratio, True) for at, ratio in found.items() if at[0] not in named}
    after = with_implied(frame(rows, SCHEMAS["actions"]), implied)
    assert after.schema == SCHEMAS["actions"]
    assert after.select(*ORDER, "split", "inferred").rows() == [(*at, *expected[at]) for at in sorted(expected)]
