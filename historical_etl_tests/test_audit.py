"""What `make audit` makes of pip-audit's answers; in the forms of pip-audit 2.10, with made-up packages."""

import json
from pathlib import Path

import pytest

from historical_etl_tests.audit import CLEAN, UNKNOWN, WEAK, main
from historical_etl_tests.saying import Saying

GOOD = {"name": "polars", "version": "2.1.0", "vulns": []}
SKIPPED = {"name": "duckdb", "skip_reason": "Dependency not found on PyPI and could not be audited: duckdb (2.0.0)"}
BAD = {
    "name": "jinja2",
    "version": "2.4.1",
    "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": ["CVE-2019-10906"], "description": "…"}],
}
NO_HOST = "requests.exceptions.ConnectionError: HTTPSConnectionPool: Max retries exceeded: Failed to resolve"


@pytest.fixture
def program(tmp_path: Path):
    """A program that answers as asked."""

    def make(stdout: str, stderr: str = "", code: int = 0) -> str:
        path = tmp_path / "pip-audit"
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{stdout}\nEND\ncat >&2 <<'END'\n{stderr}\nEND\nexit {code}\n")
        path.chmod(0o755)
        return str(path)

    return make


def packages(*each: object) -> str:
    return json.dumps({"dependencies": each, "fixes": []})


def test_packages_that_were_looked_up_and_have_no_weakness_are_clean(program, capsys):
    assert main([program(packages(GOOD))]) == CLEAN
    assert capsys.readouterr().out == Saying("1 package", "lock.txt", "0 known weakness")


def test_a_known_weakness_is_named_with_what_corrects_it(program, capsys):
    assert main([program(packages(GOOD, BAD, SKIPPED), code=1)]) == WEAK
    output = capsys.readouterr().out
    assert output == Saying("jinja2 2.4.1", "PYSEC-2019-217", "CVE-2019-10906", "2.10.1")
    assert output == Saying("does not know", "1 package", "duckdb")
    assert output == Saying("2 package", "lock.txt", "1 known")


def test_packages_that_the_service_does_not_know_are_not_clean(program, capsys):
    """Behind an index without advisories pip-audit says "No known vulnerabilities found", and ends with 0."""
    assert main([program(packages(SKIPPED, SKIPPED), "No known vulnerabilities found")]) == UNKNOWN
    assert "does not know 2 package(s)" in capsys.readouterr().out
    assert main([program(packages(GOOD, SKIPPED))]) == UNKNOWN
    assert main([program(packages())]) == UNKNOWN


def test_without_a_network_it_says_so_and_has_a_code_of_its_own(program, capsys, tmp_path):
    assert main([program("", f"Traceback\n{NO_HOST}", 1)]) == UNKNOWN
    output = capsys.readouterr().out
    assert f"could not be asked: {NO_HOST}\n" in output
    assert "says nothing about the lock" in output
    assert main([str(tmp_path / "none")]) == UNKNOWN
    assert "No such file" in capsys.readouterr().out
