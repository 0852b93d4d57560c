"""Replacing one file: wholly there, or as it was; and no temp is ever taken for data."""

import os
from pathlib import Path

import pytest

from historical_etl.durable import make_folder, sha256_of, temp_name, temporary_beside, write_atomic


def test_a_file_is_made_with_its_folders_and_replaced(tmp_path):
    target = tmp_path / "a" / "b.json"
    write_atomic(target, b"one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_is_made_top_down_and_synced_where_it_is_named(tmp_path, monkeypatch):
    synced: list[str] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    assert synced[-2:] == [str(tmp_path), str(tmp_path / "a")]
    synced.clear()
    make_folder(tmp_path / "a" / "b")
    assert synced == []


def test_a_failure_leaves_the_old_file_and_no_temp(tmp_path, monkeypatch):
    target = tmp_path / "b.json"
    write_atomic(target, b"one")
    for broken in ("os.fsync", "Path.replace"):
        with monkeypatch.context() as patch:

            def fail(*_: object) -> None:
                raise OSError(5, "Input/output error")

            owner, name = (os, "fsync") if broken == "os.fsync" else (Path, "replace")
            patch.setattr(owner, name, fail)
            with pytest.raises(OSError, match="Input/output"):
                write_atomic(target, b"two")
        assert target.read_bytes() == b"one"
        assert list(tmp_path.iterdir()) == [target]


def test_an_interrupt_leaves_no_temp(tmp_path):
    def interrupted() -> None:
        with temporary_beside(tmp_path / "x") as (temp, stream):
            stream.write(b"half")
            assert temp.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["2012.parquet", "historical_daily.json", "historical_catalog.duckdb"])
def test_the_name_of_a_temp_matches_no_readers_glob(tmp_path, name):
    temp = temp_name(tmp_path / name)
    temp.touch()
    assert temp.parent == tmp_path, "a rename must stay on the volume"
    suffix = Path(name).suffix
    for pattern in (f"*{suffix}", f"**/*{suffix}", "*", f"20*{suffix}"):
        shell = [path for path in tmp_path.glob(pattern) if not path.name.startswith(".")]
        assert shell == []
    assert list(tmp_path.glob(f"*{suffix}")) == [], "Path.glob shows hidden files too"


def test_two_temps_of_one_file_have_two_names(tmp_path):
    assert len({temp_name(tmp_path / "x") for _ in range(100)}) == 100


def test_sha256_is_of_the_whole_file(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
