"""The last row of a CSV file that has no line end behind it: whether the file was cut inside its last field.

Many sound files end like that. What tells is the field beside those of the rows before: all of them have more decimals,
or more digits and several times its value, or one text that it is the beginning of.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

__all__ = ["cut_row"]

_TAIL: Final = 1 << 14
#: So many rows are compared at most, and at least.
_MOST, _LEAST = 40, 5
_NUMBER: Final = re.compile(r"(\d+)(?:[.,](\d*))?")
#: A number that has lost a digit is a tenth of itself; the true one may well be above the middle one of its neighbours.
_LESS: Final = 4


def cut_row(path: Path, separator: str, width: int) -> list[str] | None:
    """The fields of a file's last row, if it has all of them and the last one is cut; else None."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
    if tail.endswith(b"\n") or tail.startswith(b"\x1f\x8b") or path.suffix.lower() == ".gz":
        return None
    rows = [[field.strip() for field in line.split(separator)] for line in tail.decode("utf-8", "ignore").splitlines()]
    last = rows[-1] if rows else []
    near = [row[-1] for row in rows[1:-1] if len(row) == width and row[-1]][-_MOST:]
    return last if len(last) == width and _is_cut(last[-1], near) else None


def _is_cut(text: str, others: Sequence[str]) -> bool:
    if not text or len(others) < _LEAST:
        return False
    found = _NUMBER.fullmatch(text)
    near = [match for other in others if (match := _NUMBER.fullmatch(other))]
    if found is None or len(near) < len(others):
        return len(set(others)) == 1 and text != others[0] and others[0].startswith(text)
    decimals = {len(match[2] or "") for match in near}
    if len(decimals) == 1 and len(found[2] or "") < max(decimals):
        return True
    fewer = all(len(found[1]) < len(match[1]) for match in near)
    return text[-1] in ".," or (
        fewer and found[1] != "0" and int(found[1]) * _LESS <= median(int(match[1]) for match in near)
    )
