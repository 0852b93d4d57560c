"""The proofs themselves are proven: leave out any single sync, link or rename, and one of them fails.

The call is left out of the recorded trace, as if the code did not make it, and the power-loss model is asked again.
Syncs that matter only after a kill are left out of a trace of a writer that was killed and of the one after it.
"""

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from historical_etl.durable import TEMP_SUFFIX
from historical_etl_tests.proofs.crash.commands import SEQUENCES, in_place
from historical_etl_tests.proofs.crash.disk import Acknowledged, Names, Operation, Staged, Sync
from historical_etl_tests.proofs.crash.power_loss import State, pending_at, states, targeted, unready_folders
from historical_etl_tests.proofs.crash.process import Work
from historical_etl_tests.proofs.crash.recorded import Recorded, fault, record
from historical_etl_tests.shares import drawn, number_of


def essential(operations: Sequence[Operation]) -> list[int]:
    """The calls that a commit is made of: each link and rename, and each sync of what is not durable yet."""
    return [
        index
        for index, operation in enumerate(operations)
        if (isinstance(operation, Sync) and _is_needed(operations, index))
        or (isinstance(operation, Names) and _makes_a_name(operation))
    ]


def _makes_a_name(operation: Names) -> bool:
    """Whether it is part of a commit: a rename to a temp name takes something away, from readers that may list it."""
    return operation.call.startswith(("link", "symlink", "rename")) and not operation.call.endswith(TEMP_SUFFIX)


def _is_needed(operations: Sequence[Operation], index: int) -> bool:
    """Whether a sync makes anything durable but the lock's own file, or that something was cleared away."""
    synced = pending_at(operations, index + 1)
    waiting = [each for each in pending_at(operations, index) if not any(each is other for other in synced)]
    return any(not each.call.endswith(".lock") and not each.call.startswith("unlink data/hist") for each in waiting)


def without(operations: Sequence[Operation], index: int) -> list[Operation]:
    """All but one operation; without a link of a temp name there is nothing to rename either."""
    left_out, rest = operations[index], list(operations)
    if isinstance(left_out, Names) and left_out.call.startswith(("link", "symlink")):
        made = left_out.changes[0][:2]
        rename = (each for each in rest[index:] if isinstance(each, Names) and (*made, None) in each.changes)
        if left_out.call.endswith(TEMP_SUFFIX):
            rest.remove(next(rename))
    del rest[index]
    return rest


def caught(recorded: Recorded, index: int, *, rule: bool = True) -> str:
    """What fails when one call is left out; "" if nothing does. `rule`: whether folders must be durable before use."""
    disk = recorded.disk
    operations = without(disk.operations, index)
    if rule and (unready := unready_folders(operations)):
        return f"used before it was durable: {unready[0]}"
    seen = [at + 1 for at in range(index, len(operations)) if isinstance(operations[at], Acknowledged | Staged)]
    shift = len(disk.operations) - len(operations)
    for state in _suspects(recorded, operations, shift, [*seen[:2], *range(index + 1, (seen or [index])[-1] + 1)]):
        tree = disk.trees.get(len(state.operations) + shift) if state.acknowledged else None
        if wrong := fault(state, recorded, tree):
            return wrong
    return ""


def _suspects(recorded: Recorded, operations: list[Operation], shift: int, points: Sequence[int]) -> Iterator[State]:
    before: list[Operation] = []
    for point in points:
        proper = pending_at(recorded.disk.operations, point + shift)
        exposed = [each for each in pending_at(operations, point) if not any(each is other for other in proper)]
        reported = isinstance(operations[point - 1], Acknowledged | Staged)
        # A sync left out exposes what it was for; elsewhere the state itself is wrong as soon as something is reported.
        if reported or exposed != before or not isinstance(operations[point - 1], Sync):
            yield from targeted(operations, recorded.disk.folders, point, exposed)
        before = exposed


#: How many calls of each kind, and how many kills, are tried in every run; all with `--torture`.
SHARE, KILLED = 5, 1
#: Syncs that come with the helper that makes them, and that nothing here depends on, in their order.
NEEDLESS = {
    "taken in": (
        # The commit of an import: its history stands in for it until the catalog's record syncs the folder again.
        "fsync data/manifests",
        # Between a quarantined file and its record: a record alone is not taken for the file.
        r"fsync data/quarantine/[^/]+",
    )
}
FORTH = SEQUENCES["forth"].works
#: Kills in the last command, just before the last sync of a folder, and then that command again.
KILLS = [
    *((FORTH[:1], folder) for folder in ("", "data", "data/historical", "data/manifests")),
    ((in_place, *FORTH[:1]), "data/historical/elsewhere"),
    (FORTH[:3], "data/manifests/history"),
]


def settling(operations: Sequence[Operation], begin: int) -> list[int]:
    """The syncs that a writer begins with, until it makes something of its own beside its lock."""
    syncs: list[int] = []
    for at in range(begin, len(operations)):
        operation = operations[at]
        if isinstance(operation, Names) and not operation.call.endswith(("manifests", ".lock")):
            break
        if isinstance(operation, Sync):
            syncs.append(at)
    return syncs


def killed(folder: Path, works: Sequence[Work], synced: str, *, undisturbed: Recorded) -> Recorded:
    """The same commands, the last of them killed before its last sync of a folder and run again."""
    begin = undisturbed.begins[len(works) - 1]
    syncs = [each for each in undisturbed.disk.operations[begin:] if isinstance(each, Sync)]
    name = f"fsync {synced or undisturbed.top}"
    last = max(at for at, each in enumerate(syncs) if each.call == name)
    number = sum(each.thread == syncs[last].thread for each in syncs[: last + 1])  # strace counts those of each thread
    return record([*works, works[-1]], folder, {len(works) - 1: f"fsync:signal=SIGKILL:when={number}"})


@pytest.mark.crash
@pytest.mark.strace
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_what_a_kill_left_unsynced_is_made_durable_by_the_next_writer(memory, share, tried):
    """A rename that was made and not synced is seen by the next writer, which finds nothing to do, and says so."""
    needed: set[str] = set()
    undisturbed: dict[tuple[Work, ...], Recorded] = {}
    kills = share(KILLS, KILLED)
    for number, (works, synced) in enumerate(kills):
        folder = memory / str(number)
        folder.mkdir()
        if works not in undisturbed:
            (folder / "undisturbed").mkdir()
            undisturbed[works] = record(works, folder / "undisturbed")
        recorded = killed(folder, works, synced, undisturbed=undisturbed[works])
        operations, folders = recorded.disk.operations, recorded.disk.folders
        again = recorded.begins[-1]
        seen = [at + 1 for at in range(again, len(operations)) if isinstance(operations[at], Acknowledged)]
        for state in states(operations, folders, random.Random(number_of("kills")), points=seen):
            assert fault(state, recorded, recorded.disk.trees[len(state.operations)]) == "", state.lost
        needed |= {
            operations[at].call.removeprefix("fsync ").removeprefix(str(recorded.top))
            for at in settling(operations, again)
            if caught(recorded, at, rule=False)
        }
    least, most = {synced for _, synced in kills}, {synced for _, synced in KILLS}
    assert least <= needed <= most, "each sync of the next writer is needed after some kill"
    tried(f"{len(kills)} of {len(KILLS)} kills, each followed by a loss of power")


@pytest.mark.crash
@pytest.mark.strace
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", SEQUENCES)
def test_no_sync_link_or_rename_of_a_commit_can_be_left_out(name, memory, torture, tried):
    recorded = record(SEQUENCES[name].works, memory, aside=SEQUENCES[name].aside)
    operations = recorded.disk.operations
    calls = essential(operations)
    chosen = calls if torture else some_of(operations, calls)
    missed = [operations[index].call for index in chosen if not caught(recorded, index)]
    needless = NEEDLESS.get(name, ())
    assert all(any(re.fullmatch(known, call) for known in needless) for call in missed), missed
    if torture:
        assert len(missed) == len(needless), missed
    noticed = len(chosen) - len(missed)
    tried(f"{len(chosen)} of {len(calls)} calls left out one by one, {noticed} noticed, {len(missed)} needless")


def some_of(operations: Sequence[Operation], calls: Sequence[int]) -> list[int]:
    """A share of the calls, of each kind some."""
    kinds: dict[str, list[int]] = {}
    for index in calls:
        kinds.setdefault(operations[index].call.split()[0], []).append(index)
    return sorted(index for kind, each in kinds.items() for index in drawn(each, SHARE, kind))
