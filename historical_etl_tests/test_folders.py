"""A folder that cannot be listed is no empty one."""

import errno
import os

import pytest

from historical_etl.folders import entries_of


def test_entries_are_sorted_and_chosen_by_name(tmp_path):
    for name in ("b.json", "a.json", ".c.json", "d.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in entries_of(tmp_path, "*.json")] == [".c.json", "a.json", "b.json"]
    assert len(entries_of(tmp_path)) == 4


def test_a_folder_that_is_none_has_no_entries(tmp_path):
    file, loop = tmp_path / "file", tmp_path / "loop"
    file.touch()
    loop.symlink_to(loop)
    assert [entries_of(path) for path in (tmp_path / "missing", file, loop)] == [[], [], []]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_one_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch, number):
    def refuse(path: object) -> list[str]:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(OSError, match=os.strerror(number)):
        entries_of(tmp_path)
