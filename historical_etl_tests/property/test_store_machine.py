"""Whatever is done to a store, in whatever order, it holds what a dict beside it says. See `store_machine`."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from historical_etl_tests.property.store_machine import StoreMachine

#: Examples, and steps of each: in every run, and with `--hypothesis-profile torture`. What fails is not made smaller,
#: since each step takes a while; hypothesis prints the steps.
SHARE, WHOLE = (3, 20), (250, 50)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_a_store_holds_what_the_model_says_after_any_operations(root, record_property):
    StoreMachine.above = root.parent
    StoreMachine.done.clear()
    examples, steps = WHOLE if settings.get_current_profile_name() == "torture" else SHARE
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
    done = StoreMachine.done
    counted = ", ".join(f"{name} {count:,}" for name, count in sorted(done.items()))
    record_property("tried", f"{sum(done.values()):,} operations: {counted}")
