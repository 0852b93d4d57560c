"""Queries of anybody: planned and run in a process of their own, over files that are proven first.

The plan says which files a statement needs; those are proven to be the committed ones. Where all years are already, no
plan is made. The statement runs where nothing else can be opened: a view of any other file raises an error when it is
read, and a path that it names is refused. So a plan that names too little costs another try, with more files proven,
and never gives a row that was not. What is wrong with the statement itself is reported whatever is damaged.
"""

import math
import pickle
import sys
import time
from collections.abc import Callable, Collection
from typing import Final, cast

import polars as pl

from historical_etl.arguments import plain
from historical_etl.catalog.query_plan import all_files, files_opened
from historical_etl.catalog.query_request import NOT_PROVEN, Params, Question
from historical_etl.catalog.views import view_statements
from historical_etl.errors import CatalogError, WorkerStoppedError
from historical_etl.models import SyncManifest
from historical_etl.store.layout import Layout
from historical_etl.store.verified_files import already_verified, require_verified
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
    everything = {file.path: file for file in all_files(manifest)}
    proven = {file.path for file in already_verified(layout, everything.values())}

    def answered(needed: Collection[str] = ()) -> Answer:
        require_verified(layout, [everything[path] for path in needed])
        proven.update(needed)
        return ask("answer", _question(layout, manifest, sql, memory, sorted(proven)))

    answer = answered() if proven.issuperset(year.path for year in manifest.partitions) else None
    if answer is None or _lacks_proof(answer, layout):
        answer = answered(_needed(ask, layout, manifest, sql, memory))
    if _lacks_proof(answer, layout) and len(proven) < len(everything):
        answer = answered(everything)
    if answer.frame is None:
        raise CatalogError(
            f"DuckDB refused the query: {answer.facts['refused']}",
            where="query_sql",
            todo="a query opens files of its version only; `SELECT path FROM partitions` names those of the years",
        )
    return answer.frame


def _needed(ask: _Ask, layout: Layout, manifest: SyncManifest, sql: str, memory: int) -> set[str]:
    """The files that a statement opens by its plan, or names."""
    everything = all_files(manifest)
    # A pipe in a file's place would be waited for.
    openable = [file.path for file in everything if layout.resolve(file.path).is_file()]
    found = ask("plan", _question(layout, manifest, sql, memory, openable, planned=True)).facts["plan"]
    opened = [] if found is None else files_opened(str(found), manifest)
    return {file.path for file in [*opened, *(file for file in everything if layout.resolve(file.path).name in sql)]}


def _lacks_proof(answer: Answer, layout: Layout) -> bool:
    """Whether a statement was refused for a file that was not proven, and not for one that is none of the store's."""
    refusal = str(answer.facts.get("refused", ""))
    return NOT_PROVEN in refusal or str(layout.storage) in refusal


def _question(
    layout: Layout, manifest: SyncManifest, sql: str, memory: int, paths: Collection[str], *, planned: bool = False
) -> Question:
    views = view_statements(manifest, layout, proven=frozenset(paths), by_year=planned)
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
