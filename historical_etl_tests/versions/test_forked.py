"""A process that is forked from one that has used Polars lacks its threads: it is told so, and waits for nothing."""

import json
import subprocess
import sys

import pytest

from historical_etl import HistoricalETL
from historical_etl_tests.scenario import standing

#: Prints what each call comes to in a child of its own, as JSON; `used` says whether Polars is used before.
FORKING = """
import json, os, signal, sys
import polars as pl
from historical_etl import HistoricalETL, HistoricalETLError
root, used = sys.argv[1], sys.argv[2] == "used"
etl = HistoricalETL.open(root, source="sample")
if used:
    pl.LazyFrame({"a": [1, 2]}).filter(pl.col("a") > 1).collect()
calls = {
    "scan": lambda: etl.scan().collect(),
    "query_sql": lambda: etl.query_sql("SELECT 1"),
    "ledger": lambda: etl.ledger("symbols"),
    "versions": etl.versions,
    "gaps": etl.gaps,
    "explain": lambda: etl.explain("BRK.B", "2013-01-15"),
    "verify": etl.verify,
    "repair": etl.repair,
    "rollback": lambda: etl.rollback(1),
    "another store": lambda: HistoricalETL.open(root).scan().collect(),
    "members": lambda: etl.source.members(None, None),
}
told = {}
for name, call in calls.items():
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            call()
            os.write(theirs, b"done")
        except HistoricalETLError as error:
            os.write(theirs, f"{type(error).__name__}: {error.what} {error.todo}".encode())
        os._exit(0)
    os.close(theirs)
    told[name] = os.read(ours, 10_000).decode()
    os.waitpid(child, 0)
    os.close(ours)
print(json.dumps(told))
"""


def forked(etl: HistoricalETL, way: str) -> dict[str, str]:
    command = [sys.executable, "-c", FORKING, str(etl.layout.root), way]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells of threads that others have started")
def test_whatever_is_asked_in_a_forked_process_is_refused_and_nothing_is_left_locked(etl: HistoricalETL):
    for name, told in forked(etl, "used").items():
        assert "This process was forked from one that had used Polars" in told, name
        assert "`spawn`" in told, name
    assert etl.rollback(standing(etl).version - 1).version > 0


def test_a_process_that_is_forked_before_polars_was_used_works(etl: HistoricalETL):
    told = forked(etl, "not used")
    refused = {name: words for name, words in told.items() if words != "done"}
    assert refused == {}
