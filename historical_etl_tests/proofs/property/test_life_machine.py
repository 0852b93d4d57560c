"""Whatever a vendor and a person do, each version is right or says why not, and goes on. See `life_machine`."""

import pytest

from historical_etl_tests.proofs.property.life_machine import LifeMachine
from historical_etl_tests.proofs.property.machines import tried

#: Examples, and steps of each: in every run, and with `--hypothesis-profile torture`.
SHARE, WHOLE = (1, 12), (200, 40)


@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_from_every_state_something_goes_on_and_no_version_is_wrong(root, record_property):
    tried(LifeMachine, root.parent, SHARE, WHOLE, record_property)
