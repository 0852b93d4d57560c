"""Untrusted texts of files, as messages show them: on one line, without control characters, never long."""

from typing import Final

__all__ = ["CELL", "LINE", "displayed"]

#: Characters of a name or a value; no symbol, date or number has as many.
CELL: Final = 100
#: Characters of a sentence about one.
LINE: Final = 2_000
_BYTES: Final = range(0xDC80, 0xDD00)


def displayed(text: str, most: int = CELL) -> str:
    """A text with an ellipsis for the middle of a long one, and escapes for what cannot be printed."""
    half = most // 2
    short = text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
    return short if short.isprintable() else "".join(map(_printable, short))


def _printable(char: str) -> str:
    if char.isprintable():
        return char
    # A byte of a name that is not UTF-8 comes as half a character.
    return f"\\x{ord(char) - 0xDC00:02x}" if ord(char) in _BYTES else char.encode("unicode_escape").decode()
