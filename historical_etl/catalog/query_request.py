"""What is asked of a database of views, as it goes to the process that answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["NOT_PROVEN", "Params", "Question"]

Params = Sequence[object] | Mapping[str, object] | None
#: What a view of a file that was not proven says when it is read.
NOT_PROVEN: Final = "historical_etl: not proven"


@dataclass(frozen=True)
class Question:
    """A statement, and what it may see.

    Attributes:
        sql: a single reading statement.
        views: `CREATE VIEW` statements.
        paths: the files that may be opened.
        memory: bytes that DuckDB may take.
    """

    sql: str
    views: tuple[str, ...]
    paths: tuple[str, ...]
    memory: int
