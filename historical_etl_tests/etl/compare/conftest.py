"""The vendors' server on loopback, as the tests of the vendors have it."""

from historical_etl_tests.sources.vendors.conftest import _quiet_and_keyless, ask, clock, listening, serve, vendor

__all__ = ["_quiet_and_keyless", "ask", "clock", "listening", "serve", "vendor"]
