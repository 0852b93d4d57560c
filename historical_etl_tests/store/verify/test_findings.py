"""Every finding of `verify_store` by itself, word for word, on a store of a few bars."""

import json
import os
from datetime import date
from typing import Any

import polars as pl
import pytest

from historical_etl import ManifestManager
from historical_etl.durable import sha256_of
from historical_etl.errors import ManifestTooNewError
from historical_etl.schema import SCHEMA
from historical_etl.store.checksummed_json import add_checksum
from historical_etl.store.manifest_file import render_manifest
from historical_etl.store.progress import save_progress
from historical_etl.store.verify.store import VerifyReport, verify_store
from historical_etl_tests.saying import Saying
from historical_etl_tests.store.small import Hand, bars, commit, publish, spoil
from historical_etl_tests.store.verify.verified import (
    path_of,
    progress,
    reported,
    restate,
    restate_year,
    two_versions,
    verify,
)


@pytest.fixture
def manager(root) -> ManifestManager:
    return two_versions(root)


def substitute(manager: ManifestManager, frame: pl.DataFrame, **changes: Any) -> str:
    """Commit a file for 2019 that no commit would write; returns its name."""
    layout = manager.layout
    written = layout.objects / "new.parquet"
    frame.write_parquet(written)
    checksum, size = sha256_of(written), written.stat().st_size
    target = layout.object_file(2019, checksum)
    written.replace(target)
    layout.daily_file(2019).unlink()
    os.link(target, layout.daily_file(2019))
    restate_year(
        manager, path=layout.relative(target), checksum=checksum, size_bytes=size, **{"rows": frame.height, **changes}
    )
    return target.name


def test_an_intact_store_has_no_finding_and_is_reported_in_numbers(manager):
    whole = VerifyReport(version=2, years=2, rows=4, objects=3, findings=())
    assert verify(manager) == whole
    assert verify(manager, quick=True) == whole.model_copy(update={"mode": "quick"})
    seen: list[tuple[int, int]] = []
    verify_store(manager, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_an_empty_folder_has_no_finding(root):
    assert verify(ManifestManager(root)) == VerifyReport()


# ── manifests ──────────────────────────────────────────────────────────────────────────────────────────────────────

NAME = "historical_daily.json"


def test_a_missing_manifest(manager):
    manager.layout.manifest_file().unlink()
    assert reported(manager) == [("error", NAME, Saying("missing", "version 2 replaces it"))]


def test_a_first_commit_that_was_interrupted_is_no_damage(root):
    manager = ManifestManager(root, clock=Hand())
    commit(manager, {2019: 1})
    save_progress(manager.layout, progress(1))
    publish(manager, 1)
    manager.layout.catalog.parent.mkdir()
    manager.layout.catalog.write_bytes(b"a catalog")
    manager.layout.manifest_file().unlink()
    message = "the first commit was interrupted; its version 1 is complete and counts"
    assert reported(manager) == [("warning", NAME, message)]


def test_a_damaged_manifest(manager):
    spoil(manager.layout.manifest_file())
    ((severity, field, message),) = reported(manager)
    assert (severity, field) == ("error", NAME)
    assert message.startswith("The manifest is damaged: ")
    assert message.endswith("; version 2 replaces it")


def test_without_any_manifest_no_file_is_called_left_over(manager):
    for path in (manager.layout.manifest_file(), *manager.layout.history_folder().iterdir()):
        path.write_bytes(b"{")
    found = reported(manager)
    assert [field for _, field, _ in found[:3]] == [NAME, "history 1", "history 2"]
    assert found[0][2] == Saying("no kept version")
    assert not any(field in ("orphans", "ledgers/") for _, field, _ in found)
    manager.layout.manifest_file().unlink()
    assert reported(manager)[0] == ("error", NAME, Saying("missing", "no kept version"))


@pytest.mark.parametrize(
    "changes",
    [
        {"row_count": 5},
        {"file_paths": ()},
        {"start_date": date(2018, 1, 3)},
        {"end_date": date(2019, 1, 6)},
    ],
)
def test_totals_that_are_not_those_of_the_years(manager, changes):
    if "file_paths" in changes:
        changes = {"file_paths": manager.load_version(2).file_paths[::-1]}
    restate(manager, **changes)
    assert reported(manager) == [("error", NAME, Saying("rows, dates or files", "partitions"))]


def test_a_newer_release_s_manifest_is_not_judged(manager):
    for path in (manager.layout.manifest_file(), manager.layout.history_file(2)):
        body = json.loads(path.read_bytes())
        del body["manifest_sha256"]
        path.write_bytes(add_checksum(body | {"schema_version": 2}, "manifest_sha256"))
        with pytest.raises(ManifestTooNewError):
            verify(manager)


def test_manifests_of_the_history(manager):
    layout = manager.layout
    first, second = layout.history_file(1).read_bytes(), layout.history_file(2).read_bytes()
    layout.history_file(1).write_bytes(second)
    found = verify(manager).findings
    assert ("error", "history 1", "it holds version 2") in [(f.severity, f.field, f.message) for f in found]
    spoil(layout.history_file(1))
    (finding,) = (f for f in verify(manager).findings if f.field == "history 1")
    assert finding.severity == "error"
    assert "only version 1 is lost" in finding.todo
    layout.history_file(1).write_bytes(first)
    spoil(layout.history_file(2))
    (finding,) = verify(manager).findings
    assert (finding.severity, finding.field) == ("error", "history 2")
    assert "is lost" not in finding.todo
    layout.history_file(2).unlink()
    assert reported(manager) == [("error", "history 2", "the history lacks the current version")]
    layout.history_file(2).write_bytes(render_manifest(manager.load_version(1).model_copy(update={"version": 2})))
    message = "it is not the current manifest's copy, though it has the same version"
    assert reported(manager)[0] == ("error", "history 2", message)
    layout.history_file(2).write_bytes(second)
    layout.history_file(3).write_bytes(render_manifest(manager.load_version(2).model_copy(update={"version": 3})))
    message = "a commit was interrupted before it counted; its manifest was left behind"
    assert reported(manager) == [("warning", "history 3", message)]


# ── files of prices ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [1, 2])
def test_the_bytes_of_an_object(manager, version):
    path = path_of(manager, 2019, version)
    field, size = f"object {path.name}", path.stat().st_size
    good = spoil(path)
    (finding,) = verify(manager).findings
    assert finding.message == Saying("bytes", "committed", "SHA-256")
    assert (finding.severity, finding.field) == ("error", field)
    assert finding.todo.startswith(
        "only version 1," if version == 1 else "run `historical-etl repair`: it restores 2019"
    )
    assert reported(manager, quick=True) == []
    path.write_bytes(good[:-1])
    message = f"it has {size - 1:,} bytes, {size:,} were committed"
    assert reported(manager) == reported(manager, quick=True) == [("error", field, message)]
    path.unlink()
    assert reported(manager) == reported(manager, quick=True) == [("error", field, "the file of 2019 is missing")]
    path.symlink_to(path.name)
    message = "it cannot be read: Too many levels of symbolic links"
    assert reported(manager, quick=True)[0] == ("error", field, message)


def test_what_is_inside_an_object_of_the_current_version(manager):
    frame = bars(2019, 2)
    name = substitute(manager, pl.concat([frame, frame]))
    assert ("error", f"object {name}", Saying("month 1", "ascend by symbol and date")) in reported(manager)
    name = substitute(manager, frame.reverse())
    assert reported(manager) == [
        ("error", f"object {name}", Saying("month 1", "ascend by symbol and date")),
        ("warning", "orphans", Saying("objects/", "no kept version")),
    ]
    name = substitute(manager, pl.concat([frame, frame]).sort("symbol", "date"))
    assert ("error", f"object {name}", Saying("month 1", "2 key", "date, symbol", "twice")) in reported(manager)
    for key in ("date", "symbol"):
        gap = pl.when(pl.int_range(pl.len()) != 1).then(key).alias(key)
        name = substitute(manager, frame.with_columns(gap), last_session=date(2019, 1, 4 if key == "date" else 5))
        assert ("error", f"object {name}", Saying("month 1", "without a date or symbol")) in reported(manager)
    name = substitute(manager, frame.select(list(SCHEMA)[::-1]))
    assert reported(manager)[0][2].startswith(
        ("its columns are adj_close Float64, ret", "Its first column", "This is not")
    )
    other = bars(2017, 2)
    name = substitute(manager, other)
    found = [message for _, field, message in reported(manager) if field == f"object {name}"]
    assert found[0] == Saying("rows of 2017")
    assert found[1] == Saying("run from 2017-01-04 to 2017-01-05", "says 2019-01-04 to 2019-01-05")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 3}, "it has 2 rows, the manifest says 3"),
        ({"symbols": 2}, "it has 1 symbols, the manifest says 2"),
        (
            {"first_session": date(2019, 1, 3)},
            "its rows run from 2019-01-04 to 2019-01-05, the manifest says 2019-01-03 to 2019-01-05",
        ),
        (
            {"last_session": date(2019, 1, 7)},
            "its rows run from 2019-01-04 to 2019-01-05, the manifest says 2019-01-04 to 2019-01-07",
        ),
    ],
)
def test_what_the_manifest_says_of_a_year(manager, changes, message):
    restate_year(manager, **changes)
    assert ("error", f"object {path_of(manager).name}", message) in reported(manager)


def test_a_version_that_is_vacuumed_under_the_check_is_no_damage(manager, watching):
    """Its manifest was listed, and is gone when it is to be read."""
    events: list[str] = []

    def vacuum(event: str) -> None:
        if event == "open" and events[-1:] == ["os.listdir"]:
            manager.layout.history_file(1).unlink(missing_ok=True)
        events.append(event)

    with watching(vacuum):
        found = reported(manager)
    assert not manager.layout.history_file(1).exists()
    assert {severity for severity, _, _ in found} == {"warning"}, "its files are left over"
    assert not any(field.startswith("history") for _, field, _ in found)
