"""`compare`: what is stored, or a source, beside another source; reported, written and drawn, never merged."""

from io import BytesIO
from pathlib import Path
from typing import Final

import polars as pl
from rich.table import Table
from rich.text import Text

from historical_etl.cli.files import target_of, write_file
from historical_etl.cli.terminal import Terminal, cleaned, some
from historical_etl.clock import as_date, system_clock
from historical_etl.errors import ConfigurationError
from historical_etl.etl.compare import MEASURES, Comparison, draw, require_matplotlib
from historical_etl.etl.compare import compare as held_against
from historical_etl.etl.context import StoreContext
from historical_etl.etl.pipeline import stored_through
from historical_etl.etl.price_store import PriceStore
from historical_etl.sources.fetcher import UnifiedDataFetcher
from historical_etl.sources.replay import clock_for
from historical_etl.store.layout import Layout
from historical_etl.symbols import normalize_symbols

__all__ = ["compare"]

_INCOMPLETE: Final = 3
_LISTED: Final = 5
_IN_JSON: Final = 20
_NAMED: Final = 5


def compare(
    terminal: Terminal,
    other: str,
    symbols: str,
    first: str,
    last: str | None,
    *,
    live: bool,
    plot: Path | None,
    output: Path | None,
) -> int:
    """Compare two sources and tell what was found; see the command's help."""
    settings, layout = terminal.settings, Layout(terminal.settings.data_dir)
    picture = _named(plot, ".png", "--plot", layout)
    table = _named(output, ".parquet", "--output", layout)
    if picture is not None:
        require_matplotlib()  # before anything is asked of a vendor
    start = as_date(first, "--from")
    end = None if last is None else as_date(last, "--to")
    wanted = normalize_symbols([part for part in symbols.split(",") if part.strip()])
    clock = system_clock if settings.replay_from is None else clock_for(settings, lambda: stored_through(layout))
    store = PriceStore(StoreContext(layout, settings, clock, "historical-etl compare"))
    there = UnifiedDataFetcher(settings, other, clock=clock)
    here = UnifiedDataFetcher(settings, clock=clock) if live else None
    with terminal.busy(f"Asking {other}"):
        found = held_against(store, there, wanted, start, end, live=here)
    if table is not None:
        buffer = BytesIO()
        found.rows.write_parquet(buffer)
        write_file(table, buffer.getvalue())
    if picture is not None:
        write_file(picture, draw(found))
    if terminal.as_json:
        written = {"output": str(table) if table else None, "plot": str(picture) if picture else None}
        terminal.json(_document(found) | written)
    else:
        _report(terminal, found)
        for target in (table, picture):
            if target is not None:
                terminal.say(f"written: {target}")
    return _INCOMPLETE if found.not_compared or not found.keys else 0


def _named(path: Path | None, suffix: str, option: str, layout: Layout) -> Path | None:
    if path is None:
        return None
    if path.suffix.lower() != suffix:
        raise ConfigurationError(f"{path.name!r} does not end in {suffix}", where=option, todo=f"name it …{suffix}")
    return target_of(path, layout)


def _document(found: Comparison) -> dict[str, object]:
    return {
        "here": {"name": found.here.name, "adjustment": found.here.adjustment},
        "there": {"name": found.there.name, "adjustment": found.there.adjustment},
        "start": found.start,
        "end": found.end,
        "symbols": list(found.symbols),
        "not_compared": dict(found.not_compared),
        "keys": found.keys,
        "duplicates": found.duplicates,
        "agreement": found.agreement.to_dicts(),
        "by_symbol": found.by_symbol.to_dicts(),
        "only_here": _keys(found.only_here),
        "only_there": _keys(found.only_there),
        "disagreements": {
            "count": found.disagreements.height,
            "largest": {measure: found.largest(measure, _IN_JSON).drop("measure").to_dicts() for measure in MEASURES},
        },
    }


def _keys(keys: pl.DataFrame) -> dict[str, object]:
    return {"count": keys.height, "first": keys.head(_IN_JSON).to_dicts()}


def _report(terminal: Terminal, found: Comparison) -> None:
    out = terminal.out
    out.print(Text(cleaned(f"here:  {found.here.name}: {found.here.adjustment}")), soft_wrap=True)
    out.print(Text(cleaned(f"there: {found.there.name}: {found.there.adjustment}")), soft_wrap=True)
    asked = f"{len(found.symbols):,} symbol(s), {found.start} to {found.end}: {found.keys:,} keys on both sides"
    out.print(Text(f"{asked}{_alone(found.only_here, 'here')}{_alone(found.only_there, 'there')}"), soft_wrap=True)
    out.print()
    out.print(_agreement(found))
    for measure in MEASURES:
        largest = found.largest(measure, _LISTED)
        if largest.height:
            count = found.disagreements.filter(pl.col("measure") == measure).height
            out.print(Text(f"\n{measure}: {count:,} disagreement(s), the largest"), soft_wrap=True)
            out.print(_disagreements(largest))
    if found.duplicates:
        terminal.warn(f"{found.there.name} gave {found.duplicates:,} row(s) twice with other values; the first counts")
    for symbol, why in found.not_compared.items():
        terminal.warn(f"{symbol} was not compared: {why}")
    if not found.keys:
        terminal.warn("There is no key that both sides have: nothing could be compared")


def _alone(keys: pl.DataFrame, where: str) -> str:
    if keys.is_empty():
        return f", none only {where}"
    named = [f"{symbol} {day}" for day, symbol in keys.head(_NAMED).iter_rows()]
    more = f" and {keys.height - _NAMED:,} more" if keys.height > _NAMED else ""
    return f", {keys.height:,} only {where} ({some(named, _NAMED)}{more})"


def _agreement(found: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("measure", no_wrap=True)
    for name in ("compared", "agreeing", "share", "largest difference"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("agrees within", no_wrap=True)
    table.add_column("", overflow="fold")
    for row in found.agreement.iter_rows(named=True):
        share = "" if row["share"] is None else f"{row['share']:.2%}"
        largest = "" if row["largest"] is None else f"{row['largest']:.4%}"
        lacking = [f"{row[f'only_{side}']:,} only {side}" for side in ("here", "there") if row[f"only_{side}"]]
        counts = f"{row['compared']:,}", f"{row['agreeing']:,}"
        table.add_row(row["measure"], *counts, share, largest, row["tolerance"], ", ".join(lacking))
    return table


def _disagreements(rows: pl.DataFrame) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("symbol", "date"):
        table.add_column(name, no_wrap=True)
    for name in ("here", "there", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows.iter_rows(named=True):
        values = f"{row['here']:.10g}", f"{row['there']:.10g}", f"{row['difference']:+.4%}"
        table.add_row(cleaned(row["symbol"]), str(row["date"]), *values)
    return table
