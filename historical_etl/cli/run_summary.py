"""How a run ended, for people and programs: what is stored, what changed, what is missing, and what to do next."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from shlex import quote

import polars as pl
from rich.text import Text

from historical_etl.cli.ledgers import Row, documents, number
from historical_etl.cli.terminal import Terminal, cleaned, duration, size_text, some
from historical_etl.errors import ChecksumMismatchError
from historical_etl.etl.completeness import ENDED
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.models import ETLResult, Outcome, SyncManifest
from historical_etl.quality.price_levels import LEVEL_TOLERANCE
from historical_etl.store.ledger_schemas import empty_ledger

__all__ = ["RunSummary", "report_skipped_files"]

_FAILED, _INCOMPLETE = 1, 3
_SAMPLE = 10
#: Files that are skipped: somebody corrects them one by one.
_FILES = 20
_CELLS = 5
_WHY = {
    Outcome.EMPTY: "no rows in this range",
    Outcome.NOT_FOUND: "unknown to the source",
    Outcome.NOT_COVERED: "the source does not give them to this account",
    Outcome.NOT_PUBLISHED: "not published yet; run the same command again later",
    Outcome.RATE_LIMITED: "the source asked to slow down; run the same command again later",
    Outcome.ERROR: "the source failed",
    Outcome.REFUSED: "the fetched rows were refused",
}
_AGAIN = (Outcome.NOT_PUBLISHED, Outcome.RATE_LIMITED, Outcome.ERROR)
_FLAGGED = "`SELECT * FROM flagged_rows`"
_REJECTED = '"SELECT * FROM rejected_rows"'
#: Codes of what is reported with the outcome `refused`.
_REFUSED = ("refused", "other_basis")


@dataclass(frozen=True)
class RunSummary:
    """A run that is over.

    Attributes:
        etl: the store.
        before: the version that the run found.
        result: what it says of itself.
    """

    etl: HistoricalETL
    before: SyncManifest | None
    result: ETLResult

    @cached_property
    def after(self) -> SyncManifest | None:
        """The current version."""
        return self.etl.manifest()

    @property
    def complete(self) -> bool:
        """Whether all that was requested was fetched, nothing is held, and no session is missing.

        Of a symbol that has ended nothing is expected.
        """
        all_fetched = all(o is Outcome.OK or s in self._ended for s, o in self.result.outcomes.items())
        result = self.result
        whole = not (result.rows_rejected or result.unadjusted_symbols or result.set_aside or self._held_bars)
        return all_fetched and whole and not self.missing

    @property
    def _held_bars(self) -> list[str]:
        """Symbols of which bars are held; what is stored without its `adj_close` has come."""
        return [symbol for symbol, why in self.result.held.items() if not why.startswith("adj_close:")]

    @cached_property
    def missing(self) -> int:
        """How many sessions of the symbols that were asked for are open gaps."""
        if self.after is None:
            return self.result.sessions_missing
        try:
            gaps = self.etl.gaps()
        except ChecksumMismatchError:  # the run itself has reported it
            return self.result.sessions_missing
        return int(gaps.filter(pl.col("symbol").is_in(list(self.result.outcomes))).get_column("sessions").sum())

    @property
    def code(self) -> int:
        """The exit code."""
        if self.result.catalog_error:
            return _FAILED
        return 0 if self.complete else _INCOMPLETE

    @cached_property
    def _ended(self) -> set[str]:
        """Symbols that did not come, and that count as ended."""
        silent = [s for s, o in self.result.outcomes.items() if o in (Outcome.EMPTY, Outcome.NOT_FOUND)]
        if not silent or self.after is None:
            return set()
        try:
            known = self.etl.ledger("symbols")
        except ChecksumMismatchError:  # the run itself has reported it
            return set()
        return set(known.filter(pl.col("symbol").is_in(silent), pl.col("status") == ENDED).get_column("symbol"))

    def document(self) -> dict[str, object]:
        """The run as JSON."""
        result = self.result
        return {
            **result.model_dump(mode="json"),
            "restated": documents(self._restated),
            "changed": result.changed,
            "complete": self.complete,
        }

    def report(self, terminal: Terminal) -> None:
        """What is stored now, what changed of it, and what was refused, is held or is missing."""
        self._report_version(terminal)
        self._report_changes(terminal)
        self._report_source(terminal)
        self._report_refused(terminal)
        self._report_held(terminal)
        if self.missing:
            terminal.warn(f"{self.missing:,} session(s) are missing: `{terminal.program} gaps` shows them")
        self._report_warnings(terminal)

    def report_next_steps(self, terminal: Terminal, otherwise: str) -> None:
        """What to do about it; `otherwise` where nothing needs to be done."""
        terminal.say(f"next: {next(self._steps(terminal.program), otherwise)}")

    def _steps(self, program: str) -> Iterator[str]:
        """What to do, the most urgent first."""
        result = self.result
        if result.catalog_error:
            yield f"{program} update, which publishes the catalog"
        for symbol in self._held:
            accept = f'{program} holds accept {quote(symbol)} --reason "..."'
            yield f"{program} holds; if the new prices of {symbol} are right, {accept}"
        if other := [symbol for symbol, why in result.held.items() if why.startswith("other_basis")]:
            yield f"use the source that the symbols were filled from, or {program} {self._rebuild(other)}"
        yield from self._steps_of_what_lacks(program)
        if result.unadjusted_symbols:
            yield (
                f"{program} update once the source gives adj_close again; if it never will, "
                f"{program} {self._rebuild(result.unadjusted_symbols)} takes the histories as they come now"
            )
        if self.missing:
            yield f"{program} gaps; each update asks for them again"
        for row in self._restated.to_dicts():
            yield f"{program} explain {quote(row['symbol'])} {row['last_session']}, which tells what was restated"

    def _rebuild(self, symbols: Collection[str]) -> str:
        """The command that replaces the histories of some symbols: one that begins later would lose bars."""
        lives = self.etl.completeness().symbols.filter(pl.col("symbol").is_in(list(symbols)))
        years = lives.select(pl.col("first_session").dt.year()).to_series().drop_nulls()
        return " ".join(["backfill --rebuild", *(f"--from {year}" for year in years.sort()[:1])])

    def _steps_of_what_lacks(self, program: str) -> Iterator[str]:
        outcomes = set(self.result.outcomes.values())
        if self.result.set_aside:
            yield "correct the skipped files, or take them out of the folder; then repeat"
        if self.result.rows_rejected or Outcome.REFUSED in outcomes:
            yield f"{program} query {_REJECTED}; correct the source, then repeat"
        if outcomes.intersection(_AGAIN):
            yield "the same command again later: what was committed is unchanged"
        if outcomes - {Outcome.OK} and not self.complete:
            yield "look at what did not come; correct the list of symbols or the source, then repeat"

    @property
    def _is_new(self) -> bool:
        """Whether a version was made, be it only of ledgers."""
        return self.after is not None and self.after.version > (self.before.version if self.before else 0)

    @cached_property
    def _restated(self) -> pl.DataFrame:
        return self._since("restatements").sort("symbol", "version")

    def _since(self, ledger: str) -> pl.DataFrame:
        """What a ledger has on top since the run began."""
        if not self._is_new:
            return empty_ledger(ledger)
        try:
            return self.etl.ledger(ledger).filter(pl.col("version") > (self.before.version if self.before else 0))
        except ChecksumMismatchError:  # the run itself has reported it
            return empty_ledger(ledger)

    def _report_version(self, terminal: Terminal) -> None:
        result, manifest = self.result, self.after
        if manifest is None:
            terminal.out.print(Text("Nothing is stored: no row was fetched"))
            return
        headline = f"Version {manifest.version}{'' if self._is_new else ' (as before)'}: {manifest.row_count:,} rows"
        size = size_text(sum(partition.size_bytes for partition in manifest.partitions))
        span = f"{manifest.start_date} to {manifest.end_date}" if manifest.partitions else "all fetched rows are held"
        asked = f", {result.requests:,} request(s)" if result.requests else ""
        took = f"took {duration(result.duration_seconds)}{asked}"
        terminal.out.print(Text(f"{headline}, {span}, {size}; {took}"), soft_wrap=True)

    def _report_source(self, terminal: Terminal) -> None:
        """How the source understood what it has, and what it could not read."""
        for note in self.result.notes:
            terminal.say(cleaned(f"from the source: {note}"))
        report_skipped_files(terminal, self.result.set_aside)

    def _report_warnings(self, terminal: Terminal) -> None:
        result = self.result
        if result.rows_flagged:
            reasons = ", ".join(f"{reason} {count:,}" for reason, count in result.flagged_by_reason.items())
            terminal.say(f"{result.rows_flagged:,} bar(s) flagged beside their close ({reasons}): {_FLAGGED}")
        for note in result.calendar_notes:
            terminal.warn(cleaned(note))
        for warning in result.warnings[:_SAMPLE]:
            terminal.warn(f"worth a look: {warning}")
        if len(result.warnings) > _SAMPLE:
            terminal.warn(f"and {len(result.warnings) - _SAMPLE:,} more like these")
        for warning in result.disk_warnings:
            terminal.warn(f"disk {warning}")
        if result.catalog_error:
            terminal.warn(f"the data is committed, the catalog is not up to date: {result.catalog_error}")

    def _report_changes(self, terminal: Terminal) -> None:
        rows = self._restated.to_dicts()
        for row in rows[:_SAMPLE]:
            terminal.out.print(Text(cleaned(_restated(row))), soft_wrap=True)
        if len(rows) > _SAMPLE:
            terminal.out.print(Text(f"and {len(rows) - _SAMPLE:,} more were restated"))
        cells = self._since("corrections") if self.result.corrections else empty_ledger("corrections")
        for cell in cells.head(_CELLS).to_dicts():
            change = f"{number(cell['old'])} -> {number(cell['new'])}"
            terminal.out.print(Text(f"{cell['symbol']} {cell['date']} corrected: {cell['column']} {change}"))
        if cells.height > _CELLS:
            terminal.out.print(Text(f"and {cells.height - _CELLS:,} more value(s) were corrected"))

    def _report_refused(self, terminal: Terminal) -> None:
        result = self.result
        if result.rows_rejected:
            terminal.warn(f"{result.rows_rejected:,} row(s) refused")
            for reason, count in result.rejected_by_reason.items():
                terminal.say(f"  {count:>9,}  {reason}")
            for path in result.quarantine_paths:
                terminal.say(f"  kept in {path}")
        for outcome, why in _WHY.items():
            symbols = [s for s, other in result.outcomes.items() if other is outcome and s not in self._ended]
            if symbols:
                terminal.warn(cleaned(f"{len(symbols):,} symbol(s) did not come, {why}: {some(symbols, _SAMPLE)}"))
                for line in self._details(symbols):
                    terminal.say(cleaned(line))
        if self._ended:
            terminal.say(
                f"{len(self._ended):,} symbol(s) that have ended gave no rows: {some(sorted(self._ended), _SAMPLE)}"
            )

    def _report_held(self, terminal: Terminal) -> None:
        held = self._held
        if not held:
            return
        terminal.warn(f"{len(held):,} symbol(s) held, nothing new of them is stored: {some(held, _SAMPLE)}")
        for symbol, why in list(held.items())[:_SAMPLE]:
            terminal.say(cleaned(f"  {symbol}: {why}"))

    @property
    def _held(self) -> dict[str, str]:
        """Those that a person may accept; the others are reported as refused."""
        return {symbol: why for symbol, why in self.result.held.items() if why.partition(":")[0] not in _REFUSED}

    def _details(self, symbols: list[str]) -> Iterator[str]:
        """What is known of some symbols, once for those of which it is the same."""
        same: dict[str, list[str]] = {}
        for symbol in symbols:
            if detail := self.result.details.get(symbol):
                same.setdefault(detail, []).append(symbol)
        for detail, alike in list(same.items())[:_SAMPLE]:
            yield f"  {some(alike, _CELLS)}: {detail}"


def report_skipped_files(terminal: Terminal, skipped: Sequence[str]) -> None:
    """Print the first files that are skipped, and how many more there are."""
    if skipped:
        terminal.warn(f"{len(skipped):,} file(s), or parts of them, are skipped")
    for what in skipped[:_FILES]:
        terminal.say(cleaned(f"  {what}"))
    if len(skipped) > _FILES:
        terminal.say(f"  and {len(skipped) - _FILES:,} more; --json names all of them")


def _restated(row: Row) -> str:
    of_level, of_close = row["ratio"], row["close_ratio"]
    ratio = f" x{of_level:.6g}" if of_level is not None else ""
    if of_close is not None and abs(of_close - 1) > LEVEL_TOLERANCE:
        ratio += f" (close x{of_close:.6g})"
    span = f"{row['first_session']} to {row['last_session']}"
    return f"{row['symbol']} restated{ratio}: {row['rows_replaced']:,} row(s) replaced, {span}"
