"""What every test may use: a clean environment, a market, a folder for a store, and a small volume that fills up."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from historical_etl_tests.scenario import Market
from historical_etl_tests.tools import TOOLS

# Chosen with `--hypothesis-profile torture`; see `hostile/mutations.py`.
settings.register_profile("torture", deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here, because pytest asks only the uppermost conftest for options.
    parser.addoption("--kills", type=int, default=60, help="how many writers the crash tests kill (make torture: 300)")
    parser.addoption(
        "--torture",
        action="store_true",
        help="every point and state of the proofs by fault, not a share (make torture)",
    )
    parser.addoption(
        "--many-minutes", type=float, default=1 / 3, help="how long many work on one store at once (make torture: 10)"
    )
    parser.addoption(
        "--lacking",
        action="append",
        default=[],
        choices=[tool.package for tool in TOOLS],
        help="a program that is not there: leave out the tests that need it (make test finds out)",
    )
    parser.addoption("--screenshots", type=Path, help="save the pictures of the documentation in this folder")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lacking: list[str] = config.getoption("--lacking")  # pyright: ignore[reportAssignmentType] - as it was declared
    markers = [tool.marker for tool in TOOLS if tool.package in lacking]
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in markers)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of each proof by fault was tried."""
    tried = [
        f"{report.nodeid.rpartition('::')[2]}: {told}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, told in report.user_properties
        if name == "tried"
    ]
    if tried:
        terminalreporter.section("proofs by fault")
        for line in sorted(tried):
            terminalreporter.write_line(line)


_observers: list[Callable[[str], None]] = []


def _report(event: str, _: tuple[object, ...]) -> None:
    if _observers and (event == "open" or event.startswith("os.")):
        watching, _observers[:] = _observers[:], []
        try:
            for observer in watching:
                observer(event)
        finally:
            _observers[:] = watching


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("HISTORICAL_ETL_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def market() -> Market:
    return Market()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The data folder of a store that does not exist yet; in memory where there is such a volume, for speed."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    if not os.access(memory, os.W_OK):
        yield tmp_path / "data"
        return
    with tempfile.TemporaryDirectory(prefix="historical-etl-", dir=memory) as folder:
        yield Path(folder) / "data"


@pytest.fixture(scope="session")
def watching() -> Callable[[Callable[[str], None]], AbstractContextManager[None]]:
    """Call a function before every change to the file system that this process makes, and every file it opens."""
    sys.addaudithook(_report)

    @contextmanager
    def watch(observer: Callable[[str], None]) -> Generator[None]:
        _observers.append(observer)
        try:
            yield
        finally:
            _observers.remove(observer)

    return watch


@pytest.fixture
def small_volume(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of its own with 2 MB; None where mounting is not allowed."""
    folder = tmp_path / "volume"
    folder.mkdir()
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
        )
    except FileNotFoundError:
        yield None
        return
    if mounted.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
