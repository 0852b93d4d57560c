"""Whatever a vendor and a person do, each version is right or says why not, and goes on. See `life_machine`."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from historical_etl_tests.property.life_machine import LifeMachine

#: Examples, and steps of each: in every run, and with `--hypothesis-profile torture`.
SHARE, WHOLE = (2, 12), (200, 40)


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_from_every_state_something_goes_on_and_no_version_is_wrong(root, record_property):
    LifeMachine.above = root.parent
    LifeMachine.done.clear()
    examples, steps = WHOLE if settings.get_current_profile_name() == "torture" else SHARE
    run_state_machine_as_test(
        LifeMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )
    done = LifeMachine.done
    counted = ", ".join(f"{name} {count:,}" for name, count in sorted(done.items()))
    record_property("tried", f"{sum(done.values()):,} operations: {counted}")
