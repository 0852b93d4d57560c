"""`dagster asset materialize` as a user types it, in processes of its own."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import dagster as dg
import pytest

from historical_etl import HistoricalETL
from historical_etl_tests.orchestration.harness import PRICES, sample
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import current_manifest, daily_bytes, store

_PROJECT = Path(__file__).parents[2]
_DAGSTER = Path(sys.executable).with_name("dagster")
#: Commits two years, then takes the writer lock and never lets it go.
_STUCK = """
import time
from pathlib import Path

from historical_etl.markets import assemble
from historical_etl.resources import PriceSourceResource
from historical_etl.sources.sample import SampleSource
from historical_etl.store.manifest import ManifestManager


class Stuck(SampleSource):
    def fetch(self, request):
        if request.end.year == 2003:
            with ManifestManager({root!r}).acquire_lock():
                Path({marker!r}).touch()
                time.sleep(600)
        return super().fetch(request)


class StuckResource(PriceSourceResource):
    def open(self, settings, clock=None):
        return Stuck()


defs = assemble(source=StuckResource())
"""


@dataclass
class Shell:
    """A user's shell: a working directory, an instance, a data folder, and no settings from outside."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "data"

    @property
    def env(self) -> dict[str, str]:
        outside = {key: value for key, value in os.environ.items() if not key.startswith(("HISTORICAL_", "DAGSTER_"))}
        return outside | {"DAGSTER_HOME": str(self.folder / "home"), "PYTHONPATH": str(_PROJECT)}

    def materialize(self, *arguments: str, target: Sequence[str] = (), **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments, target=target),
            cwd=self.folder,
            env=self.env | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
        )

    def command(self, *arguments: str, target: Sequence[str] = ()) -> list[str]:
        where = target or ("-m", "historical_etl.definitions")
        return [str(_DAGSTER), "asset", "materialize", *where, "--select", "daily_prices*", *arguments]

    def shown_years(self) -> list[str]:
        with dg.DagsterInstance.from_config(str(self.folder / "home")) as instance:
            return sorted(instance.get_materialized_partitions(PRICES))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "home").mkdir()
    shutil.copy(_PROJECT / "dagster_home" / "dagster.yaml", tmp_path / "home")
    return Shell(tmp_path)


def rows(root: Path) -> list[tuple[int, int]]:
    etl = HistoricalETL.open(root, sample())
    return etl.query_sql("SELECT year(date), count(*) FROM daily_prices GROUP BY 1 ORDER BY 1").rows()


def test_one_year(shell: Shell) -> None:
    done = shell.materialize("--partition", "2012")

    assert done.returncode == 0, done.stdout
    assert [path.name for path in (shell.root / "historical" / "daily").iterdir()] == ["2012.parquet"]
    assert rows(shell.root) == [(2012, 1155)]
    assert "exception" not in done.stdout.lower()


def test_all_years_are_one_run_and_the_bytes_of_the_library(shell: Shell) -> None:
    done = shell.materialize("--partition-range", "2000...2013")

    assert done.returncode == 0, done.stdout
    assert shell.shown_years() == [str(year) for year in range(2000, 2014)]
    assert sum(count for _, count in rows(shell.root)) == 12154
    alone = store(shell.folder / "alone", sample())
    for year in (2013, 2001, 2007, 2000, 2012, 2003, 2002, 2006, 2011, 2004, 2009, 2008, 2005, 2010):
        alone.run_year(year, publish=False)
    assert daily_bytes(HistoricalETL.open(shell.root, sample())) == daily_bytes(alone)


@pytest.mark.parametrize("years", [("--partition", "2014"), ("--partition-range", "2012...2031")])
def test_a_year_outside_the_coverage(shell: Shell, years: tuple[str, str]) -> None:
    done = shell.materialize(*years)

    assert done.returncode != 0
    assert done.stdout == Saying("lies outside", "2000 to 2013")
    assert done.stdout == Saying("Next", "ask for a year")
    assert not shell.root.exists()


def test_a_wrong_setting(shell: Shell) -> None:
    done = shell.materialize("--partition", "2012", HISTORICAL_ETL_SETTLE_MINUTES="soon")

    assert done.returncode != 0
    assert "ConfigurationError: HISTORICAL_ETL_SETTLE_MINUTES='soon'" in done.stdout
    assert "ValidationError" not in done.stdout


@pytest.mark.crash
def test_a_killed_run_holds_nothing_up(shell: Shell) -> None:
    marker = shell.folder / "lock is held"
    (shell.folder / "stuck.py").write_text(_STUCK.format(root=str(shell.root), marker=str(marker)))
    stuck = subprocess.Popen(
        shell.command("--partition-range", "2001...2013", target=("-f", "stuck.py")),
        cwd=shell.folder,
        env=shell.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not marker.exists():
        assert stuck.poll() is None
        time.sleep(0.02)
    stuck.kill()
    stuck.wait()
    assert shell.shown_years() == [], "Dagster tells of a range when its step ends"

    started = time.monotonic()
    done = shell.materialize("--partition", "2003", HISTORICAL_ETL_LOCK_TIMEOUT_SECONDS="0")

    assert done.returncode == 0, done.stdout
    assert time.monotonic() - started < 60
    assert "ended without releasing the lock" in done.stdout
    assert shell.shown_years() == ["2001", "2002", "2003"], "what the killed run had committed is found in the store"
    assert [p.year for p in current_manifest(HistoricalETL.open(shell.root, sample())).partitions] == [2001, 2002, 2003]


@pytest.mark.crash
def test_a_terminated_run_fails_and_shows_what_it_committed(shell: Shell) -> None:
    marker = shell.folder / "lock is held"
    (shell.folder / "stuck.py").write_text(_STUCK.format(root=str(shell.root), marker=str(marker)))
    stuck = subprocess.Popen(
        shell.command("--partition-range", "2001...2013", target=("-f", "stuck.py")),
        cwd=shell.folder,
        env=shell.env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not marker.exists():
        assert stuck.poll() is None
        time.sleep(0.02)
    stuck.send_signal(signal.SIGTERM)

    assert stuck.wait(60) == 1
    assert shell.shown_years() == ["2001", "2002"]
    path = shell.root / "historical" / "daily" / "2002.parquet"
    partitions = current_manifest(HistoricalETL.open(shell.root, sample())).partitions
    assert sha256(path.read_bytes()).hexdigest() == partitions[-1].checksum
