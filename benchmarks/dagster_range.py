"""What Dagster's range run over the 14 sample years costs, against the same run with an empty asset.

Both are `dagster asset materialize --partition-range 2000...2013` on an instance that exists already, each in a new
process, in turns; the smallest time of each counts, since everything else a machine does only adds. The bar is 1.3.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["measure"]

_ROOT = Path(__file__).resolve().parents[1]
_DAGSTER = Path(sys.executable).with_name("dagster")
_EMPTY = """
import dagster as dg

YEARS = dg.TimeWindowPartitionsDefinition(
    cron_schedule="0 0 1 1 *", fmt="%Y", start="2000", end="2014", timezone="America/New_York"
)


@dg.asset(partitions_def=YEARS, backfill_policy=dg.BackfillPolicy.single_run())
def daily_prices() -> None: ...


@dg.asset(deps=[daily_prices], backfill_policy=dg.BackfillPolicy.single_run())
def price_catalog() -> None: ...


defs = dg.Definitions([daily_prices, price_catalog], executor=dg.in_process_executor)
"""


def measure(turns: int = 3) -> dict[str, float]:
    """Seconds of the two runs, and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home, data, empty = folder / "home", folder / "data", folder / "empty_defs.py"
        home.mkdir()
        shutil.copy(_ROOT / "dagster_home" / "dagster.yaml", home)
        empty.write_text(_EMPTY)
        env = {key: value for key, value in os.environ.items() if not key.startswith(("HISTORICAL_ETL_", "DAGSTER_"))}
        env |= {"DAGSTER_HOME": str(home), "HISTORICAL_ETL_DATA_DIR": str(data), "PYTHONPATH": str(_ROOT)}
        _run(["-f", str(empty)], env, folder)  # makes the instance's databases
        floor: list[float] = []
        ours: list[float] = []
        for _ in range(turns):
            floor.append(_run(["-f", str(empty)], env, folder))
            shutil.rmtree(data, ignore_errors=True)
            ours.append(_run(["-m", "historical_etl.definitions"], env, folder))
    return {
        "dagster_range_seconds": min(ours),
        "dagster_empty_seconds": min(floor),
        "dagster_range_ratio": min(ours) / min(floor),
    }


def _run(target: list[str], env: dict[str, str], folder: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(
        [_DAGSTER, "asset", "materialize", *target, "--select", "daily_prices*", "--partition-range", "2000...2013"],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the run failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:24} {value:.2f}")
