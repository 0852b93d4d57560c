"""A `dagster dev` of the test's own: an instance and a store in fresh folders, a free port, and no process left."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
#: What ends a process group, and how long it may take. The daemon finishes what it is doing.
_ENDINGS = ((signal.SIGINT, 30), (signal.SIGTERM, 10), (signal.SIGKILL, 10))


@dataclass(frozen=True)
class Webserver:
    url: str
    data: Path
    log: Path

    def ask(self, query: str, **variables: Any) -> Any:
        """What the page's own GraphQL says; only read here."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(  # noqa: S310 - our own server
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310 - likewise
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


@contextmanager
def running(
    folder: Path, data: Path, settings: Mapping[str, str] | None = None, module: str = ""
) -> Generator[Webserver]:
    """Start it, wait until it answers, and end all of it.

    Args:
        folder: its working folder, and that of its instance.
        data: the store.
        settings: environment variables.
        module: what it loads; empty for the workspace.
    """
    home, log = folder / "dagster_home", folder / "dagster-dev.log"
    home.mkdir()
    shutil.copy(PROJECT / "dagster_home" / "dagster.yaml", home)
    port = _free_port()
    target = ["-m", module] if module else ["-w", str(PROJECT / "workspace.yaml")]
    arguments = ["dev", *target, "-h", "127.0.0.1", "-p", str(port)]
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "HISTORICAL_ETL_DATA_DIR": str(data),
        "PYTHONWARNINGS": "ignore",
        **(settings or {}),
    }
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [str(Path(sys.executable).with_name("dagster")), *arguments],
            cwd=folder,  # where no .env of a developer lies
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        server = Webserver(f"http://127.0.0.1:{port}", data, log)
        try:
            _wait_until_it_answers(server, process)
            yield server
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_it_answers(server: Webserver, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{server.url}/server_info", timeout=5):  # noqa: S310 - our own server
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError(f"dagster dev did not answer (exit code {process.poll()}):\n{server.log_tail()}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign, gap_policy in _ENDINGS:
        deadline = time.monotonic() + gap_policy
        if _lives(process):
            os.killpg(process.pid, sign)
        while _lives(process) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert not _lives(process), "a process of dagster dev outlived SIGKILL"


def _lives(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process of the group does anything. A dead one that nobody reaped counts as ended."""
    process.poll()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == process.pid and state not in "ZX":
            return True
    return False
