"""Records of the store: what they say twice, what a newer release wrote into them, and where a copy of them lies."""

import hashlib
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from historical_etl import HistoricalETL
from historical_etl.errors import HistoricalETLError, ManifestCorruptError, ManifestTooNewError
from historical_etl.store.layout import Layout
from historical_etl.strict_json import answer_of, object_of
from historical_etl_tests.cli.conftest import CommandLine, command_line
from historical_etl_tests.scenario import SHORT, ScriptedFetcher, store

SYMBOL = "BRK.B"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "data"
    etl = store(root, ScriptedFetcher(SHORT))
    etl.run_full_etl([SYMBOL], SHORT.first, SHORT.last)
    etl.pin("kept")
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A store that was not copied, as far as it can tell: its catalog is its own."""
    shutil.copytree(made, tmp_path / "data")
    store(tmp_path / "data", ScriptedFetcher(SHORT)).publish_catalog()  # it was a copy
    return tmp_path / "data"


def records(layout: Layout) -> dict[str, tuple[Path, str]]:
    """The records that are replaced, each with the name of its checksum."""
    (pin,) = layout.pins.glob("*.json")
    return {
        "manifest": (layout.manifest_file(), "manifest_sha256"),
        "progress": (layout.progress_file(), "record_sha256"),
        "catalog": (layout.catalog_pointer(), "record_sha256"),
        "pin": (pin, "record_sha256"),
    }


def render_checksummed(fields: dict[str, Any], name: str) -> bytes:
    body = {key: value for key, value in fields.items() if key != name}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return json.dumps({**body, name: digest}).encode()


def tree(root: Path) -> dict[str, bytes]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


# ── two values under one name ──────────────────────────────────────────────────────────────────────────────────────


def test_of_two_values_in_a_vendors_object_none_is_taken():
    row = answer_of('{"close": 1, "close": 2, "open": 3, "open": 3, "volume": 1, "volume": true}')
    assert row["open"] == 3
    assert not isinstance(row["close"], int | float | str | list | dict)
    assert not isinstance(row["volume"], int)
    with pytest.raises(ValueError, match="'close'"):
        object_of('{"close": 1, "open": 2, "close": 1}')


@pytest.mark.parametrize("kind", ["manifest", "progress", "catalog", "pin"])
def test_a_record_that_says_something_twice_is_damaged(root, kind):
    """Its checksum fits the last of the two."""
    layout = Layout(root)
    path, _ = records(layout)[kind]
    text = path.read_text()
    name = "row_count" if kind == "manifest" else "version" if kind in {"catalog", "pin"} else "data_version"
    value = json.loads(text)[name]
    path.write_text(text.replace("{", f'{{"{name}": {value + 1},', 1))
    etl = store(root, ScriptedFetcher(SHORT))
    findings = [finding for finding in etl.verify().findings if "two values" in str(finding) or kind == "pin"]
    assert findings or kind == "catalog"
    if kind == "catalog":
        assert etl.catalog.shown_version() is None
    if kind == "manifest":
        for version in etl.versions()["version"]:
            layout.history_file(version).write_bytes(path.read_bytes())
        with pytest.raises(ManifestCorruptError, match="two values under the name 'row_count'"):
            etl.scan()


# ── what a newer release wrote ─────────────────────────────────────────────────────────────────────────────────────


def touched(etl: HistoricalETL) -> dict[str, Any]:
    return {
        "run_full_etl": lambda: etl.run_full_etl([SYMBOL], SHORT.first, SHORT.last),
        "run_incremental_etl": etl.run_incremental_etl,
        "pin": lambda: etl.pin("more"),
        "publish_catalog": etl.publish_catalog,
        "rollback": lambda: etl.rollback(1),
        "vacuum": etl.vacuum,
    }


@pytest.mark.parametrize("kind", ["manifest", "progress", "catalog", "pin"])
def test_a_field_of_a_newer_release_is_not_dropped_nothing_is_written(root, kind):
    path, add_checksum = records(Layout(root))[kind]
    path.write_bytes(render_checksummed(json.loads(path.read_bytes()) | {"of_a_newer_release": {"x": 1}}, add_checksum))
    before = tree(root)
    etl = store(root, ScriptedFetcher(SHORT))
    assert etl.scan(SYMBOL).collect().height
    assert etl.query_sql("SELECT count(*) AS n FROM daily_prices").item()
    for name, write in touched(etl).items():
        with pytest.raises(ManifestTooNewError, match="of_a_newer_release") as caught:
            write()
        assert str(path) in str(caught.value), name
        assert "upgrade" in caught.value.todo
    after = tree(root)
    assert {name: content for name, content in after.items() if "/runs/" not in name} == before


def test_nor_is_one_of_a_year_or_a_ledgers_file(root):
    path, add_checksum = records(Layout(root))["manifest"]
    whole = json.loads(path.read_bytes())
    year = [whole["partitions"][0] | {"bloom": "abc"}, *whole["partitions"][1:]]
    name, files = next((name, files) for name, files in whole["ledgers"].items() if files)
    of_ledger = whole["ledgers"] | {name: [files[0] | {"bloom": 1}, *files[1:]]}
    for fields, fact in (({"partitions": year}, "partitions.bloom"), ({"ledgers": of_ledger}, "ledgers.bloom")):
        path.write_bytes(render_checksummed(whole | fields, add_checksum))
        with pytest.raises(ManifestTooNewError, match=fact):
            store(root, ScriptedFetcher(SHORT)).pin("more")


def test_a_run_is_refused_before_anything_is_fetched(root):
    path, add_checksum = records(Layout(root))["manifest"]
    path.write_bytes(render_checksummed(json.loads(path.read_bytes()) | {"newer": 1}, add_checksum))
    fetcher = ScriptedFetcher(SHORT)
    with pytest.raises(ManifestTooNewError):
        store(root, fetcher).run_full_etl([SYMBOL], SHORT.first, SHORT.last)
    assert not fetcher.asked


def test_a_history_that_a_rollback_builds_upon_counts_too(root):
    etl = store(root, ScriptedFetcher(SHORT))
    etl.run_full_etl(["SPLT"], SHORT.first, SHORT.last)
    first = Layout(root).history_file(1)
    first.write_bytes(render_checksummed(json.loads(first.read_bytes()) | {"newer": 1}, "manifest_sha256"))
    with pytest.raises(ManifestTooNewError, match="newer"):
        etl.rollback(1)
    etl.pin("still")  # the current version is built upon


# ── pipes in a store ───────────────────────────────────────────────────────────────────────────────────────────────


def error_of(use: Callable[[], object]) -> HistoricalETLError | None:
    """The error that a use ends in."""
    try:
        use()
    except HistoricalETLError as error:
        return error
    return None


@pytest.mark.parametrize("kind", ["manifest", "history", "progress", "catalog", "pin", "lock"])
def test_a_pipe_in_the_place_of_a_record_is_an_error_and_no_hang(root, kind):
    layout = Layout(root)
    places = {name: path for name, (path, _) in records(layout).items()}
    places |= {"history": layout.history_file(1), "lock": layout.lock_file()}
    places[kind].unlink(missing_ok=True)
    os.mkfifo(places[kind])
    etl = store(root, ScriptedFetcher(SHORT))
    for use in (etl.verify, lambda: etl.scan(SYMBOL), etl.versions, etl.pins):
        error = error_of(use)
        assert error is None or error.where, "which of them fail depends on the record"


@pytest.mark.parametrize("mib", [6, 9], ids=["crowded", "large"])
@pytest.mark.parametrize("kind", ["manifest", "progress", "catalog", "pin"])
def test_a_record_of_empty_lists_takes_no_memory(root, kind, mib):
    """As JSON it would take 25 times as much as its file."""
    path, _ = records(Layout(root))[kind]
    path.write_bytes(b'{"x":[[]' + b",[]" * (mib * 2**20 // 3) + b"]}")
    etl = store(root, ScriptedFetcher(SHORT))
    uses = [lambda: etl.scan(SYMBOL), etl.pins, etl.catalog.shown_version]
    uses += [etl.verify] if kind != "manifest" else []  # it looks at a damaged one some times
    tracemalloc.start()
    for use in uses:
        error = error_of(use)
        assert error is None or error.where == str(path), "which of them fail depends on the record"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 26


def test_a_manifest_of_empty_lists_gives_way_to_the_newest_good_version(root):
    Layout(root).manifest_file().write_bytes(b'{"x":[[]' + b",[]" * 2**21 + b"]}")
    etl = store(root, ScriptedFetcher(SHORT))
    assert etl.scan(SYMBOL).collect().height
    assert any("more than 2,097,152 values" in str(finding) for finding in etl.verify().findings)


# ── a copy ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    return command_line(tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize("way", ["copied", "moved"])
def test_a_store_that_was_copied_or_moved_says_that_its_catalog_reads_the_other_one(cli, way):
    assert cli("backfill", "--from", "2012", "--to", "2012", "--symbols", "AAPL").code == 0
    there = cli.folder / "elsewhere"
    shutil.copytree(cli.data, there) if way == "copied" else cli.data.rename(there)
    here, fact = ("--data-dir", str(there)), str(cli.data / "historical" / "objects")
    assert fact in cli(*here, "status").out
    assert cli(*here, "--json", "status").document["catalog_reads"] == fact
    assert fact in cli(*here, "verify").out
    (check,) = [c for c in cli(*here, "--json", "doctor", "--offline").document["checks"] if c["check"] == "store"]
    assert check["verdict"] == "warning"
    assert fact in check["what"]
    assert "repair" in check["next"]
    assert cli(*here, "repair").code == 0
    assert "shows version 1" in cli(*here, "status").out
    catalog = Layout(there).catalog
    with duckdb.connect(str(catalog), read_only=True) as connection:
        paths = {row[0] for row in connection.sql("SELECT path FROM partitions").fetchall()}
    assert all(path.startswith(str(there)) for path in paths)


def test_the_next_write_repairs_the_catalog_of_a_copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    etl = store(tmp_path / "copy", ScriptedFetcher(SHORT))
    assert etl.catalog.shown_version() is None
    assert not etl.run_full_etl([SYMBOL], SHORT.first, SHORT.last).changed
    current = etl.manifest()
    assert current is not None
    assert etl.catalog.shown_version() == current.version


def test_a_store_behind_a_link_is_no_copy(root):
    link = root.with_name("link")
    link.symlink_to(root)
    current = store(root, ScriptedFetcher(SHORT)).manifest()
    assert current is not None
    assert store(link, ScriptedFetcher(SHORT)).catalog.shown_version() == current.version
