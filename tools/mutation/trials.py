"""Trying a mutant: in a process forked from one that has everything loaded, or in a new interpreter."""

import gc
import importlib
import inspect
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final, NamedTuple

import pytest

from tools.mutation.operators import Edit

__all__ = ["FAILED", "PYTEST", "Mutant", "Trial", "Trials", "changed_function", "fresh"]

PYTEST: Final = ("-p", "no:cacheprovider", "-p", "no:randomly", "-q", "-n", "0")
FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", re.MULTILINE)


class Mutant(NamedTuple):
    """The change of this number in a module."""

    module: str
    number: int


@dataclass(frozen=True)
class Trial:
    """A mutant, the tests that shall notice it, and how long they may take."""

    mutant: Mutant
    edit: Edit
    code: CodeType | None
    tests: list[str]
    limit: float

    @property
    def module(self) -> str:
        return self.mutant.module


def fresh(tests: list[str], seconds: float) -> tuple[str, str]:
    """Run tests in a new interpreter, for a change to what a module does when it is imported."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *PYTEST, "-x", *tests]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as ran:
        try:
            told, _ = ran.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(ran.pid, signal.SIGKILL)
            return "hung", ""
    failed = FAILED.search(told)
    if ran.returncode in (4, 5) and "ImportError while loading conftest" not in told:
        return "error", told[-300:]
    return ("survived", "") if ran.returncode == 0 else ("killed", failed[1] if failed else "import")


class Trials:
    """A plugin for pytest: instead of running the tests, it tries mutants with them, each in a forked process.

    Everything is imported and collected once, before Polars has any threads. In the child the changed function gets
    its new code; processes that a test starts read it from the file.
    """

    def __init__(self, trials: Iterator[Trial], report: Callable[[Trial, str, str], None], notes: Path) -> None:
        self.trials, self.report, self.notes = trials, report, notes
        self.child = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        items = {item.nodeid: item for item in session.items}
        gc.freeze()  # else each collection in a child would copy all that is loaded
        for trial in self.trials:
            self.notes.write_text("")
            missing = [test for test in trial.tests if test not in items]
            if missing:
                self.report(trial, "error", f"not collected: {missing[0]}")
                continue
            child = os.fork()
            if child == 0:
                self.child = True
                os.setsid()
                for limit, size in ((resource.RLIMIT_FSIZE, 1 << 29), (resource.RLIMIT_DATA, 3 << 30)):
                    resource.setrlimit(limit, (size, size))
                if trial.code is not None:
                    _function(trial.module, trial.code.co_qualname).__code__ = trial.code
                session.items[:] = [items[test] for test in trial.tests]
                return None
            status = _await(child, time.monotonic() + trial.limit)
            by = self.notes.read_text()
            outcome = "hung" if status is None else "killed" if by or status else "survived"
            self.report(trial, outcome, by)
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if self.child:
            os._exit(exitstatus)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self.child and report.failed and not self.notes.read_text():
            self.notes.write_text(report.nodeid)


def _function(module: str, name: str) -> FunctionType:
    """A function of a module by its qualified name, without what its decorators made of it."""
    found: object = importlib.import_module(f"historical_etl.store.{module}")
    for part in name.split("."):
        found = vars(found)[part]
        while not isinstance(found, FunctionType | type) or hasattr(found, "__wrapped__"):
            found = next(getattr(found, a) for a in ("__wrapped__", "fget", "__func__") if hasattr(found, a))
    assert isinstance(found, FunctionType)
    return found


def changed_function(before: CodeType, after: CodeType) -> CodeType | None:
    """The one function whose code is not the same, as it is after; None if the module's or a class's own is not."""
    if _own(before) != _own(after):
        return after if before.co_flags & inspect.CO_OPTIMIZED else None
    pairs = zip(_inner(before), _inner(after), strict=True)
    for old, new in pairs:
        if not _same(old, new):
            return after if before.co_flags & inspect.CO_OPTIMIZED else changed_function(old, new)
    return None


def _same(before: CodeType, after: CodeType) -> bool:
    if _own(before) != _own(after):
        return False
    return all(_same(old, new) for old, new in zip(_inner(before), _inner(after), strict=True))


def _own(code: CodeType) -> tuple[object, ...]:
    all_constants: tuple[object, ...] = code.co_consts
    constants = [(type(c), c) for c in all_constants if not isinstance(c, CodeType)]
    return code.co_code, code.co_names, code.co_varnames, code.co_exceptiontable, constants, len(_inner(code))


def _inner(code: CodeType) -> list[CodeType]:
    return [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _await(child: int, deadline: float) -> int | None:
    """The exit status of a child, None if it had to be killed; what it left behind goes with it."""
    status: int | None = None
    while time.monotonic() < deadline:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            status = os.waitstatus_to_exitcode(code)
            break
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return status
