"""One change of names under the lock: judged, written, recorded in the ledgers `aliases` and `runs`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

import polars as pl

from historical_etl.errors import ConfigurationError, DataQualityError
from historical_etl.etl.commit import HISTORY_REPLACED, decision, run_of, run_rows
from historical_etl.etl.completeness import load_actions
from historical_etl.etl.context import StoreContext, VersionState
from historical_etl.etl.identity.joining import HistoryJoin
from historical_etl.etl.identity.moved_ledgers import MovedState
from historical_etl.etl.identity.moves import Moved, move_rows, stored_rows_of, write_moved
from historical_etl.etl.merge import Gate
from historical_etl.etl.symbology import RENAMED, REUSED, SPLIT, Rename, RenamePlan, planned, unknown_symbol
from historical_etl.models import SyncManifest
from historical_etl.schema import SCHEMA, earliest, latest
from historical_etl.sessions import SessionCalendar
from historical_etl.store.ledger_schemas import SCHEMAS
from historical_etl.store.ledgers import LedgerChanges, read_ledger
from historical_etl.store.transaction import Provenance, Transaction
from historical_etl.symbols import normalize_symbols

__all__ = ["SPLITTABLE", "IdentityChange", "IdentityWork", "require_begun"]

#: Holds that another security under the same ticker explains.
SPLITTABLE: Final = ("break_after_gap", "level_jump", "no_overlap", "other_history")
_LETTERS: Final = ("", *"BCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True)
class IdentityChange:
    """What a rename or a split did.

    Attributes:
        version: the current one.
        changed: whether it is a new one.
        renames: old and new name, and the first date of the new one.
        rows: how many stored rows have another symbol now.
        kept: names that go on as symbols of their own, and their rows.
        replaced: how many rows gave way to others on the same session (only if forced).
        known: renames that were known before.
        left_out: renames of a file of which neither name is stored.
    """

    version: int
    changed: bool
    renames: tuple[tuple[str, str, date], ...] = ()
    rows: int = 0
    kept: dict[str, int] = field(default_factory=dict[str, int])
    replaced: int = 0
    known: int = 0
    left_out: tuple[str, ...] = ()


class IdentityWork:
    """One change under the lock."""

    def __init__(self, state: VersionState, gate: Gate, transaction: Transaction) -> None:
        self._state = state
        self._context = state.context
        self._gate = gate
        self._transaction = transaction
        self._base = transaction.base
        self._names = self._state.names_of(self._base)
        self._completeness = self._state.completeness_of(self._base)
        self._holds = read_ledger(self._context.layout, self._base, "open_holds")
        self._stored = set(self._completeness.symbols.get_column("symbol"))
        self._known = self._stored | set(self._holds.get_column("symbol")) | self._names.awaited

    def rename(
        self, renames: Sequence[Rename], source: str, reason: str, by: str, *, force: bool, lenient: bool
    ) -> IdentityChange:
        """Carry out renames."""
        store = self._context
        taken, left_out = self._of_this_store(renames, force=force, lenient=lenient)
        plan = planned(taken, self._names, store.calendar)
        if not plan.renames:
            version = self._base.version if self._base else 0
            return IdentityChange(version, changed=False, known=len(set(taken)), left_out=left_out)
        moved = move_rows(store.layout, self._base, plan.moves)
        self._require_something(plan, moved)
        adjustments = dict(self._completeness.symbols.select("symbol", pl.col("adjustment").fill_null("")).iter_rows())
        actions = load_actions(store.layout, self._base)
        judge = HistoryJoin(moved, actions, adjustments, store.calendar, store.settings.long_gap_sessions)
        doubts = judge.doubts(plan.moves)
        if doubts and not force:
            raise DataQualityError(
                f"The histories do not fit each other: {'; '.join(doubts)}. Nothing was changed",
                where=", ".join(f"{rename.old} to {rename.new}" for rename in plan.renames),
                todo="correct the date; part two securities by `historical-etl holds split SYMBOL --on DATE`; or join "
                "them with --force and a reason, and then `historical-etl backfill --rebuild` for one basis",
            )
        still = self._still(plan, moved)
        words = "; ".join(f"{r.old} is {r.new} since {r.on}" for r in plan.renames)
        facts = {"source": source, "by": by, "reason": reason}
        message = words + (f": {reason}" if reason else "") + (f" (forced: {'; '.join(doubts)})" if doubts else "")
        manifest = self._commit("rename", plan, moved, still, facts, message)
        return self._change(manifest, plan, moved, len(set(taken)) - len(plan.renames), left_out)

    def split(self, name: str, day: date | None, as_: str | None, reason: str, by: str) -> IdentityChange:
        """Carry out a split."""
        store, calendar = self._context, self._context.calendar
        if name not in self._known:
            if self._names.resolve([name]) != [name]:
                return self._reuse(name, day, reason, by)
            raise unknown_symbol(name, self._known)
        if day is not None:
            require_begun(store, day, where="on", todo=f"say so when {name} is another security's ticker")
        held = self._holds.filter(pl.col("symbol") == name, pl.col("code").is_in(SPLITTABLE))
        whole = False
        if day is None:
            if held.is_empty():
                raise ConfigurationError(
                    f"{name} is not held as another security might be",
                    where="holds",
                    todo="say from when on: --on DATE",
                )
            day = earliest(held.get_column("session"))
            if day is None:
                last = self._last_stored(name)
                whole, day = True, calendar.after(last) or last + timedelta(days=1)
        at_hold = held.filter(pl.col("session") == day).height > 0
        before = self._completeness.symbols.filter(pl.col("symbol") == name, pl.col("first_session") < day)
        if before.is_empty() and not at_hold:
            raise ConfigurationError(
                f"{name} has no bar before {day}: there is nothing to split off", where="on", todo="correct the date"
            )
        plan = planned([Rename(name, self._name_for(name, day, as_), day)], self._names, calendar, inside=True)
        moved = move_rows(store.layout, self._base, plan.moves)
        facts = {"source": "person", "by": by, "reason": reason}
        message = f"{name} before {day} is {plan.renames[0].new}: {reason}"
        still: dict[str, date | None] = {name: None if whole else day}
        against = latest(held.filter(pl.col("session") == day).get_column("against"))
        stored = latest(moved.after.filter(pl.col("symbol") == plan.renames[0].new).get_column("date"))
        # Earlier bars were fetched with the others, and held with them: the next update requests them.
        lacks = against is not None and stored is not None and stored < against
        ended = set[str]() if lacks else {plan.renames[0].new}
        manifest = self._commit("split", plan, moved, still, facts, message, ended)
        return self._change(manifest, plan, moved, 0, ())

    def _reuse(self, name: str, day: date | None, reason: str, by: str) -> IdentityChange:
        """A name that is an alias is the ticker of another security from a date on, which may be to come."""
        if day is not None:
            _require_known(self._context.calendar, day, "on")
        uses = self._names.former_uses(name)
        if day is None or day <= uses[-1].last:
            raise ConfigurationError(
                f"{name} is a former name of {uses[-1].symbol}, until {uses[-1].last}",
                where="on",
                todo="say with --on DATE from when on after that it is another security's",
            )
        mine = (pl.col("alias") == name) & (pl.col("last_session") == uses[-1].last)
        values = {"kind": REUSED, "reused_from": day}
        aliases = self._names.aliases.with_columns(
            pl.when(mine).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
            for column, value in values.items()
        )
        message = f"{name} is another security since {day}, {uses[-1].symbol} before: {reason} (by {by})"
        manifest = self._save({"aliases": aliases}, "split", message, 0)
        return IdentityChange(manifest.version, changed=True, renames=((name, uses[-1].symbol, day),))

    def _of_this_store(
        self, renames: Sequence[Rename], *, force: bool, lenient: bool
    ) -> tuple[list[Rename], tuple[str, ...]]:
        """The renames that concern it; a name that nobody knows is an error, or in a file left out."""
        reached = set(self._known)
        rest = list(renames)
        while True:  # what is called B since then is known if A is, of which B is the new name
            found = [r for r in rest if self._concerns(r, reached, backwards=force or lenient)]
            if not found:
                break
            reached |= {name for rename in found for name in (rename.old, rename.new)}
            rest = [rename for rename in rest if rename not in found]
        if rest and not lenient:
            raise unknown_symbol(rest[0].old, self._known)
        return [rename for rename in renames if rename not in rest], tuple(rename.old for rename in rest)

    def _concerns(self, rename: Rename, reached: set[str], *, backwards: bool) -> bool:
        if rename.old in reached or self._names.former_uses(rename.old):
            return True
        return backwards and self._names.resolve([rename.new])[0] in reached

    def _require_something(self, plan: RenamePlan, moved: Moved) -> None:
        """A rename of a stored symbol before its first bar is a slip."""
        for move in plan.moves:
            if move.old in {rename.new for rename in plan.renames}:
                continue  # the rows that it has may be those of what took it over
            mine = moved.before.filter(pl.col("symbol") == move.old)
            if mine.height and mine.filter(pl.col("date") <= move.high).is_empty():
                raise ConfigurationError(
                    f"{move.old} has no bar up to {move.high}: its first is of {mine.item(0, 'date')}",
                    where="on",
                    todo="correct the date",
                )

    def _still(self, plan: RenamePlan, moved: Moved) -> dict[str, date | None]:
        """Names that go on as symbols of their own: with rows after their rename, or as a newer name of others."""
        still: dict[str, date | None] = {}
        uses = dict(self._names.aliases.select("alias", "last_session").iter_rows())
        uses |= {rename.old: last for rename, last, _ in plan.made}
        for rename, last, _ in plan.made:
            if moved.left(rename.old).filter(pl.col("date") > last).height:
                still[rename.old] = rename.on
        for rename in plan.renames:
            if rename.new in uses and uses[rename.new] < rename.on:
                still[rename.new] = rename.on
        return still

    def _commit(
        self,
        command: str,
        plan: RenamePlan,
        moved: Moved,
        still: dict[str, date | None],
        facts: Mapping[str, object],
        message: str,
        ended: Collection[str] = (),
    ) -> SyncManifest:
        """Write rows, ledgers and progress; `ended` are symbols that nobody will ask a source for."""
        store, transaction = self._context, self._transaction
        is_split = command == "split"
        left = self._state.calendar_change(self._base).left.get_column("date").unique()
        # Rows of days that have left the calendar move with the others, and stay until the next update.
        of_sessions = ~pl.col("date").is_in(left.implode())
        write_moved(transaction, moved, lambda rows, year: self._gate(rows.filter(of_sessions), year))
        state = MovedState(
            moved=moved,
            rows=moved.after.filter(of_sessions),
            moves=plan.moves,
            gone={rename.old for rename in plan.renames} - set(still),
            ended=ended,
            calendar=store.calendar,
            version=transaction.version,
            at=transaction.at,
        )
        completeness = state.completeness(self._completeness) if moved.before.height else self._completeness
        stamp = {"version": transaction.version, "committed_at": transaction.at}
        replaced = {**stamp, "reason": HISTORY_REPLACED}
        kind = SPLIT if is_split else RENAMED
        changes: dict[str, pl.DataFrame] = {
            "symbols": completeness.symbols,
            "open_gaps": completeness.gaps,
            "actions": state.actions(load_actions(store.layout, self._base)),
            "aliases": plan.aliases(self._names, store.calendar, still, {**facts, **stamp}, kind),
            "replaced_rows": moved.contradicted.with_columns(pl.col("was").alias("symbol"))
            .select(list(SCHEMA))
            .with_columns(
                pl.lit(value).cast(SCHEMAS["replaced_rows"][name]).alias(name) for name, value in replaced.items()
            ),
        }
        if is_split:
            changes |= self._split_holds(plan, str(facts["reason"]), str(facts["by"]))
        else:
            changes["open_holds"] = state.holds(self._holds)
        return self._save(changes, command, message, moved.count)

    def _save(self, changes: LedgerChanges, command: str, message: str, rows: int) -> SyncManifest:
        store, transaction, base = self._context, self._transaction, self._base
        assert base is not None  # noqa: S101 - a symbol is known
        run = run_of(transaction, command, store.writer_id, base, message).model_copy(update={"rows": rows})
        manifest = transaction.commit(Provenance.of(base), changes, {"runs": run_rows([run])})
        assert manifest is not None  # noqa: S101 - likewise
        return manifest

    def _split_holds(self, plan: RenamePlan, reason: str, by: str) -> dict[str, pl.DataFrame]:
        """Holds of what was split are decided by it."""
        (rename,) = plan.renames
        decided = {"status": SPLIT, **decision(self._transaction, reason, by)}
        older = pl.col("session") < rename.on
        mine = (pl.col("symbol") == rename.old) & (pl.col("code").is_in(SPLITTABLE) | older.fill_null(value=False))
        closed = self._holds.filter(mine).with_columns(
            *(pl.lit(value).alias(name) for name, value in decided.items()),
            pl.lit(self._transaction.version, pl.Int64).alias("closed_version"),
            pl.lit(self._transaction.at).alias("closed_at"),
        )
        return {"open_holds": self._holds.filter(~mine), "closed_holds": closed.select(list(SCHEMAS["closed_holds"]))}

    def _last_stored(self, name: str) -> date:
        mine = self._completeness.symbols.filter(pl.col("symbol") == name)
        if mine.is_empty():
            raise ConfigurationError(f"Nothing is stored of {name}", where="on", todo="say from when on: --on DATE")
        last: date = mine.item(0, "last_session")
        return last

    def _name_for(self, name: str, day: date, as_: str | None) -> str:
        """The name for what was before a date."""
        taken = (
            self._known | set(self._names.aliases.get_column("alias")) | set(self._names.aliases.get_column("symbol"))
        )
        if as_ is not None:
            (given,) = normalize_symbols([as_])
            if given in taken or given == name:
                raise ConfigurationError(f"{given} is taken", where="as", todo="choose a name that no symbol has")
            return given
        days = stored_rows_of(self._context.layout, self._base, [name]).get_column("date")
        stored = latest(days.filter(days < day))
        last = stored or self._context.calendar.back(day, 1)
        names = (f"{name}-{last.year}{letter}" for letter in _LETTERS)
        free = next((candidate for candidate in names if candidate not in taken), name)
        try:
            return normalize_symbols([free])[0]
        except ConfigurationError as error:
            raise ConfigurationError(
                f"No name can be made of {name} and its last year: {free!r} cannot be a symbol",
                where="as",
                todo=f"choose one: --as NAME ({error.todo})",
            ) from None

    def _change(
        self, manifest: SyncManifest, plan: RenamePlan, moved: Moved, known: int, left_out: tuple[str, ...]
    ) -> IdentityChange:
        remaining_rows = {move.old: moved.left(move.old).height for move in plan.moves}
        return IdentityChange(
            version=manifest.version,
            changed=True,
            renames=tuple((rename.old, rename.new, rename.on) for rename in plan.renames),
            rows=moved.count,
            kept={name: rows for name, rows in remaining_rows.items() if rows},
            replaced=moved.contradicted.height,
            known=known,
            left_out=left_out,
        )


def require_begun(store: StoreContext, day: date, *, where: str, todo: str) -> None:
    """Refuse a day from which on a stored name cannot mean another security yet.

    Raises:
        ConfigurationError: it lies outside the calendar, or after the next session; `todo` is for the latter.
    """
    calendar = store.calendar
    _require_known(calendar, day, where)
    if day > calendar.back(store.last_closed_session(), -1):
        raise ConfigurationError(
            f"{day} is to come, and all that is stored would have another name at once", where=where, todo=todo
        )


def _require_known(calendar: SessionCalendar, day: date, where: str) -> None:
    ends = calendar.sessions[-1]
    if not calendar.sessions[0] < day <= ends:
        raise ConfigurationError(
            f"{day} lies outside the calendar of {calendar.name}, which ends on {ends}",
            where=where,
            todo="correct the date",
        )
