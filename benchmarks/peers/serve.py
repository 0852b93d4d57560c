"""`python -m benchmarks.peers.serve PEER FOLDER`: the process of a peer. A line of JSON asks, a line of JSON answers.

Seconds are taken here, around the peer alone: handing rows over counts for nobody. Runs in the peer's environment.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Final, Generic, NamedTuple, TextIO, cast

import polars as pl

from benchmarks.peers.peer import EVERYTHING, Given, Peer, Question, digest

__all__ = ["PEERS", "Served"]


class _Known(NamedTuple):
    module: str
    name: str
    distribution: str


#: By the name of its environment.
PEERS: Final = {
    "duckdb": _Known("duckdb_native", "DuckDB", "duckdb"),
    "delta": _Known("delta", "Delta", "deltalake"),
    "arcticdb": _Known("arctic", "ArcticDB", "arcticdb"),
    "ducklake": _Known("ducklake", "DuckLake", "duckdb-extension-ducklake"),
}
_Answer = Mapping[str, object]


class Served(Generic[Given]):
    """A peer, and what it was given last."""

    def __init__(self, peer: Peer[Given]) -> None:
        self._peer = peer
        self._given: list[Given] = []

    def answer(self, line: str) -> _Answer:
        asked: dict[str, str] = json.loads(line)
        do: dict[str, Callable[[], _Answer]] = {
            "give": lambda: self._give(asked["rows"]),
            "fill": lambda: _timed(lambda: self._peer.fill(*self._given)),
            "upsert": lambda: _timed(lambda: self._peer.upsert(*self._given, whole=asked["whole"] == "yes")),
            "read": lambda: self._read(_question(asked)),
            "state": lambda: {"digest": digest(self._peer.read(EVERYTHING))},
        }
        return do[asked["do"]]()

    def close(self) -> None:
        self._peer.close()

    def _give(self, path: str) -> _Answer:
        self._given = [self._peer.given(pl.read_ipc(Path(path).read_bytes()))]
        return {}

    def _read(self, question: Question) -> _Answer:
        began = time.perf_counter()
        found = self._peer.read(question)
        return {"seconds": time.perf_counter() - began, "digest": digest(found)}


def _timed(work: Callable[[], None]) -> _Answer:
    began = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - began}


def _question(asked: Mapping[str, str]) -> Question:
    start, end = (date.fromisoformat(asked[name]) if asked.get(name) else None for name in ("start", "end"))
    ask = asked["ask"]
    assert ask in ("rows", "mean", "panel")
    return Question(ask, asked.get("symbol"), start, end)


def main() -> None:
    peer, folder = PEERS[sys.argv[1]], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    answers = _own_output()
    make = cast("Callable[[Path], Peer[object]]", getattr(import_module(f"benchmarks.peers.{peer.module}"), peer.name))
    served = Served(make(folder))
    print(json.dumps({"version": version(peer.distribution)}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            said = served.answer(line)
        except Exception as error:  # noqa: BLE001 - whatever a peer raises is told, and the others go on
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), file=answers, flush=True)
    served.close()


def _own_output() -> TextIO:
    """Where answers go; what libraries print goes to the error output instead."""
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return kept


if __name__ == "__main__":
    main()
