"""The databases in which statements run: kept for the next one, which finds nothing of the one before."""

import duckdb
import pytest

from historical_etl import CatalogError
from historical_etl.catalog import statement
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, filled, store

ASKED = "SELECT count(*) FROM daily_prices"
REGISTERED = "SELECT count(*) FROM duckdb_external_resource_types()"
REGISTER = (
    "FROM register_external_resource_type('x', kind='k', create_function='a', status_function='a', "
    "destroy_function='a', resolve_function='a', list_function='a')"
)


@pytest.fixture
def etl(root, monkeypatch):
    monkeypatch.setattr(statement, "_waiting", {})
    return filled(root, SHORT)


@pytest.fixture
def made(etl, monkeypatch):
    """The databases that were made since all years are proven."""
    etl.query_sql("SUMMARIZE daily_prices", in_process=True)
    statement._waiting.clear()
    databases = []
    connect = duckdb.connect

    def noted(*args, **options):
        databases.append(connect(*args, **options))
        return databases[-1]

    monkeypatch.setattr(statement.duckdb, "connect", noted)
    return databases


def test_statements_share_a_database(etl, made):
    answers = [etl.query_sql(ASKED, in_process=True).item() for _ in range(3)]
    assert answers[0] > 0
    assert answers == answers[:1] * 3
    assert len(made) == 1


def test_few_databases_wait(etl, made):
    for memory in range(1, 5):
        store(etl.layout.root, ScriptedFetcher(SHORT), SHORT.last, query_memory=f"{memory}GB").query_sql(
            ASKED, in_process=True
        )
    assert len(made) == 4
    assert len(statement._waiting) == 2


def test_after_an_error_the_database_is_given_up(etl, made):
    etl.query_sql(ASKED, in_process=True)
    with pytest.raises(CatalogError):
        etl.query_sql("SELECT error('x')", in_process=True)
    etl.query_sql(ASKED, in_process=True)
    assert len(made) == 2


@pytest.mark.parametrize("in_process", [True, False])
@pytest.mark.parametrize(
    "leaving", [REGISTER, f"FROM query({REGISTER!r})", f'FROM "{REGISTER[5:36].upper()}"{REGISTER[36:]}']
)
def test_what_a_statement_changes_of_its_database_ends_with_it(etl, leaving, in_process):
    for _ in range(2):
        etl.query_sql(ASKED, in_process=in_process)
        etl.query_sql(leaving, in_process=in_process)
        assert etl.query_sql(REGISTERED, in_process=in_process).item() == 0


@pytest.mark.parametrize("in_process", [True, False])
def test_a_seed_ends_with_its_statement(etl, in_process):
    drawn = set()
    for _ in range(3):
        etl.query_sql("SELECT setseed(0.5)", in_process=in_process)
        drawn.add(etl.query_sql("SELECT random()", in_process=in_process).item())
    assert len(drawn) == 3
