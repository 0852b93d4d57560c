"""StoredPrices: what is stored in one data folder, and how it is read. Fetching and writing rows are not here."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from typing import get_args

import polars as pl

from historical_etl.catalog.catalog import Catalog
from historical_etl.clock import Clock, as_date
from historical_etl.errors import CatalogError, ConfigurationError
from historical_etl.etl.account import OPEN, Account
from historical_etl.etl.actions import Adjust, adjusted
from historical_etl.etl.explain import STORY, tell
from historical_etl.etl.standing import load_account
from historical_etl.models import DATASET_ID, ETLProgressManifest, SyncManifest
from historical_etl.schema import empty_frame
from historical_etl.sessions import SessionCalendar, get_calendar
from historical_etl.settings import Settings
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_ledger, read_named_ledger
from historical_etl.store.lock import LockToken
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.progress import load_progress
from historical_etl.store.transaction import Retention, recover
from historical_etl.symbols import normalize_symbols

__all__ = ["StoredPrices"]


class StoredPrices:
    """The committed bars of one data folder. Reading takes no lock and is never blocked by a writer."""

    def __init__(
        self, layout: Layout, manifests: ManifestManager, settings: Settings, clock: Clock, writer_id: str
    ) -> None:
        self.layout = layout
        self.manifests = manifests
        self.settings = settings
        self.clock = clock
        self.writer_id = writer_id
        self.catalog = Catalog(layout)
        self._account: tuple[SyncManifest | None, Account] | None = None

    def query_sql(self, sql: str, params: Sequence[object] | Mapping[str, object] | None = None) -> pl.DataFrame:
        """Run one reading SQL statement over the views of the current version: prices, partitions and ledgers.

        Args:
            sql: a single SELECT, SHOW, DESCRIBE, SUMMARIZE or EXPLAIN.
            params: values for `?` (a sequence) or `$name` (a mapping).

        Raises:
            CatalogError: nothing was committed yet, or DuckDB refuses the statement.
        """
        manifest = self.manifest()
        if manifest is None:
            raise self._nothing_committed()
        return self.catalog.query(sql, manifest, params)

    def scan(
        self,
        symbols: Iterable[str] | str | None = None,
        start: date | datetime | str | None = None,
        end: date | datetime | str | None = None,
        *,
        adjust: Adjust | None = None,
    ) -> pl.LazyFrame:
        """The bars of the current version, lazily; columns and dtypes as in `SCHEMA`.

        Only files of years that the range meets are opened. Rows come in the order of storage (by month, then
        symbol, then date): sort where order matters.

        Args:
            symbols: None takes all.
            start: first date, included; None is unbounded.
            end: last date, included; None is unbounded.
            adjust: None gives prices as stored. `"none"` gives them as traded, `"splits"` comparable over splits,
                `"total"` on the basis of `adj_close`: open, high, low and close are scaled alike, volume by splits
                only. `adj_close` and `ret` stay. Such rows come sorted by (symbol, date).

        Raises:
            ConfigurationError: a malformed symbol, date or `adjust`.
        """
        if adjust not in (None, *get_args(Adjust)):
            todo = f"use None, {', '.join(map(repr, get_args(Adjust)))}"
            raise ConfigurationError(f"Unknown adjustment {adjust!r}", where="adjust", todo=todo)
        manifest = self.manifest()
        low = date.min if start is None else as_date(start, "start")
        high = date.max if end is None else as_date(end, "end")
        paths = [
            self.layout.resolve(partition.path)
            for partition in (manifest.partitions if manifest else ())
            if partition.first_session <= high and low <= partition.last_session
        ]
        rows = pl.scan_parquet(paths, glob=False) if paths else empty_frame().lazy()
        if symbols is not None:
            rows = rows.filter(pl.col("symbol").is_in(normalize_symbols(symbols)))
        if start is not None or end is not None:
            rows = rows.filter(pl.col("date").is_between(low, high))
        if adjust is None:
            return rows
        return adjusted(rows, read_ledger(self.layout, manifest, "actions"), self.scan(symbols), adjust)

    def manifest(self) -> SyncManifest | None:
        """The current version; None if nothing was ever committed."""
        return self.manifests.load_manifest()

    def progress(self) -> ETLProgressManifest | None:
        """The saved progress; None if there is none, or if it belongs to a version that does not stand."""
        progress = load_progress(self.layout, self.clock)
        manifest = self.manifest()
        version = manifest.version if manifest else 0
        return None if progress is None or progress.data_version > version else progress

    def cursors(self) -> dict[str, date]:
        """Each stored symbol's cursor, its last contiguous session."""
        return self.account().cursors()

    def ledger(self, name: str) -> pl.DataFrame:
        """All rows of a ledger in the current version, oldest first; see `docs/concepts/ledgers.md`.

        `gaps` and `holds` give those that stand and those that are closed.

        Raises:
            ConfigurationError: there is no such ledger.
            ChecksumMismatchError: a file of it is damaged.
        """
        return read_named_ledger(self.layout, self.manifest(), name)

    def gaps(self, *, all: bool = False) -> pl.DataFrame:  # noqa: A002 - as people say it
        """Missing sessions that are asked for again; `all` gives also confirmed, waived, ended and filled ones."""
        gaps = self.ledger("gaps")
        return gaps if all else gaps.filter(pl.col("status") == OPEN)

    def holds(self, *, all: bool = False) -> pl.DataFrame:  # noqa: A002 - likewise
        """Symbols whose rows are held, and why; `all` gives also accepted and released ones."""
        holds = self.ledger("holds")
        return holds if all else holds.filter(pl.col("status") == OPEN)

    def explain(self, symbol: str, day: date | datetime | str) -> pl.DataFrame:
        """Every value that a bar ever had, when, and why it changed; oldest first.

        Columns: version, committed_at, event (stored, corrected, restated, refused, gap, filled, waived, held,
        released, accepted), and for events about a cell column, old and new; why. Empty where nothing is known.

        Raises:
            ConfigurationError: a malformed symbol or date.
            ChecksumMismatchError: a ledger is damaged.
        """
        (name,) = normalize_symbols([symbol])
        date_ = as_date(day, "day")
        manifest = self.manifest()
        if manifest is None:
            return pl.DataFrame(schema=STORY)
        rows = self.scan(name, date_, date_).collect()
        now = rows.row(0, named=True) if rows.height else None
        return tell(self.layout, manifest, name, date_, now, self.calendar)

    def publish_catalog(self) -> SyncManifest:
        """Make the catalog file show the current version; returns that version.

        Raises:
            CatalogError: nothing was committed yet, or the file cannot be built or swapped in.
            LockTimeoutError: another writer kept the store.
        """
        with self.lock() as token:
            manifest = recover(self.manifests, token, self.retention)
            if manifest is None:
                raise self._nothing_committed()
            self.catalog.publish(manifest)
        return manifest

    @property
    def calendar(self) -> SessionCalendar:
        """The sessions of the configured exchange."""
        return get_calendar(self.settings.exchange)

    def last_closed_session(self) -> date:
        """The last session that closed at least the settle delay ago, by the clock."""
        return self.calendar.last_closed(self.clock(), timedelta(minutes=self.settings.settle_minutes))

    def account(self) -> Account:
        """Which sessions of each symbol are stored in the current version, and where the missing ones stand."""
        return self.account_of(self.manifest())

    def account_of(self, manifest: SyncManifest | None) -> Account:
        """The account of a version; that of the last one asked for is remembered."""
        if self._account is None or self._account[0] != manifest:
            self._account = manifest, load_account(self.layout, manifest, self.calendar)
        return self._account[1]

    @property
    def retention(self) -> Retention:
        """What is kept of older versions."""
        return Retention(self.settings.keep_versions, self.settings.keep_days)

    def lock(self) -> AbstractContextManager[LockToken]:
        """The writer lock, for a `with` block.

        Raises:
            LockTimeoutError: another writer kept it.
        """
        return self.manifests.acquire_lock(DATASET_ID, self.writer_id, self.settings.lock_timeout_seconds)

    def _nothing_committed(self) -> CatalogError:
        return CatalogError(
            "Nothing was committed yet", where=self.layout.root, todo="run `historical-etl backfill` first"
        )
