"""What renames and splits mean for the names of a version: which rows move, and what the ledger `aliases` says then.

Several renames are one change: each row goes through all that happened after its day, in order of time. So it does not
matter in which order they are given, two may fall on one day, and tickers may be swapped.
"""

import csv
import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl.clock import as_date
from historical_etl.errors import ConfigurationError
from historical_etl.etl.symbology.names import RENAMED, REUSED, Names
from historical_etl.regular_files import read_text
from historical_etl.sessions import SessionCalendar
from historical_etl.store.ledger_schemas import SCHEMAS
from historical_etl.symbols import normalize_symbols

__all__ = ["WAS", "Move", "Rename", "RenamePlan", "mapped", "planned", "read_renames", "unknown_symbol"]

#: Under which name a row is stored before the move.
WAS: Final = "was"
_SAMPLE: Final = 5
_HEADER: Final = ("old", "new", "date")


@dataclass(frozen=True)
class Rename:
    """From a date on what was called `old` is called `new`."""

    old: str
    new: str
    on: date
    reason: str = ""


@dataclass(frozen=True)
class Move:
    """Rows of `old` from `low` (None: the first) to `high` become rows of `new`."""

    old: str
    new: str
    low: date | None
    high: date


@dataclass(frozen=True)
class RenamePlan:
    """A change of names.

    Attributes:
        renames: those that are new, in order of time.
        moves: where stored rows go.
        made: of each new alias the name, its last session and the symbol that its rows go to.
    """

    renames: tuple[Rename, ...]
    moves: tuple[Move, ...]
    made: tuple[tuple[Rename, date, str], ...]

    def aliases(
        self,
        names: Names,
        calendar: SessionCalendar,
        still: Mapping[str, date | None],
        facts: Mapping[str, object],
        kind: str,
    ) -> pl.DataFrame:
        """The ledger after the change.

        Args:
            names: of the version before it.
            calendar: the exchange's sessions.
            still: names that go on being symbols, and since when.
            facts: source, by, version and committed_at of the new aliases; a reason where a rename has none.
            kind: `split` for a symbol that is split in two, else `renamed`.
        """
        rows: list[dict[str, object]] = []
        for row in names.aliases.iter_rows(named=True):
            rows += self._followed(row)
        for rename, last, symbol in self.made:
            mine = {"alias": rename.old, "symbol": symbol, "kind": kind, "last_session": last, **facts}
            rows.append(mine | ({"reason": rename.reason} if rename.reason else {}))
        newest = {str(row["alias"]): row["last_session"] for row in sorted(rows, key=_last)}
        for row in rows:
            alias = str(row["alias"])
            if alias == row["symbol"]:  # it has its own name back
                row |= {"kind": RENAMED, "reused_from": None}
            elif row["kind"] == RENAMED and (alias in still or row["last_session"] != newest[alias]):
                row["kind"] = REUSED
            if alias in still and row["last_session"] == newest[alias] and alias != row["symbol"]:
                row["reused_from"] = still[alias]
        schema = SCHEMAS["aliases"]
        frame = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
        return _with_first_sessions(frame, calendar)

    def _followed(self, row: dict[str, object]) -> Iterator[dict[str, object]]:
        """A known alias after the change: of a symbol that moves it moves with it, or is cut where that is cut."""
        last, done = _last(row), date.min
        for move in sorted(self.moves, key=lambda move: move.high):
            if move.old == row["symbol"] and done < last:
                done = min(last, move.high)
                yield {**row, "symbol": move.new, "last_session": done}
        if done < last:
            yield row


def planned(renames: Sequence[Rename], names: Names, calendar: SessionCalendar, *, inside: bool = False) -> RenamePlan:
    """Where the rows go; renames that are known already are left out.

    Args:
        renames: in any order.
        names: of the version before.
        calendar: the exchange's sessions.
        inside: whether a history may be cut before its last rename: as a split does.

    Raises:
        ConfigurationError: they contradict each other, or what is known.
    """
    edges: dict[str, list[tuple[date, str, date]]] = {}  # name → (its last session, the name after it, since when)
    last_of = {rename: calendar.back(rename.on, 1) for rename in renames}
    fresh = [rename for rename in dict.fromkeys(renames) if not _is_known(rename, last_of[rename], names)]
    fresh.sort(key=lambda rename: (rename.on, rename.old, rename.new))
    for rename in fresh:
        _check(rename, last_of[rename], names, {other.new for other in fresh}, inside=inside)
        edges.setdefault(rename.old, []).append((last_of[rename], rename.new, rename.on))
    for name, found in edges.items():
        if len({last for last, *_ in found}) < len(found):
            raise ConfigurationError(
                f"{name} is renamed twice on one day: {' and '.join(sorted(new for _, new, _ in found))}",
                where="renames",
                todo="keep the one that is right",
            )

    def now(name: str, after: date) -> str:
        """What a name of the session after `after` is called today."""
        while True:
            known = [(alias.last, alias.symbol) for alias in names.former_uses(name)]
            steps = [(last, new) for last, new, _ in edges.get(name, ())]
            later = [step for step in (*steps, *known) if step[0] > after]
            if not later:
                return name
            after, name = min(later)

    moves: list[Move] = []
    for name, found in sorted(edges.items()):
        low: date | None = None
        for last, new, on in sorted(found):
            # Up to the day before, whatever the calendar says of it: a stored day may have left it since.
            moves.append(Move(name, now(new, last), low, on - timedelta(days=1)))
            low = on
    made = tuple((rename, last_of[rename], now(rename.new, last_of[rename])) for rename in fresh)
    return RenamePlan(tuple(fresh), tuple(move for move in moves if move.new != move.old), made)


def _is_known(rename: Rename, last: date, names: Names) -> bool:
    target = names.resolve([rename.new])[0]
    return any(a.last == last and a.symbol == target for a in names.former_uses(rename.old))


def _check(rename: Rename, last: date, names: Names, targets: Collection[str], *, inside: bool) -> None:
    uses = names.former_uses(rename.old)
    if uses and uses[-1].kind == RENAMED and rename.old not in targets:
        then = uses[-1]
        raise ConfigurationError(
            f"{rename.old} is {then.symbol} already, since the session after {then.last}",
            where="renames",
            todo=f"rename {then.symbol} if it has another name now; `historical-etl rollback` undoes a wrong rename",
        )
    since = max((alias.last for alias in names.former(rename.old)), default=None)
    if since is not None and last <= since and not inside:
        raise ConfigurationError(
            f"{rename.old} has its name only since the session after {since}; it cannot have lost it on {rename.on}",
            where="renames",
            todo="correct the date",
        )


def unknown_symbol(name: str, known: Iterable[str], what: str = "is not stored") -> ConfigurationError:
    """The error about a symbol that the store does not have, with the nearest names."""
    stored = sorted(known)
    near = difflib.get_close_matches(name, stored, n=_SAMPLE) or stored[:_SAMPLE]
    todo = f"did you mean {', '.join(near)}?" if near else "nothing is stored yet"
    return ConfigurationError(f"{name} {what}", where="symbol", todo=todo)


def read_renames(path: str | Path) -> list[Rename]:
    """Read renames from a CSV file with the columns old, new, date and, if there is one, reason.

    Raises:
        ConfigurationError: the file cannot be read, or lines of it are wrong: names them all.
    """
    where = str(path)
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigurationError(
            f"The renames cannot be read: {reason}", where=where, todo="correct the path"
        ) from None
    reader = csv.reader(text.splitlines())
    header = [name.strip().lower() for name in next(reader, list[str]())]
    if any(header.count(name) != 1 for name in _HEADER):
        raise ConfigurationError(
            f"The header of the renames is {','.join(header)[:200]!r}",
            where=where,
            todo="write it as old,new,date or old,new,date,reason",
        )
    found: list[Rename] = []
    faults: list[str] = []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        row = dict(zip(header, cells, strict=False))
        try:
            old, new = (normalize_symbols([row.get(name, "")])[0] for name in _HEADER[:2])
            day = as_date(row.get("date", "").strip(), "date")
            found.append(Rename(old, new, day, row.get("reason", "").strip()))
        except ConfigurationError as error:
            faults.append(f"line {reader.line_num}: {error.what}")
    if faults or not found:
        more = f" and {len(faults) - _SAMPLE} more" if len(faults) > _SAMPLE else ""
        what = "; ".join(faults[:_SAMPLE]) + more if faults else "the file has no line after its header"
        raise ConfigurationError(
            f"The renames are malformed: {what}", where=where, todo="correct it; nothing was changed"
        )
    return found


def _last(row: Mapping[str, object]) -> date:
    last = row["last_session"]
    assert isinstance(last, date)  # noqa: S101 - by the schema
    return last


def _with_first_sessions(aliases: pl.DataFrame, calendar: SessionCalendar) -> pl.DataFrame:
    """Each name of a symbol begins where the one before it ended."""
    before = pl.col("last_session").shift(1).over("symbol")
    return (
        aliases.sort("symbol", "last_session", "alias")
        .with_columns(calendar.dates(calendar.positions(before) + 1).alias("first_session"))
        .sort("alias", "last_session", "symbol")
        .select(list(SCHEMAS["aliases"]))
    )


def mapped(rows: pl.DataFrame, moves: Sequence[Move], day: pl.Expr) -> pl.DataFrame:
    """Rows with the symbols that they have after the moves, and `was`, those before; `day` decides which moves."""
    schema = {"symbol": pl.String, "_new": pl.String, "_low": pl.Date, "_high": pl.Date}
    table = pl.DataFrame([(m.old, m.new, m.low or date.min, m.high) for m in moves], schema=schema, orient="row")
    keyed = rows.with_row_index("_row").with_columns(day.alias("_day"))
    to_move = keyed.join(table, on="symbol").filter(pl.col("_day").is_between("_low", "_high"))
    return (
        keyed.join(to_move.select("_row", "_new"), on="_row", how="left", maintain_order="left")
        .with_columns(pl.col("symbol").alias(WAS), pl.coalesce("_new", "symbol").alias("symbol"))
        .select(*rows.columns, WAS)
    )
