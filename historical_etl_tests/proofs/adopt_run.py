"""A large folder of foreign files through `adopt`: `python -m historical_etl_tests.proofs.adopt_run`.

Prints how long it took, the peak of memory, and the account of the rows, which must be the one that was planted.
"""

import argparse
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from historical_etl import Settings
from historical_etl.etl.adopt import adopt, opened_for
from historical_etl_tests.foreign import Foreign


def _written(files: Foreign) -> Foreign:
    files.write()
    files.good.clear()
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--years", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = Foreign(Path(folder) / "files", asked.symbols, 2026 - asked.years, asked.years, asked.seed)
        # In a process of its own, so that the peak of memory is the adoption's.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            files = pool.submit(_written, files).result()
        size = sum(path.stat().st_size for path in files.folder.iterdir())
        print(f"{files.rows:,} rows of {asked.symbols} symbols in {size / 1e6:.0f} MB of files")
        settings = Settings(_env_file=None, data_dir=Path(folder) / "data", files={"path": str(files.folder)})  # pyright: ignore[reportCallIssue, reportArgumentType]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.perf_counter()
        done = adopt(opened_for(settings, clock=files.clock))
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run = done.result.duration_seconds if done.result else 0
        print(f"adopted in {seconds:.1f} s, {run:.1f} of them the run, the others reading and accounting")
        print(f"peak {peak / 1024:.0f} MB, {before / 1024:.0f} MB of it before")
        print(done.row_counts)
        row_counts = done.row_counts
        found = {name: getattr(row_counts, name) for name in files.fate}
        ok = found == dict(files.fate) and row_counts.read == files.rows and not row_counts.held
        print("every row is accounted for" if ok else f"planted: {dict(files.fate)}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
