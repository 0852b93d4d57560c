"""The store on real file systems: what the proofs by model assume of them, they do.

Each is an image that is mounted through a loop device. Where that is not allowed, or the kernel does not know the file
system, the summary of the run says that it was not tried.
"""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from historical_etl.durable import write_atomic
from historical_etl.store.volume.probe import Trial, try_volume
from historical_etl_tests.proofs.crash.conftest import Share, Tried
from historical_etl_tests.proofs.crash.intercept import Answer, Step, intercepted
from historical_etl_tests.proofs.crash.on_volume import COMMAND, apart, done, goes_on, prepared
from historical_etl_tests.proofs.crash.process import Ended
from historical_etl_tests.proofs.crash.test_crash_matrix import kill_before
from historical_etl_tests.proofs.crash.test_io_faults import assert_no_harm
from historical_etl_tests.proofs.crash.volumes import KINDS, Unavailable, Volume, volume_of

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(7200)]

#: How many points of the command are tried in every run; all with `--torture`.
CUT, FULL = 1, 1
JOURNALED = [name for name, kind in KINDS.items() if kind.links]
#: A store and one more version of it fit in so many bytes.
QUOTA = 3 << 20


def of_kinds(*names: str) -> pytest.MarkDecorator:
    """A test for each file system, with the mark by which it is left out where the tool that makes it is lacking."""
    each = [pytest.param(name, marks=getattr(pytest.mark, name.split()[0]), id=name) for name in names]
    return pytest.mark.parametrize("volume", each, indirect=True)


@pytest.fixture
def volume(request: pytest.FixtureRequest, tmp_path: Path, tried: Tried) -> Iterator[Volume | None]:
    """The file system that the test names; None where it cannot be mounted."""
    try:
        mounting = volume_of(request.param.split()[0], tmp_path)
        mounted = mounting.__enter__()
    except Unavailable as error:
        tried(f"not tried: {error}")
        yield None
        return
    try:
        yield mounted
    finally:
        mounting.__exit__(None, None, None)


class Stage:
    """A store on a volume, the command that is disturbed there, and what it comes to undisturbed, in memory."""

    def __init__(self, root: Path, memory: Path, *, links: bool) -> None:
        self.root, self._links = root, links
        self._before, self._marks = memory / "before", memory / "marks"
        (memory / "elsewhere").mkdir()
        self._reference = done(memory / "elsewhere" / "data")
        root.parent.mkdir()
        self.least = apart(prepared, root)
        _copy(root, self._before)
        self.steps: list[Step] = []
        ended = self.run(kill_before(None, self.steps))
        assert (ended.exitcode, ended.error) == (0, "")
        self.most = ended.acknowledged[-1]

    def run(self, decide: Callable[[Step], Answer]) -> Ended:
        """The command, disturbed."""
        return intercepted(COMMAND.run, self.root, self._marks, decide)

    def renew(self) -> None:
        """The store as it was before the command, all of it on the device."""
        for path in self.root.iterdir():
            subprocess.run(["rm", "-r", str(path)], check=True)
        _copy(self._before, self.root)
        subprocess.run(["sync", "--file-system", str(self.root)], check=True)

    def goes_on(self, ended: Ended, where: str) -> None:
        """What was acknowledged stands, and the next run comes to the same as on any other volume."""
        least = max([self.least, *ended.acknowledged])
        assert apart(goes_on, self.root, least, self.most, links=self._links) == self._reference, where


def _copy(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    subprocess.run(["cp", "-r", "--preserve=timestamps,links", f"{source}/.", str(target)], check=True)


@of_kinds(*KINDS)
def test_a_store_lives_on_it_and_loses_nothing_when_a_writer_or_the_power_goes(
    volume: Volume | None, memory: Path, share: Share[Step], tried: Tried
):
    """A writer is killed; at once the power is cut, too, where names are in a journal or a tree."""
    if volume is None:
        return
    kind = KINDS[volume.name]
    assert (apart(try_volume, volume.point) == Trial()) == kind.links, "`doctor` knows whether there are hard links"
    stage = Stage(volume.point / "top" / "data", memory, links=kind.links)
    points = share(stage.steps, CUT)
    for point in (*points, None):
        stage.renew()
        ended = stage.run(kill_before(point, []))
        where = f"killed before {point}"
        assert ended.exitcode == (0 if point is None else -signal.SIGKILL), where
        if kind.links:
            volume.cut_power()
        stage.goes_on(ended, where)
    what = "killed, and the power cut," if kind.links else "killed"
    tried(f"{what} at {len(points)} of {len(stage.steps)} points, and after the last one")


@of_kinds(*JOURNALED)
def test_a_cut_of_power_loses_what_was_not_synced_and_nothing_else(volume: Volume | None):
    """Else the cuts of the other test would prove nothing."""
    if volume is None:
        return
    synced, unsynced = volume.point / "folder" / "synced", volume.point / "folder" / "unsynced"
    write_atomic(synced, b"synced")
    unsynced.write_bytes(b"unsynced")
    volume.cut_power()
    assert synced.read_bytes() == b"synced"
    assert list(synced.parent.iterdir()) == [synced]


@of_kinds(*KINDS, "btrfs with a quota")
def test_it_fills_up_while_a_store_is_written(
    volume: Volume | None, memory: Path, share: Share[Step], tried: Tried, request: pytest.FixtureRequest
):
    if volume is None:
        return
    top = volume.point / "top"
    if "quota" in request.node.name:
        volume.limit(volume.point / "limited", QUOTA)
        top = volume.point / "limited" / "top"
    stage = Stage(top / "data", memory, links=KINDS[volume.name].links)
    begin = next(at for at, step in enumerate(stage.steps) if "/objects/" in step.paths[0])
    notes: list[str] = []
    for call in (stage.steps[begin], *share(stage.steps[begin + 1 :], FULL)):
        stage.renew()
        emptied: list[Callable[[], None]] = []

        def decide(step: Step, call: Step = call, emptied: list[Callable[[], None]] = emptied) -> Answer:
            if step.is_again(call):
                emptied.append(volume.fill(top))
            return None

        ended = stage.run(decide)
        where = f"full from {call} on: {ended.reported}"
        assert_no_harm(stage.root, ended, COMMAND, stage.least, stage.most, where)
        notes.append(ended.error or "done")
        (empty,) = emptied
        empty()
        stage.goes_on(ended, where)
    assert notes[0] == "DiskSpaceError"
    tried(f"full from one of {len(notes)} calls on: {', '.join(notes)}")
