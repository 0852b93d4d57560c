"""What a task gives back, and how large it may be."""

import struct
from dataclasses import dataclass, field
from typing import Final

import polars as pl

__all__ = ["HEAD", "MOST_FACTS", "SIZE", "Answer"]

#: How an answer on its way tells its length, and a request its length, its seconds and its bytes of memory.
SIZE: Final = struct.Struct("<Q")
HEAD: Final = struct.Struct("<QdQ")
MOST_FACTS: Final = 16 * 1024**2


@dataclass(frozen=True)
class Answer:
    """The answer of a task.

    Attributes:
        facts: what JSON can hold.
        frame: rows.
    """

    facts: dict[str, object] = field(default_factory=dict[str, object])
    frame: pl.DataFrame | None = None
