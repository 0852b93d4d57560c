"""Leases: a version that a reader has open is known to a vacuum as long as the reader lives, and no longer."""

import subprocess
import sys
import threading

import pytest

from historical_etl import ManifestManager
from historical_etl.store.layout import Layout
from historical_etl.store.leases import excluded, leased, stay_leased
from historical_etl_tests.store.small import Hand, commit

READER = """
import sys
from historical_etl.store.layout import Layout
from historical_etl.store.leases import leased, stay_leased
if sys.argv[2] == "stay":
    stay_leased(Layout(sys.argv[1]), 2)
    print("open", flush=True)
    sys.stdin.read()
else:
    with leased(Layout(sys.argv[1]), 2):
        print("open", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def layout(root) -> Layout:
    manager = ManifestManager(root, clock=Hand())
    for number in range(1, 8):
        commit(manager, {2019: number})
    return manager.layout


def opened(layout: Layout) -> set[int]:
    with excluded(layout) as versions:
        return versions


def test_a_version_is_leased_for_the_block(layout):
    assert opened(layout) == set()
    with leased(layout, 2) as there, leased(layout, 5), leased(layout, 5):
        assert there is True
        assert opened(layout) == {2, 5}
        assert opened(layout) == {2, 5}, "to ask is not to end them"
        assert len(list(layout.leases.iterdir())) == 3
    assert opened(layout) == set()
    assert list(layout.leases.iterdir()) == []


def test_a_version_that_is_gone_is_told(layout):
    with leased(layout, 99) as there:
        assert there is False


@pytest.mark.parametrize("way", ["block", "stay"])
def test_the_lease_of_another_process_ends_with_it_however_it_ends(layout, way):
    command = [sys.executable, "-c", READER, str(layout.root), way]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        assert opened(layout) == {2}
        reader.kill()
        reader.wait()
        left = list(layout.leases.iterdir())
        assert len(left) == 1
        assert left[0].name.startswith("00000002-")
    assert opened(layout) == set()
    assert list(layout.leases.iterdir()) == [], "what a dead reader left is removed"


def test_foreign_files_are_no_leases(layout):
    with leased(layout, 2):
        own = next(layout.leases.iterdir())
        for name in ("notes.txt", "x-1.lease", "00000003.lock"):
            (layout.leases / name).hardlink_to(own)  # as well locked as the lease itself
        assert opened(layout) == {2}
    assert {path.name for path in layout.leases.iterdir()} == {"notes.txt", "x-1.lease", "00000003.lock"}


def test_no_lease_is_taken_while_a_vacuum_is_at_work(layout):
    order: list[str] = []
    begun = threading.Event()

    def read() -> None:
        begun.set()
        with leased(layout, 2):
            order.append("leased")

    with leased(layout, 1):
        reader = threading.Thread(target=read)
        with excluded(layout) as versions:
            assert versions == {1}
            reader.start()
            begun.wait()
            reader.join(0.2)
            order.append("vacuumed")
        reader.join()
    assert order == ["vacuumed", "leased"]


def test_where_no_lease_can_be_written_the_version_is_read_without(layout):
    layout.leases.write_bytes(b"a file is in the place of the folder")
    with leased(layout, 2) as there:
        assert there is True
    with leased(layout, 99) as there:
        assert there is False
    assert stay_leased(layout, 2) is True
    assert opened(layout) == set()


def test_nobody_reads_and_no_folder_is_made(root):
    assert opened(Layout(root)) == set()
    assert not root.exists()


def test_a_process_keeps_the_last_four_versions_that_it_read_open(layout):
    for version in (1, 2, 3, 4):
        assert stay_leased(layout, version) is True
    assert opened(layout) == {1, 2, 3, 4}
    assert stay_leased(layout, 1) is True, "read again, so it is the last one now"
    assert len(list(layout.leases.iterdir())) == 4
    assert stay_leased(layout, 5) is True
    assert opened(layout) == {1, 3, 4, 5}
    assert len(list(layout.leases.iterdir())) == 4
    layout.history_file(3).unlink()
    assert stay_leased(layout, 3) is False
    assert stay_leased(layout, 99) is False
    assert opened(layout) == {1, 3, 4, 5}
