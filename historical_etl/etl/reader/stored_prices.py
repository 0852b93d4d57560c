"""StoredPrices: how the bars and ledgers of a store are read."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import get_args

import polars as pl

from historical_etl.arguments import typed_arguments
from historical_etl.catalog.query import query
from historical_etl.clock import as_date
from historical_etl.errors import ConfigurationError
from historical_etl.etl.commit import HOLD_OPEN
from historical_etl.etl.completeness import GAP_OPEN
from historical_etl.etl.context import VersionState
from historical_etl.etl.reader.adjusted import Adjust, adjusted, unknown_bases
from historical_etl.etl.reader.bar_history import bar_history
from historical_etl.schema import empty_frame
from historical_etl.store.leases import leased
from historical_etl.store.ledgers import read_ledger, read_named_ledger
from historical_etl.store.verified_files import collected, require_verified

__all__ = ["StoredPrices"]

_log = logging.getLogger(__name__)


@typed_arguments
class StoredPrices:
    """The committed bars and ledgers of a store, for reading."""

    def __init__(self, state: VersionState) -> None:
        self._state = state
        self._context = state.context

    def query_sql(
        self,
        sql: str,
        params: Sequence[object] | Mapping[str, object] | None = None,
        *,
        version: int | str | None = None,
        as_of: datetime | date | str | None = None,
        in_process: bool = False,
    ) -> pl.DataFrame:
        """Run one reading SQL statement over the views of a version: prices, partitions and ledgers.

        See `HistoricalETL.query_sql`.
        """
        with self._context.lease(version, as_of) as manifest:
            limits = self._context.settings
            return query(
                self._context.layout,
                manifest,
                sql,
                params,
                seconds=limits.query_timeout_seconds,
                memory=limits.query_memory,
                in_process=in_process,
            )

    def scan(
        self,
        symbols: Iterable[str] | str | None = None,
        start: date | datetime | str | None = None,
        end: date | datetime | str | None = None,
        *,
        adjust: Adjust | None = None,
        version: int | str | None = None,
        as_of: datetime | date | str | None = None,
    ) -> pl.LazyFrame:
        """The bars of a version, lazily; columns and dtypes as in `SCHEMA`. See `HistoricalETL.scan`."""
        if adjust not in (None, *get_args(Adjust)):
            todo = f"use None, {', '.join(map(repr, get_args(Adjust)))}"
            raise ConfigurationError(f"Unknown adjustment {adjust!r}", where="adjust", todo=todo)
        manifest = self._context.manifest_to_scan(version, as_of)
        low = date.min if start is None else as_date(start, "start")
        high = date.max if end is None else as_date(end, "end")
        needed = [year for year in manifest.partitions if year.first_session <= high and low <= year.last_session]
        with leased(self._context.layout, manifest.version):  # other threads may scan enough to end the one that stays
            names = None if symbols is None else self._state.named(symbols, manifest)
            require_verified(self._context.layout, needed)
        paths = [self._context.layout.resolve(partition.path) for partition in needed]
        rows = pl.scan_parquet(paths, glob=False) if paths else empty_frame().lazy()
        if names is not None:
            rows = rows.filter(pl.col("symbol").is_in(names))
        if not all(low <= year.first_session and year.last_session <= high for year in needed):
            rows = rows.filter(pl.col("date").is_between(low, high))
        if adjust is None:
            return rows
        whole = self.scan(names, version=manifest.version)
        actions = read_ledger(self._context.layout, manifest, "actions")
        unknown = unknown_bases(whole, actions, read_ledger(self._context.layout, manifest, "symbols"), adjust)
        for concerned, why in unknown.why(rows, adjust):
            _log.warning("adjust=%r gives null for %s: %s", adjust, concerned, why)
        return adjusted(rows, actions, whole, adjust, unknown)

    def bars(
        self, symbols: Iterable[str] | str | None, start: date | datetime | str, end: date | datetime | str
    ) -> pl.DataFrame:
        """The bars of the current version that `scan` gives.

        Raises:
            StorageError: a file cannot be read. Else as `scan`.
        """
        return collected(self.scan(symbols, start, end), self._context.layout.objects)

    def cursors(self) -> dict[str, date]:
        """Each stored symbol's cursor, its last contiguous session. See `HistoricalETL.cursors`."""
        return self._state.completeness_of(self._context.require_manifest()).cursors()

    def ledger(self, name: str, *, version: int | str | None = None) -> pl.DataFrame:
        """All rows of a ledger in a version, oldest first; see `docs/concepts/ledgers.md`.

        See `HistoricalETL.ledger`.
        """
        return read_named_ledger(self._context.layout, self._context.require_manifest(version), name)

    def gaps(self, *, closed: bool = False) -> pl.DataFrame:
        """Missing sessions that are requested again; `closed` gives also confirmed, waived, ended and filled ones."""
        gaps = self.ledger("gaps")
        return gaps if closed else gaps.filter(pl.col("status") == GAP_OPEN)

    def holds(self, *, closed: bool = False) -> pl.DataFrame:
        """Symbols whose rows are held, and why; `closed` gives also accepted and released ones."""
        holds = self.ledger("holds")
        return holds if closed else holds.filter(pl.col("status") == HOLD_OPEN)

    def explain(self, symbol: str, day: date | datetime | str) -> pl.DataFrame:
        """Every value that a bar ever had, when, and why it changed; oldest first. See `HistoricalETL.explain`."""
        manifest = self._context.require_manifest()
        self._state.named([symbol], manifest)
        date_ = as_date(day, "day")
        name = self._state.meant(symbol, date_)
        rows = self.bars(name, date_, date_)
        now = rows.row(0, named=True) if rows.height else None
        return bar_history(
            self._context.layout, manifest, name, date_, now, self._context.calendar, self._state.names_of(manifest)
        )
