"""How a state machine is run: a share of it in every run, the whole of it by `--hypothesis-profile torture`."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

__all__ = ["CountingMachine", "tried"]


class CountingMachine(RuleBasedStateMachine):
    """A machine that makes its stores in folders below `above`, and counts what was done to them."""

    above: ClassVar[Path]
    done: ClassVar[Counter[str]] = Counter()


def tried(
    machine: type[CountingMachine],
    above: Path,
    share: tuple[int, int],
    whole: tuple[int, int],
    record: Callable[[str, object], None],
) -> None:
    """Run a machine, so many examples of so many steps, and record what was tried.

    What fails is not made smaller, since each step takes a while; hypothesis prints the steps.
    """
    machine.above = above
    machine.done.clear()
    examples, steps = whole if settings.get_current_profile_name() == "torture" else share
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
    counted = ", ".join(f"{name} {count:,}" for name, count in sorted(machine.done.items()))
    record("tried", f"{sum(machine.done.values()):,} operations: {counted}")
