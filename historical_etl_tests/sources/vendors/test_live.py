"""One request to each real vendor, by `-m live` only: does it still speak as the loopback server does?

Asked is a vendor whose keys are in the environment; conftest.py says at the end which ones were not, and why.
"""

from datetime import date

import pytest

from historical_etl import FetchRequest, Outcome, Settings, UnifiedDataFetcher
from historical_etl.schema import SCHEMA
from historical_etl_tests.sources.vendors.conftest import KEYS, with_keys

# Without a key for any other, there is always Yahoo, which needs none.
VENDORS_WITH_KEYS = with_keys()


@pytest.mark.live
@pytest.mark.parametrize("vendor", VENDORS_WITH_KEYS)
def test_a_vendor_still_speaks_as_it_did(vendor, monkeypatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    fetcher = UnifiedDataFetcher(Settings(source=vendor))
    # Four for one on the 31st; within what every plan covers but the free ones that reach back a year or two.
    result = fetcher.fetch(FetchRequest(("AAPL",), date(2020, 8, 24), date(2020, 9, 4)))
    assert result.outcomes == {"AAPL": Outcome.OK}
    assert dict(result.frame.schema) == dict(SCHEMA)
    assert result.frame.height == 10
    assert result.actions is not None
    assert result.actions.select("date", "split").rows() == [(date(2020, 8, 31), 4.0)]
    raw = result.frame["close"][4] / result.frame["close"][5]
    assert raw == pytest.approx(1.0 if "close for splits" in fetcher.info.adjustment else 4.0, rel=0.1)
