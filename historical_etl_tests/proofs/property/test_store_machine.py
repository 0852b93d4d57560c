"""Whatever is done to a store, in whatever order, it holds what a dict beside it says. See `store_machine`."""

import pytest

from historical_etl_tests.proofs.property.machines import tried
from historical_etl_tests.proofs.property.store_machine import StoreMachine

#: Examples, and steps of each: in every run, and with `--hypothesis-profile torture`.
SHARE, WHOLE = (2, 15), (250, 50)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(6 * 3600)
def test_a_store_holds_what_the_model_says_after_any_operations(root, record_property):
    tried(StoreMachine, root.parent, SHARE, WHOLE, record_property)
