"""From requests to a batch: what came, judged; the rows to store apart from those that only lead in."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from historical_etl.errors import ConfigurationError, DataQualityError
from historical_etl.etl.fetching import fetch_all
from historical_etl.etl.tally import Tally
from historical_etl.models import DATASET_ID, Outcome
from historical_etl.quality.batch import judge_batch
from historical_etl.quality.rules import split_rows
from historical_etl.schema import SCHEMA, symbols_in
from historical_etl.sessions import SessionCalendar
from historical_etl.sources.base import FetchRequest, PriceSource
from historical_etl.store.quarantine import Quarantine

__all__ = ["Batch", "fetch_batch"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Accepted rows, ready to merge.

    Attributes:
        rows: to be stored; keys unique, sorted by (symbol, date).
        lead_in: good rows before them, for the first `ret` only.
        outcomes: of every symbol that was asked for.
    """

    rows: pl.DataFrame
    lead_in: pl.DataFrame
    outcomes: dict[str, Outcome]


def fetch_batch(
    source: PriceSource,
    requests: Sequence[FetchRequest],
    *,
    name: str,
    store_from: date,
    last_closed: date,
    calendar: SessionCalendar,
    max_rejected_share: float,
    quarantine: Quarantine,
    tally: Tally,
) -> Batch:
    """Fetch, judge, and set aside what was refused.

    Args:
        source: where bars come from.
        requests: what to ask for.
        name: what to call the refused rows in quarantine.
        store_from: rows before this date lead in and are not stored.
        last_closed: the last session that has closed. Bars of the next one may be unfinished: they are left for
            a later run.
        calendar: the exchange's sessions.
        max_rejected_share: share of bad rows from which on a symbol's batch is refused.
        quarantine: where refused rows go.
        tally: counts what happened.

    Raises:
        ConfigurationError: the source knows none of the symbols.
        DataQualityError: rows came, and every one of them was refused; they are in quarantine.
        ProviderError: every request failed.
    """
    answer = fetch_all(source, requests)
    symbols = sorted({symbol for request in requests for symbol in request.symbols})
    start, end = min(request.start for request in requests), max(request.end for request in requests)
    if all(answer.outcomes.get(symbol) is Outcome.NOT_FOUND for symbol in symbols):
        raise ConfigurationError(
            f"{source.info.name!r} knows none of the symbols that were asked for: {', '.join(symbols[:10])}",
            where="symbols",
            todo=next(iter(answer.details.values()), "correct the symbols, or choose another source"),
        )
    sessions = calendar.between(start, end)
    leads = pl.col("date") < store_from
    frame = _without_open_session(answer.frame, calendar.after(last_closed))
    main, lead_in = frame, frame.clear()
    if store_from > start:
        main, lead_in = frame.filter(leads.not_() | pl.col("date").is_null()), frame.filter(leads)
        lead_in = split_rows(lead_in, symbols=symbols, start=start, end=end, sessions=sessions).good
        lead_in = lead_in.unique(["symbol", "date"], keep="none").sort("symbol", "date")
    verdict = judge_batch(
        main, symbols=symbols, start=store_from, end=end, sessions=sessions, max_rejected_share=max_rejected_share
    )
    outcomes = dict(answer.outcomes) | dict.fromkeys(verdict.refused, Outcome.REFUSED)
    rejected_symbols = set(verdict.rejected.get_column("symbol")) - set(symbols_in(verdict.accepted))
    outcomes |= {s: Outcome.REFUSED for s in rejected_symbols if outcomes.get(s) is Outcome.OK}
    tally.rows_fetched += main.height
    tally.add_outcomes(outcomes, {**answer.details, **verdict.refused})
    tally.add_verdict(verdict)
    if verdict.rejected.height:
        facts = {
            "source": source.info.name,
            "rows": verdict.rejected.height,
            "by_reason": verdict.by_reason(),
            "refused_symbols": dict(verdict.refused),
        }
        reason = f"{verdict.rejected.height} row(s) broke a rule or belong to a refused batch; see `reasons`"
        kept = quarantine.keep_rows(f"{name}.rows.parquet", verdict.rejected, reason, DATASET_ID, facts)
        tally.quarantined.append(str(kept))
        if verdict.accepted.is_empty():
            raise DataQualityError(
                f"All {verdict.rejected.height} rows that {facts['source']} delivered for {name} were refused "
                f"({', '.join(f'{k}: {n}' for k, n in verdict.by_reason().items())}); nothing was committed",
                where=kept,
                todo="look at the rows and their reasons there; ask again once the source is right",
            )
    return Batch(verdict.accepted.select(list(SCHEMA)), lead_in, outcomes)


def _without_open_session(frame: pl.DataFrame, open_session: date) -> pl.DataFrame:
    unfinished = frame.get_column("date") == open_session
    if not unfinished.any():
        return frame
    _log.info("%d bars of %s were left for a later run: that session has not closed", unfinished.sum(), open_session)
    return frame.filter(~unfinished | pl.col("date").is_null())
