"""Room on the disk: judged before anything is written, and when it runs out midway the store is as it was."""

import errno
import json
import os
import subprocess
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pytest

from historical_etl import DiskSpaceError, ETLProgressError, HistoricalETL, ManifestManager, Settings, StorageError
from historical_etl.store import transaction
from historical_etl.store.volume.free_space import check_disk_space, required_for_merge, system_disk_usage
from historical_etl_tests.scenario import (
    SHORT,
    SYMBOLS,
    ScriptedFetcher,
    at,
    current_manifest,
    daily_bytes,
    stored,
    tree,
)


class Usage(NamedTuple):
    """Bytes of a volume, shaped as what `shutil.disk_usage` gives."""

    total: int
    used: int
    free: int


TB = 1 << 40
ROOMY = Usage(TB, 0, TB)
MIDWAY, LATER = date(2013, 1, 15), date(2013, 2, 15)


def build(root: Path, usage=lambda _: ROOMY, today: date = LATER) -> HistoricalETL:
    manager = ManifestManager(root, clock=at(today), disk_usage=usage)
    return HistoricalETL(
        ScriptedFetcher(SHORT),
        root / "historical",
        root / "duckdb" / "historical_catalog.duckdb",
        manager,
        clock=at(today),
        settings=Settings(_env_file=None),  # pyright: ignore[reportCallIssue]
    )


def fill(root: Path) -> HistoricalETL:
    etl = build(root, today=MIDWAY)
    etl.run_full_etl(SYMBOLS, SHORT.first, MIDWAY)
    return etl


def used(share: float):
    return lambda _: Usage(TB, int(TB * share), TB - int(TB * share))


@pytest.mark.parametrize(
    ("share", "level"),
    [(0, "ok"), (0.79, "ok"), (0.81, "warning"), (0.89, "warning"), (0.91, "critical"), (0.94, "critical")],
)
def test_from_80_percent_a_warning_from_90_critical(tmp_path, share, level):
    status = ManifestManager(tmp_path, disk_usage=used(share)).check_disk_space(1000)
    assert status.level == level
    assert status.used_share == pytest.approx(share, abs=0.001)


@pytest.mark.parametrize(("share", "level"), [(0.8, "warning"), (0.9, "critical")])
def test_the_watermarks_themselves_count(tmp_path, share, level):
    usage = Usage(100, int(share * 100), 100 - int(share * 100))
    assert check_disk_space(1, tmp_path, lambda _: usage).level == level


@pytest.mark.parametrize("usage", [Usage(100, 95, 5), Usage(100, 99, 1), Usage(TB, TB, 0), Usage(1000, 100, 99)])
def test_from_95_percent_or_without_the_room_it_is_refused(tmp_path, usage):
    with pytest.raises(DiskSpaceError, match="are needed") as caught:
        ManifestManager(tmp_path, disk_usage=lambda _: usage).check_disk_space(100 if usage.total == 1000 else 1)
    assert caught.value.retryable
    assert caught.value.todo


def test_room_that_is_just_enough_is_enough(tmp_path):
    assert check_disk_space(99, tmp_path, lambda _: Usage(1000, 100, 99)).free_bytes == 99


def test_the_volume_that_will_hold_the_data_is_asked(root):
    asked = []

    def usage(path: Path):
        asked.append(path)
        return ROOMY

    build(root, usage).run_full_etl(SYMBOLS, SHORT.first, MIDWAY)
    assert set(asked) == {root / "historical"}
    assert system_disk_usage(root / "not" / "there" / "yet").free > 0


def test_a_merge_asks_for_twice_its_size_and_ten_kib_and_a_fifth():
    assert required_for_merge(0) == 12288
    assert required_for_merge(1_000_000) == 2_412_288


def test_what_a_merge_asks_for_is_refused_when_a_byte_is_missing(root):
    need = required_for_merge(int(SHORT.bars(start=date(2013, 1, 1), end=MIDWAY).estimated_size()))
    etl = build(root, lambda _: Usage(TB, 0, need // 2))
    with pytest.raises(DiskSpaceError):
        etl.run_full_etl(SYMBOLS, date(2013, 1, 2), MIDWAY)
    assert build(root, lambda _: Usage(TB, 0, need * 2)).run_full_etl(SYMBOLS, date(2013, 1, 2), MIDWAY).changed


def test_levels_are_part_of_the_result(root):
    result = build(root, used(0.85)).run_full_etl(SYMBOLS, SHORT.first, MIDWAY)
    assert len(result.disk_warnings) == 1
    assert result.disk_warnings[0].startswith("warning: 85% of the volume")
    result = build(root, used(0.93)).run_full_etl(SYMBOLS, SHORT.first, LATER)
    assert result.disk_warnings[0].startswith("critical: 93%")


def test_above_the_watermark_nothing_is_written(root):
    etl = fill(root)
    before = {name: data for name, data in tree(root).items() if not name.endswith(".lock")}
    with pytest.raises(DiskSpaceError):
        build(root, used(0.96)).run_incremental_etl()
    assert {name: data for name, data in tree(root).items() if not name.endswith(".lock")} == before
    assert current_manifest(etl).version == 2


def test_disk_full_quarantines_temp(root, monkeypatch):
    """The disk fills up while a year is written: nothing of it stays in objects/, and quarantine/ tells of it."""
    etl = fill(root)
    before = {name: data for name, data in tree(root).items() if not name.endswith(".lock")}
    write = transaction.write_year

    def full(blocks, stream, *base):
        write(blocks, stream, *base)
        stream.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(transaction, "write_year", full)
    with pytest.raises(DiskSpaceError, match=r"No space left.*2013; nothing was committed") as caught:
        build(root).run_incremental_etl()
    assert isinstance(caught.value.__cause__, OSError)
    after = {name: data for name, data in tree(root).items() if not name.endswith(".lock")}
    added = {name: data for name, data in after.items() if name not in before}
    assert {name: after[name] for name in before} == before
    (note,) = added
    assert note.startswith("quarantine/")
    assert note.endswith("_2013.parquet/reason.json")
    reported = json.loads(added[note])
    assert reported["year"] == 2013
    assert "No space left" in reported["reason"]
    assert list(etl.layout.objects.glob(".*")) == []

    monkeypatch.undo()
    assert build(root).run_incremental_etl().changed, "with room again, the next run needs no help"


def free_bytes(volume: Path) -> int:
    return os.statvfs(volume).f_bavail * os.statvfs(volume).f_frsize


@pytest.mark.parametrize("how", ["real volume", "injected"])
def test_enospc_during_merge_cleans_temp_preserves_manifest(small_volume, root, monkeypatch, how):
    """Wherever the room runs out: the old version whole, or the new one; never a temp, never a torn file.

    On a real 2 MB volume, filled up but for ever more pages; where mounting is not allowed, and always once more,
    with the error injected into the Nth sync of a file.
    """
    volume = small_volume if how == "real volume" else None
    home = volume / "data" if volume else root
    old = etl = fill(home)
    reference = build(root.parent / "reference")
    reference.run_full_etl(SYMBOLS, SHORT.first, LATER)
    good, version = old.layout.manifest_file().read_bytes(), current_manifest(old).version
    rows, failures = stored(old), 0
    ballast = home.parent / "ballast"

    for step in range(60):
        if volume:
            with suppress(OSError), ballast.open("wb") as stream:
                while True:
                    stream.write(b"x" * 4096)
                    stream.flush()
            os.truncate(ballast, max(0, ballast.stat().st_size - 4096 * step))
            assert free_bytes(home) >= 4096 * step
        else:
            fail_at_sync(monkeypatch, step)
        etl = build(home)
        with suppress(DiskSpaceError, ETLProgressError):
            etl.run_incremental_etl(publish=False)
        if volume:
            ballast.unlink()
        monkeypatch.undo()
        assert [path for path in home.rglob(".*") if path.is_file()] == []
        if etl.layout.manifest_file().read_bytes() != good:
            break
        failures += 1
        assert stored(etl).equals(rows)
        assert current_manifest(etl).version == version
    assert failures >= 3, "it struck before, while and after the object was written"
    assert stored(etl).equals(SHORT.expected(end=LATER))
    assert build(home).run_incremental_etl().version == version + 1
    assert daily_bytes(etl) == daily_bytes(reference)


def fail_at_sync(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The Nth fsync of a regular file finds no room; folders and the lock go through."""
    sync, left = os.fsync, count

    def fsync(descriptor: int) -> None:
        nonlocal left
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            return sync(descriptor)
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return sync(descriptor)

    monkeypatch.setattr("historical_etl.durable.os.fsync", fsync)


@contextmanager
def read_only(home: Path, volume: Path | None):
    """Remounted read-only; where mounting is not allowed, without permission to write, and as nobody if we are root."""
    if volume:
        subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
        yield
        return
    root = os.geteuid() == 0
    folders = [home, *(path for path in home.rglob("*") if path.is_dir())]
    for path in [*folders, home / "manifests" / "historical_daily.lock"]:
        path.chmod(0o555)
    if root:
        home.parent.chmod(0o755)
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for folder in folders:
            folder.chmod(0o755)


def test_a_read_only_folder_can_be_read_and_refuses_to_be_written(small_volume, root):
    home = small_volume / "data" if small_volume else root
    fill(home)
    before = tree(home)
    with read_only(home, small_volume):
        etl = build(home)
        assert stored(etl).equals(SHORT.expected(end=MIDWAY))
        assert etl.query_sql("SELECT count(*) AS n FROM daily_prices").item() == stored(etl).height
        assert etl.cursors()["BRK.B"] == MIDWAY
        with pytest.raises(StorageError, match=r"Read-only file system|Permission denied") as caught:
            etl.run_incremental_etl()
        assert "permissions and mount options" in caught.value.todo
        assert tree(home) == before
