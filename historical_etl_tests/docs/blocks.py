"""The blocks of a page of the documentation, and a shell that runs them as a reader would type them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

__all__ = ["REPOSITORY", "Block", "Shell", "Step", "blocks", "differs", "steps"]

REPOSITORY: Final = Path(__file__).parents[2]
_BLOCK: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ANY: Final = "…"
_END: Final = "end of a command"


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, and the line where it begins."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Step:
    """A command of a console block, and the output that is shown below it."""

    command: str
    shown: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(m.group(1), m.group(2), text.count("\n", 0, m.start()) + 1) for m in _BLOCK.finditer(text)]


def steps(block: Block) -> Iterator[Step]:
    """The commands of a console block: each begins with `$`, and goes on after a backslash."""
    command, shown = "", list[str]()
    lines = iter(block.text.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            shown.append(line)
            continue
        if command:
            yield Step(command, "\n".join(shown))
        command, shown = line[2:], []
        while command.endswith("\\"):
            command += f"\n{next(lines)}"
    assert command, f"no command in the block of line {block.line}"
    yield Step(command, "\n".join(shown))


def differs(shown: str, real: str) -> str:
    """Where real output is not what the page shows, in words; `…` stands for anything, alone on a line for lines."""
    pattern = ""
    for line in shown.splitlines():
        if line == _ANY:
            pattern += r"(?:.*\n)*?"
        else:
            pattern += re.escape(line.rstrip()).replace(re.escape(_ANY), ".*") + r" *\n"
    return "" if re.fullmatch(pattern, f"{real.rstrip()}\n") else f"shown:\n{shown}\nreal:\n{real}"


@dataclass
class Shell:
    """One bash that keeps its folder and its variables from command to command."""

    folder: Path
    environment: Mapping[str, str]
    _process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self.folder,
            env=dict(self.environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> tuple[int, str, str]:
        """The exit code of a command, its stdout and its stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        errors = self.folder / ".stderr"
        self._process.stdin.write(f"{{ {command}\n}} 2>'{errors}' </dev/null\ncode=$?; echo; echo \"{_END} $code\"\n")
        self._process.stdin.flush()
        said: list[str] = []
        for line in self._process.stdout:
            if line.startswith(_END):
                return int(line.removeprefix(_END)), "".join(said).removesuffix("\n"), errors.read_text()
            said.append(line)
        raise AssertionError(f"bash has ended after {command!r}: {''.join(said)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:  # closes its streams
            pass


def environment(home: Path) -> dict[str, str]:
    """What a reader's shell has: nothing of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "COVERAGE_PROCESS_START") if name in os.environ}
    programs = str(Path(sys.prefix) / "bin")
    path = ":".join(part for part in kept["PATH"].split(":") if part != programs)
    return {**kept, "PATH": path, "HOME": str(home), "POLARS_MAX_THREADS": "1"}
