"""The commands and programs of the README and of the concepts work as they stand, in order, and show what they show."""

import contextlib
import io
import re
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from historical_etl import HistoricalETL
from historical_etl_tests.docs.blocks import REPOSITORY, Shell, Step, blocks, differs, environment, steps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

README = REPOSITORY / "README.md"
CONCEPTS = REPOSITORY / "docs" / "concepts"
#: What a server is started with; the tests of the web UI do that.
SERVES = re.compile(r"\bmake (ui|test)\b")
#: The one place outside of the folder that the pages name.
ELSEWHERE = "/tmp/replay"  # noqa: S108 - replaced by a folder of the test


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as after `make setup`: what `make run` needs of the repository, and its `.venv`."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(REPOSITORY / "dagster_home", folder / "dagster_home", ignore=lambda *_: [])
    for left in (folder / "dagster_home").iterdir():
        if left.name != "dagster.yaml":
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    for name in ("Makefile", "pyproject.toml", "workspace.yaml"):
        shutil.copy2(REPOSITORY / name, folder / name)
    shutil.copytree(REPOSITORY / "requirements", folder / "requirements")
    (folder / ".venv").mkdir()
    for entry in Path(sys.prefix).iterdir():
        if entry.name != ".stamp":
            (folder / ".venv" / entry.name).symlink_to(entry)
    (folder / ".venv" / ".stamp").touch()  # newer than what it depends on: nothing is installed
    return folder


def typed(shell: Shell, command: str, elsewhere: Path) -> str:
    code, out, err = shell.run(command.replace(ELSEWHERE, str(elsewhere)))
    assert code == 0, f"$ {command}\n{out}\n{err}"
    assert "Traceback" not in err
    return out.replace(str(elsewhere), ELSEWHERE)


def compare(step: Step, real: str) -> None:
    if step.shown:
        difference = differs(step.shown, real)
        assert not difference, f"$ {step.command}\n{difference}"


def test_every_block_of_the_readme_and_of_versions_works_after_make_run(checkout: Path, monkeypatch) -> None:
    """Of both pages, since `make run` takes longer than either."""
    monkeypatch.chdir(checkout)
    with Shell(checkout, environment(checkout)) as shell:
        made = typed(shell, "make run", checkout)
    readme(made, checkout)
    versions(checkout)


def readme(made: str, checkout: Path) -> None:
    found = [block for block in blocks(README) if block.language in ("console", "python")]
    commands = [step for block in found if block.language == "console" for step in steps(block)]
    assert commands[0].command.startswith("make run")
    ran = 0
    with Shell(checkout, environment(checkout)) as shell:
        for block in found:
            if block.language == "python":
                with contextlib.redirect_stdout(io.StringIO()) as said:
                    exec(compile(block.text, f"README.md:{block.line}", "exec"), {})  # noqa: S102 - that is the test
                assert said.getvalue()
                ran += 1
            for step in steps(block) if block.language == "console" else ():
                if step.command.startswith("make run"):
                    compare(step, made)
                elif not SERVES.search(step.command):
                    compare(step, typed(shell, step.command, checkout / "replay"))
                    ran += 1
    assert ran > 15


def versions(checkout: Path) -> None:
    names = {"etl": HistoricalETL.open("data"), "HistoricalETL": HistoricalETL, "datetime": datetime, "UTC": UTC}
    for block in blocks(CONCEPTS / "versions.md"):
        if block.language == "python":
            exec(compile(block.text, f"versions.md:{block.line}", "exec"), names)  # noqa: S102 - that is the test
        for step in steps(block) if block.language == "console" else ():
            with Shell(checkout, environment(checkout)) as shell:
                cited = typed(shell, f".venv/bin/{step.command}", checkout)
            assert re.sub(r"\d+:.*", "", cited.strip()) == re.sub(r"\d+:.*", "", step.shown)


@pytest.fixture
def activated(checkout: Path, tmp_path: Path) -> Iterator[Shell]:
    """A shell in an empty folder, with the programs of the checkout."""
    with Shell(tmp_path, environment(tmp_path)) as shell:
        assert shell.run(f"source {checkout}/.venv/bin/activate")[0] == 0
        yield shell


def test_the_queries_of_the_ledgers_answer_over_a_replay(activated: Shell, tmp_path: Path) -> None:
    replay, answers = tmp_path / "replay", 0
    for block in blocks(CONCEPTS / "ledgers.md"):
        for step in steps(block) if block.language == "console" else ():
            compare(step, typed(activated, step.command, replay))
        if block.language == "sql":
            HistoricalETL.open(replay).query_sql(block.text)
            answers += 1
    assert answers > 8


def test_the_hold_that_trust_shows_is_there(activated: Shell, tmp_path: Path) -> None:
    (block,) = (block for block in blocks(CONCEPTS / "trust.md") if block.language == "console")
    for step in steps(block):
        code, out, err = activated.run(step.command)
        reported = re.search(r"exits (\d)", step.command)
        assert code == (int(reported.group(1)) if reported else 0), f"$ {step.command}\n{out}\n{err}"
        shown = re.sub(r"\d{4}-\d\d-\d\d(?=  2024)", "…", step.shown)
        assert not (step.shown and differs(shown, out))
