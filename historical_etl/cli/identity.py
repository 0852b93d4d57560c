"""`rename` and `holds split`: a person's or a file's word on which security a symbol is."""

from datetime import date
from pathlib import Path
from shlex import quote

from rich.text import Text

from historical_etl.cli import runs
from historical_etl.cli.ledgers import decided_by
from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.clock import as_date
from historical_etl.errors import ConfigurationError
from historical_etl.etl.identity import IdentityChange
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.etl.symbology import SPLIT

__all__ = ["rename", "split"]

_NAMED = 10


def rename(  # the options of the command
    terminal: Terminal,
    old: str | None,
    new: str | None,
    on: str | None,
    file: Path | None,
    reason: str,
    by: str | None,
    *,
    force: bool,
) -> int:
    """Rename symbols; see the command's help."""
    name = decided_by(by)
    with terminal.busy("Renaming"):
        etl = runs.opened(terminal, "rename")
        if file is not None:
            if old is not None or new is not None or on is not None:
                raise ConfigurationError(
                    "Names and a file of names exclude each other", where="--file", todo="give one of them"
                )
            change = etl.rename_from(file, reason=reason, by=name, force=force)
        elif old is None or new is None or on is None:
            raise ConfigurationError(
                "A rename needs both names and a date", where="rename", todo="write OLD NEW --on DATE, or --file FILE"
            )
        else:
            change = etl.rename(old, new, as_date(on, "--on"), reason=reason, by=name, force=force)
    return _report(terminal, etl, change)


def split(terminal: Terminal, symbol: str, on: str | None, as_: str | None, reason: str, by: str | None) -> int:
    """Split a symbol in two; see the command's help."""
    name = decided_by(by)
    with terminal.busy("Splitting"):
        etl = runs.opened(terminal, "holds split")
        day = None if on is None else as_date(on, "--on")
        change = etl.split(symbol, day, as_=as_, reason=reason, by=name)
    ((ticker, other, day),) = change.renames
    headline = f"{ticker} is another security since {day}: what was before is {other}, {change.rows:,} bar(s)"
    next_ = f"{terminal.program} update --symbols {quote(ticker)}"
    begins = etl.ledger("holds").filter(symbol=ticker, status=SPLIT).get_column("kept_from").min()
    if not change.rows and isinstance(begins, date):  # what was before was kept out, too
        next_ += f"; {terminal.program} backfill --symbols {quote(other)} --from {begins.year} brings what was before"
    return _report(terminal, etl, change, headline, next_)


def _report(terminal: Terminal, etl: HistoricalETL, change: IdentityChange, headline: str = "", next_: str = "") -> int:
    published = not change.version or etl.catalog.shown_version() == change.version  # 0: there is no store yet
    if terminal.as_json:
        facts = {
            "version": change.version,
            "changed": change.changed,
            "renames": [{"old": old, "new": new, "date": on.isoformat()} for old, new, on in change.renames],
            "rows": change.rows,
            "kept": change.kept,
            "replaced": change.replaced,
            "known": change.known,
            "left_out": list(change.left_out),
            "published": published,
        }
        terminal.json(facts)
        return 0 if published else 1
    for line in [headline] if headline else [f"{new} was {old} until {on}" for old, new, on in change.renames]:
        terminal.out.print(Text(cleaned(line)), soft_wrap=True)
    if change.changed:
        terminal.out.print(Text(f"Version {change.version}: {change.rows:,} bar(s) have another symbol now"))
    else:
        terminal.out.print(Text(f"Nothing to do{': these renames are known' if change.known else ''}"))
    for name, rows in change.kept.items() if not headline else ():
        terminal.say(f"{name} keeps {rows:,} later bar(s), as a symbol of its own")
    if change.replaced:
        terminal.say(f"{change.replaced:,} bar(s) gave way to others on the same session; see replaced_rows")
    if change.known and change.changed:
        terminal.say(f"{change.known:,} rename(s) were known before")
    if change.left_out:
        some = ", ".join(change.left_out[:_NAMED])
        terminal.say(f"{len(change.left_out):,} rename(s) left out, since neither name is stored: {some}")
    if change.changed:
        terminal.say(f"next: {next_ or f'{terminal.program} update'}")
    if not published:
        terminal.warn("the change is committed, the catalog is not up to date; the next update publishes it")
    return 0 if published else 1
