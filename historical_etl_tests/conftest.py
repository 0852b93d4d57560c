"""What every test may use: a clean environment, a market, a folder for a store, and a small volume that fills up."""

import gc
import os
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from historical_etl_tests.scenario import Market, folder_in_memory
from historical_etl_tests.shares import RUN, chosen_cases, number_of, seed_of_commit
from historical_etl_tests.tools import TOOLS

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

_ROOT = Path(__file__).parent
#: CPU seconds of a whole run from which on the summary says where they went.
_WORTH_REPORTING = 60
#: The folders whose tests take longest or wait most begin, so that no worker is left alone with one of them at the end.
_EARLY = ("ui", "crash", "property", "orchestration", "faults")

# Examples are drawn by the seed of the run, on a CI server, too; how long an example takes decides nothing. `torture`
# is chosen with `--hypothesis-profile torture`; see `shares.examples`.
for _name in ("share", "torture"):
    settings.register_profile(
        _name,
        derandomize=False,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.load_profile("share")


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here, because pytest asks only the uppermost conftest for options.
    parser.addoption("--seed", help="from which all shares are drawn; by default it follows from the commit")
    parser.addoption(
        "--share",
        action="store_true",
        help="of parametrized tests whose cases take long, try a share of the cases (make test)",
    )
    parser.addoption("--kills", type=int, default=20, help="how many writers the crash tests kill (make torture: 300)")
    parser.addoption(
        "--torture",
        action="store_true",
        help="every point and state of the proofs by fault, not a share (make torture)",
    )
    parser.addoption(
        "--many-minutes", type=float, default=1 / 6, help="how long many work on one store at once (make torture: 60)"
    )
    parser.addoption(
        "--lacking",
        action="append",
        default=[],
        choices=[tool.package for tool in TOOLS],
        help="a program that is not there: leave out the tests that need it (make test finds out)",
    )
    parser.addoption("--screenshots", type=Path, help="save the pictures of the documentation in this folder")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for the shares, for the examples of Hypothesis and for the order, before their plugins look."""
    given = getattr(config, "workerinput", {}).get("seed") or config.getoption("seed")
    RUN.seed = given or seed_of_commit()
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(number_of("hypothesis"))
    if getattr(config.option, "randomly_seed", None) == "default":
        config.option.randomly_seed = number_of("order")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: "WorkerController") -> None:
    node.workerinput["seed"] = RUN.seed


def pytest_report_header(config: pytest.Config) -> str:
    share = ", a share of the cases that take long" if config.getoption("share") else ""
    return f"seed: {RUN.seed} (make test SEED={RUN.seed} repeats this run){share}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    lacking: list[str] = config.getoption("--lacking")  # pyright: ignore[reportAssignmentType] - as it was declared
    markers = [tool.marker for tool in TOOLS if tool.package in lacking]
    kept = [item for item in items if not any(item.get_closest_marker(name) for name in markers)]
    kept = chosen_cases(kept) if config.getoption("share") else kept
    names = {item.nodeid for item in kept}
    if left_out := [item for item in items if item.nodeid not in names]:
        config.hook.pytest_deselected(items=left_out)
    workers: int = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = _dealt(sorted(kept, key=_turn), workers)


def _turn(item: pytest.Item) -> int:
    """When a test begins, beside the order by chance: those that take long first."""
    parts = item.path.relative_to(_ROOT).parts
    early = min((_EARLY.index(part) for part in parts if part in _EARLY), default=len(_EARLY))
    return early if item.get_closest_marker("slow") else len(_EARLY) + early


def _dealt(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests so that each worker begins with its part of the long ones: xdist gives each of them one stretch."""
    long = [item for item in items if item.get_closest_marker("slow")]
    rest = [item for item in items if not item.get_closest_marker("slow")]
    dealt: list[pytest.Item] = []
    for worker in range(workers):
        stretch = len(items) * (worker + 1) // workers - len(items) * worker // workers
        mine = long[worker::workers]
        dealt += mine
        taken, rest = rest[: max(stretch - len(mine), 0)], rest[max(stretch - len(mine), 0) :]
        dealt += taken
    return dealt + rest


def pytest_collection_finish() -> None:
    # What is loaded stays to the end: the garbage collector need not look at it again and again.
    gc.collect()
    gc.freeze()


_spent: list[float] = [0.0]


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logstart() -> None:
    _spent[0] = _cpu_seconds()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add to each report what it cost, and to a failure how to repeat it."""
    report = yield
    before, _spent[0] = _spent[0], _cpu_seconds()
    report.user_properties.append(("cpu_seconds", _spent[0] - before))
    if report.failed:
        report.sections.append(("seed", f"{RUN.seed} (make test SEED={RUN.seed} ARGS='{report.nodeid}')"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of each proof by fault was tried, and where the time went."""
    reports = [
        report for each in terminalreporter.stats.values() for report in each if isinstance(report, pytest.TestReport)
    ]
    tried = [
        f"{report.nodeid.rpartition('::')[2]}: {reported}"
        for report in reports
        if report.when == "call"
        for name, reported in report.user_properties
        if name == "tried"
    ]
    if tried:
        terminalreporter.section("proofs by fault")
        for line in sorted(tried):
            terminalreporter.write_line(line)
    spent: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        folder = Path(report.nodeid.partition("::")[0]).parent.name
        spent[folder] += sum(
            value for name, value in report.user_properties if name == "cpu_seconds" and isinstance(value, float)
        )
    if sum(spent.values()) > _WORTH_REPORTING:
        terminalreporter.section("CPU seconds")
        each = ", ".join(
            f"{folder} {seconds:.0f}" for folder, seconds in sorted(spent.items(), key=lambda each: -each[1])
        )
        terminalreporter.write_line(f"{sum(spent.values()):.0f}: {each}")


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
    memory = folder_in_memory()
    if memory is None:
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
