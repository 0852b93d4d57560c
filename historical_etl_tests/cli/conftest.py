"""A command line in a folder of its own, called in this process where that is enough."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from historical_etl import HistoricalETL
from historical_etl.cli import main
from historical_etl.etl import pipeline
from historical_etl.sources.fetcher import SOURCES
from historical_etl_tests.proofs.faults.stage import FIRST, PLAIN, SINCE, day
from historical_etl_tests.proofs.simulation.faults import Fault, ImpossibleRows, LateCorrection, LostDays
from historical_etl_tests.proofs.simulation.market import SimListing, SimMarket
from historical_etl_tests.proofs.simulation.run import Life
from historical_etl_tests.proofs.simulation.shell import Answer
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import at

PROGRAM = [sys.executable, "-c", "import sys; from historical_etl.cli import main; sys.exit(main())"]


#: One symbol for each thing that happens, on the evenings after the backfill.
LISTINGS = (
    SimListing("CRSH", crashes=((day(2), -0.5),)),  # halves, and nothing explains it: held
    SimListing("SPLT", splits=((day(3), 2.0),)),
    SimListing("CORR"),
    SimListing("LATE"),
    SimListing("LOST"),
    SimListing("BAD"),
)
FAULTS: tuple[Fault, ...] = (
    LateCorrection("CORR", day(2), "volume", 0.73, start=day(2), until=day(3)),
    LostDays("LATE", (day(1),), start=day(1), until=day(2)),
    LostDays("LOST", (day(3),), start=day(3)),
    ImpossibleRows("BAD", day(2), "close", -1.0, start=day(2), until=day(3)),
)


class CommandLine:
    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.patch = patch
        self.vendor: Any = None  # the simulated one of tests that have one
        self._capture = capture

    def __call__(self, *arguments: str) -> Answer:
        """In this process: fast, once its modules are loaded."""
        self._capture.readouterr()
        code = main(arguments)
        shown = self._capture.readouterr()
        answer = Answer(code, shown.out, shown.err)
        assert "Traceback" not in answer.err
        return answer

    def process(self, *arguments: str, stdout: int | IO[bytes] = subprocess.PIPE, given: str = "") -> Answer:
        """In a process of its own, as from a shell."""
        ran = subprocess.run(
            [*PROGRAM, *arguments],
            check=False,
            stdout=stdout,
            stderr=subprocess.PIPE,
            input=given.encode(),
            timeout=120,
        )
        return Answer(ran.returncode, (ran.stdout or b"").decode(errors="surrogateescape"), ran.stderr.decode())

    def set(self, **settings: str) -> None:
        for name, value in settings.items():
            self.patch.setenv(f"HISTORICAL_ETL_{name}", value)

    def bytes_stored(self) -> dict[str, str]:
        """Every file of the store by its SHA-256, but for the lock's record, notes of runs and the quarantine."""
        aside = {"quarantine", "runs"}
        return {
            str(path.relative_to(self.data)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.data.rglob("*"))
            if path.is_file() and path.suffix != ".lock" and aside.isdisjoint(path.relative_to(self.data).parts)
        }


Stage = Callable[..., CommandLine]


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return command_line(tmp_path, capsys, monkeypatch)


@pytest.fixture
def stage(cli: CommandLine) -> Stage:
    """A command line whose source is a simulated vendor; its evening is set with `vendor.today`."""

    def make(*faults: Fault, until: int = 3) -> CommandLine:
        vendor = SimVendor(
            SimMarket(seed=4, symbols=(*PLAIN, *LISTINGS), first=FIRST, last=day(20)), (*FAULTS, *faults)
        )
        life = Life(cli.data, vendor)
        life.backfill(SINCE)
        life.through(day(until))
        cli.patch.setitem(SOURCES, "simulated", lambda _: vendor)
        cli.patch.setattr(pipeline, "clock_for", lambda *_: at(vendor.today))
        cli.set(SOURCE="simulated", START=FIRST.isoformat())
        cli.vendor = vendor
        return cli

    return make


def evening(cli: CommandLine, number: int, *arguments: str) -> Answer:
    """A command, by default an update, on the evening of a session of the simulated market."""
    cli.vendor.today = day(number)
    return cli(*(arguments or ("update",)))


@pytest.fixture
def filled(cli: CommandLine, _prepared: Path) -> CommandLine:
    """With the sample of 2012 and 2013, 1,360 rows, to do with as one likes."""
    subprocess.run(["cp", "-a", str(_prepared), str(cli.data)], check=True)  # with its hard links
    HistoricalETL.open(cli.data).publish_catalog()  # it names the files by their whole paths
    return cli


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared") / "data"
    ran = subprocess.run(
        [*PROGRAM, "--data-dir", str(root), "backfill", "--from", "2012"],
        check=False,
        capture_output=True,
        cwd=root.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return root


@pytest.fixture(scope="session")
def _common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("common")


@pytest.fixture
def common(
    _common_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[CommandLine]:
    """As `filled`, but for looking only: one store for all tests that leave it as it is."""
    cli = command_line(_common_folder, capsys, monkeypatch)
    if not cli.data.exists():
        assert cli("backfill", "--from", "2012").code == 0
    before = cli.bytes_stored()
    yield cli
    assert cli.bytes_stored() == before


def command_line(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    # Processes find the package, wherever they run.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(folder)
    return CommandLine(folder, capsys, monkeypatch)
