"""The peers of one case: each does in its turn what ours does, and is held to the same content."""

import statistics
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from pydantic import BaseModel, Field

from benchmarks.peers.peer import Question
from benchmarks.peers.process import PeerError, PeerProcess

__all__ = ["PeerResult", "Team", "team"]


class PeerResult(BaseModel):
    """What a case found of one peer: the seconds of each turn, by what was done, or why they do not count."""

    version: str = ""
    seconds: dict[str, list[float]] = Field(default_factory=dict[str, list[float]])
    fault: str = ""

    def median(self, what: str) -> float:
        return statistics.median(self.seconds[what])


class Team:
    """Peers that are running. One that fails is left out from then on, and its result says why."""

    def __init__(self, processes: list[PeerProcess], results: dict[str, PeerResult], scratch: Path) -> None:
        self._processes = processes
        self._results = results
        self._handed = scratch / f"handed-{time.time_ns()}.arrow"

    def fill(self, parts: Iterable[pl.DataFrame], what: str) -> None:
        """Add rows, part after part, of which none is stored; their seconds are one turn of `what`."""
        spent = {process.name: 0.0 for process in self._processes}
        for rows in parts:
            for name, seconds in self._given(rows, lambda process: process.fill()):
                spent[name] += seconds
        self._add(what, [(process.name, spent[process.name]) for process in self._processes])

    def upsert(self, rows: pl.DataFrame, what: str, *, whole: bool = False) -> None:
        """Add or replace rows; see `Peer.upsert`."""
        self._add(what, self._given(rows, lambda process: process.upsert(whole=whole)))

    def read(self, question: Question, what: str, expected: tuple[int, str]) -> None:
        def ask(process: PeerProcess) -> float:
            seconds, found = process.read(question)
            _require(found, expected)
            return seconds

        self._add(what, self._each(ask))

    def check(self, expected: Callable[[], tuple[int, str]]) -> None:
        """Hold what each has stored to what should be: a peer whose content is another is wrong, and not fast."""
        if self._processes:
            state = expected()
            for _ in self._each(lambda process: _require(process.state(), state)):
                pass

    def _given(self, rows: pl.DataFrame, work: Callable[[PeerProcess], float]) -> list[tuple[str, float]]:
        if not self._processes:
            return []

        def given(process: PeerProcess) -> float:
            process.give(self._handed)
            return work(process)

        rows.write_ipc(self._handed)
        try:
            return self._each(given)
        finally:
            self._handed.unlink()

    def _each(self, work: Callable[[PeerProcess], float]) -> list[tuple[str, float]]:
        done: list[tuple[str, float]] = []
        for process in list(self._processes):
            try:
                done.append((process.name, work(process)))
            except PeerError as error:
                self._results[process.name].fault = str(error)
                self._processes.remove(process)
                process.close()
        return done

    def _add(self, what: str, spent: Iterable[tuple[str, float]]) -> None:
        for name, seconds in spent:
            self._results[name].seconds.setdefault(what, []).append(seconds)


@contextmanager
def team(peers: Mapping[str, Path], folder: Path, results: dict[str, PeerResult]) -> Generator[Team]:
    """The peers of these environments, each with its folder below `folder`.

    A peer that was at fault before, by its result, is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    processes: list[PeerProcess] = []
    for name, environment in peers.items():
        result = results.setdefault(name, PeerResult())
        if not result.fault:
            try:
                processes.append(PeerProcess(name, environment, folder / name))
                result.version = processes[-1].version
            except PeerError as error:
                result.fault = str(error)
    try:
        yield Team(processes, results, folder)
    finally:
        for process in processes:
            process.close()


def _require(found: tuple[int, str], expected: tuple[int, str]) -> float:
    if found != expected:
        raise PeerError(f"wrong: {found[0]:,} rows ({found[1]}) instead of {expected[0]:,} ({expected[1]})")
    return 0.0
