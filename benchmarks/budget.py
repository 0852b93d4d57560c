"""`budget.json`: how much of each thing a case may do, and what the last full measurement gave."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import BaseModel, Field

__all__ = ["BUDGET", "Budget"]

BUDGET: Final = Path(__file__).with_name("budget.json")


class Budget(BaseModel):
    """What is in the file.

    Attributes:
        polars: the version that the counts were taken with; another one may make other queries of the same work.
        counts: by case, the most that it may do.
        ratios: by line of the table, what the last full `make bench` measured.
    """

    polars: str = ""
    counts: dict[str, dict[str, int]] = Field(default_factory=dict[str, dict[str, int]])
    ratios: dict[str, float] = Field(default_factory=dict[str, float])

    @classmethod
    def load(cls, path: Path) -> "Budget":
        return cls.model_validate_json(path.read_bytes()) if path.exists() else cls()

    def with_counts(self, counts: Mapping[str, Mapping[str, int]]) -> "Budget":
        """With those of some cases; the others stay."""
        taken = {**self.counts, **{case: dict(numbers) for case, numbers in counts.items()}}
        return self.model_copy(update={"counts": taken, "polars": pl.__version__})

    def with_ratios(self, ratios: Mapping[str, float]) -> "Budget":
        """With those of some lines; the others stay."""
        taken = {**self.ratios, **{line: round(ratio, 2) for line, ratio in ratios.items()}}
        return self.model_copy(update={"ratios": taken})

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.model_dump(), indent=2) + "\n", encoding="utf-8")
