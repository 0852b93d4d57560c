"""What Dagster loads: one market, with the settings of the environment.

Nothing is read when this module is imported. Settings, calendar and source are read when Dagster calls `defs`: a wrong
setting is then an error of the code location, which names it.
"""

import dagster as dg

from historical_etl.markets import build_market

__all__ = ["defs"]


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of the market that the settings describe.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    return build_market()
