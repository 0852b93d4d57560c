"""`holds`: which symbols are held and why, and a person's word that one is right."""

from shlex import quote

import polars as pl
from rich.text import Text

from historical_etl.cli import runs
from historical_etl.cli.ledgers import CODES, Row, decided_by, documents, left_out, opened, show_table, since
from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.errors import HistoricalETLError
from historical_etl.etl.commit import ACCEPTED, HOLD_OPEN, NOT_FOR_PEOPLE, waivable, what_frees
from historical_etl.etl.completeness import WAIVED
from historical_etl.etl.identity import SPLITTABLE
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.etl.price_store import PriceStore
from historical_etl.etl.symbology import SPLIT

__all__ = ["accept", "show"]

_MOST = 50


def show(terminal: Terminal, *, every: bool) -> int:
    """Show what is held; see the command's help."""
    store = opened(terminal)
    known = store.prices.holds(closed=True)
    # An accepted hold stays open until an update has let it pass.
    open_holds = known.filter(pl.col("closed_version").is_null())
    rows = (known if every else open_holds).sort("closed_version", "symbol", "version", nulls_last=False)
    if terminal.as_json:
        held = known.filter(pl.col("status") == HOLD_OPEN).get_column("symbol").n_unique()
        terminal.json({"data_dir": str(store.context.layout.root), "symbols_held": held, "holds": documents(rows)})
        return 0
    if rows.is_empty():
        closed = f"; {known.height:,} hold(s) are closed, see --all" if known.height else ""
        terminal.out.print(Text(f"Nothing is held{closed}"))
        return 0
    found = rows.to_dicts()
    show_table(
        terminal,
        ["symbol", "code", "since", "session", "tries", "evidence"],
        [
            [
                h["symbol"],
                h["code"],
                since(h),
                str(h["session"] or ""),
                str(h["attempts"]),
                h["evidence"] + _decision(h),
            ]
            for h in found[:_MOST]
        ],
    )
    left_out(terminal, min(_MOST, len(found)), len(found), "--json has all")
    _explain(terminal, [hold for hold in found if hold["status"] == HOLD_OPEN], store)
    return 0


def accept(terminal: Terminal, symbol: str, reason: str, by: str | None) -> int:
    """Accept a held symbol; see the command's help."""
    name = decided_by(by)
    with terminal.busy("Updating"):
        etl = runs.opened(terminal, "holds accept")
        before = etl.manifest()
        try:
            result = etl.accept(symbol, reason=reason, by=name)
        except HistoricalETLError as error:
            if _is_recorded(etl, before.version if before else 0):
                error.add_note("The decision is recorded: the next update lets the symbol pass")
            raise
    return runs.report_update(
        terminal, etl, before, result, f"{symbol.strip().upper()} is accepted by {name}: {reason}"
    )


def _is_recorded(etl: HistoricalETL, version: int) -> bool:
    manifest = etl.manifest()
    return manifest is not None and manifest.version > version


def _decision(hold: Row) -> str:
    """What became of a hold, to follow its evidence."""
    closed = hold["closed_version"]
    if hold["status"] == ACCEPTED:
        when = f" in v{closed}" if closed is not None else ", and the next update lets it pass"
        return f"; accepted by {hold['by']} ({hold['reason']}){when}"
    if hold["status"] in {SPLIT, WAIVED}:
        return f"; {hold['status']} by {hold['by']} ({hold['reason']}) in v{closed}"
    return f"; {hold['status']} in v{closed}, when the fetched rows were plausible again" if closed is not None else ""


def _explain(terminal: Terminal, held: list[Row], store: PriceStore) -> None:
    """What the codes mean, and what to do."""
    codes = sorted({hold["code"] for hold in held})
    for code in codes:
        terminal.say(f"{code}: {CODES.get(code, 'see the evidence')}")
    free = [hold["symbol"] for hold in held if hold["code"] not in NOT_FOR_PEOPLE]
    if free:
        symbol = quote(cleaned(free[0]))
        terminal.say(f'next: {terminal.program} holds accept {symbol} --reason "...", or wait: each update asks again')
        _explain_waive(terminal, waivable(store.prices.holds(), store.prices.gaps()).to_dicts())
    elif held:
        todo = what_frees(held[0]["code"], held[0]["symbol"], store.prices.ledger("symbols"))
        terminal.say(f"next: {cleaned(todo)}")
    parted = [hold["symbol"] for hold in held if hold["code"] in SPLITTABLE]
    if parted:
        symbol = quote(cleaned(parted[0]))
        terminal.say(f'or, if it is another security now: {terminal.program} holds split {symbol} --reason "..."')


def _explain_waive(terminal: Terminal, bars: list[Row]) -> None:
    """What keeps a wrong bar out for good, and lets the rest of its symbol in."""
    if bars:
        hold = bars[0]
        days = f"--from {hold['session']}" + (f" --to {hold['through']}" if hold["through"] else "")
        waive = f"{terminal.program} gaps waive {quote(cleaned(hold['symbol']))} {days}"
        terminal.say(f'or, if only the bar(s) from that session are wrong: {waive} --reason "..." keeps them out')
