"""Every call on a store's files may fail: full or faulty disk, quota, rights, descriptors, a read-only file system.

Faults are injected by the kernel at exactly the call that is meant (`intercept`: seccomp's user notification), once
or from there on. Beside that, there are real ones: a small file system that fills up, one that is remounted
read-only, a limit on the size of files that cuts writes short.
"""

import errno
import os
import random
import resource
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from historical_etl import ManifestManager
from historical_etl.durable import sha256_of
from historical_etl_tests.proofs.crash.checks import (
    Outcome,
    assert_refused_or_right,
    copy_store,
    garbage,
    left,
    outcome_of,
    verified,
)
from historical_etl_tests.proofs.crash.commands import COMMANDS, Acknowledge, Command
from historical_etl_tests.proofs.crash.intercept import Answer, Step, intercepted
from historical_etl_tests.proofs.crash.process import Ended, Work, Worker
from historical_etl_tests.proofs.crash.test_crash_matrix import prepared
from historical_etl_tests.shares import drawn, number_of

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(7200)]

#: How many faults of each command are tried in every run; all with `--torture`.
SHARE = 2
FULL = (errno.ENOSPC, errno.EDQUOT)
DENIED = (errno.EACCES, errno.EROFS)
#: What each call can fail with.
ERRORS = {
    **dict.fromkeys(("write", "writev", "pwrite64", "sendfile", "ftruncate", "fsync", "fdatasync"), (errno.EIO, *FULL)),
    **dict.fromkeys(("rename", "link", "symlink", "mkdir"), (errno.EIO, *FULL, *DENIED)),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir", "chmod", "fchmod", "utimensat"), (errno.EIO, *DENIED)),
    "opening": (errno.EIO, errno.EMFILE, errno.EACCES),
    "making": (errno.EIO, errno.EMFILE, *FULL, *DENIED),
}
#: A call, the error it meets, and whether all calls after it meet the same.
Fault: TypeAlias = tuple[Step, int, bool]
#: Those that last once they have begun.
LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


def errors_of(step: Step) -> Sequence[int]:
    if "open" in step.name:
        return ERRORS["making" if step.changes else "opening"]
    return ERRORS[step.name]


def faults_of(steps: Sequence[Step]) -> list[Fault]:
    """Each call, each error that it can meet, once and from there on."""
    return [
        (step, error, lasting)
        for step in steps
        for error in errors_of(step)
        for lasting in (False, True)
        if not lasting or error in LASTING
    ]


def some_of(faults: Sequence[Fault], name: str) -> list[Fault]:
    """A share of a command's faults; those of all commands together have every error in them."""
    errors = sorted({error for each in ERRORS.values() for error in each})
    begin = number_of("errors") + list(COMMANDS).index(name) * SHARE
    wanted = [errors[(begin + offset) % len(errors)] for offset in range(SHARE)]
    return [fault for error in wanted for fault in drawn([each for each in faults if each[1] == error], 1, name)]


def failing(call: Step, error: int, hit: list[Step], *, lasting: bool):
    def decide(step: Step) -> Answer:
        if step.is_again(call) or (lasting and hit and error in errors_of(step)):
            hit.append(step)
            return error
        return None

    return decide


def assert_no_harm(root: Path, ended: Ended, command: Command, least: int, most: int, where: str) -> None:
    """A fault ended in success or in an error of ours, and a whole version is current, unless it was being repaired."""
    assert ended.exitcode == 0, where
    assert ended.ours, f"{where}: {ended.error}: {ended.reported}"
    if command.repairs and ended.error:
        return
    manifest = ManifestManager(root).load_manifest()
    version = manifest.version if manifest else 0
    assert max([least, *ended.acknowledged]) <= version <= most, where
    if not ended.error:
        assert version == most, where
    for partition in manifest.partitions if manifest else ():
        assert sha256_of(root / partition.path) == partition.checksum, where


def assert_goes_on(root: Path, command: Command, undisturbed: Outcome, where: str) -> None:
    """The next run completes, and comes to what an undisturbed one comes to."""
    command.run(root, lambda _: None)
    assert outcome_of(root, command.day) == undisturbed, where
    assert not left(root) or command.repairs, where


def begun(name: str, root: Path, before: Path, marks: Path) -> tuple[Command, int, int, list[Step], Outcome]:
    """A command, the versions before and after it, its calls, and what it comes to undisturbed."""
    command, steps = COMMANDS[name], list[Step]()
    least = prepared(command, root)
    copy_store(root, before)
    ended = intercepted(command.run, root, marks, steps.append)
    assert (ended.exitcode, ended.error) == (0, "")
    return command, least, ended.acknowledged[-1], steps, outcome_of(root, command.day)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_call_that_fails_leaves_a_committed_version_and_a_plain_error(root, tmp_path, name, torture, tried):
    before, marks = tmp_path / "before", tmp_path / "marks"
    command, least, most, steps, undisturbed = begun(name, root, before, marks)
    replaced = garbage(before)
    faults = faults_of(steps)
    chosen = faults if torture else some_of(faults, name)
    for call, error, lasting in chosen:
        copy_store(before, root)
        hit: list[Step] = []
        ended = intercepted(command.run, root, marks, failing(call, error, hit, lasting=lasting))
        where = f"{errno.errorcode[error]}{' from' if lasting else ' at'} {hit[0].name} {hit[0].paths}"
        assert_no_harm(root, ended, command, least, most, where)
        if command.repairs:
            assert_refused_or_right(root, command.day, undisturbed.rows)
        assert_goes_on(root, command, undisturbed, where)
        assert garbage(root) == replaced, where
    tried(f"{len(chosen)} of {len(faults)} faults at {len(steps)} calls")


@pytest.mark.parametrize("name", ["repair", "rollback"])
def test_what_cannot_be_read_just_now_is_not_taken_for_damaged(root, tmp_path, name, share, tried):
    """A version that was acknowledged is not given up for it."""
    before, marks = tmp_path / "before", tmp_path / "marks"
    command, least, most, steps, undisturbed = begun(name, root, before, marks)
    reads = [step for step in steps if "open" in step.name and not step.changes and "/manifests" in step.paths[0]]
    chosen = share(reads, 2)
    for step in chosen:
        copy_store(before, root)
        hit: list[Step] = []
        ended = intercepted(command.run, root, marks, failing(step, errno.EIO, hit, lasting=False))
        where = f"EIO at {hit[0].name} {hit[0].paths}"
        assert_no_harm(root, ended, command, least, most, where)
        assert_goes_on(root, command, undisturbed, where)
    tried(f"{len(chosen)} of {len(reads)} reads")


@pytest.mark.parametrize("name", ["increment", "pin", "rollback", "vacuum"])
def test_a_folder_that_cannot_be_listed_just_now_is_not_taken_for_empty(root, tmp_path, name, share, tried):
    """No file of a version that is kept is removed for it."""
    before, marks = tmp_path / "before", tmp_path / "marks"
    command, least, most, steps, undisturbed = begun(name, root, before, marks)
    folders = [step for step in steps if "open" in step.name and not step.changes and Path(step.paths[0]).is_dir()]
    chosen = share(folders, 2)
    for step in chosen:
        copy_store(before, root)
        ended = intercepted(command.run, root, marks, failing(step, errno.EACCES, [], lasting=False))
        assert_no_harm(root, ended, command, least, most, f"EACCES at {step}")
        assert_goes_on(root, command, undisturbed, f"EACCES at {step}")
    tried(f"{len(chosen)} of {len(folders)} times that a folder is opened")


@pytest.mark.parametrize("name", ["backfill", "restatement"])
@pytest.mark.parametrize("answer", ["short", "slow"])
def test_writes_that_are_cut_short_and_a_slow_disk_change_nothing(root, tmp_path, name, answer):
    before, marks = tmp_path / "before", tmp_path / "marks"
    command, _, most, _, undisturbed = begun(name, root, before, marks)
    copy_store(before, root)
    seen: list[Step] = []

    def decide(step: Step) -> Answer:
        seen.append(step)
        if answer == "slow":
            time.sleep(0.01)
            return None
        return "short" if "write" in step.name else None

    ended = intercepted(command.run, root, marks, decide)
    assert (ended.error, ended.acknowledged[-1]) == ("", most)
    assert len(seen) > 100
    assert outcome_of(root, command.day) == undisturbed
    assert verified(root).findings == ()


def test_a_year_that_cannot_be_read_in_mid_run_is_an_error_of_ours(root, tmp_path, share, tried):
    """Polars reads the stored years, too, and has errors of its own."""
    before, marks = tmp_path / "before", tmp_path / "marks"
    command, least, most, steps, _ = begun("restatement", root, before, marks)
    reads = [step for step in steps if not step.changes and "/objects/20" in step.paths[0]]
    chosen = share(reads, 6)
    for step in chosen:
        copy_store(before, root)
        hit: list[Step] = []
        ended = intercepted(command.run, root, marks, failing(step, errno.EMFILE, hit, lasting=False))
        assert_no_harm(root, ended, command, least, most, f"at {step}")
        assert hit
    tried(f"{len(chosen)} of {len(reads)} times that a stored year is opened")


def test_a_disk_that_is_full_while_staging_is_no_fault_of_the_source(root, tmp_path):
    """The run stops; it does not go on without the symbols that could not be staged."""
    refused: list[Step] = []

    def decide(step: Step) -> Answer:
        if refused or "write" not in step.name or "/staging/" not in step.paths[0]:
            return None
        refused.append(step)
        return errno.ENOSPC

    ended = intercepted(COMMANDS["backfill"].run, root, tmp_path / "marks", decide)
    assert (ended.error, ended.acknowledged) == ("DiskSpaceError", ())
    assert ManifestManager(root).load_manifest() is None


def limited(work: Work, size: int, root: Path, acknowledge: Acknowledge) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    work(root, acknowledge)


@pytest.mark.parametrize("size", [100, 2500, 5000, 8600, 100_000])
def test_files_may_not_grow_beyond_a_limit(root, tmp_path, size):
    """A real short write: the kernel writes what still fits, then refuses."""
    before, marks = tmp_path / "before", tmp_path / "marks"
    command, least, most, _, undisturbed = begun("restatement", root, before, marks)
    copy_store(before, root)
    worker = Worker(partial(limited, command.run, size), root, marks)
    worker.begin()
    ended = worker.end()
    assert ended.error or size == 100_000, "only the catalog is larger, and it does not undo a commit"
    assert_no_harm(root, ended, command, least, most, f"{size}: {ended.reported}")
    assert_goes_on(root, command, undisturbed, f"{size}")


def fill(volume: Path) -> None:
    """Leave no room at all on a volume."""
    room = os.statvfs(volume)
    with (volume / "ballast").open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, room.f_bavail * room.f_bsize)


def test_a_volume_that_fills_up(small_volume, tmp_path, tried):
    """A real file system of 2 MB, filled up by something else while a command is at work.

    Where mounting is not allowed, the limit on the size of files and the injected ENOSPC must do, and the summary
    says so.
    """
    if small_volume is None:
        tried("no real volume: mounting is not allowed here; injected ENOSPC only")
        return
    root, before, marks = small_volume / "data", tmp_path / "before", tmp_path / "marks"
    command, least, most, steps, undisturbed = begun("restatement", root, before, marks)
    notes: list[str] = []
    changes = [step for step in steps if step.changes]
    first = next(step for step in changes if "/objects/" in step.paths[0])
    for step in (first, *drawn([step for step in changes if step is not first], 3, "a volume that fills up")):
        copy_store(before, root)

        def decide(seen: Step, full_from: Step = step) -> Answer:
            if seen.is_again(full_from):
                fill(small_volume)
            return None

        ended = intercepted(command.run, root, marks, decide)
        assert_no_harm(root, ended, command, least, most, f"full from {step}: {ended.reported}")
        notes.append(ended.error or "done")
        (small_volume / "ballast").unlink()
        assert_goes_on(root, command, undisturbed, f"full from {step}")
    assert notes[0] == "DiskSpaceError"
    tried(f"a real volume that is full from one of {len(notes)} calls on: {', '.join(notes)}")


def test_a_volume_that_is_remounted_read_only(small_volume, tmp_path, tried):
    """A real remount, between the fetch and the lock.

    Linux refuses it while files are open for writing, so that what comes later is the injected EROFS.
    """
    if small_volume is None:
        tried("no real volume: mounting is not allowed here; injected EROFS only")
        return
    root, before, marks = small_volume / "data", tmp_path / "before", tmp_path / "marks"
    command, least, most, steps, undisturbed = begun("restatement", root, before, marks)
    copy_store(before, root)
    locking = next(step for step in steps if step.paths[0].endswith(".lock") and step.changes)

    def decide(step: Step) -> Answer:
        if step.is_again(locking):
            subprocess.run(["mount", "-o", "remount,ro", str(small_volume)], check=True)
        return None

    try:
        ended = intercepted(command.run, root, marks, decide)
        assert (ended.error, ended.ours) == ("StorageError", True)
        assert_no_harm(root, ended, command, least, most, ended.reported)
        assert verified(root).ok
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_volume)], check=True)
    assert_goes_on(root, command, undisturbed, "read-only")
    tried("a real remount")


def test_the_faults_are_really_there(root, tmp_path):
    """Each kind of answer does to the process what it says."""
    command, marks = COMMANDS["publish"], tmp_path / "marks"
    prepared(command, root)
    last: list[Step] = []
    assert intercepted(command.run, root, marks, lambda _: errno.EIO).error in {"StorageError", "CatalogError"}
    assert intercepted(command.run, root, marks, lambda _: "kill").exitcode == -9
    assert intercepted(command.run, root, marks, last.append).error == ""
    dice = random.Random(1)
    assert len(faults_of(last)) > 100
    assert dice.choice(faults_of(last))[0] in last
