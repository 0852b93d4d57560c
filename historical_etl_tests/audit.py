"""Are there known weaknesses in what the lock installs? `make audit` asks, by pip-audit.

Exit codes: 0, every package was looked up and none has a known weakness; 1, some have; 3, the advisory service could
not be asked, or does not know some of the packages, so that nothing can be said of them. pip-audit itself ends with 0
where an index without advisories answers that it knows none of the packages.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["CLEAN", "UNKNOWN", "WEAK", "Answer", "asked", "main"]

CLEAN, WEAK, UNKNOWN = 0, 1, 3
_LOCK: Final = Path(__file__).parents[1] / "requirements" / "lock.txt"
_TIMEOUT: Final = 600
_SHOWN: Final = 5


@dataclass(frozen=True)
class Answer:
    """What pip-audit said.

    Attributes:
        looked_up: how many packages the service knows.
        unknown: the packages that it does not know.
        weak: a line for each known weakness.
        failure: why it could not be asked; empty if it could.
    """

    looked_up: int = 0
    unknown: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()
    failure: str = ""


def main(arguments: Sequence[str]) -> int:
    """Audit the lock.

    Args:
        arguments: pip-audit's program, and more arguments for it, such as `--vulnerability-service osv`.
    """
    answer = asked([*arguments, "--progress-spinner=off", "--disable-pip", "--format=json", "-r", str(_LOCK)])
    for line in answer.weak:
        _say(line)
    if answer.failure:
        _say(f"The advisory service could not be asked: {answer.failure}")
    elif answer.unknown:
        named = ", ".join(answer.unknown[:_SHOWN]) + (" ..." if len(answer.unknown) > _SHOWN else "")
        _say(f"The advisory service does not know {len(answer.unknown)} package(s), e.g. {named}")
    _say(f"{answer.looked_up} package(s) of {_LOCK.name} were looked up, {len(answer.weak)} known weakness(es)")
    if answer.weak:
        _say("Next: make lock UPGRADE=1, or see whether the weakness can be reached")
        return WEAK
    if answer.failure or answer.unknown or not answer.looked_up:
        _say("This says nothing about the lock. Next: run it where the service can be reached")
        _say('  or ask another one: make audit ARGS="--vulnerability-service osv"')
        return UNKNOWN
    return CLEAN


def asked(command: Sequence[str]) -> Answer:
    """Run pip-audit, and read what it printed."""
    try:
        ran = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Answer(failure=str(error))
    try:
        packages: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = ran.stderr.strip().splitlines()
        return Answer(failure=lines[-1] if lines else f"it ended with {ran.returncode} and no word")
    weak = [_reported(package, found) for package in packages for found in package.get("vulns", ())]
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    return Answer(len(packages) - len(unknown), tuple(unknown), tuple(weak))


def _reported(package: dict[str, Any], found: dict[str, Any]) -> str:
    fixed = f"fixed in {', '.join(found['fix_versions'])}" if found.get("fix_versions") else "not fixed yet"
    names = ", ".join([found["id"], *found.get("aliases", ())])
    return f"{package['name']} {package['version']}: {names}, {fixed}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
