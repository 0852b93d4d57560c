"""What `verify_store` finds beside the manifests and the files of prices, word for word, on a store of a few bars."""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from historical_etl import ManifestManager
from historical_etl.durable import sha256_of
from historical_etl.errors import StorageError
from historical_etl.models import SyncManifest
from historical_etl.store.layout import Layout
from historical_etl.store.parquet.month_blocks import read_blocks
from historical_etl.store.progress import save_progress
from historical_etl.store.verify.store import verify_store
from historical_etl.store.verify.year_file import _rows
from historical_etl_tests.saying import Saying
from historical_etl_tests.store.small import commit, corrections, only, publish, spoil
from historical_etl_tests.store.verify.verified import (
    CURSORS,
    path_of,
    progress,
    reported,
    restate,
    two_versions,
    verify,
)


@pytest.fixture
def manager(root) -> ManifestManager:
    return two_versions(root)


# ── daily/ ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def daily(manager: ManifestManager, *, quick: bool = False) -> list[tuple[str, str, str]]:
    return [finding for finding in reported(manager, quick=quick) if finding[1].startswith("daily/")]


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
    older = ("error", "daily/", "it shows version 1, all of it, and not version 2, the current one")
    for put in (os.link, shutil.copyfile):
        put(path_of(manager, 2019, 1), link)
        small = path_of(manager).stat().st_size == path_of(manager, 2019, 1).stat().st_size
        assert daily(manager, quick=quick) == ([] if quick and small else [older])
        link.unlink()
    link.write_bytes(b"a stranger")
    message = "it was edited or replaced from outside; the committed file of the year is intact in objects/"
    assert daily(manager, quick=quick) == [("error", "daily/2019.parquet", message)]
    path_of(manager).unlink()
    assert daily(manager, quick=quick) == [], "the missing object is reported"


def test_a_link_to_an_object_that_no_version_names_is_an_older_one_too(manager):
    link = manager.layout.daily_file(2019)
    orphan = manager.layout.objects / "2019-0123456789abcdef.parquet"
    orphan.write_bytes(b"of a version that is gone")
    link.unlink()
    os.link(orphan, link)
    mixed = "2018 as in version 2, 2019 as in none that is kept"
    assert daily(manager) == [("error", "daily/", Saying("mixes versions", mixed))]


def test_a_mixture_is_damage_unless_a_writer_is_at_work_who_may_be_replacing_files(manager):
    commit(manager, {2017: 1, 2018: 3, 2019: 3})
    layout = manager.layout
    for year, version in ((2018, 1), (2019, 2)):
        layout.daily_file(year).unlink()
        os.link(path_of(manager, year, version), layout.daily_file(year))
    mixed = "2017 as in version 3, 2018 and 2019 as in version 2"
    finding = ("error", "daily/", Saying("mixes versions", mixed))
    assert daily(manager) == [finding], "2018 is the same in versions 1 and 2"
    with manager.acquire_lock():
        assert daily(manager) == []
        save_progress(layout, progress(3))
        assert daily(manager) == [finding], "the writer has come further than that"
    layout.daily_file(2017).unlink()
    assert daily(manager) == [("error", "daily/", Saying("shows version 2", "version 3, the current one"))]


def test_many_years_of_a_mixture_are_counted(manager):
    years = dict.fromkeys(range(2000, 2020), 1)
    commit(manager, years)
    commit(manager, dict.fromkeys(years, 2))
    for year in range(2000, 2019):
        manager.layout.daily_file(year).unlink()
        os.link(path_of(manager, year, 3), manager.layout.daily_file(year))
    ((_, _, message),) = daily(manager)
    mixed = "2019 as in version 4, 2000, 2001, 2002 and 16 more as in version 3"
    assert message == Saying("mixes versions", mixed)


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
    assert reported(manager) == [
        ("warning", "ledgers/", Saying("no kept version")),
        ("warning", "orphans", Saying("objects/", "no kept version")),
        ("warning", "objects/", Saying("no commit")),
    ]
    layout.history_file(1).write_bytes(b"{")
    assert [field for _, field, _ in reported(manager)] == ["history 1"], "what it needs is unknown"


def test_before_a_first_commit_counts_its_files_are_left_over(root):
    manager = ManifestManager(root)
    manager.layout.objects.mkdir(parents=True)
    (manager.layout.objects / "2019-0123456789abcdef.parquet").write_bytes(b"x")
    assert reported(manager) == [("warning", "orphans", Saying("objects/", "no kept version"))]


# ── progress ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_progress(manager):
    layout = manager.layout
    save_progress(layout, progress(1))
    behind = ("warning", "progress", "it is behind version 2: a run was interrupted")
    assert reported(manager) == [behind]
    layout.progress_file().unlink()
    assert reported(manager) == [behind]
    save_progress(layout, progress(3))
    assert reported(manager) == [("error", "progress", Saying("version 3", "ahead", "2"))]
    layout.progress_file().write_bytes(b"{}")
    assert reported(manager) == [("error", "progress", "it is damaged: Field required")]


def test_cursors(manager):
    layout = manager.layout
    later = {"AAA": CURSORS["AAA"] + timedelta(days=1)}
    save_progress(layout, progress(2, later))
    message = "cursors are ahead of the data's last session 2019-01-05"
    assert reported(manager) == reported(manager, quick=True) == [("error", "progress", message)]
    save_progress(layout, progress(2))
    differ = "cursors are not those that follow from the data"
    assert reported(manager, cursors={"AAA": date(2019, 1, 4)}) == [("error", "progress", differ)]
    assert reported(manager, cursors=later) == [("warning", "progress", differ)]
    assert reported(manager, cursors={**CURSORS, "BBB": date(2019, 1, 4)}) == [("warning", "progress", differ)]
    assert reported(manager, cursors={}) == [("error", "progress", differ)], "a symbol that the data does not have"
    assert reported(manager, cursors={}, quick=True) == []
    (finding,) = verify(manager, cursors=later).findings
    assert finding.sample == (Saying("AAA", "2019-01-05", "by the data 2019-01-06"),)
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
    assert reported(manager) == [("error", "ledger corrections", message)]
    assert reported(manager, quick=True) == ([] if damage is _turned else reported(manager))


def test_a_file_of_a_ledger_that_only_older_versions_name(manager):
    path = ledger_path(manager, 1)
    assert path != ledger_path(manager, 2)
    path.unlink()
    message = f"{path.name}, which only older versions name: it is missing"
    assert reported(manager) == [("warning", "ledger corrections", message)]


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
    assert reported(manager)[0] == ("error", "ledger corrections", f"{path.name}: {message}")


def test_while_a_writer_is_at_work_only_damage_is_reported(manager):
    (manager.layout.objects / ".x.1.2.tmp").write_bytes(b"torn")
    with manager.acquire_lock():
        assert reported(manager) == []
        path_of(manager).unlink()
        assert [severity for severity, _, _ in reported(manager)] == ["error"]


def test_what_changed_under_the_check_is_looked_at_again(manager):
    """A commit while the check was at work: what it says is of the version after it."""
    looks: list[int] = []

    def rebuild(manifest: SyncManifest) -> Mapping[str, date]:
        looks.append(manifest.version)
        if len(looks) == 1:
            commit(manager, {2019: 3})
            save_progress(manager.layout, progress(3))
            publish(manager, 3)
        return CURSORS

    report = verify_store(manager, rebuild_cursors=rebuild)
    assert (report.version, report.findings) == (3, ())
    assert looks == [2, 3]


def test_a_store_that_never_holds_still_is_reported(manager, monkeypatch):
    monkeypatch.setattr("historical_etl.store.verify.store._PAUSE_SECONDS", 0)
    path = path_of(manager)
    spoil(path)
    (manager.layout.objects / "notes.parquet").write_bytes(b"x")
    looks: list[int] = []

    def rebuild(manifest: SyncManifest) -> Mapping[str, date]:
        looks.append(manifest.version)
        with manager.acquire_lock():
            pass
        return CURSORS

    report = verify_store(manager, rebuild_cursors=rebuild)
    assert [(finding.severity, finding.field) for finding in report.findings] == [
        ("error", f"object {path.name}"),
        ("warning", "store"),
    ]
    assert len(looks) == 20


def test_a_version_that_is_vacuumed_meanwhile_is_no_damage_and_ends_no_check(manager, monkeypatch):
    """Version 1 goes after the versions were listed; a fault of those after it is found all the same."""
    layout, listed = manager.layout, manager.list_versions()
    assert listed == [1, 2]
    commit(manager, {2019: 9})
    layout.history_file(1).unlink()
    layout.history_file(2).write_bytes(b"garbage")
    monkeypatch.setattr(manager, "list_versions", lambda *_: [1, 2, 3])
    found = [finding.field for finding in verify_store(manager).findings]
    assert "history 2" in found
    assert "history 1" not in found


def test_a_block_that_does_not_hold_what_its_footer_says_is_named(manager):
    partition = only(manager.load_version(2))
    (block,) = read_blocks(manager.layout.resolve(partition.path))
    assert list(_rows([block], partition)) == []
    wrong = "month 1: its rows are not what its footer says"
    for changes in ({"rows": 3}, {"first": date(2019, 1, 1)}, {"last": date(2019, 1, 31)}):
        group = replace(block.groups[0], **changes)
        assert list(_rows([replace(block, groups=(group,))], partition)) == [wrong]
