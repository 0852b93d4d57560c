"""Leases: a version that a reader has open is known to a vacuum as long as the reader lives, and no longer."""

import subprocess
import sys
import threading

import pytest

from historical_etl import ManifestManager
from historical_etl.store.layout import Layout
from historical_etl.store.leases import leased, stay_leased, unleased
from historical_etl_tests.store.small import Hand, commit

READER = """
import sys
from historical_etl.store.layout import Layout
from historical_etl.store.leases import leased, stay_leased
if sys.argv[2:] != ["block"]:
    print(*(stay_leased(Layout(sys.argv[1]), int(version)) for version in sys.argv[2:]), file=sys.stderr)
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
    """The versions that a reader has open."""
    versions = set(ManifestManager(layout).list_versions())
    with unleased(layout, versions) as free:
        return versions - free


def test_a_version_is_leased_for_the_block(layout):
    assert opened(layout) == set()
    with leased(layout, 2) as there, leased(layout, 5), leased(layout, 5):
        assert there is True
        assert opened(layout) == {2, 5}
        assert opened(layout) == {2, 5}, "to ask is not to end them"
    assert opened(layout) == set()


def test_a_version_that_is_gone_is_reported(layout):
    with leased(layout, 99) as there:
        assert there is False


@pytest.mark.parametrize("way", ["block", "2"])
def test_the_lease_of_another_process_ends_with_it_however_it_ends(layout, way):
    command = [sys.executable, "-c", READER, str(layout.root), way]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"open\n"
        assert opened(layout) == {2}
        reader.kill()
        reader.wait()
    assert opened(layout) == set()


def test_a_version_that_goes_meanwhile_is_reported(layout):
    """A reader that has the manifest open while it is removed waits for the vacuum, and learns that it is gone."""
    order: list[object] = []
    with unleased(layout, [2]) as free:
        assert free == {2}

        def read() -> None:
            with leased(layout, 2) as there:
                order.append(there)

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(0.3)
        assert order == [], "it waits"
        layout.history_file(2).unlink()
        order.append("removed")
    reader.join()
    assert order == ["removed", False]


def test_a_store_without_the_version_is_left_as_it_is(root):
    with leased(Layout(root), 1) as there, unleased(Layout(root), [1]) as free:
        assert (there, free) == (False, set())
    assert not root.exists()


@pytest.mark.parametrize(
    ("read", "kept"),
    [
        pytest.param([1, 2, 3, 4], {1, 2, 3, 4}, id="four"),
        pytest.param([1, 2, 3, 4, 1, 5], {1, 3, 4, 5}, id="read again, so 1 is no longer the first"),
        pytest.param([1, 2, 99, 5], {1, 2, 5}, id="one that is gone"),
    ],
)
def test_a_process_keeps_the_last_four_versions_that_it_read_open(layout, read, kept):
    """With one thread: this one has those of the test runner besides, and keeps two for each."""
    command = [sys.executable, "-c", READER, str(layout.root), *map(str, read)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        assert opened(layout) == kept
        _, output = reader.communicate()
    assert output.split() == [str(version != 99) for version in read]


def test_a_version_that_was_read_and_is_gone_is_reported(layout):
    assert stay_leased(layout, 3) is True
    layout.history_file(3).unlink()
    assert stay_leased(layout, 3) is False
