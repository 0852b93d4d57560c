"""One reading SQL statement over views: its plan, and its answer. Nothing here is imported but what DuckDB needs.

`plan` and `answer` are the tasks of a worker. A caller who is trusted calls them in its own process, where nothing but
DuckDB's own limit of memory holds.
"""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import duckdb
import polars as pl

from historical_etl.catalog.query_request import NOT_PROVEN, Params, Question
from historical_etl.catalog.quoting import escape_glob, quote_text
from historical_etl.errors import CatalogError
from historical_etl.workers.answer import Answer

__all__ = ["answer", "plan"]

_NOT_IN_A_FRAME: Final = re.compile(r"\b(INTERVAL|UHUGEINT|BIGNUM|VARINT|BIT|UNION|TIME WITH TIME ZONE)\b")
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')  # names of fields
_FIRST_DAY: Final = -719_162  # 0001-01-01, in days from 1970
_LAST_DAY: Final = 2_932_896  # 9999-12-31
_DIGITS: Final = 38
_READING: Final = {duckdb.StatementType.SELECT}
_EXPLAIN: Final = re.compile(r"^\s*EXPLAIN\s+(ANALYZE\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)
_NO_MEMORY: Final = "Out of Memory Error"  # also of an answer, in what Polars says
_LONGEST_PLAN: Final = 1_000_000
#: Of the machine's memory, whatever a setting says.
_SHARE: Final = 0.8
_MOST_WAITING: Final = 2
_NAME: Final = re.compile(r"\w+")
_TABLE_FUNCTIONS: Final = (
    "SELECT DISTINCT lower(function_name) FROM duckdb_functions() WHERE function_type LIKE 'table%'"
)
#: Table functions of which some are names of columns, too.
_HARMLESS: Final = {"generate_series", "range", "unnest", "version"}


def plan(question: Question, params: Params) -> Answer:
    """DuckDB's plan of a statement, in `facts`: `plan` as JSON text, or None where it has none. No row is read.

    Raises:
        CatalogError: it is not a single reading statement.
    """
    with _library_errors(), _database(question) as connection:
        _refuse_writing(connection, question.sql)
        return Answer({"plan": _explained(connection, question.sql, params)})


def answer(question: Question, params: Params) -> Answer:
    """The rows of a statement; no frame if it read or named a file that is not among its paths.

    Raises:
        CatalogError: DuckDB refused it, or it takes too much memory.
    """
    with _library_errors():
        try:
            with _database(question) as connection:
                _refuse_writing(connection, question.sql)
                relation = connection.sql(question.sql, params=params)
                _refuse_types(relation)
                frame = pl.DataFrame(relation)
                _refuse_values(frame)
                return Answer(frame=frame)
        except (duckdb.Error, pl.exceptions.ComputeError) as error:
            if isinstance(error, duckdb.PermissionException) or NOT_PROVEN in str(error):
                return Answer({"refused": str(error)})
            raise


@dataclass(frozen=True)
class _Used:
    """A database in which a statement has run."""

    connection: duckdb.DuckDBPyConnection
    sql: str


#: Those that wait for their next statement, by all that they are made of.
_waiting: Final[dict[tuple[object, ...], _Used]] = {}
#: Asked for once, and only when a process has a second statement: DuckDB takes as long for it as for a new database.
_table_functions: Final[set[str]] = set()


@contextmanager
def _database(question: Question) -> Generator[duckdb.DuckDBPyConnection]:
    """A database for one statement, in which no other has left anything; it is given up after any error."""
    made_of = question.views, question.paths, question.memory
    used = _waiting.pop(made_of, None)
    if used is not None and _may_have_left_something(used):
        used.connection.close()
        used = None
    connection = used.connection if used else _confined_to(duckdb.connect(":memory:"), *made_of)
    try:
        with connection.cursor() as cursor:  # what belongs to a connection, as its random numbers, ends with it
            yield cursor
    except BaseException:
        connection.close()
        raise
    while len(_waiting) >= _MOST_WAITING:
        with suppress(KeyError, RuntimeError):  # another thread was faster
            _waiting.pop(next(iter(_waiting))).connection.close()
    _waiting[made_of] = _Used(connection, question.sql)


def _may_have_left_something(used: _Used) -> bool:
    """Whether a statement called what can change a database: table functions alone can, and some do."""
    names = set(_NAME.findall(used.sql.lower())) - _HARMLESS
    if not _table_functions:
        _table_functions.update(name for (name,) in used.connection.execute(_TABLE_FUNCTIONS).fetchall())
    return not names.isdisjoint(_table_functions)


def _explained(connection: duckdb.DuckDBPyConnection, sql: str, params: Params) -> str | None:
    try:
        rows = connection.execute(f"EXPLAIN (FORMAT json) {_EXPLAIN.sub('', sql)}", params).fetchall()
        text = str(rows[-1][1])
    except (duckdb.Error, IndexError):
        return None  # PIVOT and the like cannot be explained; what is wrong is reported when it runs
    return text if len(text) < _LONGEST_PLAN else None


def _confined_to(
    connection: duckdb.DuckDBPyConnection, views: tuple[str, ...], paths: tuple[str, ...], memory: int
) -> duckdb.DuckDBPyConnection:
    """Give a database views, and let it open some files and nothing else; it stays so."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # DuckDB checks a path as it is written in the query and again as the file it opens.
    allowed = ", ".join(quote_text(path) for path in sorted({*paths, *map(escape_glob, paths)}))
    for statement in (
        "SET GLOBAL TimeZone = 'UTC'",
        f"SET memory_limit = '{min(memory, int(_SHARE * machine))}B'",
        "SET temp_directory = ''",
        "SET GLOBAL parquet_metadata_cache = true",
        *views,
        f"SET allowed_paths = [{allowed}]",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ):
        connection.execute(statement)
    return connection


@contextmanager
def _library_errors() -> Generator[None]:
    """Errors of libraries as ours."""
    try:
        yield
    except pl.exceptions.DuplicateError as error:
        raise CatalogError(
            "Two columns of the answer have one name", where="query_sql", todo="name them apart, with AS"
        ) from error
    except (TypeError, ValueError, pl.exceptions.PanicException) as error:
        raise CatalogError(
            f"The query cannot be asked or answered so: {error}",
            where="query_sql",
            todo="give a text, and `params` as a list, or a mapping for $name; cast odd types to VARCHAR",
        ) from error
    except (duckdb.Error, pl.exceptions.ComputeError) as error:
        first = str(error).splitlines()[0]  # of memory it goes on about settings that nobody can change here
        if isinstance(error, duckdb.OutOfMemoryException) or _NO_MEMORY in first:
            raise CatalogError(
                f"The query was stopped: {first}",
                where="query_sql",
                todo="ask for less, or raise HISTORICAL_ETL_QUERY_MEMORY",
            ) from error
        raise CatalogError(
            f"DuckDB refused the query: {error}",
            where="query_sql",
            todo="`SHOW TABLES` lists the views; try `SELECT * FROM daily_prices LIMIT 5`",
        ) from error


def _refuse_types(relation: duckdb.DuckDBPyRelation) -> None:
    """Polars has no such types: it panics, or takes them for others."""
    for name, kind in zip(relation.columns, relation.types, strict=True):
        if found := _NOT_IN_A_FRAME.search(_QUOTED.sub("", str(kind))):
            raise _cannot_be_held(f"a value of type {found[1]}", name)


def _refuse_values(frame: pl.DataFrame) -> None:
    """What does not fit the type that it comes in: DuckDB has larger days and integers than Python and Polars."""
    for column in frame.get_columns():
        if isinstance(column.dtype, pl.Date | pl.Datetime):
            days = column.dt.date().to_physical() if isinstance(column.dtype, pl.Datetime) else column.to_physical()
            low, high = days.min(), days.max()
            if isinstance(low, int) and isinstance(high, int) and not (low >= _FIRST_DAY and high <= _LAST_DAY):
                raise _cannot_be_held("a day before the year 1 or after 9999", column.name)
        elif isinstance(column.dtype, pl.Decimal) and column.dtype.precision == _DIGITS and column.dtype.scale == 0:
            most = column.cast(pl.Int128).abs().max()
            if isinstance(most, int) and not 0 <= most < 10**_DIGITS:
                raise _cannot_be_held(f"an integer of more than {_DIGITS} digits", column.name)


def _cannot_be_held(what: str, column: str) -> CatalogError:
    return CatalogError(
        f"The answer has {what}, which a frame cannot hold: {column}",
        where="query_sql",
        todo="cast it, e.g. CAST(x AS VARCHAR), or date_diff('day', a, b)",
    )


def _refuse_writing(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    # COPY could still overwrite the files that may be read, also from inside EXPLAIN ANALYZE.
    statements = connection.extract_statements(_EXPLAIN.sub("", sql))
    if len(statements) != 1 or statements[0].type not in _READING:
        raise CatalogError(
            f"A query is one reading statement; got {len(statements)}: "
            f"{', '.join(statement.type.name for statement in statements) or 'none'}",
            where="query_sql",
            todo="write a single SELECT, and PIVOT with its values, ON x IN (…); backfill and update change data",
        )
