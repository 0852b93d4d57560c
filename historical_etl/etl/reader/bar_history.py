"""The story of one bar: every value it ever had, when, and why it changed. Reported from the ledgers alone."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any, Final

import polars as pl

from historical_etl.etl.commit import OFF_CALENDAR
from historical_etl.etl.merge import COMPARED
from historical_etl.etl.symbology import Names
from historical_etl.models import SyncManifest
from historical_etl.sessions import SessionCalendar
from historical_etl.store.layout import Layout
from historical_etl.store.ledgers import read_named_ledger

__all__ = ["BAR_HISTORY_SCHEMA", "bar_history"]

#: Columns of a story. Events with a value have a `column`, with its `old` and `new` value.
BAR_HISTORY_SCHEMA: Final = pl.Schema(
    {
        "version": pl.Int64(),
        "committed_at": pl.Datetime("us", "UTC"),
        "event": pl.String(),
        "column": pl.String(),
        "old": pl.Float64(),
        "new": pl.Float64(),
        "why": pl.String(),
    }
)
#: In which order events of one version happened.
_ORDER: Final = (
    "refused",
    "withheld",
    "held",
    "gap",
    "waived",
    "accepted",
    "split",
    "released",
    "filled",
    "flagged",
    "stored",
    "corrected",
    "restated",
    "removed",
    "renamed",
)

_Event = dict[str, Any]  # a row of a ledger: typed by its schema
_Values = Mapping[str, float | None]


def bar_history(
    layout: Layout,
    manifest: SyncManifest,
    symbol: str,
    day: date,
    now: _Values | None,
    calendar: SessionCalendar,
    names: Names,
) -> pl.DataFrame:
    """Everything the ledgers know of one bar, oldest first; columns `BAR_HISTORY_SCHEMA`.

    Args:
        layout: where the ledgers lie.
        manifest: the version whose ledgers are read.
        symbol: of the bar.
        day: of the bar.
        now: the values it has in that version; None if it has none.
        calendar: the exchange's sessions.
        names: of that version: the logs have the bar under the names that it had.
    """
    story = _Story(layout, manifest, symbol, day, calendar, names)
    events = [*story.values(now), *story.gaps(), *story.holds()]
    events += [*story.refusals(), *story.flags(), *story.withheld(), *story.renames()]
    events.sort(key=lambda event: (event["version"], _ORDER.index(str(event["event"]))))
    return pl.DataFrame(
        [{name: event.get(name) for name in BAR_HISTORY_SCHEMA} for event in events], schema=BAR_HISTORY_SCHEMA
    )


class _Story:
    """The ledgers' rows about one bar."""

    def __init__(
        self,
        layout: Layout,
        manifest: SyncManifest,
        symbol: str,
        day: date,
        calendar: SessionCalendar,
        names: Names,
    ) -> None:
        self._layout = layout
        self._manifest = manifest
        self._symbol = symbol
        self._day = day
        self._calendar = calendar
        spans = names.spans(symbol, day)
        version = pl.col("version")
        self._mine = pl.any_horizontal(
            (pl.col("symbol") == name) & (version >= low) & (version < high) for name, low, high in spans
        )
        self._among = pl.any_horizontal(
            pl.col("symbols").list.contains(name) & (version >= low) & (version < high) for name, low, high in spans
        )

    def values(self, now: _Values | None) -> Iterator[_Event]:
        """What its cells were: walked back from now to when it was first stored."""
        state: dict[str, float | None] = {name: now[name] if now else None for name in COMPARED}
        at_key = self._mine & (pl.col("date") == self._day)
        changes = [("corrected", row) for row in self._rows("corrections", at_key)]
        changes += [
            ("removed" if (row["reason"] or "").startswith(OFF_CALENDAR) else "restated", row)
            for row in self._rows("replaced_rows", at_key)
        ]
        for kind, row in sorted(changes, key=lambda change: change[1]["version"], reverse=True):
            if kind == "corrected":
                yield self._event(row, kind, "the source gives another value", row["column"], row["old"], row["new"])
                state[row["column"]] = row["old"]
                continue
            why = row["reason"] if kind == "removed" else self._why_restated(row["version"])
            for name in COMPARED:
                if row[name] != state[name]:
                    yield self._event(row, kind, why, name, row[name], state[name])
                state[name] = row[name]
        if now is None and not changes:
            return
        first = self._first_stored()
        for name, value in state.items():
            if value is not None:
                yield self._event(first, "stored", "first stored", name, None, value)

    def gaps(self) -> Iterator[_Event]:
        """When it was missing, and what was fetched of that."""
        here = pl.col("first_session").le(self._day) & pl.col("last_session").ge(self._day)
        for gap in self._rows("gaps", self._mine & here):
            asked = f"; asked for {gap['attempts']} time(s)" if gap["attempts"] else ""
            status = "" if gap["status"] in ("open", "filled") else f" ({gap['status']})"
            yield self._event(gap, "gap", f"{gap['why']}{asked}{status}")
            if gap["status"] == "waived":
                yield self._event(_deciding(gap), "waived", f"by {gap['by']}: {gap['reason']}")
            if gap["closed_version"] is not None:
                yield self._event(_closing(gap), "filled", "the source gave the bar")

    def holds(self) -> Iterator[_Event]:
        """When the symbol was held, from the day on that this bar concerns."""
        mine = self._mine
        # A bar that was stored before or after a jump was held has nothing to do with it.
        stored: int = self._first_stored()["version"]
        closed, jump = pl.col("closed_version"), pl.col("session") <= self._day
        if stored:
            mine &= closed.is_null() | (closed >= stored) | (pl.col("status") == "split")
            jump &= pl.col("version") <= stored
        for hold in self._rows("holds", mine & (pl.col("session").is_null() | jump)):
            yield self._event(hold, "held", f"{hold['code']}: {hold['evidence']}")
            if hold["reason"] is not None:
                event = "split" if hold["status"] == "split" else "accepted"
                yield self._event(_deciding(hold), event, f"by {hold['by']}: {hold['reason']}")
            elif hold["closed_version"] is not None:
                yield self._event(_closing(hold), "released", "what was fetched is no longer suspicious")

    def refusals(self) -> Iterator[_Event]:
        """Values that were fetched and were refused."""
        at_key = self._mine & (pl.col("date") == self._day)
        for row in self._rows("rejected_rows", at_key):
            yield self._event(row, "refused", ", ".join(row["reasons"]), "close", None, row["close"])

    def flags(self) -> Iterator[_Event]:
        """Values as fetched beside a close that was stored, where something was wrong with them."""
        at_key = self._mine & (pl.col("date") == self._day)
        for row in self._rows("flagged_rows", at_key):
            fetched = ", ".join(f"{name} {row[name]:g}" for name in COMPARED if row[name] is not None)
            yield self._event(row, "flagged", f"{', '.join(row['reasons'])}: {fetched}")

    def withheld(self) -> Iterator[_Event]:
        """Values that the source did not give again, and those it gave that do not fit them."""
        at_key = self._mine & (pl.col("date") == self._day)
        for row in self._rows("withheld", at_key):
            if row["came"] is not None:
                why = "were fetched without values that are stored; nothing of the bar was taken"
            elif row["stored"] is not None:
                why = "did not come again; the stored value was kept"
            else:
                why = "did not come, though the series has it"
            yield self._event(row, "withheld", why, row["column"], row["stored"], row["came"])

    def renames(self) -> Iterator[_Event]:
        """When its symbol got another name, or was split off."""
        here = (pl.col("symbol") == self._symbol) & (pl.col("last_session") >= self._day)
        for row in self._rows("aliases", here):
            event = "split" if row["kind"] == "split" else "renamed"
            since = self._calendar.after(row["last_session"])
            reason = f": {row['reason']}" if row["reason"] else ""
            words = f"{row['alias']} before {since} is {row['symbol']} now, by {row['by']} ({row['source']}){reason}"
            yield self._event(row, event, words)

    def _first_stored(self) -> _Event:
        """The commit that added it: the one that filled its gap, else the first whose span has it."""
        filled = pl.col("closed_version").is_not_null() & self._mine
        inside = pl.col("first_session").le(self._day) & pl.col("last_session").ge(self._day)
        for gap in self._rows("gaps", filled & inside):
            return _closing(gap)
        added = self._rows("additions", inside & self._among)
        return next(iter(added), {"version": 0, "committed_at": None})

    def _why_restated(self, version: int) -> str:
        of_it = self._mine & (pl.col("version") == version)
        for row in self._rows("restatements", of_it):
            ratio = f"×{row['ratio']:.6g}: " if row["ratio"] is not None else ""
            return f"{ratio}{self._event_after(row['last_session'])}{row['evidence']}"
        return "the whole history was replaced"

    def _event_after(self, last: date) -> str:
        ex_date = self._calendar.after(last)
        if ex_date is None:
            return ""
        for row in self._rows("actions", (pl.col("symbol") == self._symbol) & (pl.col("date") == ex_date)):
            what = f"split {row['split']:g}:1" if row["split"] != 1 else f"dividend {row['dividend']:g}"
            what = "unexplained event" if row["unexplained"] else what
            return f"{what} on {ex_date}{' (inferred)' if row['inferred'] else ''}; "
        return ""

    def _rows(self, ledger: str, condition: pl.Expr) -> list[_Event]:
        rows = read_named_ledger(self._layout, self._manifest, ledger).filter(condition)
        return rows.to_dicts()

    def _event(  # one line of the story
        self,
        stamp: _Event,
        event: str,
        why: str,
        column: object = None,
        old: object = None,
        new: object = None,
    ) -> _Event:
        facts = {"version": stamp["version"], "committed_at": stamp["committed_at"], "event": event, "why": why}
        return {**facts, "column": column, "old": old, "new": new}


def _deciding(row: _Event) -> _Event:
    """The stamp of a person's decision."""
    return {"version": row["decided_version"], "committed_at": row["decided_at"]}


def _closing(row: _Event) -> _Event:
    """The stamp of what closed a row; of the row itself while it is open."""
    if row["closed_version"] is None:
        return {"version": row["version"], "committed_at": row["committed_at"]}
    return {"version": row["closed_version"], "committed_at": row["closed_at"]}
