"""`replay`: the sample's sessions one after the other, each stored on its own evening, with a line on what happened."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from math import log
from typing import Final

import polars as pl
from rich.text import Text

from historical_etl.cli.terminal import Terminal, cleaned
from historical_etl.clock import as_date
from historical_etl.errors import ConfigurationError
from historical_etl.etl.pipeline import HistoricalETL
from historical_etl.etl.runs import RUNS_LOG
from historical_etl.models import ETLResult, Outcome, SyncManifest
from historical_etl.sessions import SessionCalendar, calendar_of
from historical_etl.settings import Settings
from historical_etl.sources.fetcher import UnifiedDataFetcher
from historical_etl.sources.replay import evening_of
from historical_etl.sources.sample import SampleSource
from historical_etl.symbols import normalize_symbols

__all__ = ["replay"]

_FAILED, _INCOMPLETE = 1, 3
#: A month with a split, two dividends, a correction, and a bar that is late.
_FIRST: Final = date(2005, 2, 1)
_SHOWN: Final = 3


def replay(terminal: Terminal, first: str | None, days: int, since: int | None, symbols: str | None) -> int:
    """Replay some sessions; see the command's help."""
    named = normalize_symbols([part for part in symbols.split(",") if part.strip()]) if symbols is not None else None
    shown = _Shown(terminal)
    with terminal.busy("Planning"):
        player = _Player(terminal.settings, as_date(first, "--from") if first else None, since, named)
        plan = player.plan(days)
    # Its failures come as the error raised: logged, they would be said twice.
    terminal.shown_elsewhere.add(RUNS_LOG)
    if since is not None and not plan.history:
        terminal.say("--since is for an empty store: left out")
    if plan.history:
        start, end = plan.history
        with terminal.busy(f"History, {start} to {end}"):
            shown.history(player.fill(start, end))
    if plan.catch_up:
        with terminal.busy(f"Catching up to {plan.catch_up}"):
            shown.evening(player.live(plan.catch_up))
    for session in plan.sessions:
        with terminal.busy(f"{session}"):
            # The catalog costs more than the rest of an evening; who looks at it before the end sees a version late.
            evening = player.live(session, publish=session == plan.sessions[-1])
        shown.evening(evening)
    return shown.end(player, plan)


@dataclass(frozen=True)
class _ReplayPlan:
    """What a call is to do: the history an empty store begins with, what to make up for, and the sessions to live."""

    history: tuple[date, date] | None
    catch_up: date | None
    sessions: list[date]
    stored: list[date]


@dataclass(frozen=True)
class _Evening:
    """What one session's run did; gaps are (symbol, session)."""

    session: date
    results: tuple[ETLResult, ...]
    version: int
    rows_added: int
    corrected: list[tuple[str, date, str]]
    restated: dict[str, float | None]
    found: list[tuple[str, date]]
    filled: list[tuple[str, date]]
    listed: list[str]

    @property
    def held(self) -> dict[str, str]:
        return {symbol: why for result in self.results for symbol, why in result.held.items()}

    @property
    def catalog_errors(self) -> list[str]:
        return [result.catalog_error for result in self.results if result.catalog_error]

    def document(self) -> dict[str, object]:
        return {
            "session": self.session,
            "version": self.version,
            "rows_added": self.rows_added,
            "corrections": [{"symbol": s, "date": day, "column": column} for s, day, column in self.corrected],
            "restated": self.restated,
            "gaps_found": [{"symbol": symbol, "date": day} for symbol, day in self.found],
            "gaps_filled": [{"symbol": symbol, "date": day} for symbol, day in self.filled],
            "held": self.held,
            "listed": self.listed,
            "outcomes": {s: outcome.value for result in self.results for s, outcome in result.outcomes.items()},
        }

    def line(self) -> str:
        """On one line, what is worth telling."""
        rows = f"{self.rows_added:+,} row{'s' if self.rows_added > 1 else ''}"
        parts = [rows if self.rows_added else "nothing new"]
        parts += [f"{symbol} listed" for symbol in self.listed]
        parts += [f"{symbol} restated{f' ×{ratio:.6g}' if ratio else ''}" for symbol, ratio in self.restated.items()]
        if self.corrected:
            cells = [f"{symbol} {column} of {day}" for symbol, day, column in self.corrected]
            parts.append(f"corrected: {_some(cells)}")
        if self.found:
            parts.append(f"gap found: {_some(f'{symbol} {day}' for symbol, day in self.found)}")
        if self.filled:
            parts.append(f"gap filled: {_some(f'{symbol} {day}' for symbol, day in self.filled)}")
        parts += [f"{symbol} held: {why}" for symbol, why in self.held.items()]
        return f"{self.session}  {'; '.join(parts)}"


class _Player:
    """The store of a replay, opened anew on each evening."""

    def __init__(self, settings: Settings, first: date | None, since: int | None, symbols: list[str] | None) -> None:
        changes: dict[str, object] = {"source": SampleSource.info.name}
        if symbols is not None:
            changes["symbols"] = tuple(symbols)
        self._symbols = symbols
        self._asked_from, self._since = first, since
        self._calendar: SessionCalendar = calendar_of(settings)
        self._settle = timedelta(minutes=settings.settle_minutes)
        self._first, self.last = _span()
        self.first = self._calendar.back(first or settings.replay_from or _FIRST, 0)
        self._settings = settings.changed(changes | {"replay_from": self.first})
        self._open_gaps: set[tuple[str, date]] | None = None

    def plan(self, days: int) -> _ReplayPlan:
        """What is to be done, after a look at what is stored.

        Raises:
            ConfigurationError: it cannot begin on that day, or in that year, or not in this store.
        """
        self._require_inside()
        etl = self._at(self.first)
        manifest = etl.manifest()
        before = self._calendar.back(self.first, 1)
        if manifest is None or manifest.end_date is None:
            return _ReplayPlan((self._history_from(before), before), None, self._sessions(self.first, days), [])
        self._require_replayed(etl, manifest)
        through = manifest.end_date
        if self._asked_from is None:
            return _ReplayPlan(None, None, self._sessions(through + timedelta(days=1), days), [])
        asked = self._sessions(self.first, days)
        return _ReplayPlan(
            None,
            before if through < before else None,
            [session for session in asked if session > through],
            [session for session in asked if session <= through],
        )

    def fill(self, start: date, end: date) -> ETLResult:
        """The history of an empty store, as the vendor gave it on the evening of `end`."""
        etl = self._at(end)
        return etl.run_full_etl(self._symbols or etl.source.members(start, end), start, end)

    def live(self, session: date, *, publish: bool = True) -> _Evening:
        """The increment of one evening."""
        etl = self._at(session)
        before = etl.manifest()
        open_before = self._open_gaps
        if open_before is None:
            open_before = self._gaps(etl.gaps()) if before else set[tuple[str, date]]()
        listed = self._listed(etl, before, session)
        # The new ones first: interrupted between the two, the rest is made up for, and they would be forgotten.
        asked = [listed, self._symbols] if listed else [self._symbols]
        results = [etl.run_incremental_etl(symbols, publish=publish) for symbols in asked]
        after = etl.manifest()
        versions = before.version if before else 0, after.version if after else 0
        self._open_gaps = self._gaps(etl.gaps())
        closed = etl.gaps(all=True).filter(pl.col("closed_version") > versions[0], pl.col("status") == "filled")
        restated = etl.ledger("restatements").filter(pl.col("version") > versions[0])
        corrected = etl.ledger("corrections").filter(pl.col("version") > versions[0])
        return _Evening(
            session=session,
            results=tuple(results),
            version=versions[1],
            rows_added=(after.row_count if after else 0) - (before.row_count if before else 0),
            corrected=corrected.select("symbol", "date", "column").rows(),
            restated=dict(restated.select("symbol", "ratio").iter_rows()),
            found=sorted(self._open_gaps - open_before),
            filled=sorted(self._gaps(closed)),
            listed=listed,
        )

    def manifest(self) -> SyncManifest | None:
        """The current version."""
        return self._at(self.first).manifest()

    def after(self, session: date) -> date | None:
        """The sample's next session."""
        following = self._calendar.after(session)
        return following if following is not None and following <= self.last else None

    def before(self, session: date) -> date:
        """The session before."""
        return self._calendar.back(session, 1)

    def _at(self, session: date) -> HistoricalETL:
        evening = evening_of(session, self._calendar, self._settle)
        return HistoricalETL.open(
            self._settings.data_dir,
            UnifiedDataFetcher(self._settings, clock=lambda: evening),
            clock=lambda: evening,
            settings=self._settings,
            writer_id="historical-etl replay",
        )

    def _sessions(self, start: date, days: int) -> list[date]:
        return self._calendar.between(start, self.last).to_list()[:days]

    def _listed(self, etl: HistoricalETL, stored: SyncManifest | None, session: date) -> list[str]:
        """Symbols that began to trade after what is stored: an increment of that does not know them."""
        if self._symbols is not None or stored is None or stored.end_date is None:
            return []
        members = etl.source.members
        return sorted(set(members(session, session)) - set(members(None, stored.end_date)))

    def _gaps(self, gaps: pl.DataFrame) -> set[tuple[str, date]]:
        spans = gaps.select("symbol", "first_session", "last_session").iter_rows()
        return {(symbol, day) for symbol, low, high in spans for day in self._calendar.between(low, high)}

    def _require_inside(self) -> None:
        begin = self._calendar.after(self._first)
        if begin is None or not begin <= self.first <= self.last:
            raise ConfigurationError(
                f"A replay cannot begin on {self.first}: the sample has the sessions from {self._first} to {self.last}"
                ", and the first of them is needed as history",
                where="--from",
                todo=f"choose a day from {begin} to {self.last}",
            )

    def _require_replayed(self, etl: HistoricalETL, manifest: SyncManifest) -> None:
        """Said before anything is asked for: where all is stored on another basis there is nothing left to ask for."""
        if manifest.adjustment != etl.source.info.adjustment:
            raise ConfigurationError(
                f"What is stored has another price basis than a replay: {manifest.provider!r}, {manifest.adjustment!r}",
                where=etl.layout.root,
                todo="replay into a folder of its own: historical-etl replay --data-dir replay",
            )

    def _history_from(self, before: date) -> date:
        year = max(before.year - 1, self._first.year) if self._since is None else self._since
        if not self._first.year <= year <= before.year:
            raise ConfigurationError(
                f"--since {year} leaves no history: the sample begins on {self._first}, the replay after {before}",
                where="--since",
                todo=f"choose a year from {self._first.year} to {before.year}",
            )
        return max(self._first, date(year, 1, 1))


@dataclass
class _Shown:
    """What is printed: line by line, or as one document at the end."""

    terminal: Terminal
    filled: ETLResult | None = None
    evenings: list[_Evening] = field(default_factory=list[_Evening])

    def history(self, result: ETLResult) -> None:
        """The history that an empty store begins with."""
        self.filled = result
        symbols = ", ".join(symbol for symbol, outcome in result.outcomes.items() if outcome is Outcome.OK)
        span = f"{result.start_date} to {result.end_date}"
        self._print(f"History, {span}: {result.total_rows:,} rows of {symbols}")

    def evening(self, evening: _Evening) -> None:
        """One evening, as soon as it is over."""
        self.evenings.append(evening)
        self._print(evening.line())
        for error in evening.catalog_errors:
            self.terminal.warn(f"the data is committed, the catalog is not up to date: {error}")

    def end(self, player: _Player, plan: _ReplayPlan) -> int:
        """The sum of it, and what to do next; returns the exit code."""
        manifest = player.manifest()
        following = player.after(manifest.end_date) if manifest and manifest.end_date else None
        if self.terminal.as_json:
            self.terminal.json(
                {
                    "history": self.filled.model_dump(mode="json") if self.filled else None,
                    "sessions": [evening.document() for evening in self.evenings],
                    "sessions_stored_before": plan.stored,
                    "version": manifest.version if manifest else 0,
                    "row_count": manifest.row_count if manifest else 0,
                    "current_through": manifest.end_date if manifest else None,
                    "next_session": following,
                    "complete": not self._code,
                }
            )
            return self._code
        if plan.stored:
            self.terminal.say(f"{len(plan.stored)} of these session(s) were stored already, to {plan.stored[-1]}")
        if self.evenings and manifest:
            self._print(self._sum(manifest))
        for step in self._next(player, following):
            self.terminal.say(f"next: {step}")
        return self._code

    @property
    def _code(self) -> int:
        if any(evening.catalog_errors for evening in self.evenings):
            return _FAILED
        results = [result for evening in self.evenings for result in evening.results]
        complete = all(result.complete for result in [*results, *([self.filled] if self.filled else [])])
        return 0 if complete else _INCOMPLETE

    def _sum(self, manifest: SyncManifest) -> str:
        evenings = self.evenings
        restated = sorted({symbol for evening in evenings for symbol in evening.restated})
        counted = [
            f"{sum(evening.rows_added for evening in evenings):,} rows added",
            f"{sum(len(evening.corrected) for evening in evenings):,} value(s) corrected",
            f"{sum(len(evening.found) for evening in evenings):,} gap(s) found",
            f"{sum(len(evening.filled) for evening in evenings):,} filled",
            f"restated: {', '.join(restated) or 'none'}",
        ]
        span = f"{len(evenings)} session(s), {evenings[0].session} to {evenings[-1].session}"
        headline = f"Version {manifest.version}: {manifest.row_count:,} rows, {manifest.start_date} to"
        return f"{span}: {', '.join(counted)}\n{headline} {manifest.end_date}"

    def _next(self, player: _Player, following: date | None) -> Iterator[str]:
        place = f" --data-dir {shlex.quote(str(self.terminal.data_dir))}" if self.terminal.data_dir else ""
        if story := self._story(player):
            yield f"historical-etl{place} explain {story[0]} {story[1]}"
        yield f"historical-etl{place} status"
        if following:
            yield f"historical-etl{place} replay, which goes on with {following}"
        else:
            yield f"nothing: the sample ends on {player.last}; replay it again into another folder with --data-dir"

    def _story(self, player: _Player) -> tuple[str, date] | None:
        """A bar whose values changed: before the largest restatement, else one that arrived late or was corrected."""
        moved = [
            (abs(log(ratio)), symbol, player.before(evening.session))
            for evening in self.evenings
            for symbol, ratio in evening.restated.items()
            if ratio
        ]
        if moved:
            return max(moved)[1:]
        late = [gap for evening in self.evenings for gap in evening.filled]
        corrected = [cell[:2] for evening in self.evenings for cell in evening.corrected]
        return next(iter(late + corrected), None)

    def _print(self, text: str) -> None:
        if not self.terminal.as_json:
            self.terminal.out.print(Text(cleaned(text)), soft_wrap=True)


def _span() -> tuple[date, date]:
    covered = SampleSource.info.coverage
    return (covered.first, covered.last or date.max) if covered else (date.min, date.max)


def _some(items: Iterable[str]) -> str:
    listed = list(items)
    more = f" and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more
