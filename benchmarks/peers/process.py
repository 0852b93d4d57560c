"""Our end of a peer's process, and which peers there are."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from benchmarks.peers.peer import Question
from benchmarks.peers.serve import PEERS

__all__ = ["Answer", "PeerError", "PeerProcess", "installed"]

_REPOSITORY: Final = Path(__file__).parents[2]


class PeerError(Exception):
    """A peer could not do what it was asked, or its process ended."""


class Answer(BaseModel):
    """A line that its process said."""

    version: str = ""
    seconds: float = 0.0
    digest: tuple[int, str] | None = None
    error: str | None = None


class PeerProcess:
    """One peer with its table in one folder.

    Raises:
        PeerError: by every method; the peer is of no use from then on.
    """

    def __init__(self, name: str, environment: Path, folder: Path) -> None:
        self.name = name
        self.environment = environment
        self.folder = folder
        self._process = subprocess.Popen(
            [environment / "bin/python", "-m", "benchmarks.peers.serve", name, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(_REPOSITORY)},
            text=True,
        )
        try:
            self.version = self._answer().version
        except PeerError:
            self.close()
            raise

    def give(self, rows: Path) -> None:
        """What `fill` or `upsert` then takes: an Arrow file."""
        self._ask(do="give", rows=str(rows))

    def fill(self) -> float:
        """Add what was given; returns seconds."""
        return self._ask(do="fill").seconds

    def upsert(self, *, whole: bool) -> float:
        """Add or replace what was given; returns seconds."""
        return self._ask(do="upsert", whole="yes" if whole else "no").seconds

    def read(self, question: Question) -> tuple[float, tuple[int, str]]:
        """Seconds, and the digest of the answer."""
        asked = {name: str(value) for name, value in question._asdict().items() if value is not None}
        said = self._ask(do="read", **asked)
        return said.seconds, _digest(said)

    def state(self) -> tuple[int, str]:
        """The digest of all that is stored."""
        return _digest(self._ask(do="state"))

    def close(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # it may have ended with a question unread
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, **asked: str) -> Answer:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise PeerError(f"{self.name}: its process ended") from error
        return self._answer()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"{self.name}: its process ended with {self._process.wait()}")
        said = Answer.model_validate_json(line)
        if said.error is not None:
            raise PeerError(f"{self.name}: {said.error}")
        return said


def _digest(said: Answer) -> tuple[int, str]:
    assert said.digest is not None
    return said.digest


def installed(environments: Path) -> dict[str, Path]:
    """The environments of the peers that are installed, by name; the others are named on the error output."""
    there = {name: environments.absolute() / name for name in PEERS}
    for name, environment in there.items():
        if not (environment / ".stamp").exists():
            print(f"{name} is not installed in {environment}, and is left out", file=sys.stderr)
    return {name: environment for name, environment in there.items() if (environment / ".stamp").exists()}
