"""A message is tested by the facts in it, whatever words stand between them."""

import re
from typing import Final

__all__ = ["Saying"]


class Saying:
    """Equals each text of which one line has all of some facts: `answer.err == Saying("AAPL", "8 day")`.

    A fact is a name, a number, a date, a command, an option: what the reader needs. It begins and ends where a word or
    number does, so that `205` is not found in `1,205` or `2012` in `2012-01-03`.
    """

    def __init__(self, *facts: object) -> None:
        if not facts:
            raise ValueError("Saying needs at least one fact")
        self._facts: Final = tuple(str(fact) for fact in facts)

    def __eq__(self, text: object) -> bool:
        return isinstance(text, str) and any(
            all(_pattern(fact).search(line) for fact in self._facts) for line in text.splitlines()
        )

    def __hash__(self) -> int:
        return hash(self._facts)

    def __repr__(self) -> str:
        return f"Saying{self._facts}"


def _pattern(fact: str) -> re.Pattern[str]:
    before = r"(?<!\w)(?<!\d[.,-])" if re.match(r"\w", fact) else ""
    after = r"(?!\w)(?![.,-]?\d)" if re.search(r"\w$", fact) else ""
    return re.compile(before + re.escape(fact) + after)
