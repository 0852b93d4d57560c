"""The commands on versions: `versions`, `cite`, `pin`, `unpin`, `diff`, `rollback`, `repack`, `vacuum`."""

import io
from pathlib import Path
from typing import Final

import polars as pl
from rich.text import Text

from historical_etl.cli.files import target_of, write_file
from historical_etl.cli.ledgers import Row, decided_by, documents, left_out, moment, opened, show_table
from historical_etl.cli.terminal import Terminal, cleaned, ranges, size_text, some
from historical_etl.etl.maintenance import roll_back
from historical_etl.etl.price_store import PriceStore

__all__ = ["cite", "diff", "pin", "repack", "rollback", "unpin", "vacuum", "versions"]

_CHANGES: Final = ("added", "removed", "changed", "renamed")
_MOST: Final = 50
_SHORT: Final = 12


def versions(terminal: Terminal) -> int:
    """List what is kept; see the command's help."""
    store = opened(terminal)
    listed = store.versions.table()
    if terminal.as_json:
        terminal.json({"data_dir": str(store.context.layout.root), "versions": documents(listed)})
        return 0
    rows = listed.tail(_MOST).to_dicts()
    show_table(
        terminal,
        [
            "version",
            "committed (UTC)",
            "by",
            "run",
            "rows",
            "symbols",
            "size",
            "years",
            "changed",
            "checksum",
            "kept as",
        ],
        [
            [
                f"v{row['version']}",
                moment(row["committed_at"]),
                row["writer"],
                row["command"] or "a decision",
                f"{row['rows']:,}",
                f"{row['symbols']:,}",
                size_text(row["size_bytes"]),
                f"{row['first_session'].year}-{row['last_session'].year}" if row["first_session"] else "",
                _what_changed(row),
                row["checksum"][:_SHORT],
                ", ".join(_reason_to_keep(row)),
            ]
            for row in rows
        ],
    )
    left_out(terminal, len(rows), listed.height, "--json has all")
    return 0


def cite(terminal: Terminal, version: str | None) -> int:
    """Print a citation; see the command's help."""
    store = opened(terminal)
    citation = store.versions.cite(version)
    if terminal.as_json:
        dataset, _, rest = citation.partition("@v")
        number, _, checksum = rest.partition(":")
        terminal.json({"citation": citation, "dataset": dataset, "version": int(number), "checksum": checksum})
    else:
        terminal.out.print(Text(citation), soft_wrap=True)
    return 0


def pin(terminal: Terminal, name: str, version: str | None) -> int:
    """Pin a version; see the command's help."""
    store = _writing(terminal)
    made = store.versions.pin(name, version)
    if terminal.as_json:
        terminal.json(made.model_dump(mode="json"))
    else:
        terminal.say(f"Version {made.version} is kept as {made.name}; {terminal.program} cite --version {made.name}")
    return 0


def unpin(terminal: Terminal, name: str) -> int:
    """Remove a pin; see the command's help."""
    store = _writing(terminal)
    was = store.versions.unpin(name)
    if terminal.as_json:
        terminal.json(was.model_dump(mode="json"))
    else:
        terminal.say(f"Version {was.version} is not kept as {was.name} any more")
    return 0


def diff(terminal: Terminal, old: str, new: str | None, output: Path | None) -> int:
    """Compare two versions; see the command's help."""
    store = opened(terminal)
    target = None if output is None else target_of(output, store.context.layout)
    with terminal.busy("Comparing"):
        found = store.versions.diff(old, new)
    if target is not None:
        buffer = io.BytesIO()
        found.write_parquet(buffer)
        write_file(target, buffer.getvalue())
    counts = _counted(found)
    totals = {change: int(counts.get_column(change).sum()) for change in _CHANGES}
    if terminal.as_json:
        terminal.json({"old": old, "new": new, **totals, "by_year_and_symbol": documents(counts)})
        return 0
    shown = [change for change in _CHANGES if change != "renamed" or totals[change]]
    if found.is_empty():
        terminal.out.print(Text("Both versions have the same bars"))
    else:
        show_table(
            terminal,
            ["year", "symbol", *shown, "columns", "first", "last"],
            [
                [
                    str(row["year"]),
                    row["symbol"],
                    *(f"{row[change]:,}" for change in shown),
                    ", ".join(row["columns"]),
                    str(row["first"]),
                    str(row["last"]),
                ]
                for row in counts.head(_MOST).iter_rows(named=True)
            ],
        )
        left_out(terminal, min(_MOST, counts.height), counts.height, "--output has every bar")
    if target is not None:
        terminal.say(f"{found.height:,} bar(s) written to {target}")
    return 0


def rollback(terminal: Terminal, version: str, reason: str) -> int:
    """Roll back; see the command's help."""
    with terminal.busy("Rolling back"):
        store = _writing(terminal)
        before, wanted = store.context.manifest(), store.context.manifest(version)
        restored = roll_back(store.state, version, reason)
        store.maintenance.publish_catalog()
    number = wanted.version if wanted else 0
    changed = before is None or restored.version != before.version
    if terminal.as_json:
        terminal.json(
            {
                "changed": changed,
                "version": restored.version,
                "citation": store.versions.cite(),
                "rows": restored.row_count,
            }
        )
        return 0
    if changed:
        terminal.say(f"Version {restored.version} is current, and equals version {number}: {restored.row_count:,} rows")
        terminal.say(f"next: {terminal.program} diff {before.version if before else ''} shows what that changed")
    else:
        terminal.say(f"Version {restored.version} is current already, and equals version {number}: nothing was changed")
    return 0


def repack(terminal: Terminal) -> int:
    """Rewrite years in today's layout; see the command's help."""
    with terminal.busy("Rewriting"):
        store = _writing(terminal)
        before = store.context.manifest()
        manifest = store.maintenance.repack(publish=False)
        store.maintenance.publish_catalog()
    known = {partition.year: partition.checksum for partition in before.partitions} if before else {}
    years = [p.year for p in manifest.partitions if known.get(p.year) != p.checksum]
    size = sum(partition.size_bytes for partition in manifest.partitions)
    if terminal.as_json:
        terminal.json({"changed": bool(years), "version": manifest.version, "years": years, "size_bytes": size})
    elif years:
        terminal.say(
            f"Version {manifest.version} is current: {ranges(years)} rewritten, {size_text(size)} in all years"
        )
    else:
        terminal.say(f"Version {manifest.version} is current, and every year has today's layout: nothing was changed")
    return 0


def vacuum(terminal: Terminal, *, dry_run: bool, keep_versions: int | None, keep_days: int | None) -> int:
    """Remove what nothing keeps; see the command's help."""
    store = _writing(terminal)
    report = store.versions.vacuum(dry_run=dry_run, keep_versions=keep_versions, keep_days=keep_days)
    if terminal.as_json:
        terminal.json({"dry_run": dry_run, **report.model_dump(mode="json")})
        return 0
    if report.kept:
        show_table(terminal, ["kept", "why"], [[f"v{version}", why] for version, why in report.kept.items()])
    gone = f"version(s) {ranges(list(report.removed))}" if report.removed else "no version"
    word = "would be removed" if dry_run else "removed"
    terminal.say(f"{gone} {word}, {report.files:,} file(s), {size_text(report.size_bytes)}")
    return 0


def _writing(terminal: Terminal) -> PriceStore:
    return opened(terminal, decided_by(None))


def _what_changed(row: Row) -> str:
    years: list[int] | None = row["years_changed"]
    words = ["?"] if years is None else [ranges(years)] if years else ["ledgers only"]
    words += [f"{row['corrections']:,} corrected"] if row["corrections"] else []
    words += [f"restated {some(row['restated'], 3)}"] if row["restated"] else []
    return cleaned("; ".join(words))


def _reason_to_keep(row: Row) -> list[str]:
    marks = [("current", row["current"]), ("in the catalog", row["in_catalog"])]
    return [*row["pins"], *(word for word, holds in marks if holds)]


def _counted(found: pl.DataFrame) -> pl.DataFrame:
    """Bars by year and symbol: how many of each kind, which columns, and from when to when."""
    kinds = [(pl.col("change") == change).sum().alias(change) for change in _CHANGES]
    return (
        found.group_by(pl.col("date").dt.year().alias("year"), "symbol")
        .agg(
            *kinds,
            pl.col("columns").list.explode(keep_nulls=False, empty_as_null=False).unique(maintain_order=True),
            pl.col("date").min().alias("first"),
            pl.col("date").max().alias("last"),
        )
        .sort("year", "symbol")
    )
