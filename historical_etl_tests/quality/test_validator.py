"""DataValidator: findings are values, and the gate lets nothing pass that must not be stored."""

import hashlib
from collections.abc import Callable
from datetime import date

import polars as pl
import pytest

from historical_etl import DataQualityError, DataValidator, Finding, SchemaDriftError, StorageError
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import (
    COLUMNS,
    SHORT,
    SYMBOLS,
    ScriptedFetcher,
    adding,
    changing,
    daily_bytes,
    losing,
    store,
    tree,
)

NAN, INF = float("nan"), float("inf")
DAY = date(2013, 1, 15)


@pytest.fixture(scope="module")
def year() -> pl.DataFrame:
    """The bars of 2013, which are all well, sorted as they are stored."""
    return SHORT.expected(start=date(2013, 1, 1)).sort("symbol", "date")


@pytest.fixture(scope="module")
def validator() -> DataValidator:
    return DataValidator()


def spoilt(year: pl.DataFrame, alter: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    return alter(year).sort("symbol", "date", nulls_last=True)


def test_a_good_year_has_no_findings_and_passes(year, validator):
    assert validator.validate_schema(year) == []
    assert validator.validate_null_percentage(year) == []
    assert validator.validate_row_count(year) == []
    assert validator.validate_sessions(year) == []
    assert validator.validate_bars(year) == []
    assert validator.validate_year(year, 2013) == []
    validator.gate(year, 2013)


#: What is wrong with one row → how to spoil a good year with it, and what the refusal must tell.
FAULTS = {
    "no close": (changing("BRK.B", DAY, close=None), "close"),
    "a NaN for a close": (changing("BRK.B", DAY, close=NAN), "close"),
    "no date": (changing("BRK.B", DAY, date=None), "date"),
    "no symbol": (changing("BRK.B", DAY, symbol=None), "symbol"),
    "a close of zero": (changing("BRK.B", DAY, close=0.0, low=0.0), "not_positive"),
    "a negative open": (changing("BRK.B", DAY, open=-1.0), "not_positive"),
    "a negative adj_close": (changing("BRK.B", DAY, adj_close=-1.0), "not_positive"),
    "an infinite high": (changing("BRK.B", DAY, high=INF), "not_finite"),
    "a NaN for an open": (changing("BRK.B", DAY, open=NAN), "not_finite"),
    "an infinite volume": (changing("BRK.B", DAY, volume=INF), "not_finite"),
    "a negative volume": (changing("BRK.B", DAY, volume=-1.0), "negative_volume"),
    "a day of the year before": (changing("BRK.B", DAY, date=date(2012, 12, 31)), "rows are not in 2013"),
    "a day of the year after": (changing("BRK.B", DAY, date=date(2014, 1, 2)), "rows are not in 2013"),
    "a Saturday": (adding(date=date(2013, 1, 19), symbol="BRK.B"), "not a session of XNYS"),
    "a holiday": (adding(date=date(2013, 1, 21), symbol="BRK.B"), "not a session of XNYS"),
    "a key twice": (adding(date=DAY, symbol="BRK.B"), "keys are not unique"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_validation_gate_rejects_invalid_data(year, validator, fault):
    """Each single fault in one row refuses the year, and the message says which."""
    spoil, reported = FAULTS[fault]
    with pytest.raises(DataQualityError, match="nothing was committed") as caught:
        validator.gate(spoilt(year, spoil), 2013)
    assert reported in str(caught.value)
    assert caught.value.where == "2013"
    assert caught.value.todo


@pytest.mark.parametrize(
    ("spoil", "reported"),
    [
        (lambda f: f.drop("ret"), "ret: column is missing"),
        (lambda f: f.with_columns(pl.lit(1).alias("vwap")), "vwap: unknown column"),
        (lambda f: f.with_columns(pl.col("volume").cast(pl.Int64)), "volume: dtype is Int64, expected Float64"),
        (lambda f: f.with_columns(pl.col("date").cast(pl.Datetime)), "date: dtype is"),
        (lambda f: f.select(list(COLUMNS)[::-1]), "columns: order is"),
    ],
)
def test_another_schema_is_drift(year, validator, spoil, reported):
    frame = spoil(year)
    with pytest.raises(SchemaDriftError) as caught:
        validator.gate(frame, 2013)
    assert reported in str(caught.value)
    assert any(reported in str(finding) for finding in validator.validate_schema(frame))


def test_null_optional_values_pass_the_gate(year, validator):
    bare = year.with_columns(
        pl.lit(None, pl.Float64).alias(name) for name in ("open", "high", "low", "volume", "ret", "adj_close")
    )
    validator.gate(bare, 2013)


@pytest.mark.parametrize(
    "values", [{"high": 0.01}, {"low": 9e9}, {"open": 9e9}, {"close": 9e9}, {"close": 0.01}, {"low": 11.0, "high": 9.0}]
)
def test_a_range_without_open_or_close_is_a_warning_and_passes_the_gate(year, validator, values):
    frame = spoilt(year, changing("BRK.B", DAY, **values))
    (finding,) = validator.validate_bars(frame)
    assert (finding.field, finding.severity, finding.count) == ("range", "warning", 1)
    assert finding.sample == ("BRK.B 2013-01-15",)
    validator.gate(frame, 2013)


def test_prices_rounded_apart_by_a_vendor_are_no_finding(validator):
    row = {"date": DAY, "symbol": "A", "open": 10.0, "high": 10.0, "low": 10.0, "close": 10.000001, "volume": 0.0}
    assert validator.validate_bars(pl.DataFrame([row], schema=COLUMNS)) == []
    row["close"] = 10.0001
    assert validator.validate_bars(pl.DataFrame([row], schema=COLUMNS)) != []


def test_nan_counts_as_null(year, validator):
    share = {"open": 0.001, "close": 0.0}
    nulls = spoilt(year, changing("BRK.B", DAY, open=None))
    nans = spoilt(year, changing("BRK.B", DAY, open=NAN))
    found = validator.validate_null_percentage(nulls, share)
    assert [(finding.field, finding.count, finding.severity) for finding in found] == [("open", 1, "error")]
    assert validator.validate_null_percentage(nans, share) == found
    assert validator.validate_null_percentage(nans, {"open": 0.5}) == []
    assert validator.validate_null_percentage(nans, {"unknown": 0.0}) == []
    assert validator.validate_null_percentage(year.clear()) == []
    assert DataValidator(max_null_share={"open": 0.0}).validate_null_percentage(nans)[0].field == "open"


def test_row_counts_have_two_inclusive_bounds(validator):
    three = pl.DataFrame({"x": [1, 2, 3]})
    assert validator.validate_row_count(three, 3, 3) == []
    (few,) = validator.validate_row_count(three, 4)
    (many,) = validator.validate_row_count(three, 0, 2)
    assert few == Finding(field="rows", message="3 rows, expected at least 4", count=3)
    assert many == Finding(field="rows", message="3 rows, expected at most 2", count=3)
    assert len(validator.validate_row_count(three.clear())) == 1


def test_sessions_are_looked_at_per_symbol(year, validator):
    lost = spoilt(year, losing("HALT", date(2013, 1, 16), date(2013, 1, 17)))
    (gap,) = validator.validate_sessions(lost)
    assert (gap.severity, gap.count, gap.sample) == ("warning", 2, ("2013-01-16", "2013-01-17"))
    assert gap.message.startswith("HALT lacks 2")
    (extra,) = validator.validate_sessions(spoilt(year, adding(date=date(2013, 1, 20), symbol="RAWP")))
    assert (extra.severity, extra.count, extra.sample) == ("error", 1, ("2013-01-20",))
    # IPOX and GONE begin and end within the range: that is no gap.
    assert validator.validate_sessions(SHORT.bars()) == []


def test_sessions_are_those_of_the_validators_exchange(year):
    findings = DataValidator("XLON").validate_sessions(year)
    assert {finding.severity for finding in findings} == {"warning"}, "London was open on Martin Luther King's day"
    assert all("2013-01-21" in finding.sample for finding in findings)


def test_findings_are_values_with_samples(year, validator):
    (finding,) = validator.validate_bars(spoilt(year, changing("BRK.B", DAY, volume=-5.0)))
    assert finding == Finding(
        field="negative_volume", message="rows break this rule", count=1, sample=("BRK.B 2013-01-15",)
    )
    assert str(finding) == Saying("negative_volume", "BRK.B 2013-01-15")
    assert Finding.model_validate_json(finding.model_dump_json()) == finding


def test_repeated_keys_are_found_in_any_order_of_rows(year, validator):
    twice = pl.concat([year, year.head(4)]).sample(fraction=1, shuffle=True, seed=3)
    (finding,) = validator.validate_bars(twice)
    assert (finding.field, finding.count) == ("keys", 4)


def test_no_check_raises_for_bad_data(validator):
    """Whatever the frame holds, the answer is a list of findings."""
    rows = [
        (None, None, NAN, INF, -INF, None, NAN, NAN, None),
        (date(1, 1, 1), "", 0.0, 0.0, 0.0, 0.0, -0.0, 0.0, 0.0),
        (date(9999, 12, 31), "X", 1e308, 5e-324, 1.0, 1.0, 1e308, 1.0, -1.0),
    ]
    for frame in (pl.DataFrame(rows, schema=COLUMNS, orient="row"), pl.DataFrame(schema=COLUMNS)):
        for findings in (
            validator.validate_schema(frame),
            validator.validate_null_percentage(frame),
            validator.validate_row_count(frame),
            validator.validate_sessions(frame),
            validator.validate_bars(frame),
            validator.validate_year(frame, 2013),
        ):
            assert all(isinstance(finding, Finding) for finding in findings)


def test_checksums_are_sha256_of_the_bytes(validator, tmp_path):
    path = tmp_path / "x"
    data = b"0123456789abcdef" * 200_000
    path.write_bytes(data)
    assert validator.compute_checksum(path) == hashlib.sha256(data).hexdigest()
    assert validator.verify_checksum(str(path), hashlib.sha256(data).hexdigest())
    assert not validator.verify_checksum(path, "0" * 64)
    path.write_bytes(data[:-1])
    assert not validator.verify_checksum(path, hashlib.sha256(data).hexdigest())
    assert not validator.verify_checksum(tmp_path / "none", "0" * 64)
    with pytest.raises(StorageError):
        validator.compute_checksum(tmp_path / "none")


def test_validation_failure_triggers_quarantine_and_manifest_not_saved(root):
    """Everything that arrived is bad: it is kept aside with reasons, and neither manifest nor files change."""
    fetcher = ScriptedFetcher(SHORT)
    etl = store(root, fetcher, date(2013, 1, 15))
    etl.run_full_etl(SYMBOLS, SHORT.first, date(2013, 1, 15))
    manifests, files = tree(etl.layout.manifests), daily_bytes(etl)

    fetcher.alter = lambda bars: bars.with_columns(pl.lit(NAN).alias("close"))
    later = store(root, fetcher, date(2013, 1, 22))
    with pytest.raises(DataQualityError, match=r"All \d+ rows.*ScriptedFetcher.*refused") as caught:
        later.run_incremental_etl()
    (entry,) = later.manifests.quarantine.entries()
    assert caught.value.where == str(entry)
    kept = pl.read_parquet(next(entry.glob("*.parquet")))
    # Five sessions of overlap and four new ones for five symbols, and the five last of GONE.
    assert kept.height == 5 * 9 + 5
    assert all("no_close" in reasons for reasons in kept["reasons"])
    after = tree(later.layout.manifests)
    assert {name: after[name] for name in manifests if name.endswith(".json")} == {
        name: data for name, data in manifests.items() if name.endswith(".json")
    }
    assert after.keys() == manifests.keys()
    assert daily_bytes(later) == files
    assert later.cursors()["BRK.B"] == date(2013, 1, 15)


def test_a_gate_failure_commits_nothing(root):
    """The gate is the last word: here one that knows other sessions than the calendar of the run."""
    fetcher = ScriptedFetcher(SHORT)
    etl = store(root, fetcher, date(2012, 12, 14))
    etl.run_full_etl(SYMBOLS, SHORT.first, date(2012, 12, 14))
    before = {name: data for name, data in tree(root).items() if not name.endswith(".lock")}
    # London is closed on 26 December, New York is not.
    strict = store(root, fetcher, date(2013, 1, 15), validator=DataValidator("XLON"))
    with pytest.raises(DataQualityError, match=r"not a session of XLON .*2012-12-26"):
        strict.run_incremental_etl()
    assert {name: data for name, data in tree(root).items() if not name.endswith(".lock")} == before
