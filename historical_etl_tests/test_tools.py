"""What `make test` does where a browser, strace or what makes file systems is not there."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


def ran(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A module of Python where no program is on the path, and Playwright can fetch nothing."""
    bare = {"PATH": str(folder), "HOME": str(folder), "PLAYWRIGHT_BROWSERS_PATH": str(folder / "browsers")}
    nowhere = {"PLAYWRIGHT_DOWNLOAD_HOST": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**bare, **nowhere, **environment},
        timeout=200,
    )


def test_on_ci_a_missing_tool_is_a_failure(tmp_path):
    tools = ran("historical_etl_tests.tools", folder=tmp_path, CI="true")
    assert tools.returncode == 1
    assert tools.stdout == ""
    assert "strace is lacking" in tools.stderr


@pytest.mark.slow
def test_elsewhere_the_tests_that_need_it_are_left_out_and_counted(tmp_path):
    tools = ran("historical_etl_tests.tools", folder=tmp_path)
    assert tools.returncode == 0, tools.stderr
    lacking = tools.stdout.split()
    names = ("chromium", "strace", "e2fsprogs", "xfsprogs", "btrfs-progs", "exfatprogs")
    assert lacking == [f"--lacking={name}" for name in names]
    for name in names:
        assert f"Next: apt-get install {name}" in tools.stderr
        (count,) = (line for line in tools.stderr.splitlines() if line.endswith(f"left out for want of {name}"))
        assert int(count.split()[0]) > 0
    left = ran(
        *("pytest", "-n", "0", "-p", "no:randomly", "--collect-only", "-q", *lacking),
        *("historical_etl_tests/ui", "historical_etl_tests/proofs/crash/test_power_loss.py"),
        "historical_etl_tests/proofs/crash/test_file_systems.py",
        folder=tmp_path,
    )
    assert "no tests collected" in left.stdout
    assert "deselected" in left.stdout
