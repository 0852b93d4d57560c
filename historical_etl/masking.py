"""Secrets and the texts that people read: what of them is masked, and which values of settings are shown."""

import difflib
import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Final
from urllib.parse import quote

__all__ = ["SHORTEST", "display_path", "display_value", "hidden", "looks_secret", "masked"]

#: A shorter secret is masked nowhere: it would take words apart, and is hardly one.
SHORTEST: Final = 8
_MASK: Final = "***"
_TOKEN: Final = re.compile(r"[^\s,]+")
#: What can be shown whatever it is: short words, numbers and dates.
_PLAIN: Final = re.compile(
    r"\S{1,7}|[A-Za-z]{1,10}|\d{1,11}|(?=.{1,25}\Z)\d{1,4}(?:[.:/+\-T]\d{1,4})+Z?|[%\w:./-]{0,3}%[%\w:./-]{1,16}"
)
_SHOWN: Final = 100
_FEW: Final = 3  # different characters: no key has so few
_NEAR: Final = 0.6
_NAME: Final = 32
#: Letters and digits that take turns, or cases in a way that no words do.
_TURNS: Final = re.compile(r"[A-Za-z]+\d+[A-Za-z]|\d+[A-Za-z]+\d|[a-z][A-Z]{2,}[a-z]|[A-Za-z]{20}|\d{16}")
#: Before and behind a whole token. A percent code or an escape may stand before it, and a full stop behind it.
_BEFORE: Final = r"(?:(?<=%[0-9A-Fa-f]{2})|(?<=\\[nrt])|(?<![\w.\-]))"
_BEHIND: Final = r"(?![\w\-]|\.\w)"


def masked(text: str, secrets: Iterable[str]) -> str:
    """`text` without secrets: whole tokens of at least `SHORTEST` characters, in an address too, never in a path."""
    long = [secret for secret in secrets if len(secret) >= SHORTEST]
    spelt = {form for secret in long for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1])}
    if not any(form in text for form in spelt):
        return text
    any_of = "|".join(re.escape(form) for form in sorted(spelt, key=len, reverse=True))

    def replaced(found: re.Match[str]) -> str:
        return found.group() if _is_of_path(text, *found.span()) else _MASK

    return re.sub(f"{_BEFORE}(?:{any_of}){_BEHIND}", replaced, text)


def looks_secret(text: str) -> bool:
    """Whether a text may be a key or a password, which nobody would write as the name of anything."""
    pieces = re.split(r"[^A-Za-z0-9]+", text)
    return sum(len(piece) for piece in pieces if _TURNS.search(piece) and len(set(piece)) > _FEW) >= SHORTEST


def hidden(text: str, secrets: Iterable[str] = ()) -> bool:
    """Whether the value of a setting that names a file or a word is not shown: it is a secret, or looks like one."""
    given = text.strip()
    if any(secret in given for secret in secrets if len(secret) >= SHORTEST):
        return True
    name = given.rpartition("/")[2] if given.startswith(("/", "~", ".")) else given
    return looks_secret(name) and not _is_there(given)


def display_value(value: object, known: Iterable[str] = ()) -> str:
    """A refused value as a message shows it, in quotes; or a text in its place, where it may be a secret.

    Args:
        value: of a setting or an argument.
        known: names that are allowed, where there are some: then one that resembles them, or does not look like a key,
            is a typing error and no secret.
    """
    text = str(value)
    words = [str(word).lower() for word in known]
    near = any(difflib.SequenceMatcher(None, text.strip().lower(), word).ratio() >= _NEAR for word in words)
    is_name = bool(words) and len(text) <= _NAME and not looks_secret(text)
    is_address = "@" in text or "://" in text
    if not is_address and (near or is_name or all(_PLAIN.fullmatch(token) for token in _TOKEN.findall(text))):
        return repr(text[:_SHOWN])
    return f"({len(text)} characters, not shown since they may be a secret)"


def display_path(value: object, variable: str) -> str:
    """Where a file was looked for; the name of the variable instead, where its value looks like a key."""
    return variable if hidden(str(value)) else str(value)


def _is_there(path: str) -> bool:
    with suppress(ValueError):
        return os.path.lexists(os.path.expanduser(path))  # noqa: PTH111 - a link to nowhere is there, too
    return False


def _is_of_path(text: str, first: int, last: int) -> bool:
    """Whether a token is beside a slash, and not in an address."""
    if "/" not in (text[first - 1 : first], text[last : last + 1]):
        return False
    run = re.split(r"\s", text[:first])[-1]
    return "://" not in run
