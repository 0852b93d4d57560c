"""Loss of power at every moment of a sequence of commits: what POSIX allows to be found is a committed version.

A kill loses nothing that was written; this finds the missing sync that no kill can. The states come from the model
`power_loss`, made from a trace of real processes, and each is made on the disk and opened.
"""

import random

import pytest

from historical_etl_tests.crash.checks import outcome_of
from historical_etl_tests.crash.commands import SEQUENCE, SPLIT
from historical_etl_tests.crash.power_loss import states, unready_folders
from historical_etl_tests.crash.recorded import fault, record, recovery_fault

#: How many of the possible states are looked at in every run, and with `--torture`; from one in so many of them the
#: commands go on.
SHARE, MOST, GOING_ON = 200, 6000, 50


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_loss_of_power_at_any_moment_leaves_a_committed_version(memory, torture, tried):
    recorded = record(SEQUENCE, memory)
    operations, folders = recorded.disk.operations, recorded.disk.folders
    undisturbed = outcome_of(recorded.root, SPLIT)
    assert unready_folders(operations) == []

    possible = list(states(operations, folders, random.Random(1), chances=12 if torture else 4))
    chosen = random.Random(2).sample(possible, MOST if torture else SHARE)
    on = set(map(id, chosen[::GOING_ON]))
    for state in chosen:
        at = len(state.operations)
        where = f"after {operations[at - 1].call}, lost: {state.lost}"
        tree = recorded.disk.trees.get(at) if state.acknowledged else None
        assert fault(state, recorded, tree) == "", where
        assert recovery_fault(recorded) == "", where
        if id(state) in on:
            for work in SEQUENCE[recorded.command_at(at) :]:
                work(recorded.root, lambda _: None)
            assert outcome_of(recorded.root, SPLIT) == undisturbed, where
    tried(
        f"{len(chosen)} of {len(possible)} states, after each of {len(operations)} operations; went on from {len(on)}"
    )
