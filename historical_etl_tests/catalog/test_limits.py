"""Limits of `query_sql`: time and memory, and which files are proven before a row is read."""

from datetime import date

import pytest

from historical_etl import CatalogError, ChecksumMismatchError
from historical_etl.catalog import query as queries
from historical_etl.catalog.query_plan import all_files
from historical_etl.store import verified_files
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, filled, store

ENDLESS = "SELECT count(*) FROM range(100_000_000_000) a, range(100_000_000_000) b"
ENDLESS_ANSWER = "SELECT * FROM range(100_000_000_000)"


@pytest.fixture
def make(root):
    def made(**settings):
        return filled(root, SHORT, **settings)

    return made


@pytest.mark.parametrize("sql", [ENDLESS, ENDLESS_ANSWER])
def test_a_query_without_end_is_stopped(make, sql):
    etl = make(query_timeout_seconds=1)
    with pytest.raises(CatalogError, match=r"stopped: .*(1 s|Out of Memory)") as caught:
        etl.query_sql(sql)
    assert "HISTORICAL_ETL_QUERY_TIMEOUT_SECONDS" in caught.value.todo
    patient = store(etl.layout.root, ScriptedFetcher(SHORT), SHORT.last)
    assert patient.query_sql("SELECT 1 AS one").item() == 1


def test_an_answer_too_large_is_stopped(make):
    etl = make(query_memory="120MB")
    with pytest.raises(CatalogError, match="stopped: "):
        etl.query_sql(ENDLESS_ANSWER)


def test_work_too_large_is_stopped_and_spills_nothing(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    etl = make(query_memory="60MB")
    with pytest.raises(CatalogError, match="stopped") as caught:
        etl.query_sql("SELECT * FROM range(30_000_000) t(i) ORDER BY hash(i)")
    assert "HISTORICAL_ETL_QUERY_MEMORY" in caught.value.todo
    assert not list(tmp_path.glob(".tmp*"))


@pytest.mark.parametrize("value", ["0", "-1", "much"])
def test_a_limit_must_be_a_size(make, value):
    with pytest.raises(Exception, match="QUERY_MEMORY"):
        make(query_memory=value)


def test_two_columns_of_one_name_are_reported(make):
    with pytest.raises(CatalogError, match="one name"):
        make().query_sql("SELECT a.date, b.date FROM daily_prices a, daily_prices b LIMIT 1")


ALL, Y12, Y13 = {2012, 2013}, {2012}, {2013}


@pytest.mark.parametrize(
    ("sql", "params", "years"),
    [
        ("SELECT * FROM daily_prices", None, ALL),
        ("SELECT max(close) FROM daily_prices WHERE date = '2012-12-14'", None, Y12),
        ("SELECT max(close) FROM daily_prices WHERE date > '2012-12-31'", None, Y13),
        ("SELECT max(close) FROM daily_prices WHERE year(date) = 2012", None, Y12),
        ("SELECT max(close) FROM daily_prices WHERE date BETWEEN ? AND ?", [date(2013, 1, 2), date(2013, 2, 1)], Y13),
        ("SELECT max(close) FROM daily_prices WHERE year(date) = $year", {"year": 2013}, Y13),
        ("SELECT * FROM query('SELECT * FROM daily_prices WHERE year(date) = 2012')", None, Y12),
        (
            "WITH a AS (SELECT * FROM daily_prices WHERE year(date) = 2012) SELECT a.close FROM a, a AS b LIMIT 1",
            None,
            Y12,
        ),
        ("SELECT (SELECT max(close) FROM daily_prices WHERE date < '2012-12-01') AS x", None, Y12),
        ("SELECT * FROM daily_prices WHERE date IN ('2012-12-14', '2012-12-17')", None, ALL),
        ("SELECT * FROM daily_prices ORDER BY date DESC LIMIT 1", None, ALL),
        ("EXPLAIN ANALYZE SELECT * FROM daily_prices WHERE year(date) = 2013", None, Y13),
        ("SUMMARIZE daily_prices", None, ALL),
        ("SELECT * FROM partitions", None, set[int]()),
        ("SELECT * FROM runs", None, set[int]()),
        ("SHOW TABLES", None, set[int]()),
    ],
)
def test_the_files_that_a_query_opens_are_proven_first(make, monkeypatch, sql, params, years):
    """By DuckDB's own plan: the years in it, and never fewer than are opened."""
    etl = make()
    proven: set[int] = set()
    require = queries.require_verified

    def noted(layout, files):
        wanted = list(files)
        proven.update(file.year for file in wanted if hasattr(file, "year"))
        require(layout, wanted)

    monkeypatch.setattr(queries, "require_verified", noted)
    monkeypatch.setattr(verified_files, "_checked", {})
    etl.query_sql(sql, params)
    assert proven == years


def test_where_all_years_are_proven_no_plan_is_made(make, monkeypatch):
    etl = make()
    etl.query_sql("SUMMARIZE daily_prices")
    monkeypatch.setattr(queries, "files_opened", None)
    assert etl.query_sql("SELECT count(*) FROM daily_prices").item() > 0


def test_a_ledger_that_is_not_proven_yet_is_proven_alone(make, monkeypatch):
    etl = make()
    monkeypatch.setattr(verified_files, "_checked", {})
    etl.query_sql("SUMMARIZE daily_prices")
    manifest = etl.manifests.load_manifest()
    damaged = etl.layout.resolve(manifest.ledgers["symbols"][0].path)
    damaged.chmod(0o644)
    damaged.write_bytes(b"?")
    assert etl.query_sql("SELECT max(command) FROM runs WHERE (SELECT max(close) FROM daily_prices) > 0").item()
    with pytest.raises(ChecksumMismatchError):
        etl.query_sql("SELECT * FROM symbols")


def test_a_proven_file_that_changed_is_proven_again(make):
    etl = make()
    manifest = etl.manifests.load_manifest()
    queries.require_verified(etl.layout, all_files(manifest))
    damaged = etl.layout.resolve(manifest.partitions[0].path)
    damaged.chmod(0o644)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(ChecksumMismatchError):
        etl.query_sql("SELECT * FROM daily_prices")
    assert etl.query_sql("SELECT count(*) FROM daily_prices WHERE date > '2012-12-31'").item() > 0
