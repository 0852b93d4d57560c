"""The one schema of a daily bar. Column rules live here; row rules live in `quality`."""

from typing import Final

import polars as pl

from historical_etl.models import DATASET_ID, SCHEMA_VERSION

__all__ = ["DATASET_ID", "PRIMARY_KEYS", "SCHEMA", "SCHEMA_VERSION", "VALUE_COLUMNS", "empty_frame"]

#: Column order and dtypes of every frame and file. `date` is the exchange's local session, prices are in
#: the quote currency, `volume` in shares (a float: fractional shares are reported since 2026), `ret` is the
#: total return since the symbol's previous stored session (0.01 = 1 %).
SCHEMA: Final = pl.Schema(
    {
        "date": pl.Date(),
        "symbol": pl.String(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
        "ret": pl.Float64(),
        "adj_close": pl.Float64(),
    }
)
PRIMARY_KEYS: Final = ("date", "symbol")
VALUE_COLUMNS: Final = tuple(name for name in SCHEMA if name not in PRIMARY_KEYS)


def empty_frame() -> pl.DataFrame:
    """Zero rows with the full schema: what "no data" looks like everywhere."""
    return pl.DataFrame(schema=SCHEMA)
