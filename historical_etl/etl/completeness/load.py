"""The completeness and the corporate actions of a version, from the ledgers or anew from the data."""

import logging
from datetime import UTC, date, datetime
from typing import Final

import polars as pl

from historical_etl.errors import ChecksumMismatchError
from historical_etl.etl.completeness.attempt import REFUSED, FetchAttempt, GapPolicy
from historical_etl.etl.completeness.completeness import Completeness, update_completeness
from historical_etl.etl.merge import PRICES, inferred, last_rows, with_implied
from historical_etl.models import UNSTATED, Outcome, SyncManifest
from historical_etl.schema import ORDER, SCHEMA
from historical_etl.sessions import SessionCalendar
from historical_etl.store.layout import Layout
from historical_etl.store.ledger_schemas import empty_ledger
from historical_etl.store.ledgers import read_ledger
from historical_etl.store.verified_files import collected, verified_path

__all__ = ["ASKED", "load_actions", "load_completeness", "rebuild_completeness"]

_log = logging.getLogger(__name__)
#: Columns of `FetchAttempt.asked`.
ASKED: Final = pl.Schema(
    {
        "symbol": pl.String(),
        "start": pl.Date(),
        "end": pl.Date(),
        "outcome": pl.String(),
        "adjustment": pl.String(),
        "provider": pl.String(),
        "expected_from": pl.Date(),
        "adjusted_through": pl.Date(),
        "replaced": pl.Boolean(),
        "names_events": pl.Boolean(),
        "split_adjusted": pl.Boolean(),
    }
)


def load_completeness(layout: Layout, manifest: SyncManifest | None, calendar: SessionCalendar) -> Completeness:
    """The account that a version's ledgers give; rebuilt from the data if there are none or they are damaged."""
    if manifest is None:
        return Completeness.empty()
    if "symbols" in manifest.ledgers:
        try:
            return Completeness(read_ledger(layout, manifest, "symbols"), read_ledger(layout, manifest, "open_gaps"))
        except ChecksumMismatchError as damage:
            _log.warning("%s Completeness is rebuilt from the data", damage)
    return rebuild_completeness(layout, manifest, calendar, tolerant=True)


def rebuild_completeness(
    layout: Layout, manifest: SyncManifest, calendar: SessionCalendar, *, tolerant: bool = False
) -> Completeness:
    """The account that follows from the data alone, and from what the ledger of gaps says of the sessions missing.

    Every file of the version is read, its keys only. A damaged one has no sessions if `tolerant`.

    Raises:
        ChecksumMismatchError: a file is damaged, and not `tolerant`.
    """
    completeness = Completeness.empty()
    nothing = pl.DataFrame(schema={"symbol": pl.String(), "date": pl.Date()})
    for partition in manifest.partitions:
        try:
            path = verified_path(layout, partition)
        except ChecksumMismatchError as damage:
            if not tolerant:
                raise
            _log.warning("%s Its sessions are left out", damage)
            continue
        rows = collected(pl.scan_parquet(path, glob=False).select(ORDER), path).sort(ORDER)
        if not rows.get_column("date").unique().is_in(calendar.sessions.implode()).all():
            rows = rows.filter(pl.col("date").is_in(calendar.sessions.implode()))  # they have left the calendar
        attempt = FetchAttempt(
            asked=_stored_as_asked(rows, manifest),
            stored=rows,
            dropped=nothing,
            refused=pl.DataFrame(schema=REFUSED),
            today=date.min,
            version=manifest.version,
            at=datetime.fromtimestamp(manifest.sync_timestamp.timestamp(), UTC),
        )
        completeness, _ = update_completeness(completeness, attempt, calendar, GapPolicy(), lambda sessions: sessions)
    try:
        known, symbols = read_ledger(layout, manifest, "open_gaps"), read_ledger(layout, manifest, "symbols")
    except ChecksumMismatchError:
        known, symbols = empty_ledger("open_gaps"), empty_ledger("symbols")
    return completeness.carrying_over(known, symbols, calendar)


def load_actions(layout: Layout, manifest: SyncManifest | None) -> pl.DataFrame:
    """The ledger `actions` of a version; if it is damaged, what the prices imply: what a source had named is lost."""
    try:
        return read_ledger(layout, manifest, "actions")
    except ChecksumMismatchError as damage:
        _log.warning("%s Splits and dividends are inferred anew from all prices", damage)
    events: list[tuple[pl.DataFrame, pl.DataFrame]] = []
    lasts = pl.DataFrame(schema={name: SCHEMA[name] for name in PRICES})
    for partition in manifest.partitions if manifest else ():
        path = verified_path(layout, partition)
        rows = collected(pl.scan_parquet(path, glob=False).select(PRICES), path).sort(ORDER)
        events.append(inferred(rows, lasts))
        lasts = pl.concat([lasts, last_rows(rows)]).unique("symbol", keep="last", maintain_order=True)
    return with_implied(empty_ledger("actions"), events)


def _stored_as_asked(rows: pl.DataFrame, manifest: SyncManifest) -> pl.DataFrame:
    symbols = rows.get_column("symbol").unique().sort()
    # The manifest tells the basis of a store that has no ledgers yet. Later only the ledger knows whose it is.
    basis = UNSTATED if "symbols" in manifest.ledgers else manifest.adjustment
    facts = {"outcome": Outcome.OK.value, "adjustment": basis, "provider": manifest.provider}
    frame = pl.DataFrame({"symbol": symbols}).with_columns(pl.lit(value).alias(name) for name, value in facts.items())
    return frame.select(
        (pl.col(name) if name in frame.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in ASKED.items()
    )
