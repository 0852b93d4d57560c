"""SIGKILL before every single call that changes the disk, in every command that writes, and after the last one.

Before the next call is after this one, so each is tried on both sides. What is then on disk is a committed version, or
where a damaged store was being repaired one that gives no wrong answer; the same command, run again, comes to what an
undisturbed one comes to, and nothing that was damaged is lost.
"""

import signal
from pathlib import Path

import pytest

from historical_etl.store.layout import Layout
from historical_etl_tests.proofs.crash.checks import (
    assert_committed,
    assert_refused_or_right,
    copy_store,
    garbage,
    left,
    outcome_of,
)
from historical_etl_tests.proofs.crash.commands import COMMANDS, Command
from historical_etl_tests.proofs.crash.intercept import Answer, Step, intercepted

#: How many points of each command are tried in every run; all with `--torture`.
SHARE = 2


def prepared(command: Command, root: Path) -> int:
    """Do what comes before a command; returns the version that then stands."""
    versions = [0]
    for before in command.before:
        before(root, versions.append)
    return versions[-1]


def is_idle(step: Step) -> bool:
    """Whether a call leaves the disk as it is: what would be made is there already, what would go is gone."""
    there = Path(step.paths[0]).exists()
    return (step.name.startswith("mkdir") and there) or (step.name.startswith("unlink") and not there)


def kill_before(point: Step | None, seen: list[Step]):
    def decide(step: Step) -> Answer:
        if not step.changes or is_idle(step):
            return None
        seen.append(step)
        return "kill" if point is not None and step.is_again(point) else None

    return decide


def is_commit(step: Step, root: Path) -> bool:
    """Whether a call makes a version the current one."""
    return step.name.startswith("rename") and step.paths[-1] == str(Layout(root).manifest_file())


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_at_any_step_leaves_a_committed_version_and_costs_nothing(root, tmp_path, name, share, tried):
    command, before, marks = COMMANDS[name], tmp_path / "before", tmp_path / "marks"
    least = prepared(command, root)
    copy_store(root, before)
    replaced = garbage(root)
    assert bool(replaced) == command.repairs
    steps: list[Step] = []
    ended = intercepted(command.run, root, marks, kill_before(None, steps))
    assert (ended.exitcode, ended.error) == (0, "")
    most = ended.acknowledged[-1]
    undisturbed = outcome_of(root, command.day)
    remains = left(root)  # what cannot be repaired: a ledger that only an older version names
    assert not remains or command.repairs

    points = share([*steps, None], SHARE)
    for point in points:
        copy_store(before, root)
        seen: list[Step] = []
        ended = intercepted(command.run, root, marks, kill_before(point, seen))
        where = f"killed before {point}"
        assert ended.exitcode == (0 if point is None else -signal.SIGKILL), where
        if command.repairs:
            assert_refused_or_right(root, command.day, undisturbed.rows)
        else:
            acknowledged = max([least, *ended.acknowledged])
            version = assert_committed(root, least=acknowledged, most=most, migrates=command.migrates)
            assert version >= least + sum(is_commit(step, root) for step in seen[:-1]), where
        command.run(root, lambda _: None)
        assert outcome_of(root, command.day) == undisturbed, where
        assert garbage(root) == replaced, where
        assert left(root) == remains, where
    tried(f"killed at {len(points)} of {len(steps) + 1} points")
