"""The words that `docs/glossary.md` rules out are in no name, no message, no page and no test."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import historical_etl
import historical_etl_tests
from historical_etl_tests.docs.blocks import REPOSITORY

GLOSSARY: Final = REPOSITORY / "docs" / "glossary.md"
PACKAGE: Final = Path(historical_etl.__file__).parent
TESTS: Final = Path(historical_etl_tests.__file__).parent
#: Decision pages and the changelog are records of their day, and this page has to name the words.
PAGES: Final = sorted(
    page
    for page in (*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"))
    if page != GLOSSARY and page.name != "CHANGELOG.md" and page.parent.name != "decisions"
)
#: Names that others read: JSON keys, fields of published classes, columns of ledgers, settings.
PUBLISHED: Final = {
    "set_aside": "field of `ETLResult` and `FetchResult`, and key of `adopt --json`",
    "mended": "key of `repair --json`",
    "settled": "key of the lock file",
}
#: Names that only tests use, and that are not ours to choose.
FOREIGN: Final = {
    "tell": "method of a file",
}
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


@cache
def ruled_out(*kinds: str) -> tuple[str, ...]:
    """The words of all lists of some kinds: "Not" and "Not as a name"."""
    lists = re.findall(rf"^(?:{'|'.join(kinds)}): (.+)$", GLOSSARY.read_text(), re.MULTILINE)
    return tuple(sorted({word.strip().lower() for words in lists for word in words.split(",")}))


@cache
def found_in(text: str, words: tuple[str, ...]) -> list[str]:
    """The words that a text uses. What is in backticks names a column, a key or a command, or shows output."""
    text = re.sub(r"```.*?```|`[^`]*`", " ", text, flags=re.DOTALL)
    pattern = rf"(?<![\w-])({'|'.join(map(re.escape, words))})(?![\w-])"
    return re.findall(pattern, re.sub(r"\s+", " ", text), re.IGNORECASE)


def names(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Docstrings, messages and comments. A text without a space is a name or a key."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def words_of(name: str) -> str:
    return " ".join(_WORD.findall(name)).lower()


@pytest.mark.parametrize("path", modules(PACKAGE), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_uses_a_word_that_is_ruled_out(path: Path) -> None:
    assert_no_word_is_ruled_out(path, PUBLISHED.keys())


@pytest.mark.parametrize("path", modules(TESTS), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_uses_a_word_that_is_ruled_out(path: Path) -> None:
    assert_no_word_is_ruled_out(path, PUBLISHED.keys() | FOREIGN.keys())


def assert_no_word_is_ruled_out(path: Path, allowed: AbstractSet[str]) -> None:
    anywhere = ruled_out("Not")
    in_names = ruled_out("Not", "Not as a name")
    source = path.read_text()
    wrong = [
        f"{path.name}:{line}: {name}"
        for line, name in [(0, path.stem), *names(source)]
        if name not in allowed
        if found_in(words_of(name), in_names)
    ]
    wrong += [f"{path.name}:{line}: {word!r}" for line, text in texts(source) for word in found_in(text, anywhere)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_no_page_uses_a_word_that_is_ruled_out(page: Path) -> None:
    assert not found_in(page.read_text(), ruled_out("Not"))


def test_each_term_is_explained_once() -> None:
    terms = re.findall(r"^### (.+)\n(.+)$", GLOSSARY.read_text(), re.MULTILINE)
    assert terms
    assert len({term for term, _ in terms}) == len(terms)
    assert not [term for term, meaning in terms if meaning.startswith("Not")]


def test_no_term_is_ruled_out_by_another() -> None:
    terms = re.findall(r"^### (.+)$", GLOSSARY.read_text(), re.MULTILINE)
    assert not [word for term in terms for word in found_in(term, ruled_out("Not"))]
