"""Every finding of `verify_store` by itself, word for word, on a store of a few bars."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from historical_etl import ETLProgressManifest, ManifestManager
from historical_etl.durable import sha256_of
from historical_etl.errors import ManifestTooNewError, StorageError
from historical_etl.models import SyncManifest, combined_checksum
from historical_etl.schema import SCHEMA
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import render_manifest
from historical_etl.store.progress import save_progress
from historical_etl.store.sealed import seal
from historical_etl.store.verify import VerifyReport, verify_store
from historical_etl_tests.store.small import START, Hand, bars, commit, corrections, only, publish, spoil

CURSORS = {"AAA": date(2019, 1, 5)}


def progress(version: int, cursors: Mapping[str, date] = CURSORS) -> ETLProgressManifest:
    return ETLProgressManifest(last_updated=START, symbol_last_dates=dict(cursors), data_version=version)


@pytest.fixture
def manager(root) -> ManifestManager:
    """Version 1: 2018 and 2019. Version 2: another 2019, and a ledger. All in order but for a catalog."""
    clock = Hand()
    manager = ManifestManager(root, clock=clock)
    commit(manager, {2018: 1, 2019: 1}, {"corrections": corrections(1)})
    clock.later(days=1)
    commit(manager, {2019: 2}, {"corrections": pl.concat([corrections(2)] * 2)})
    save_progress(manager.layout, progress(2))
    manager.layout.catalog.parent.mkdir()
    manager.layout.catalog.write_bytes(b"a catalog")
    publish(manager, 2)
    return manager


def verify(manager: ManifestManager, *, quick: bool = False, cursors: Mapping[str, date] = CURSORS) -> VerifyReport:
    return verify_store(manager, quick=quick, rebuild_cursors=lambda _: cursors)


def told(manager: ManifestManager, **options: Any) -> list[tuple[str, str, str]]:
    report = verify(manager, **options)
    assert report.ok == all(finding.severity != "error" for finding in report.findings)
    assert all(finding.todo for finding in report.findings)
    return [(finding.severity, finding.field, finding.message) for finding in report.findings]


def path_of(manager: ManifestManager, year: int = 2019, version: int = 2) -> Path:
    return manager.layout.resolve(only(manager.load_version(version), year).path)


def restate(manager: ManifestManager, **changes: Any) -> None:
    """Let the current manifest and its copy say something else, and be good in themselves."""
    manifest = manager.load_version(2).model_copy(update=changes)
    manifest = manifest.model_copy(update={"checksum": combined_checksum(p.checksum for p in manifest.partitions)})
    for path in (manager.layout.manifest_file(), manager.layout.history_file(2)):
        path.write_bytes(render_manifest(manifest))


def restate_year(manager: ManifestManager, **changes: Any) -> None:
    """Let it say something else of 2019, with totals that fit."""
    old = manager.load_version(2)
    partitions = tuple(p.model_copy(update=changes) if p.year == 2019 else p for p in old.partitions)
    restate(
        manager,
        partitions=partitions,
        row_count=sum(p.rows for p in partitions),
        file_paths=tuple(p.path for p in partitions),
        start_date=min(p.first_session for p in partitions),
        end_date=max(p.last_session for p in partitions),
    )


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


def test_a_sound_store_has_no_finding_and_is_told_of_in_numbers(manager):
    usual = {"version": 2, "years": 2, "rows": 4, "objects": 3, "findings": ()}
    assert verify(manager) == VerifyReport(**usual)
    assert verify(manager, quick=True) == VerifyReport(**usual, mode="quick")
    seen: list[tuple[int, int]] = []
    verify_store(manager, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_an_empty_folder_has_no_finding(root):
    assert verify(ManifestManager(root)) == VerifyReport()


# ── manifests ──────────────────────────────────────────────────────────────────────────────────────────────────────

NAME = "historical_daily.json"


def test_a_missing_manifest(manager):
    manager.layout.manifest_file().unlink()
    assert told(manager) == [("error", NAME, "The current manifest is missing; version 2 stands in for it")]


def test_a_first_commit_that_was_interrupted_is_no_damage(root):
    manager = ManifestManager(root, clock=Hand())
    commit(manager, {2019: 1})
    save_progress(manager.layout, progress(1))
    publish(manager, 1)
    manager.layout.catalog.parent.mkdir()
    manager.layout.catalog.write_bytes(b"a catalog")
    manager.layout.manifest_file().unlink()
    message = "the first commit was interrupted; its version 1 is complete and counts"
    assert told(manager) == [("warning", NAME, message)]


def test_a_damaged_manifest(manager):
    spoil(manager.layout.manifest_file())
    ((severity, field, message),) = told(manager)
    assert (severity, field) == ("error", NAME)
    assert message.startswith("The manifest is damaged: ")
    assert message.endswith("; version 2 stands in for it")


def test_without_any_manifest_no_file_is_called_left_over(manager):
    for path in (manager.layout.manifest_file(), *manager.layout.history_folder().iterdir()):
        path.write_bytes(b"{")
    found = told(manager)
    assert [field for _, field, _ in found[:3]] == [NAME, "history 1", "history 2"]
    assert found[0][2].endswith("; no kept version can be used")
    assert not any(field in ("orphans", "ledgers/") for _, field, _ in found)
    manager.layout.manifest_file().unlink()
    assert told(manager)[0] == ("error", NAME, "The current manifest is missing; no kept version can be used")


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
    assert told(manager) == [("error", NAME, "its rows, dates or files are not those of its partitions")]


def test_a_newer_release_s_manifest_is_not_judged(manager):
    for path in (manager.layout.manifest_file(), manager.layout.history_file(2)):
        body = json.loads(path.read_bytes())
        del body["manifest_sha256"]
        path.write_bytes(seal(body | {"schema_version": 2}, "manifest_sha256"))
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
    assert told(manager) == [("error", "history 2", "the history lacks the current version")]
    layout.history_file(2).write_bytes(render_manifest(manager.load_version(1).model_copy(update={"version": 2})))
    message = "it is not the current manifest's copy, though it has the same version"
    assert told(manager)[0] == ("error", "history 2", message)
    layout.history_file(2).write_bytes(second)
    layout.history_file(3).write_bytes(render_manifest(manager.load_version(2).model_copy(update={"version": 3})))
    message = "a commit was interrupted before it counted; its manifest was left behind"
    assert told(manager) == [("warning", "history 3", message)]


# ── files of prices ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("version", [1, 2])
def test_the_bytes_of_an_object(manager, version):
    path = path_of(manager, 2019, version)
    field, size = f"object {path.name}", path.stat().st_size
    good = spoil(path)
    (finding,) = verify(manager).findings
    assert finding.message == "its bytes are not those that were committed (SHA-256)"
    assert (finding.severity, finding.field) == ("error", field)
    assert finding.todo.startswith(
        "only version 1," if version == 1 else "run `historical-etl repair`: it restores 2019"
    )
    assert told(manager, quick=True) == []
    path.write_bytes(good[:-1])
    message = f"it has {size - 1:,} bytes, {size:,} were committed"
    assert told(manager) == told(manager, quick=True) == [("error", field, message)]
    path.unlink()
    assert told(manager) == told(manager, quick=True) == [("error", field, "the file of 2019 is missing")]
    path.symlink_to(path.name)
    message = "it cannot be read: Too many levels of symbolic links"
    assert told(manager, quick=True)[0] == ("error", field, message)


def test_what_is_inside_an_object_of_the_current_version(manager):
    frame = bars(2019, 2)
    name = substitute(manager, pl.concat([frame, frame]))
    assert ("error", f"object {name}", "month 1: rows do not ascend by symbol and date") in told(manager)
    name = substitute(manager, frame.reverse())
    assert told(manager) == [
        ("error", f"object {name}", "month 1: rows do not ascend by symbol and date"),
        ("warning", "orphans", "files in objects/ that no kept version names"),
    ]
    name = substitute(manager, pl.concat([frame, frame]).sort("symbol", "date"))
    assert ("error", f"object {name}", "month 1: 2 key(s) (date, symbol) come twice") in told(manager)
    for key in ("date", "symbol"):
        gap = pl.when(pl.int_range(pl.len()) != 1).then(key).alias(key)
        name = substitute(manager, frame.with_columns(gap), last_session=date(2019, 1, 4 if key == "date" else 5))
        assert ("error", f"object {name}", "month 1: rows without a date or symbol") in told(manager)
    name = substitute(manager, frame.select(list(SCHEMA)[::-1]))
    assert told(manager)[0][2].startswith(("its columns are adj_close Float64, ret", "Its first column", "This is not"))
    other = bars(2017, 2)
    name = substitute(manager, other)
    found = [message for _, field, message in told(manager) if field == f"object {name}"]
    assert found[:2] == [
        "it holds rows of 2017",
        "its rows run from 2017-01-04 to 2017-01-05, the manifest says 2019-01-04 to 2019-01-05",
    ]


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
    assert ("error", f"object {path_of(manager).name}", message) in told(manager)


# ── daily/ ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def daily(manager: ManifestManager, *, quick: bool = False) -> list[tuple[str, str, str]]:
    return [finding for finding in told(manager, quick=quick) if finding[1].startswith("daily/")]


@pytest.mark.parametrize("quick", [True, False])
def test_links(manager, quick):
    link, layout = manager.layout.daily_file(2019), manager.layout
    link.unlink()
    assert daily(manager, quick=quick) == [("error", "daily/2019.parquet", "it is missing")]
    save_progress(layout, progress(1))
    assert daily(manager, quick=quick) == [("warning", "daily/2019.parquet", "it is missing")]
    save_progress(layout, progress(2))
    shutil.copyfile(path_of(manager), link)
    assert daily(manager, quick=quick) == []
    link.unlink()
    older = ("error", "daily/2019.parquet", "it shows an older version of the year")
    for put in (os.link, shutil.copyfile):
        put(path_of(manager, 2019, 1), link)
        small = path_of(manager).stat().st_size == path_of(manager, 2019, 1).stat().st_size
        assert daily(manager, quick=quick) == ([] if quick and small else [older])
        link.unlink()
    link.write_bytes(b"a stranger")
    message = "it was edited or replaced from outside; the committed file of the year is intact in objects/"
    assert daily(manager, quick=quick) == [("error", "daily/2019.parquet", message)]
    path_of(manager).unlink()
    assert daily(manager, quick=quick) == [], "the missing object is told of"


def test_a_link_to_an_object_that_no_version_names_is_an_older_one_too(manager):
    link = manager.layout.daily_file(2019)
    orphan = manager.layout.objects / "2019-0123456789abcdef.parquet"
    orphan.write_bytes(b"of a version that is gone")
    link.unlink()
    os.link(orphan, link)
    assert daily(manager) == [("error", "daily/2019.parquet", "it shows an older version of the year")]


def test_years_that_the_version_does_not_have(manager):
    for name in ("2017.parquet", "notes.parquet"):
        (manager.layout.daily / name).write_bytes(b"x")
    (manager.layout.daily / "readme.txt").write_bytes(b"x")
    message = "the current version has no such year"
    assert daily(manager) == [("error", "daily/2017.parquet", message), ("error", "daily/notes.parquet", message)]


# ── what is left over ──────────────────────────────────────────────────────────────────────────────────────────────


def _folders(layout: Layout) -> list[Path]:
    return [
        *(layout.objects, layout.ledgers, layout.daily, layout.manifests, layout.history_folder()),
        *(layout.progress_folder, layout.catalog.parent),
    ]


def test_temps_are_counted_wherever_one_can_be(manager):
    for folder in _folders(manager.layout):
        (folder / ".x.1.2.tmp").write_bytes(b"torn")
    (finding,) = verify(manager).findings
    assert (finding.severity, finding.field, finding.count) == ("warning", "temp files", 7)


def test_files_that_nothing_names(manager):
    layout = manager.layout
    (layout.objects / "2019-0123456789abcdef.parquet").write_bytes(b"x")
    (layout.ledgers / "corrections-0123456789abcdef.parquet").write_bytes(b"x")
    (layout.objects / "notes.parquet").write_bytes(b"x")
    assert told(manager) == [
        ("warning", "ledgers/", "files that no kept version names"),
        ("warning", "orphans", "files in objects/ that no kept version names"),
        ("warning", "objects/", "files that no commit wrote"),
    ]
    layout.history_file(1).write_bytes(b"{")
    assert [field for _, field, _ in told(manager)] == ["history 1"], "what it needs is unknown"


def test_before_a_first_commit_counts_its_files_are_left_over(root):
    manager = ManifestManager(root)
    manager.layout.objects.mkdir(parents=True)
    (manager.layout.objects / "2019-0123456789abcdef.parquet").write_bytes(b"x")
    assert told(manager) == [("warning", "orphans", "files in objects/ that no kept version names")]


# ── progress ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_progress(manager):
    layout = manager.layout
    save_progress(layout, progress(1))
    behind = ("warning", "progress", "it is behind version 2: a run was interrupted")
    assert told(manager) == [behind]
    layout.progress_file().unlink()
    assert told(manager) == [behind]
    save_progress(layout, progress(3))
    assert told(manager) == [("error", "progress", "it describes version 3, ahead of the data's 2")]
    layout.progress_file().write_bytes(b"{}")
    assert told(manager) == [("error", "progress", "it is damaged: Field required")]


def test_cursors(manager):
    layout = manager.layout
    later = {"AAA": CURSORS["AAA"] + timedelta(days=1)}
    save_progress(layout, progress(2, later))
    message = "cursors are ahead of the data's last session 2019-01-05"
    assert told(manager) == told(manager, quick=True) == [("error", "progress", message)]
    save_progress(layout, progress(2))
    differ = "cursors are not those that follow from the data"
    assert told(manager, cursors={"AAA": date(2019, 1, 4)}) == [("error", "progress", differ)]
    assert told(manager, cursors=later) == [("warning", "progress", differ)]
    assert told(manager, cursors={**CURSORS, "BBB": date(2019, 1, 4)}) == [("warning", "progress", differ)]
    assert told(manager, cursors={}) == [("error", "progress", differ)], "a symbol that the data does not have"
    assert told(manager, cursors={}, quick=True) == []
    (finding,) = verify(manager, cursors=later).findings
    assert finding.sample == ("AAA at 2019-01-05, by the data 2019-01-06",)
    assert verify_store(manager).findings == (), "nothing to compare with"

    def fail(_: SyncManifest) -> Mapping[str, date]:
        raise StorageError("a file cannot be read", where="x")

    assert verify_store(manager, rebuild_cursors=fail).findings == ()


# ── ledgers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def ledger_path(manager: ManifestManager, version: int) -> Path:
    return manager.layout.resolve(manager.load_version(version).ledgers["corrections"][0].path)


def _gone(path: Path) -> str:
    path.unlink()
    return "it is missing"


def _longer(path: Path) -> str:
    size = path.stat().st_size
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"x")
    return f"it has {size + 1:,} bytes, {size:,} were committed"


def _turned(path: Path) -> str:
    spoil(path)
    return "its bytes are not those that were committed (SHA-256)"


@pytest.mark.parametrize("damage", [_gone, _longer, _turned])
def test_files_of_ledgers(manager, damage: Callable[[Path], str]):
    path = ledger_path(manager, 2)
    message = f"{path.name}: {damage(path)}"
    assert told(manager) == [("error", "ledger corrections", message)]
    assert told(manager, quick=True) == ([] if damage is _turned else told(manager))


def test_a_file_of_a_ledger_that_only_older_versions_name(manager):
    path = ledger_path(manager, 1)
    assert path != ledger_path(manager, 2)
    path.unlink()
    message = f"{path.name}, which only older versions name: it is missing"
    assert told(manager) == [("warning", "ledger corrections", message)]


@pytest.mark.parametrize("content", ["rows", "none"])
def test_what_is_inside_a_file_of_a_ledger(manager, content):
    (file,) = manager.load_version(2).ledgers["corrections"]
    path = manager.layout.ledgers / "corrections-0123456789abcdef.parquet"
    if content == "rows":
        corrections(1).write_parquet(path)
        message = "it has 1 rows, 3 were committed"
    else:
        path.write_bytes(b"no parquet")
        message = "it is not readable as Parquet"
    other = file.model_copy(
        update={
            "path": manager.layout.relative(path),
            "checksum": sha256_of(path),
            "size_bytes": path.stat().st_size,
            "rows": 3,
        }
    )
    restate(manager, ledgers={"corrections": (other,)})
    assert told(manager)[0] == ("error", "ledger corrections", f"{path.name}: {message}")


def test_while_a_writer_is_at_work_only_damage_is_told(manager):
    (manager.layout.objects / ".x.1.2.tmp").write_bytes(b"torn")
    with manager.acquire_lock():
        assert told(manager) == []
        path_of(manager).unlink()
        assert [severity for severity, _, _ in told(manager)] == ["error"]
