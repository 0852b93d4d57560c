"""A process that is forked from one that has used Polars lacks its threads: it gets an error, and waits for nothing."""

import json
import subprocess
import sys

import pytest

from historical_etl import HistoricalETL
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import current_manifest

#: Outside Linux nothing tells of threads that others have started.
USERS = ["the store", "others"] if sys.platform == "linux" else ["the store"]
#: Prints what each call comes to in a child of its own, as JSON; the second argument says who uses Polars before.
FORKING = """
import json, os, signal, sys
import polars as pl
from historical_etl import HistoricalETL, HistoricalETLError
root, user = sys.argv[1:]
etl = HistoricalETL.open(root, source="sample")
if user == "the store":
    etl.scan().collect()
elif user == "others":
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
answers = {}
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
    answers[name] = os.read(ours, 10_000).decode()
    os.waitpid(child, 0)
    os.close(ours)
print(json.dumps(answers))
"""


def forked(etl: HistoricalETL, user: str) -> dict[str, str]:
    command = [sys.executable, "-c", FORKING, str(etl.layout.root), user]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=200)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("user", USERS)
def test_whatever_is_asked_in_a_forked_process_is_refused_and_nothing_is_left_locked(etl: HistoricalETL, user: str):
    for name, reported in forked(etl, user).items():
        assert reported == Saying("forked", "Polars"), name
        assert "`spawn`" in reported, name
    assert etl.rollback(current_manifest(etl).version - 1).version > 0


def test_a_process_that_is_forked_before_polars_was_used_works(etl: HistoricalETL):
    reported = forked(etl, "nobody")
    refused = {name: words for name, words in reported.items() if words != "done"}
    assert refused == {}
