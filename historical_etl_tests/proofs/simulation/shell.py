"""A person at the command line of a simulated store, who does what the store itself says until it goes on.

From every state some command goes on, and it is one that is advised. `way_out` finds out, by typing.
"""

import json
import re
import shlex
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pytest

from historical_etl import Settings
from historical_etl.cli import main
from historical_etl.clock import Clock
from historical_etl.etl import pipeline
from historical_etl.etl.health import doctor
from historical_etl.sources.fetcher import SOURCES
from historical_etl_tests.proofs.simulation.vendor import SimVendor
from historical_etl_tests.scenario import Ticking, evening

__all__ = ["Answer", "Shell", "way_out"]

_SOURCE: Final = "simulated"
_COMMAND: Final = re.compile(r"`historical-etl ([^`]+)`")
#: What asks the source again, and does nothing else: it frees only what the source puts right.
_WAITING: Final = ("update", "backfill")
#: One decision frees one hold, and several symbols may be held.
_MOST_STEPS: Final = 40
_WENT_ON: Final = (0, 3)


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Outlook:
    """What stands in the way of a store: held symbols with their codes, and by finding the steps that are named."""

    held: dict[str, str]
    todo: dict[str, list[str]]


@dataclass(frozen=True)
class Shell:
    """The command line on the store of a folder, on the evening of the vendor's day; a call types a command."""

    root: Path
    vendor: SimVendor
    settings: Settings
    typed: list[str] = field(default_factory=list[str])

    def __call__(self, *arguments: str) -> Answer:
        out, err = StringIO(), StringIO()
        with self._at_home(), redirect_stdout(out), redirect_stderr(err):
            code = main(arguments)
        self.typed.append(f"{shlex.join(arguments)} -> {code}")
        answer = Answer(code, out.getvalue(), err.getvalue())
        assert "Traceback" not in answer.err, answer.err
        assert "Unexpected" not in answer.err, answer.err
        return answer

    def look(self) -> Outlook:
        """What stands in the way, if all that tell of a store agree about it."""
        listed = self("holds", "--json").document["holds"]
        held = {hold["symbol"]: hold["code"] for hold in listed if hold["status"] == "open"}
        verified = self("verify", "--json").document
        assert verified["ok"], verified
        found = [finding for finding in verified["findings"] if finding["field"] in {"holds", "last run"}]
        unsaid = {code for code in held.values() if not any(f"held as {code}" in f["message"] for f in found)}
        assert not unsaid, f"held as {unsaid}, and `verify` does not say so: {found}"
        store = self._examined()
        if found:
            assert "All good" not in self("verify").out
            assert store.verdict is not doctor.CheckStatus.OK, store
            assert store.todo, store
            assert "next: " in self("status").err
        todo: dict[str, list[str]] = {}
        for finding in found:
            todo.setdefault(finding["field"], []).append(finding["todo"])
        return Outlook(held, todo)

    def _examined(self) -> doctor.Check:
        with self._at_home():
            return doctor.examine(self._mine(), offline=True, clock=self._clock()).check("store")

    def _clock(self) -> Clock:
        """Later with each command, as it is for a person: what failed is newer than what went through."""
        return Ticking(evening(self.vendor.today) + timedelta(minutes=len(self.typed) + 1))

    def _mine(self) -> Settings:
        return self.settings.changed({"data_dir": self.root, "source": _SOURCE})

    @contextmanager
    def _at_home(self) -> Generator[None]:
        mine, clock = self._mine(), self._clock()
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(SOURCES, _SOURCE, lambda _: self.vendor)
            patch.setattr("historical_etl.settings.load_settings", lambda: mine)
            patch.setattr(pipeline, "clock_for", lambda *_: clock)
            yield


def way_out(shell: Shell, correct: Callable[[], None]) -> list[str]:
    """Type what the store names until an update goes through and nothing is held; returns what was typed.

    `mend` puts the source right: it is called once nothing but asking again is named.
    """
    repaired = False
    for _ in range(_MOST_STEPS):
        update, outlook = shell("update"), shell.look()
        goes_on = update.code in _WENT_ON
        if goes_on and not outlook.held:
            return shell.typed
        todo = outlook.todo.get("holds" if goes_on else "last run", [])
        assert todo, f"an update ends with {update.code}, and nothing says what to do: {update.err}"
        deeds = [words for words in _named(todo) if "--rebuild" in words or words[0] not in _WAITING]
        if deeds:
            answer = shell(*_filled_in(deeds[0], shell))
            assert answer.code in _WENT_ON, f"{deeds[0]} was named, and fails: {answer.err}"
            continue
        assert not repaired, f"the source is right, and nothing that is named goes on: {outlook}; typed: {shell.typed}"
        correct()
        repaired = True
    raise AssertionError(f"still held after all that was named: {shell.look()}; typed: {shell.typed}")


def _named(todo: Iterable[str]) -> list[list[str]]:
    """The commands in some texts, as words."""
    return [shlex.split(command) for text in todo for command in _COMMAND.findall(text)]


def _filled_in(words: Sequence[str], shell: Shell) -> list[str]:
    """A command as it is named, with what stands for something else in it."""
    if "YEAR" not in words:
        return list(words)
    symbol = words[words.index("--symbols") + 1]
    first = shell("query", f"SELECT min(date) FROM daily_prices WHERE symbol = '{symbol}'", "--format", "csv").out
    return [first.split()[1][:4] if word == "YEAR" else word for word in words]
