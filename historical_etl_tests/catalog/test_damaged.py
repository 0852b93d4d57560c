"""A damaged file answers nothing, however a statement comes to it: the truth, or an error, and never another row."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from historical_etl import CatalogError, ChecksumMismatchError, HistoricalETL, HistoricalETLError
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, at, current_manifest, store

#: `{x}` is the damaged file: a year in the first ones, a ledger in the last.
OF_A_YEAR: Final = (
    "SELECT count(*) FROM '{x}'",
    'SELECT count(*) FROM "{x}"',
    "SELECT max(close) FROM read_parquet('{x}', filename = true)",
    "SELECT filename FROM read_parquet(['{x}'], filename = true) LIMIT 1",
    "SELECT count(*) FROM parquet_scan('{x}')",
    "SELECT md5(content) FROM read_blob('{x}')",
    "SELECT max(stats_max) FROM parquet_metadata('{x}')",
    "SELECT num_rows FROM parquet_file_metadata('{x}')",
    "SELECT count(*) FROM parquet_schema('{x}')",
    # the filter tells of another year
    "SELECT max(close) FROM read_parquet('{x}') WHERE date >= '2012-01-01'",
    "SELECT max(close) FROM (SELECT * FROM '{x}') WHERE date BETWEEN '2012-01-01' AND '2012-12-31'",
    # beside a view that is sound
    "SELECT count(*) FROM daily_prices a JOIN '{x}' b USING (date) WHERE year(a.date) = 2012",
    "SELECT (SELECT max(close) FROM '{x}') AS x FROM daily_prices WHERE year(date) = 2012 LIMIT 1",
    "SELECT * FROM query('SELECT count(*) FROM read_parquet(''{x}'')')",
    "SELECT * FROM query_table('{x}') LIMIT 1",
    "SELECT * FROM read_parquet('{x}' || '') LIMIT 1",
    "WITH a AS (FROM '{x}') SELECT count(*) FROM a",
    "SUMMARIZE '{x}'",
    "EXPLAIN ANALYZE SELECT * FROM '{x}'",
    # what differs between the plan and the run
    (
        "SELECT * FROM query(CASE WHEN len(current_setting('allowed_paths')::VARCHAR) > 300 THEN 'SELECT 1' "
        "ELSE 'SELECT max(close) FROM ''{x}''' END)"
    ),
    "SELECT max(close) FROM daily_prices WHERE date > '2012-12-31'",
    "SELECT TRY(close) FROM daily_prices WHERE coalesce(TRY(date), DATE '2012-12-03') = '2012-12-03' OR close > 1e9",
    "SELECT symbol FROM daily_prices WHERE symbol IS NOT NULL",
    "SELECT approx_count_distinct(symbol) FROM daily_prices",
    "SELECT count(*) FROM daily_prices",
    "SELECT min(date), max(date) FROM daily_prices",
    "SELECT EXISTS (SELECT 1 FROM daily_prices WHERE date > '2013-01-15')",
    "SELECT * FROM daily_prices TABLESAMPLE 10 ROWS",
)
OF_A_LEDGER: Final = (
    "SELECT count(*) FROM '{x}'",
    "SELECT * FROM symbols",
    "SELECT TRY(symbol) FROM symbols",
    "SELECT count(*) FROM symbols WHERE symbol IS NOT NULL",
    "SELECT EXISTS (SELECT 1 FROM symbols)",
    "SELECT max(close) FROM daily_prices JOIN symbols USING (symbol) WHERE year(date) = 2012",
)


@dataclass(frozen=True)
class Pair:
    """A sound store, and a copy of it of which one file has another byte."""

    intact: HistoricalETL
    copy: HistoricalETL
    damaged: Path
    as_it_was: bytes

    def damage(self, place: int) -> None:
        """Change one byte in place; the file is as large and as old as before."""
        spoilt = bytearray(self.as_it_was)
        spoilt[place % len(spoilt)] ^= 0x20
        self.damaged.chmod(0o644)
        self.damaged.write_bytes(spoilt)

    def restore(self) -> None:
        self.damaged.write_bytes(self.as_it_was)


def pair(tmp: Path, name: str) -> Pair:
    root = tmp / "sound"
    if not root.exists():
        store(root, ScriptedFetcher(SHORT), SHORT.last).run_full_etl(SHORT.symbols, SHORT.first, SHORT.last)
    shutil.copytree(root, tmp / name, symlinks=True)
    intact, copy = (HistoricalETL.open(folder, clock=at(SHORT.last)) for folder in (root, tmp / name))
    manifest = current_manifest(copy)
    file = manifest.partition(2013) if name == "year" else manifest.ledgers["symbols"][0]
    assert file is not None
    damaged = copy.layout.resolve(file.path)
    return Pair(intact, copy, damaged, damaged.read_bytes())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


@pytest.fixture(scope="module")
def year(folder: Path) -> Pair:
    return pair(folder, "year")


@pytest.fixture(scope="module")
def ledger(folder: Path) -> Pair:
    return pair(folder, "ledger")


@pytest.fixture
def spoilt_year(year: Pair) -> Iterator[Pair]:
    year.damage(len(year.as_it_was) // 3)
    yield year
    year.restore()


@pytest.fixture
def spoilt_ledger(ledger: Pair) -> Iterator[Pair]:
    ledger.damage(len(ledger.as_it_was) // 3)
    yield ledger
    ledger.restore()


@pytest.mark.parametrize("sql", OF_A_YEAR)
def test_a_damaged_year_answers_nothing(spoilt_year: Pair, sql: str) -> None:
    with pytest.raises((ChecksumMismatchError, CatalogError)) as caught:
        spoilt_year.copy.query_sql(sql.format(x=spoilt_year.damaged))
    assert isinstance(caught.value, ChecksumMismatchError) or "query_table" in sql


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT clos FROM daily_prices WHERE date < '2012-12-01'", "clos"),
        ("SELECT * FROM dailyprices", "dailyprices"),
        ("SELECT * FRM daily_prices", "syntax error"),
        ("SELECT read_text('/etc/hostname')", "read_text"),
        ("SELECT content FROM read_text('/etc/hostname')", "/etc/hostname"),
        ("COPY daily_prices TO '/tmp/x.csv'", "one reading statement"),
    ],
)
def test_an_error_in_a_statement_is_reported_whatever_is_damaged(spoilt_year: Pair, sql: str, words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        spoilt_year.copy.query_sql(sql)


def test_an_intact_file_answers_by_its_path_whatever_else_is_damaged(spoilt_year: Pair) -> None:
    intact = current_manifest(spoilt_year.copy).partition(2012)
    assert intact is not None
    path = spoilt_year.copy.layout.resolve(intact.path)
    assert spoilt_year.copy.query_sql(f"SELECT count(*) AS n FROM '{path}'")["n"].item() == intact.rows


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(year: Pair) -> None:
    year.damaged.unlink()
    os.mkfifo(year.damaged)
    try:
        for ask in (
            lambda: year.copy.query_sql("SELECT count(*) FROM daily_prices"),
            lambda: year.copy.scan("BRK.B", "2013-01-02"),
            lambda: year.copy.query_sql(f"SELECT count(*) FROM '{year.damaged}'"),
        ):
            with pytest.raises(HistoricalETLError, match="a pipe"):
                ask()
        assert any("2013" in str(finding) for finding in year.copy.verify().findings)
    finally:
        year.damaged.unlink()
        year.restore()


@pytest.mark.parametrize("sql", OF_A_LEDGER)
def test_a_damaged_ledger_answers_nothing(spoilt_ledger: Pair, sql: str) -> None:
    with pytest.raises(ChecksumMismatchError):
        spoilt_ledger.copy.query_sql(sql.format(x=spoilt_ledger.damaged))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM daily_prices WHERE year(date) = 2012 ORDER BY symbol, date",
        "SELECT symbol FROM symbols",
        "SELECT year, rows FROM partitions",
        "SHOW TABLES",
    ],
)
def test_what_does_not_need_it_is_answered(spoilt_year: Pair, sql: str) -> None:
    assert_frame_equal(spoilt_year.copy.query_sql(sql), spoilt_year.intact.query_sql(sql))


def test_a_path_of_an_intact_file_is_read(year: Pair) -> None:
    path = year.copy.query_sql("SELECT path FROM partitions WHERE year = 2013").item()
    assert year.copy.query_sql(f"SELECT count(*) FROM '{path}'").item() == pl.read_parquet(path).height


# ── statements that nobody wrote ───────────────────────────────────────────────────────────────────────────────────


def statement(draw: random.Random, path: str) -> str:
    """A query over views and a file, whose answer has one order."""
    days = ("2012-12-03", "2012-12-14", "2012-12-31", "2013-01-15")
    columns = ("date", "symbol", "close", "volume", "ret")

    def bound() -> str:
        day = draw.choice(days)
        return draw.choice(
            (
                f"date = '{day}'",
                f"date > '{day}'",
                f"date <= '{day}'",
                f"year(date) = {day[:4]}",
                f"date IN ('{day}', '{draw.choice(days)}')",
                f"date BETWEEN '{day}' AND '{draw.choice(days)}'",
                f"coalesce(TRY(date), DATE '{day}') = '{day}'",
                f"(date < '{day}' OR close > 100)",
                "symbol >= 'B'",
                "close IS NOT NULL",
                "ret > 0",
                "true",
            )
        )

    def rows(depth: int = 0) -> str:
        where = " AND ".join(bound() for _ in range(draw.randint(1, 2)))
        kind = draw.randint(0, 6 if depth < 2 else 1)
        if kind == 0:
            return f"SELECT * FROM read_parquet('{path}') WHERE {where}"
        if kind <= 2:
            return f"SELECT * FROM daily_prices WHERE {where}"
        if kind == 3:
            return f"SELECT * FROM ({rows(depth + 1)}) WHERE {where}"
        if kind == 4:
            return f"({rows(depth + 1)}) UNION ALL ({rows(depth + 1)})"
        if kind == 5:
            return f"SELECT a.* FROM ({rows(depth + 1)}) a SEMI JOIN ({rows(depth + 1)}) b USING (symbol, date)"
        joined = "SELECT w.* FROM w JOIN symbols s USING (symbol) WHERE w.date >= s.first_session"
        return f"WITH w AS ({rows(depth + 1)}) {joined}"

    column = draw.choice(columns)
    return draw.choice(
        (
            "SELECT count(*) AS n FROM ({0})",
            f"SELECT count({column}) AS n, min({column}) AS low, max({column}) AS high FROM ({{0}})",
            f"SELECT symbol, count(DISTINCT {column}) AS n FROM ({{0}}) GROUP BY ALL ORDER BY ALL",
            f"SELECT DISTINCT {column} FROM ({{0}}) ORDER BY ALL",
            "SELECT EXISTS (FROM ({0})) AS some",
            f"SELECT {column} FROM ({{0}}) ORDER BY ALL LIMIT 3",
        )
    ).format(rows())


@pytest.mark.parametrize("kind", ["year", "ledger"])
def test_generated_statements_give_the_truth_or_an_error(
    request: pytest.FixtureRequest, kind: str, record_property: Callable[[str, object], None]
) -> None:
    """The truth is what a sound copy answers in this process."""
    ours: Pair = request.getfixturevalue(kind)
    draw = random.Random(kind)
    answers = refusals = 0
    file = ours.damaged if kind == "year" else ours.copy.layout.resolve(current_manifest(ours.copy).partitions[0].path)
    for number in range(60):
        if number % 10 == 0:
            ours.damage(draw.randrange(len(ours.as_it_was)))
        sql = statement(draw, str(file))
        try:
            answer = ours.copy.query_sql(sql)
        except ChecksumMismatchError:
            refusals += 1
            continue
        answers += 1
        truth = sql.replace(str(ours.copy.layout.root), str(ours.intact.layout.root))
        assert_frame_equal(answer, ours.intact.query_sql(truth, in_process=True))
    ours.restore()
    assert min(answers, refusals) > 5
    record_property(
        "tried", f"6 damaged stores, 60 statements: {answers} answers as of the sound one, {refusals} errors"
    )
