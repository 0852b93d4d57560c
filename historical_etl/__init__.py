"""historical_etl: a store of daily equity prices that a researcher can trust.

    from historical_etl import HistoricalETL
    etl = HistoricalETL.open("data")
    etl.run_year(2012)
    etl.query_sql("SELECT symbol, count(*) FROM daily_prices GROUP BY symbol")

What is public is listed in `__init__.pyi`. Names are loaded on first use, so that the command line starts fast.
"""

from typing import TYPE_CHECKING, cast

import lazy_loader

if TYPE_CHECKING:
    from collections.abc import Callable

__getattr__, __dir__, __all__ = cast(
    "tuple[Callable[[str], object], Callable[[], list[str]], list[str]]", lazy_loader.attach_stub(__name__, __file__)
)
