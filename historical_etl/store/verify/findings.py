"""What a check of the store finds: values with the next step."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from historical_etl.models import Finding

__all__ = ["StoreFinding", "error", "warning"]

_SAMPLE: Final = 3


class StoreFinding(Finding):
    """A finding about the store, with the next step.

    `error` is damage. `warning` is what a crash or an unfinished run leaves, and the next write puts right.
    """

    todo: str = ""


def error(field: str, message: str, todo: str, items: Iterable[object] = ()) -> StoreFinding:
    """Damage; `items` are files or symbols concerned, of which a few are named."""
    return _finding("error", field, message, todo, items)


def warning(field: str, message: str, todo: str, items: Iterable[object] = ()) -> StoreFinding:
    """What the next write puts right; `items` as in `error`."""
    return _finding("warning", field, message, todo, items)


def _finding(
    severity: Literal["error", "warning"], field: str, message: str, todo: str, items: Iterable[object]
) -> StoreFinding:
    named = [str(item.name if isinstance(item, Path) else item) for item in items]
    return StoreFinding(
        field=field,
        message=message,
        severity=severity,
        count=max(1, len(named)),
        sample=tuple(named[:_SAMPLE]),
        todo=todo,
    )
