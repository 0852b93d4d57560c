"""What Dagster loads: one market, with the settings of the environment.

Nothing is read when this module is imported. Settings, calendar and source are read when `defs` is asked for: a wrong
setting is then an error of the code location, which names it.
"""

import dagster as dg

from historical_etl.markets import build_market


def __getattr__(name: str) -> dg.Definitions:
    """`defs`: the definitions of the market that the settings describe.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    if name == "defs":
        return build_market()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What Dagster looks through for definitions."""
    return [*globals(), "defs"]
