"""What the tests need beside Python: a browser, strace, and what makes file systems.

`python -m historical_etl_tests.tools` brings what is missing where it may: Debian's packages as root, else Playwright's
own browser. What it cannot bring it names on stderr, with the way to get it and the tests that are left out, and on
stdout it prints the option that makes pytest leave them out. With CI set, a missing tool is a failure instead.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

import pytest

__all__ = ["TOOLS", "browser"]

_BLANK: Final = ("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "about:blank")
#: Seconds: to look whether a tool works, and to bring one.
_LOOK, _BRING = 120, 900
_YOURS: Final = "your system's package {}"
#: The tests that need them are in these folders.
_WHERE: Final = tuple(Path(__file__).parent / name for name in ("proofs/crash", "ui"))
_SHOWN: Final = 5  # lines of what a failed command said
_APT: Final = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300")


@dataclass(frozen=True)
class Tool:
    """A program that some tests need.

    Attributes:
        package: Debian's name of it.
        marker: of the tests that need it.
        works: whether it is there and does what it must.
        by_hand: how to get it without Debian's packages.
        beside: other packages of Debian that are brought with it.
    """

    package: str
    marker: str
    works: Callable[[], bool]
    by_hand: str
    beside: tuple[str, ...] = ()


def browser() -> Path | None:
    """The browser that the tests drive: Debian's, else Playwright's own; None where there is neither."""
    if (debian := shutil.which("chromium")) is not None:
        return Path(debian)
    from playwright.sync_api import sync_playwright  # every test process loads this module

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return own if own.exists() else None


def _browser_works() -> bool:
    found = browser()
    return found is not None and _ran([str(found), *_BLANK], _LOOK)


def _strace_works() -> bool:
    """It may be there and be forbidden to attach, as in some containers."""
    return shutil.which("strace") is not None and _ran(["strace", "-f", "-qq", "-o", os.devnull, "true"], _LOOK)


def _found(program: str) -> Callable[[], bool]:
    return lambda: shutil.which(program) is not None


def _exfat_works() -> bool:
    """It is mounted by the kernel, or where that does not know it through FUSE."""
    kernel = Path("/proc/filesystems")
    known = kernel.exists() and "\texfat\n" in kernel.read_text(encoding="utf-8")
    return _found("mkfs.exfat")() and (known or _found("mount.exfat-fuse")())


TOOLS: Final = (
    Tool("chromium", "ui", _browser_works, ".venv/bin/python -m playwright install --with-deps chromium"),
    Tool("strace", "strace", _strace_works, "your system's package strace, and the right to trace processes (ptrace)"),
    Tool("e2fsprogs", "ext4", _found("mkfs.ext4"), _YOURS.format("e2fsprogs")),
    Tool("xfsprogs", "xfs", _found("mkfs.xfs"), _YOURS.format("xfsprogs")),
    Tool("btrfs-progs", "btrfs", _found("mkfs.btrfs"), _YOURS.format("btrfs-progs")),
    Tool("exfatprogs", "exfat", _exfat_works, _YOURS.format("exfatprogs or exfat-utils"), ("exfat-fuse",)),
)


def main() -> int:
    """Bring what is missing; returns 1 if something still is and CI is set."""
    lacking = [tool for tool in TOOLS if not tool.works()]
    for bring in (_bring_packages, _bring_browser) if lacking else ():
        bring(lacking)
        lacking = [tool for tool in lacking if not tool.works()]
    for tool in lacking:
        _say(f"{tool.package} is lacking, or does not work here. Next: apt-get install {tool.package}, as root")
        _say(f"  or: {tool.by_hand}")
    if not lacking:
        return 0
    if os.environ.get("CI"):
        _say("Nothing is left out where CI is set")
        return 1
    counted = _counted()
    for tool in lacking:
        _say(f"{counted[tool.marker]} test(s) are left out for want of {tool.package}")
    sys.stdout.write(" ".join(f"--lacking={tool.package}" for tool in lacking) + "\n")
    return 0


def _bring_packages(lacking: Sequence[Tool]) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    packages = [name for tool in lacking for name in (tool.package, *tool.beside)]
    _say(f"Installing {', '.join(packages)}")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    if _ran([*_APT, "update"], _BRING, is_reported=True):
        _ran([*_APT, "install", "-y", "--no-install-recommends", *packages], _BRING, is_reported=True)


def _bring_browser(lacking: Sequence[Tool]) -> None:
    if any(tool.package == "chromium" for tool in lacking):
        _say("Fetching Playwright's own browser")
        _ran([sys.executable, "-m", "playwright", "install", "chromium"], _BRING, is_reported=True)


class _Counter:
    """Counts the tests that pytest finds, by marker."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.found.update(marker.name for item in session.items for marker in item.iter_markers())


def _counted() -> Counter[str]:
    """How many tests each marker has."""
    counter = _Counter()
    with redirect_stdout(StringIO()):
        pytest.main(["-n", "0", "-p", "no:randomly", "--collect-only", "-q", *map(str, _WHERE)], plugins=[counter])
    return counter.found


def _ran(command: Sequence[str], seconds: int, *, is_reported: bool = False) -> bool:
    try:
        ran = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        if is_reported:
            _say(f"  {command[0]}: {error}")
        return False
    if is_reported and ran.returncode:
        lines = ran.stdout.splitlines()
        _say("\n".join(([line for line in lines if "rror" in line] or lines)[-_SHOWN:]))
    return ran.returncode == 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
