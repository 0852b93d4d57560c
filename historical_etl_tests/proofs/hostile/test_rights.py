"""Files have the rights that the umask leaves, and what must never change has no right to be written."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

#: Everything that a store writes: a run with a refused row, a failed one, damaged progress, a staged unit.
FILL = """
import os, sys
from datetime import date
from pathlib import Path
os.umask(int(sys.argv[2], 8))
from historical_etl.errors import HistoricalETLError
from historical_etl.models import Outcome
from historical_etl.store.staging import Staging
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, changing, store
day = date(2013, 1, 3)
spoilt = ScriptedFetcher(SHORT, alter=changing("HALT", day, close=-1.0))
etl = store(Path(sys.argv[1]), spoilt, date(2013, 1, 15), max_rejected_share=0.5)
etl.run_full_etl(["BRK.B", "HALT"], date(2012, 12, 3), date(2013, 1, 15))
etl.layout.progress_file().write_bytes(b"{")
later = store(etl.layout.root, ScriptedFetcher(SHORT), date(2013, 1, 31))
later.run_incremental_etl()
Staging(etl.layout, "request").put({"rows": SHORT.bars(["HALT"])}, {"HALT": Outcome.OK}, {})
try:
    nothing = ScriptedFetcher(SHORT, alter=lambda bars: bars.clear())
    store(etl.layout.root, nothing, date(2013, 2, 5)).run_incremental_etl()
except HistoricalETLError:
    pass
"""


@pytest.fixture(scope="module", params=["022", "027", "077"])
def filled(request, tmp_path_factory) -> tuple[Path, int]:
    root = tmp_path_factory.mktemp("rights") / "data"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", FILL, str(root), request.param]
    subprocess.run(command, check=True, env=environment, timeout=120)
    return root, int(request.param, 8)


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_is_there_to_be_looked_at(filled):
    root, _ = filled
    for pattern in (
        *("manifests/*.json", "manifests/history/*.json", "manifests/*.lock", "manifests/*.catalog"),
        *("historical/objects/*.parquet", "historical/daily/*.parquet", "historical/ledgers/*.parquet"),
        *("sync_progress/*_progress.json", "sync_progress/*.corrupted.*", "sync_progress/*.backup"),
        *("duckdb/*.duckdb", "quarantine/*/reason.json", "quarantine/*/*.parquet", "staging/*/*.json"),
    ):
        assert list(root.glob(pattern)), pattern


def test_files_have_the_rights_that_the_umask_leaves(filled):
    root, umask = filled
    immutable = {"objects", "daily", "ledgers"}
    for path in root.rglob("*"):
        if path.is_dir():
            assert rights(path) == 0o777 & ~umask, path
        elif path.parent.name in immutable or path.parent.parent.name == ".daily":
            assert rights(path) == 0o444 & ~umask, path
        else:
            assert rights(path) == 0o666 & ~umask, path


def test_nobody_else_can_write(filled):
    root, _ = filled
    assert [path for path in root.rglob("*") if rights(path) & 0o022] == []
