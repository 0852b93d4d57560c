"""What a task gives back, and how large it may be."""

import struct
from dataclasses import dataclass, field
from typing import Final

import polars as pl

__all__ = ["MOST_FACTS", "SIZE", "Answer"]

#: How a message on the way between pool and worker tells its length.
SIZE: Final = struct.Struct("<Q")
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
