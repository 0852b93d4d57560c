"""The error tree: drawn as it is, picklable, and each message with its next step."""

import ast
import errno
import inspect
import pickle
import re
from pathlib import Path

import pytest

from historical_etl import errors
from historical_etl.durable import storage_errors
from historical_etl.errors import DiskSpaceError, HistoricalETLError, StorageError

PACKAGE = Path(errors.__file__).parent
CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, HistoricalETLError)
}
#: What CONTRACTS.md promises, typed by hand: class → its parent.
PROMISED = {
    "ConfigurationError": "HistoricalETLError",
    "DataQualityError": "HistoricalETLError",
    "SchemaDriftError": "DataQualityError",
    "ChecksumMismatchError": "DataQualityError",
    "DiskSpaceError": "StorageError",
    "LockTimeoutError": "HistoricalETLError",
    "LockNotHeldError": "HistoricalETLError",
    "ManifestCorruptError": "HistoricalETLError",
    "ETLProgressError": "HistoricalETLError",
    "ProviderError": "HistoricalETLError",
    "ProviderUnavailableError": "ProviderError",
    "ProviderNotSupportedError": "ProviderError",
    "RateLimitedError": "ProviderError",
    "CoverageError": "ProviderError",
    "CatalogError": "HistoricalETLError",
}


def drawn_tree() -> dict[str, str | None]:
    """Class → parent, as the drawing in the module's docstring has it."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            parents[match[2]] = path[depth - 1] if depth else None
    return parents


def test_the_drawing_is_the_tree():
    tree: dict[str, str | None] = {name: kind.__bases__[0].__name__ for name, kind in CLASSES.items()}
    tree["HistoricalETLError"] = None
    assert drawn_tree() == tree
    assert sorted(CLASSES) == errors.__all__


def test_every_error_that_the_package_raises_says_what_to_do_next():
    without = [
        f"{path.relative_to(PACKAGE)}:{call.lineno}"
        for path in PACKAGE.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id in CLASSES
        and not any(keyword.arg in {"todo", None} for keyword in call.keywords)
    ]
    assert without == []


def test_the_promised_classes_are_there():
    for name, parent in PROMISED.items():
        assert issubclass(CLASSES[name], CLASSES[parent]), name


@pytest.mark.parametrize("name", CLASSES)
def test_an_error_survives_pickling(name):
    error = CLASSES[name]("Disk is gone", where=Path("/data"), todo="fetch it back")
    error.add_note("a note")
    vars(error)["years"] = [2011]
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is CLASSES[name]
    assert (copy.what, copy.where, copy.todo) == ("Disk is gone", "/data", "fetch it back")
    assert str(copy) == str(error)
    assert copy.__notes__ == ["a note"]
    assert vars(copy)["years"] == [2011]
    assert copy.retryable == error.retryable


def test_a_message_says_what_where_and_what_next():
    assert str(HistoricalETLError("It broke.", where="/x", todo="repair it")) == "It broke [/x]. Next: repair it"
    assert str(HistoricalETLError("It broke")) == "It broke."


def test_only_what_may_pass_by_itself_is_retryable():
    assert {name for name, kind in CLASSES.items() if kind.retryable} == {
        "DiskSpaceError",
        "LockTimeoutError",
        "NotPublishedError",
        "ProviderUnavailableError",
        "RateLimitedError",
    }


@pytest.mark.parametrize(
    ("number", "kind", "word"),
    [
        (errno.ENOSPC, DiskSpaceError, "No space left while writing"),
        (errno.EDQUOT, DiskSpaceError, "No space left while writing"),
        (errno.EACCES, StorageError, "Permission denied while writing"),
        (errno.EROFS, StorageError, "Read-only file system while writing"),
        (errno.EIO, StorageError, "Input/output error while writing"),
    ],
)
def test_what_the_file_system_refuses_is_one_of_ours(number, kind, word):
    import os

    with pytest.raises(StorageError, match=word) as caught, storage_errors("writing", Path("/data")):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) is kind
    assert caught.value.where == "/data"
    assert caught.value.todo
    assert isinstance(caught.value.__cause__, OSError)
