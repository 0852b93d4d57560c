"""The last thing that was worked out, kept for whoever asks for the same again, in whichever thread."""

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["LastValueCache"]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class LastValueCache(Generic[_Key, _Value]):
    """One value, with what it was made from.

    Both are kept as one tuple that is read once and replaced at once: what another thread puts there meanwhile is never
    given for what was asked for. Two threads that ask at the same time may both make it.
    """

    def __init__(self) -> None:
        self._last: tuple[_Key, _Value] | None = None

    def of(self, key: _Key, make: Callable[[], _Value]) -> _Value:
        """The value that `make` gives for a key."""
        last = self._last
        if last is None or last[0] != key:
            last = self._last = key, make()
        return last[1]
