"""Loss of power at every moment of a sequence of commits: what POSIX allows to be found is a committed version.

A kill loses nothing that was written; this finds the missing sync that no kill can. The states come from the model
`power_loss`, made from a trace of real processes, and each is made on the disk and opened.
"""

import random
import shutil

import pytest

from historical_etl_tests.proofs.crash.checks import garbage, outcome_of
from historical_etl_tests.proofs.crash.commands import REPAIRED, SEQUENCES
from historical_etl_tests.proofs.crash.disk import Acknowledged
from historical_etl_tests.proofs.crash.power_loss import states, unready_folders
from historical_etl_tests.proofs.crash.recorded import fault, record, recovery_fault
from historical_etl_tests.shares import drawn, number_of

#: How many of the possible states are looked at in every run, and with `--torture`; from one in so many of them the
#: commands go on.
SHARE, MOST, GOING_ON = 60, 6000, 30
#: After so many operations the power is lost in every run; with `--torture` after each.
POINTS = 40
#: Likewise, of the states that are repaired.
REPAIRED_SHARE, REPAIRED_MOST = 8, 600

pytestmark = [pytest.mark.crash, pytest.mark.strace, pytest.mark.slow, pytest.mark.timeout(7200)]


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_loss_of_power_at_any_moment_leaves_a_committed_version(name, memory, torture, tried):
    sequence = SEQUENCES[name]
    recorded = record(sequence.works, memory, aside=sequence.aside)
    operations, folders = recorded.disk.operations, recorded.disk.folders
    undisturbed = outcome_of(recorded.root, sequence.day)
    assert unready_folders(operations) == []

    points = range(1, len(operations) + 1)
    if not torture:  # to list all states of all moments takes longer than to look at the share of them
        reported = [at for at in points if isinstance(operations[at - 1], Acknowledged)]
        points = sorted({*drawn(points, POINTS, name), *drawn(reported, POINTS // 8, name)})
    dice = random.Random(number_of(name))
    possible = list(states(operations, folders, dice, points=points, chances=12 if torture else 4))
    chosen = drawn(possible, MOST if torture else SHARE, name)
    on = set(map(id, chosen[::GOING_ON]))
    for state in chosen:
        at = len(state.operations)
        where = f"after {operations[at - 1].call}, lost: {state.lost}"
        tree = recorded.disk.trees.get(at) if state.acknowledged else None
        assert fault(state, recorded, tree) == "", where
        assert recovery_fault(recorded) == "", where
        if id(state) in on:
            for work in sequence.works[recorded.command_at(at) :]:
                work(recorded.root, lambda _: None)
            assert outcome_of(recorded.root, sequence.day) == undisturbed, where
    tried(
        f"{len(chosen)} of {len(possible)} states, after {len(points)} of {len(operations)} operations; went on from "
        f"{len(on)}"
    )


def test_a_loss_of_power_during_a_repair_loses_nothing(memory, torture, tried):
    """The repair that is then run comes to what an undisturbed one comes to; what was damaged is kept."""
    *before, repair = REPAIRED.works
    recorded = record(REPAIRED.works, memory)
    operations, folders = recorded.disk.operations, recorded.disk.folders
    undisturbed, replaced = outcome_of(recorded.root, REPAIRED.day), garbage(recorded.root)
    assert len(replaced) > 5

    points = range(recorded.begins[len(before)] + 1, len(operations) + 1)
    points = points if torture else drawn(points, POINTS, "points of a repair")
    possible = list(
        states(operations, folders, random.Random(number_of("mended")), points=points, chances=12 if torture else 4)
    )
    chosen = drawn(possible, REPAIRED_MOST if torture else REPAIRED_SHARE, "mended")
    for state in chosen:
        where = f"after {operations[len(state.operations) - 1].call}, lost: {state.lost}"
        shutil.rmtree(recorded.top)
        recorded.top.mkdir()
        state.materialize(recorded.top)
        repair(recorded.root, lambda _: None)
        assert outcome_of(recorded.root, REPAIRED.day) == undisturbed, where
        assert garbage(recorded.root) == replaced, where
    tried(f"{len(chosen)} of {len(possible)} states, after each of {len(points)} operations")
