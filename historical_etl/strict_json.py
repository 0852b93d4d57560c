"""JSON as it is written: of two equal names in one object none is silently the last one.

What JSON takes in memory depends on how many values it has, far more than on its length. So they are counted first.
"""

import json
from typing import Any, Final

__all__ = ["MOST_VALUES", "CrowdedError", "Twice", "answer_of", "object_of"]

#: Of one text: some times those of the largest answer, a whole market's day, and far more than a record has. The worst
#: text of 32 MiB that has no more takes 0.6 GB and 3 seconds.
MOST_VALUES: Final = 1 << 21


class CrowdedError(ValueError):
    """A text in JSON has more values than are read."""


class Twice:
    """In the place of a field that a vendor's answer has twice in one object: no reader takes it for a value."""

    def __repr__(self) -> str:
        """The text for a cell that cannot be read."""
        return "two values under one name"


_TWICE: Final = Twice()


def answer_of(text: str | bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The value of a text in JSON; where an object has two different values under one name, it has a `Twice` there.

    So a row that contradicts itself is refused as one that cannot be read, and the others are taken.

    Raises:
        CrowdedError: it has more than `MOST_VALUES`.
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(_counted(text), object_pairs_hook=_of_answer)


def object_of(text: str | bytes) -> Any:  # noqa: ANN401 - likewise
    """The value of a text in JSON.

    Raises:
        CrowdedError: it has more than `MOST_VALUES`.
        ValueError: it is no JSON, or an object has two values under one name.
        RecursionError: it is nested too deeply.
    """
    return json.loads(_counted(text), object_pairs_hook=_of_record)


def _counted(text: str | bytes) -> str:
    """A text that has not too many values: each but the first is behind a comma, or the first one of what holds it."""
    whole = text if isinstance(text, str) else text.decode(json.detect_encoding(text), "surrogatepass")
    if sum(map(whole.count, ",[{")) > MOST_VALUES:
        raise CrowdedError(f"it has more than {MOST_VALUES:,} values")
    return whole


def _of_answer(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for name, value in pairs:
            # True equals 1, and is another value.
            if repr(found[name]) != repr(value):
                found[name] = _TWICE
    return found


def _of_record(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"it has two values under the name {name[:40]!a}")
    return found
