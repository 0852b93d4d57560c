"""The wire formats: what each vendor's server answers to which address."""

from historical_etl_tests.sources.vendors.wires import alpaca, eodhd, massive, tiingo, yahoo
from historical_etl_tests.sources.vendors.wires.common import Wire

__all__ = ["WIRES"]

WIRES: dict[str, Wire] = tiingo.WIRES | eodhd.WIRES | yahoo.WIRES | alpaca.WIRES | massive.WIRES
