"""JSON as it is written: of two equal names in one object none is silently the last one."""

import json
from typing import Any, Final

__all__ = ["Twice", "answer_of", "object_of"]


class Twice:
    """Stands where an object of a vendor's answer has two values under one name: no reader takes it for a value."""

    def __repr__(self) -> str:
        """As it is told of a cell that cannot be read."""
        return "two values under one name"


_TWICE: Final = Twice()


def answer_of(text: str | bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The value of a text in JSON; where an object has two different values under one name, it has a `Twice` there.

    So a row that contradicts itself is refused as one that cannot be read, and the others are taken.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_of_answer)


def object_of(text: str | bytes) -> Any:  # noqa: ANN401 - likewise
    """The value of a text in JSON.

    Raises:
        ValueError: it is no JSON, or an object has two values under one name.
        RecursionError: it is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_of_record)


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
