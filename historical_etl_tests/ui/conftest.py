"""A web server over an empty store, and a browser; `--screenshots DIR` also takes the pictures of the documentation."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from historical_etl_tests.tools import browser
from historical_etl_tests.ui.browser import Visitor
from historical_etl_tests.ui.webserver import Webserver, running

#: The pages show paths. In pictures they are those of a server, not of whoever took them.
_PICTURED_STORE = Path("/srv/prices/data")
_MEASURED = "ui_seconds"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    for report in reports:
        for name, value in report.user_properties:
            if name == _MEASURED:
                terminalreporter.write_line(f"From the click: {value}")


@pytest.fixture
def screenshots(request: pytest.FixtureRequest) -> Path | None:
    folder = request.config.getoption("--screenshots")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def server_settings() -> dict[str, str]:
    """Settings of the server; a module may have its own."""
    return {}


@pytest.fixture
def server_module() -> str:
    """What the server loads, if not the workspace; a module may have its own."""
    return ""


@pytest.fixture
def webserver(
    tmp_path: Path, screenshots: Path | None, server_settings: dict[str, str], server_module: str
) -> Iterator[Webserver]:
    if screenshots is None:
        with running(tmp_path, tmp_path / "data", server_settings, server_module) as server:
            yield server
        return
    mine = next(folder for folder in reversed(_PICTURED_STORE.parents) if not folder.exists())
    mine.mkdir()
    try:
        with running(tmp_path, _PICTURED_STORE, server_settings, server_module) as server:
            yield server
    finally:
        shutil.rmtree(mine)


@pytest.fixture
def visitor(webserver: Webserver, tmp_path: Path, screenshots: Path | None) -> Iterator[Visitor]:
    found = browser()
    if found is None:
        pytest.fail("There is no browser. Next: make test, or python -m historical_etl_tests.tools, which bring one")
    with (
        sync_playwright() as playwright,
        Visitor.opening(playwright, found, webserver, tmp_path, screenshots) as visitor,
    ):
        yield visitor
