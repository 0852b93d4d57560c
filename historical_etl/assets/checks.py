"""The checks on what was committed. They sit on `price_catalog`; its module says why.

Every increment reports them, so that a store that nobody clicks on is checked after each session.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import dagster as dg
import polars as pl

from historical_etl.assets.tables import frame_table
from historical_etl.errors import ChecksumMismatchError
from historical_etl.etl.commit import NOT_FOR_PEOPLE
from historical_etl.etl.merge import COMPARED
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import SyncManifest
from historical_etl.resources import CatalogResource

__all__ = ["check_specs", "evaluate", "evaluations"]

_SHOWS: Final = "shows_the_committed_version"
_WARN, _ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
_GAP: Final = ("symbol", "first_session", "last_session", "sessions", "why", "attempts", "due")


def check_specs(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of the asset `key`, a `price_catalog`."""
    return [
        dg.AssetCheckSpec(
            name=_SHOWS,
            asset=key,
            description="The file, as another client opens it, has the version and rows that the manifest names.",
            blocking=True,
        ),
        dg.AssetCheckSpec(
            name="years_are_contiguous", asset=key, description="No year is missing between the first and last."
        ),
        dg.AssetCheckSpec(
            name="reaches_the_last_session",
            asset=key,
            description="The store has the last session that has closed and that the source covers.",
        ),
        dg.AssetCheckSpec(
            name="calendar_is_current",
            asset=key,
            description="The exchange's calendar knows the sessions of the next 90 days, and is the one that the store "
            "was filled by. Once its data have ended, later sessions are not asked for.",
        ),
        dg.AssetCheckSpec(
            name="nothing_newly_quarantined",
            asset=key,
            description="No row, file or manifest went to quarantine since this asset was last materialized.",
        ),
        dg.AssetCheckSpec(
            name="sessions_complete",
            asset=key,
            description="No symbol lacks a session that is still asked for. Confirmed and waived gaps are settled.",
        ),
        dg.AssetCheckSpec(
            name="no_open_holds",
            asset=key,
            description="No symbol is held because its new bars do not fit what is stored. A warning at first, since "
            "the next bars may release a hold; an error once it was asked for on as many sessions as the setting "
            "confirm_runs says, because then it waits for a person.",
        ),
        dg.AssetCheckSpec(
            name="corrections_within_bounds",
            asset=key,
            description="Since this asset was last materialized the source has changed few of the values that it was "
            "asked for again: at most the share max_corrected_share, or one whole bar. Restated histories do not "
            "count.",
        ),
    ]


def evaluate(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    etl: HistoricalETL,
    manifest: SyncManifest,
    catalog: CatalogResource,
) -> Iterator[dg.AssetCheckResult]:
    """One result for each of `check_specs`, in their order; `manifest` is the version that was published."""
    yield _shows(manifest, catalog)
    stored = {p.year for p in manifest.partitions}
    lacking = sorted(set(range(min(stored), max(stored) + 1)) - stored) if stored else []
    yield dg.AssetCheckResult(
        passed=not lacking,
        check_name="years_are_contiguous",
        severity=_WARN,
        description=f"Not stored: {', '.join(map(str, lacking))}. Materialize them in daily_prices."
        if lacking
        else None,
    )
    target = etl.available_through()
    yield dg.AssetCheckResult(
        passed=manifest.reaches(target),
        check_name="reaches_the_last_session",
        severity=_WARN,
        description=f"{f'The store ends on {manifest.end_date}' if manifest.end_date else 'No bar is stored'}; "
        f"the last session that can be had is {target}.",
    )
    yield _checked("calendar_is_current", lambda: _calendar(etl))
    last = instance.get_latest_materialization_event(key)
    entries = _newly_quarantined(etl, last)
    yield dg.AssetCheckResult(
        passed=not entries,
        check_name="nothing_newly_quarantined",
        severity=_WARN,
        description=f"{len(entries)} new; each holds a reason.json." if entries else None,
        metadata={"entries": dg.MetadataValue.json(entries)},
    )
    yield _checked("sessions_complete", lambda: _sessions(etl))
    yield _checked("no_open_holds", lambda: _holds(etl))
    yield _checked("corrections_within_bounds", lambda: _corrections(etl, manifest, last))


def evaluations(key: dg.AssetKey, results: Iterable[dg.AssetCheckResult]) -> list[dg.AssetCheckEvaluation]:
    """These results as events, for a step that is not the one of the asset `key`."""
    blocking = {spec.name: spec.blocking for spec in check_specs(key)}
    return [
        dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=result.check_name or "",
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
            blocking=blocking[result.check_name or ""],
        )
        for result in results
    ]


def _shows(manifest: SyncManifest, catalog: CatalogResource) -> dg.AssetCheckResult:
    expected = {p.year: (manifest.version, p.rows) for p in manifest.partitions}
    with catalog.get_connection() as connection:
        rows = connection.execute(
            "SELECT p.year, p.version, count(d.date) FROM partitions p LEFT JOIN daily_prices d"
            " ON year(d.date) = p.year GROUP BY ALL"
        ).fetchall()
    shown = {int(year): (int(version), int(count)) for year, version, count in rows}
    return dg.AssetCheckResult(
        passed=shown == expected,
        check_name=_SHOWS,
        description=None if shown == expected else "The file differs from the manifest; see (version, rows) by year.",
        metadata={
            "committed": dg.MetadataValue.json(_by_year(expected)),
            "shown": dg.MetadataValue.json(_by_year(shown)),
        },
    )


def _checked(name: str, check: Callable[[], dg.AssetCheckResult]) -> dg.AssetCheckResult:
    """What a check finds; where its ledger is damaged, that. Prices are not affected, so the others go on."""
    try:
        return check()
    except ChecksumMismatchError as damage:
        return dg.AssetCheckResult(passed=False, check_name=name, severity=_ERROR, description=str(damage))


def _calendar(etl: HistoricalETL) -> dg.AssetCheckResult:
    calendar, now = etl.calendar, etl.clock()
    trouble = etl.store.state.calendar_error()
    notes = [str(trouble)] if trouble else etl.store.state.calendar_notes()
    if calendar.ends_soon(now):
        notes.append(calendar.end_in_words())
    record = calendar.record
    return dg.AssetCheckResult(
        passed=not notes,
        check_name="calendar_is_current",
        severity=_ERROR if trouble or calendar.has_ended(now) else _WARN,
        description="; ".join(notes) or None,
        metadata={
            "release": dg.MetadataValue.text(record.release),
            "exchange": dg.MetadataValue.text(record.exchange),
            "known_through": dg.MetadataValue.text(str(record.last)),
            "own_corrections": dg.MetadataValue.int(len(calendar.corrections)),
        },
    )


def _sessions(etl: HistoricalETL) -> dg.AssetCheckResult:
    gaps = etl.gaps().sort("first_session", "symbol")
    missing, symbols = int(gaps.get_column("sessions").sum()), gaps.get_column("symbol").n_unique()
    metadata: dict[str, dg.MetadataValue] = {"sessions_missing": dg.MetadataValue.int(missing)}
    if missing:
        metadata["gaps"] = frame_table(gaps.select(_GAP))
    return dg.AssetCheckResult(
        passed=not missing,
        check_name="sessions_complete",
        severity=_WARN,
        description=f"{missing} session(s) of {symbols} symbol(s) are missing; the next runs ask for them again. "
        "If the source will never have one: `historical-etl gaps waive`."
        if missing
        else None,
        metadata=metadata,
    )


def _holds(etl: HistoricalETL) -> dg.AssetCheckResult:
    holds = etl.holds().sort("session", "symbol")
    metadata: dict[str, dg.MetadataValue] = {"holds": dg.MetadataValue.int(holds.height)}
    if holds.height:
        way_out = pl.when(pl.col("code").is_in(NOT_FOR_PEOPLE)).then(
            pl.lit("the source delivered no valid bar; the hold waits until it does")
        )
        accept = pl.format("if it is right: historical-etl holds accept {} --reason …", "symbol")
        shown = holds.with_columns(way_out.otherwise(accept).alias("way_out"))
        metadata["held"] = frame_table(shown.select("symbol", "code", "session", "evidence", "attempts", "way_out"))
    waiting = holds.filter(pl.col("attempts") >= etl.settings.confirm_runs)
    return dg.AssetCheckResult(
        passed=holds.is_empty(),
        check_name="no_open_holds",
        severity=_ERROR if waiting.height else _WARN,
        description=f"{holds.height} symbol(s) are held, {waiting.height} of them for so long that a person must look. "
        "What is stored of them stays as it is; nothing new is stored until they are released or accepted."
        if holds.height
        else None,
        metadata=metadata,
    )


def _corrections(etl: HistoricalETL, manifest: SyncManifest, last: dg.EventLogEntry | None) -> dg.AssetCheckResult:
    """The share of re-fetched values that differ from the stored ones.

    Compared were the cells of the rows that passed, less those that were new and those whose history was replaced as a
    whole. Between runs of few symbols one late volume is a large share, so a whole bar is always allowed.
    """
    since = min(_version_of(last), manifest.version - 1)
    new = pl.col("version") > since
    # A run over several years counts on from one of its commits to the next.
    runs = etl.ledger("runs").filter(pl.col("status") == "committed")
    fetched = runs.with_columns(pl.col("rows") - pl.col("rows").shift(1).fill_null(0).over("run_id")).filter(new)
    added = etl.ledger("additions").filter(new).get_column("rows").sum()
    replaced = etl.ledger("restatements").filter(new).get_column("rows_replaced").sum()
    compared = max(0, int(fetched.get_column("rows").sum()) - int(added) - int(replaced)) * len(COMPARED)
    corrections = etl.ledger("corrections").filter(new)
    share = corrections.height / compared if compared else 0.0
    bound = etl.settings.max_corrected_share
    allowed = max(len(COMPARED), int(bound * compared))
    metadata: dict[str, dg.MetadataValue] = {
        "corrected": dg.MetadataValue.int(corrections.height),
        "compared": dg.MetadataValue.int(compared),
        "share": dg.MetadataValue.float(share),
        "allowed": dg.MetadataValue.int(allowed),
        "since_version": dg.MetadataValue.int(since),
    }
    if corrections.height:
        metadata["corrections"] = frame_table(corrections.select("date", "symbol", "column", "old", "new", "version"))
    return dg.AssetCheckResult(
        passed=corrections.height <= allowed,
        check_name="corrections_within_bounds",
        severity=_WARN,
        description=f"{corrections.height} of {compared} re-fetched values differ from the stored ones ({share:.1%}); "
        f"up to {allowed} are usual ({bound:.1%}, or one bar). The old values are in the ledger `corrections`."
        if corrections.height > allowed
        else None,
        metadata=metadata,
    )


def _version_of(event: dg.EventLogEntry | None) -> int:
    found = event.asset_materialization.metadata.get("version") if event and event.asset_materialization else None
    return found.value if found and isinstance(found.value, int) else 0


def _by_year(facts: dict[int, tuple[int, int]]) -> dict[str, list[int]]:
    return {str(year): list(fact) for year, fact in sorted(facts.items())}


def _newly_quarantined(etl: HistoricalETL, last: dg.EventLogEntry | None) -> list[str]:
    since = f"{datetime.fromtimestamp(last.timestamp, UTC):%Y%m%dT%H%M%S.%f}" if last else ""
    return [str(entry) for entry in etl.manifests.quarantine.entries() if entry.name >= since]
