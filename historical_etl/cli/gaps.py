"""`gaps`: which sessions are missing, what happens next, and a person's word that they may stay missing."""

from collections.abc import Sequence
from shlex import quote

import polars as pl
from rich.text import Text

from historical_etl.cli import runs
from historical_etl.cli.ledgers import Row, decided_by, documents, left_out, opened, show_table
from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.clock import as_date
from historical_etl.errors import ConfigurationError
from historical_etl.etl.completeness import BAR_HELD, CONFIRMED, ENDED, FILLED, GAP_OPEN, WAIVED
from historical_etl.etl.fetch import LAST_ATTEMPT
from historical_etl.symbols import normalize_symbols

__all__ = ["happens_next", "show", "waive", "whose"]

_MOST = 50


def show(terminal: Terminal, symbol: str | None, *, every: bool) -> int:
    """Show what is missing; see the command's help."""
    asked = [] if symbol is None else normalize_symbols([symbol])
    store = opened(terminal)
    names = store.state.named(asked, store.context.require_manifest()) if asked else []
    mine = pl.col("symbol").is_in(names) if names else pl.lit(value=True)
    known = store.prices.gaps(closed=True).filter(mine).sort("symbol", "first_session", "version")
    missing = known.filter(pl.col("status") == GAP_OPEN)
    rows = known if every else missing
    sessions, symbols = int(missing.get_column("sessions").sum()), missing.get_column("symbol").n_unique()
    if terminal.as_json:
        facts = {"sessions_missing": sessions, "symbols_concerned": symbols}
        terminal.json({"data_dir": str(store.context.layout.root), **facts, "gaps": documents(rows)})
        return 0
    of = f" of {asked[0]}" if asked else ""
    if rows.is_empty():
        closed = f"; {known.height:,} gap(s) are closed or accounted for, see --all" if known.height else ""
        terminal.out.print(Text(f"No session{of} is missing{closed}"), soft_wrap=True)
        return 0
    spans = _spans(rows.to_dicts())
    show_table(
        terminal,
        ["symbol", "sessions", "from", "to", *(["status"] if every else []), "tries", "why, and what happens next"],
        [
            [
                *(span["symbol"], f"{span['sessions']:,}", str(span["first_session"]), str(span["last_session"])),
                *([span["status"]] if every else []),
                *(str(span["attempts"]), f"{span['why']}; {happens_next(span)}"),
            ]
            for span in spans[:_MOST]
        ],
    )
    left_out(terminal, min(_MOST, len(spans)), len(spans), "--symbol shows those of one, --json all")
    if missing.height:
        _explain(terminal, missing, sessions, symbols)
    return 0


def whose(symbol: str | None, *, every: bool) -> str | None:
    """The symbol whose sessions are meant; None for those of all."""
    if (symbol is None) != every:
        raise ConfigurationError(
            "One symbol has to be named, or all of them", where="SYMBOL, --all", todo="give either SYMBOL or --all"
        )
    return symbol


def waive(terminal: Terminal, symbol: str | None, first: str, last: str | None, reason: str, by: str | None) -> int:
    """Waive missing sessions; see the command's help."""
    name = decided_by(by)
    start = as_date(first, "--from")
    end = None if last is None else as_date(last, "--to")
    etl = runs.opened(terminal, "gaps waive")
    waived = etl.waive(symbol, start, end, reason=reason, by=name)
    wanted = etl.store.state.meant(symbol) if symbol is not None else None
    manifest = etl.manifest()
    version, cursors = manifest.version if manifest else 0, etl.cursors()
    through = cursors.get(wanted) if wanted is not None else min(cursors.values(), default=None)
    published = etl.catalog.shown_version() == version
    if terminal.as_json:
        facts = {"symbol": wanted, "sessions_waived": waived, "by": name, "reason": reason, "version": version}
        mine = pl.lit(value=True) if wanted is None else pl.col("symbol") == wanted
        left = int(etl.gaps().filter(mine).get_column("sessions").sum())
        terminal.json({**facts, "sessions_missing": left, "contiguous_through": through, "published": published})
    else:
        words = f"{waived:,} session(s) of {wanted or 'all symbols'} are waived by {name}: {reason}"
        terminal.out.print(Text(cleaned(words)), soft_wrap=True)
        headline = f"{wanted} now counts" if wanted is not None else "each symbol now counts"
        terminal.out.print(
            Text(f"Version {version}: {headline} as complete through {through}{'' if wanted else ' or later'}"),
            soft_wrap=True,
        )
        if wanted is not None and (left := etl.holds().filter(pl.col("symbol") == wanted)).height:
            terminal.warn(
                cleaned(f"{wanted} is held as before, as {left.item(0, 'code')}: see {terminal.program} holds")
            )
    if not published:
        terminal.warn("the decision is committed, the catalog is not up to date; the next update publishes it")
    return 0 if published else 1


def happens_next(gap: Row) -> str:
    """What comes of a gap, in words; `gap` is a row of the ledger."""
    due, asked = gap["due"], gap["asked"]
    again = f"asked again from {due} on" if due is not None and asked is not None and due > asked else ""
    match gap["status"]:
        case str(status) if status == FILLED:
            return f"filled in v{gap['closed_version']}"
        case str(status) if status == WAIVED:
            return f"waived by {gap['by']} ({gap['reason']}): not asked again"
        case str(status) if status == CONFIRMED and gap["attempts"] >= LAST_ATTEMPT:
            return "there was no bar: not asked again"
        case str(status) if status in (CONFIRMED, ENDED):
            return f"accounted for; {again or 'asked again by the next update'}"
        case _ if gap["why"] == BAR_HELD:
            return "comes when the hold is released or accepted"
        case _:
            return again or "asked again by the next update"


def _spans(gaps: Sequence[Row]) -> list[Row]:
    """Gaps of a symbol of which the same is to be said, as one: their first and last session, and their number."""
    spans: dict[tuple[object, ...], Row] = {}
    for gap in gaps:
        key = (gap["symbol"], gap["status"], gap["why"], gap["attempts"], happens_next(gap))
        if (span := spans.get(key)) is None:
            spans[key] = dict(gap)
        else:
            span["sessions"] += gap["sessions"]
            span["last_session"] = max(span["last_session"], gap["last_session"])
            span["first_session"] = min(span["first_session"], gap["first_session"])
    return list(spans.values())


def _explain(terminal: Terminal, missing: pl.DataFrame, sessions: int, symbols: int) -> None:
    """The sum of what is missing, and what to do."""
    terminal.say(f"{sessions:,} session(s) of {symbols:,} symbol(s) are missing")
    held = missing.filter(pl.col("why") == BAR_HELD)
    if held.height:
        terminal.say(f"next: {terminal.program} holds")
    if free := missing.join(held, on="symbol", how="anti").to_dicts():
        gap, symbol = free[0], quote(free[0]["symbol"])
        days = f"--from {gap['first_session']} --to {gap['last_session']}"
        terminal.say(
            f"next: nothing, each update asks again; to insist {terminal.program} update --symbols {symbol}, "
            f'to let it be {terminal.program} gaps waive {symbol} {days} --reason "..."'
        )
