"""Which mount holds a path, and what of it is shared between machines."""

from dataclasses import replace
from pathlib import Path

import pytest

from historical_etl.store.volume.probe import Mount, Trial, mount_of, try_volume
from historical_etl_tests.saying import Saying


def mounts(tmp_path, *lines: str):
    file = tmp_path / "mounts"
    file.write_text("".join(f"{line} rw 0 0\n" for line in lines))
    return file


def test_the_longest_mount_point_holds_a_path_and_the_last_of_two_hides_the_other(tmp_path):
    inner = tmp_path / "a b"
    inner.mkdir()
    escaped = str(inner).replace(" ", "\\040")
    file = mounts(tmp_path, "x / ext4", f"x {escaped} xfs", f"x {escaped} nfs4", f"x {tmp_path}/a cifs")
    assert mount_of(inner / "no" / "such", file) == Mount(str(inner), "nfs4")
    assert mount_of(tmp_path, file) == Mount("/", "ext4")


def test_a_link_is_followed(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to("far")
    file = mounts(tmp_path, "x / ext4", f"x {tmp_path}/far nfs")
    assert mount_of(tmp_path / "near", file) == Mount(str(tmp_path / "far"), "nfs")


def test_without_a_list_of_mounts_nothing_is_known(tmp_path):
    assert mount_of(tmp_path, tmp_path / "none") is None
    assert mount_of(tmp_path, mounts(tmp_path, "torn")) is None


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs", "ceph", "lustre"])
def test_kinds_that_other_machines_share(kind):
    assert Mount("/", kind).is_shared


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk", "apfs"])
def test_kinds_of_this_machine_alone(kind):
    assert not Mount("/", kind).is_shared


def test_kinds_that_lose_what_was_made_durable():
    assert [kind for kind in ("ext4", "vfat", "exfat", "overlay") if Mount("/", kind).is_fragile] == ["vfat", "exfat"]
    assert [kind for kind in ("ext4", "vfat", "overlay") if Mount("/", kind).is_layered] == ["overlay"]


def test_a_trial_leaves_nothing(tmp_path):
    assert try_volume(tmp_path / "not" / "yet") == Trial()
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_is_not_replaced_is_seen(tmp_path, monkeypatch):
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: None if path.is_symlink() else rename(path, to))
    trial = try_volume(tmp_path)
    assert trial.pointing == Saying("symbolic link", "not replaced")
    assert replace(trial, pointing="") == Trial()


def test_what_goes_wrong_is_reported_in_words():
    """Nobody can make a folder in /proc."""
    assert try_volume(Path("/proc/no/such")) == Trial(writing="No such file or directory")
