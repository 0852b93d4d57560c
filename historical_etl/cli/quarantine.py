"""`quarantine`: what was quarantined and why, as tables for people and as JSON; restoring, and purging."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import polars as pl
from rich.text import Text

from historical_etl.cli.ledgers import Row, documents, left_out, moment, opened, show_table
from historical_etl.cli.terminal import Terminal, cleaned, size_text
from historical_etl.clock import system_clock
from historical_etl.errors import ConfigurationError
from historical_etl.etl.price_store import PriceStore
from historical_etl.store.quarantine import (
    QuarantineEntry,
    find_entry,
    older_than,
    purge_entries,
    read_entries,
    restore_entry,
)

__all__ = ["purge", "restore", "show", "show_all"]

_MOST: Final = 50
_ROWS: Final = 10
_USAGE: Final = 2
_REASONS: Final = "reasons"


def show_all(terminal: Terminal) -> int:
    """List all entries; see the command's help."""
    store = opened(terminal)
    store.context.require_store()
    layout, entries = store.context.layout, read_entries(store.context.layout)
    size = sum(entry.size for entry in entries)
    if terminal.as_json:
        documented = [_document(entry) for entry in entries]
        terminal.json({"quarantine": str(layout.quarantine), "bytes": size, "entries": documented})
        return 0
    if not entries:
        terminal.out.print(Text(f"Nothing is in quarantine in {layout.root}"), soft_wrap=True)
        return 0
    _show_entries(terminal, entries[-_MOST:])
    left_out(terminal, min(_MOST, len(entries)), len(entries), "these are the newest; --json has all")
    terminal.say(f"{len(entries):,} entr{'y' if len(entries) == 1 else 'ies'}, {size_text(size)}")
    terminal.say(f"next: {terminal.program} quarantine show ENTRY, which also takes the beginning of a name")
    return 0


def show(terminal: Terminal, name: str) -> int:
    """Show one entry; see the command's help."""
    entry = find_entry(opened(terminal).context.layout, name)
    intact, rows = entry.is_intact(), _refused_rows(entry)
    if terminal.as_json:
        facts: dict[str, object] = {"intact": intact}
        if rows is not None:
            facts |= {"rows": rows.height, "by_reason": _by_reason(rows), "sample": _sample(rows)}
        terminal.json(_document(entry) | facts)
        return 0
    labels = {
        "entry": entry.path,
        "since": f"{moment(entry.when)} UTC" if entry.when else "not known",
        "why": entry.reason or "not known",
        "file": entry.file or "none",
        "size": size_text(entry.size),
        "SHA-256": entry.sha256,
        "was at": entry.moved_from,
        **entry.facts,
    }
    for label, value in labels.items():
        if value is not None:
            terminal.out.print(Text(f"{cleaned(label) + ':':<11}{cleaned(str(value))}"), soft_wrap=True)
    if not intact:
        terminal.warn(entry.fault or "its file is not the one that was quarantined")
    if rows is not None:
        _report_rows(terminal, rows)
    if entry.moved_from and intact:
        terminal.say(f"next: {terminal.program} quarantine restore {cleaned(entry.name)} [--to FILE]")
    return 0


def restore(terminal: Terminal, name: str, to: Path | None) -> int:
    """Put a file back; see the command's help."""
    store = opened(terminal)
    entry = find_entry(store.context.layout, name)
    # A commit under way must not find a file that was not there when it looked.
    inside = to is None or to.expanduser().resolve().is_relative_to(store.context.layout.root.resolve())
    with store.context.lock() if inside else nullcontext():
        target = restore_entry(entry, store.context.layout, to)
    if terminal.as_json:
        terminal.json({"restored": str(target), "entry": entry.name, "bytes": target.stat().st_size})
    else:
        terminal.out.print(Text(cleaned(f"Restored {target}; the entry stays in quarantine")), soft_wrap=True)
        if inside:
            terminal.say(f"next: {terminal.program} verify")
    return 0


def purge(terminal: Terminal, names: Sequence[str], days: float | None, *, yes: bool) -> int:
    """Delete entries; see the command's help."""
    if not names and days is None:
        raise ConfigurationError(
            "Nothing says what to purge", where="purge", todo="name entries, or add --older-than DAYS"
        )
    store = opened(terminal)
    entries = _chosen(store, names, days)
    size = sum(entry.size for entry in entries)
    if yes:
        purge_entries(entries)
    if terminal.as_json:
        terminal.json({"purged": yes, "bytes": size, "entries": [entry.name for entry in entries]})
        return 0 if yes or not entries else _USAGE
    if not entries:
        terminal.out.print(Text("Nothing to purge"))
        return 0
    counted = f"{len(entries):,} entr{'y' if len(entries) == 1 else 'ies'}, {size_text(size)}"
    if yes:
        terminal.out.print(Text(f"Purged {counted}"))
        return 0
    _show_entries(terminal, entries[:_MOST])
    left_out(terminal, min(_MOST, len(entries)), len(entries), "--json has all")
    terminal.warn(f"nothing was deleted yet; the same command with --yes deletes {counted} for good")
    return _USAGE


def _chosen(store: PriceStore, names: Sequence[str], days: float | None) -> list[QuarantineEntry]:
    """Named entries, and all that are older than some days; each once, oldest first."""
    found = {entry.name: entry for entry in (find_entry(store.context.layout, name) for name in names)}
    if days is not None:
        old = older_than(read_entries(store.context.layout), days, system_clock())
        found |= {entry.name: entry for entry in old}
    return [entry for _, entry in sorted(found.items())]


def _show_entries(terminal: Terminal, entries: Sequence[QuarantineEntry]) -> None:
    show_table(
        terminal,
        ["entry", "since", "size", "why"],
        [[e.name, moment(e.when), size_text(e.size), e.fault or e.reason] for e in entries],
    )


def _document(entry: QuarantineEntry) -> dict[str, object]:
    return {
        "name": entry.name,
        "path": str(entry.path),
        "file": entry.file,
        "reason": entry.reason,
        "when": entry.when.isoformat() if entry.when else None,
        "bytes": entry.size,
        "sha256": entry.sha256,
        "moved_from": entry.moved_from,
        "facts": dict(entry.facts),
        "fault": entry.fault or None,
    }


def _refused_rows(entry: QuarantineEntry) -> pl.DataFrame | None:
    """The rows of an entry that keeps refused ones; None for any other, and for one that cannot be read."""
    path = entry.content
    if path is None or entry.fault or path.suffix != ".parquet":
        return None
    try:
        if pl.read_parquet_schema(path).get(_REASONS) != pl.List(pl.String):
            return None
        return pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None


def _by_reason(rows: pl.DataFrame) -> dict[str, int]:
    counted = rows.get_column(_REASONS).explode().drop_nulls().value_counts()
    return dict(counted.sort("count", _REASONS, descending=[True, False]).iter_rows())


def _sample(rows: pl.DataFrame) -> list[Row]:
    """Some rows as JSON takes them: it knows no NaN and no infinity, which rows may be refused for."""
    return [
        {name: str(v) if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        for row in documents(rows.head(_ROWS))
    ]


def _report_rows(terminal: Terminal, rows: pl.DataFrame) -> None:
    terminal.out.print(Text(f"\n{rows.height:,} refused row(s), by reason (a row may have several):"))
    for reason, count in _by_reason(rows).items():
        terminal.out.print(Text(f"{count:>9,}  {cleaned(reason)}"))
    terminal.out.print()
    shown = rows.head(_ROWS).with_columns(pl.col(_REASONS).list.join(", "))
    cells = [["" if value is None else str(value) for value in row] for row in shown.iter_rows()]
    show_table(terminal, shown.columns, cells)
    left_out(terminal, shown.height, rows.height, "the whole file can be read with any Parquet reader")
