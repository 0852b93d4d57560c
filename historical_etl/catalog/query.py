"""Queries of anybody: planned and run in a process of their own, over files that are proven first.

The plan says which files a statement needs; those are proven to be the committed ones. It then runs where nothing else
can be opened: a view of any other file raises an error when it is read, and a path that the statement names is refused.
So a plan that names too little costs a second try, with all files proven, and never a row that was not. What is wrong
with the statement itself is reported whatever is damaged.
"""

import math
import pickle
import sys
import time
from collections.abc import Callable
from typing import Final, cast

import polars as pl

from historical_etl.arguments import plain
from historical_etl.catalog.query_plan import all_files, files_opened
from historical_etl.catalog.query_request import NOT_PROVEN, Params, Question
from historical_etl.catalog.views import view_statements
from historical_etl.errors import CatalogError, WorkerStoppedError
from historical_etl.models import LedgerFile, Partition, SyncManifest
from historical_etl.store.layout import Layout
from historical_etl.store.verified_files import require_verified
from historical_etl.workers.answer import Answer
from historical_etl.workers.limits import Limits
from historical_etl.workers.pool import Worker, Workers

__all__ = ["prepare", "query"]

_MODULE: Final = "historical_etl.catalog.statement"
_WORKERS: Final = Workers(_MODULE)
_Ask = Callable[[str, Question], Answer]


def prepare() -> None:
    """Start the process for a query that is about to come, so that it need not be waited for."""
    _WORKERS.prepare()


def query(
    layout: Layout,
    manifest: SyncManifest,
    sql: str,
    params: Params = None,
    *,
    seconds: float = math.inf,
    memory: int = sys.maxsize,
    in_process: bool = False,
) -> pl.DataFrame:
    """Run one reading SQL statement over the views of a version.

    It can read the files of that version and nothing else, and change nothing.

    Args:
        layout: the store's folders.
        manifest: the version.
        sql: the statement.
        params: values for `?` or `$name`.
        seconds: how long it may take, its planning included.
        memory: how many bytes it may take, and its answer.
        in_process: for callers who vouch for the statement: run it in this process. Nothing stops it then, and only
            DuckDB itself respects the memory.

    Raises:
        CatalogError: the statement is not a query, it went beyond a limit, or DuckDB refused it; DuckDB's words are
            in the message.
        ChecksumMismatchError: a file that it opens is not what was committed.
    """
    _refuse_half_characters(sql)
    params = cast("Params", plain(params))
    if in_process:
        from historical_etl.catalog import statement

        tasks = {"plan": statement.plan, "answer": statement.answer}
        return _answered(lambda task, question: tasks[task](question, params), layout, manifest, sql, memory)
    try:
        with _WORKERS.taken() as worker:
            return _answered(_asking(worker, params, Limits(seconds, memory)), layout, manifest, sql, memory)
    except (
        WorkerStoppedError
    ) as error:  # none could be started: what stops one at work is reported as an error of the query
        todo = f"{error.todo}; or run a statement that you vouch for with in_process=True"
        raise CatalogError(f"The query was not run: {error.what}", where=error.where, todo=todo) from error


def _answered(ask: _Ask, layout: Layout, manifest: SyncManifest, sql: str, memory: int) -> pl.DataFrame:
    everything = all_files(manifest)
    # A pipe in a file's place would be waited for.
    openable = [file for file in everything if layout.resolve(file.path).is_file()]
    found = ask("plan", _question(layout, manifest, sql, memory, openable)).facts["plan"]
    opened = {} if found is None else {file.path: file for file in files_opened(str(found), manifest)}
    opened |= {file.path: file for file in everything if layout.resolve(file.path).name in sql}
    require_verified(layout, opened.values())
    answer = ask("answer", _question(layout, manifest, sql, memory, list(opened.values())))
    if answer.frame is None and len(opened) < len(everything) and _concerns(str(answer.facts["refused"]), layout):
        require_verified(layout, everything)
        answer = ask("answer", _question(layout, manifest, sql, memory, everything))
    if answer.frame is None:
        raise CatalogError(
            f"DuckDB refused the query: {answer.facts['refused']}",
            where="query_sql",
            todo="a query opens files of its version only; `SELECT path FROM partitions` names those of the years",
        )
    return answer.frame


def _concerns(refusal: str, layout: Layout) -> bool:
    """Whether a statement was refused for a file that was not proven, and not for one that is none of the store's."""
    return NOT_PROVEN in refusal or str(layout.storage) in refusal


def _question(
    layout: Layout, manifest: SyncManifest, sql: str, memory: int, files: list[Partition | LedgerFile]
) -> Question:
    paths = [file.path for file in files]
    views = view_statements(manifest, layout, proven=frozenset(paths))
    return Question(sql, tuple(views), tuple(str(layout.resolve(path)) for path in paths), memory)


def _asking(worker: Worker, params: Params, limits: Limits) -> _Ask:
    until = time.monotonic() + limits.seconds

    def ask(task: str, question: Question) -> Answer:
        left = Limits(max(until - time.monotonic(), 0.001), limits.memory)
        try:
            return worker.perform(f"{_MODULE}:{task}", {"question": question, "params": params}, left)
        except WorkerStoppedError as error:
            why = f"it ran for more than {limits.seconds:g} s" if time.monotonic() > until else error.what
            raise CatalogError(
                f"The query was stopped: {why}",
                where="query_sql",
                todo="ask for less, or raise HISTORICAL_ETL_QUERY_TIMEOUT_SECONDS or HISTORICAL_ETL_QUERY_MEMORY",
            ) from error
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise CatalogError(
                f"A value of params cannot be passed on: {error}",
                where="query_sql",
                todo="give numbers, texts, dates and lists of them",
            ) from error

    return ask


def _refuse_half_characters(sql: str) -> None:
    try:
        sql.encode()
    except UnicodeEncodeError as error:  # DuckDB's binding would say that the text is of the wrong type
        raise CatalogError(
            f"The query holds half a character at position {error.start}", where="query_sql", todo="write it in UTF-8"
        ) from None
