"""`export` and `import`, and data folders that were copied or moved by other means."""

import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from historical_etl import HistoricalETL
from historical_etl_tests.cli.conftest import CommandLine
from historical_etl_tests.saying import Saying
from historical_etl_tests.scenario import (
    SHORT,
    SYMBOLS,
    ScriptedFetcher,
    current_manifest,
    daily_bytes,
    store,
    stored,
    tree,
)

FINE, FAILED, USAGE = 0, 1, 2
COUNT = "SELECT count(*) AS n FROM daily_prices"


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_a_version_goes_out_and_comes_in(filled: CommandLine, name):
    cli = filled
    answer = cli("export", name)
    assert answer.code == FINE
    assert answer.out == Saying("Exported", "version 2", "1,360 rows", "2012-01-03", "2013-03-01")
    assert "import" in answer.err or "status" in answer.err
    imported = cli("--data-dir", "new", "import", name, "--json")
    assert imported.code == FINE
    assert imported.document["version"] == 2
    pointer = "manifests/historical_daily.json"
    assert (cli.folder / "new" / pointer).read_bytes() == (cli.data / pointer).read_bytes()
    assert imported.document["checksum"] in (cli.data / pointer).read_text()
    assert cli("--data-dir", "new", "query", COUNT, "--json").document == [{"n": 1360}]
    assert cli("--data-dir", "new", "verify", "--json").document["findings"] == []
    reported = cli("--data-dir", "again", "import", name)
    assert (reported.code, "Imported version 2 (1,360 rows" in reported.out) == (FINE, True)


def test_an_older_version_is_exported_by_number(filled: CommandLine):
    document = filled("export", "old", "--version", "1", "--json").document
    assert (document["version"], document["end_date"]) == (1, "2012-12-31")
    assert filled("--data-dir", "old", "query", COUNT, "--json").document == [{"n": document["rows"]}]
    refused = filled("export", "none", "--version", "9")
    assert (refused.code, "Version 9 is not kept" in refused.err) == (USAGE, True)


def test_what_cannot_be_is_reported(filled: CommandLine):
    cli = filled
    assert cli("export", "data/copy").code == USAGE
    assert cli("import", "nowhere").code == USAGE
    assert cli("export", "old", "--version", "1").code == FINE
    refused = cli("import", "old")
    assert (refused.code, "There is data in this store" in refused.err) == (USAGE, True)
    assert cli("--data-dir", "none", "export", "copy").code == USAGE
    assert not (cli.folder / "none" / "historical").exists()


# ── copied and moved by other means ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def etl(root) -> HistoricalETL:
    etl = store(root, ScriptedFetcher(SHORT))
    etl.run_full_etl(SYMBOLS, SHORT.first, SHORT.last)
    return etl


@pytest.mark.parametrize("way", ["cp -r", "cp -a", "mv"])
def test_the_catalog_follows_a_store_that_was_copied_or_moved(etl, tmp_path, way):
    """An update that finds nothing new publishes anew all the same, and makes no version."""
    before, daily = stored(etl), daily_bytes(etl)
    there = tmp_path / "there"
    subprocess.run([*way.split(), str(etl.layout.root), str(there)], check=True)
    moved = store(there, ScriptedFetcher(SHORT))
    assert moved.catalog.shown_version() is None
    assert stored(moved).equals(before)
    assert moved.query_sql("SELECT count(*) FROM daily_prices").item() == before.height
    result = moved.run_incremental_etl()
    assert (result.changed, result.version, result.catalog_error) == (False, current_manifest(moved).version, None)
    assert moved.catalog.shown_version() == result.version
    shutil.rmtree(etl.layout.root, ignore_errors=True)
    assert daily_bytes(moved) == daily
    with duckdb.connect(str(moved.layout.catalog), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM daily_prices").fetchall() == [(before.height,)]


def test_a_copy_without_hard_links_reads_verifies_and_goes_on(filled: CommandLine):
    cli = filled
    subprocess.run(["cp", "-r", "data", "copy"], check=True)
    before = parquet_in(cli.data)
    assert cli("--data-dir", "copy", "query", COUNT, "--json").document == [{"n": 1360}]
    report = cli("--data-dir", "copy", "verify", "--json").document
    assert report["ok"]
    assert [finding["field"] for finding in report["findings"]] == ["catalog historical_catalog.duckdb"]
    assert cli("--data-dir", "copy", "update").code == FINE
    assert cli("--data-dir", "copy", "verify", "--json").document["findings"] == []
    assert parquet_in(cli.folder / "copy") == before


def parquet_in(root: Path) -> dict[str, bytes]:
    """The Parquet files of a store, but for the folders that `daily` points to one after the other."""
    return {name: content for name, content in tree(root).items() if "parquet" in name and ".daily" not in name}
