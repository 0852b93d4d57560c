"""Which security a symbol is: renames that go on with a history, and splits that part two, as a person or a file says.

Each is one commit over all years, recorded in the ledgers `aliases` and `runs`; a rollback undoes it.
"""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

from historical_etl.clock import as_date
from historical_etl.errors import ConfigurationError
from historical_etl.etl.commit import publish_if_behind, require_reason
from historical_etl.etl.context import VersionState
from historical_etl.etl.identity.change import IdentityChange, IdentityWork, require_begun
from historical_etl.etl.merge import Gate
from historical_etl.etl.runs import RunProgress
from historical_etl.etl.symbology import Rename, read_renames
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Transaction
from historical_etl.symbols import normalize_symbols

__all__ = ["SecurityIdentities"]


class SecurityIdentities:
    """Renames and splits of the symbols of a store."""

    def __init__(self, state: VersionState, gate: Gate) -> None:
        self._state = state
        self._context = state.context
        self._gate = gate
        self._progress = RunProgress(state.context)

    def rename(
        self,
        old: str,
        new: str,
        on: date | datetime | str,
        *,
        reason: str = "",
        by: str = "",
        force: bool = False,
        publish: bool = True,
    ) -> IdentityChange:
        """Go on with the history of a symbol under another name: from `on` on, `old` is called `new`.

        See `HistoricalETL.rename`.
        """
        day = as_date(on, "on")
        one = Rename(normalize_symbols([old])[0], normalize_symbols([new])[0], day)
        if force:
            require_reason(reason)
        self._context.require_store()
        return self._rename([one], "person", reason, by, force=force, lenient=False, publish=publish)

    def rename_from(
        self, path: str | Path, *, reason: str = "", by: str = "", force: bool = False, publish: bool = True
    ) -> IdentityChange:
        """All renames of a CSV file with the columns old, new, date and perhaps reason, in one commit.

        See `HistoricalETL.rename_from`.
        """
        if force:
            require_reason(reason)
        renames = read_renames(path)
        self._context.require_store()
        return self._rename(renames, str(Path(path).name), reason, by, force=force, lenient=True, publish=publish)

    def split(
        self,
        symbol: str,
        on: date | datetime | str | None = None,
        *,
        as_: str | None = None,
        reason: str,
        by: str,
        publish: bool = True,
    ) -> IdentityChange:
        """Another security has a ticker from a date on: what is stored of the one before moves to a name of its own.

        See `HistoricalETL.split`.
        """
        require_reason(reason)
        (name,) = normalize_symbols([symbol])
        day = None if on is None else as_date(on, "on")
        self._context.require_store()
        self._state.require_calendar(self._context.manifest())
        with self._context.lock() as token:
            work = IdentityWork(
                self._state, self._gate, Transaction(self._context.manifests, token, self._context.retention)
            )
            change = work.split(name, day, as_, reason, by)
            self._save_cursors(change)
        self._show(publish=publish)
        return change

    def _rename(
        self, renames: Sequence[Rename], source: str, reason: str, by: str, *, force: bool, lenient: bool, publish: bool
    ) -> IdentityChange:
        for rename in renames:
            if rename.old == rename.new:
                raise ConfigurationError(
                    f"{rename.old} cannot be renamed to itself",
                    where="renames",
                    todo="give the name until then first, and the name since then second",
                )
            require_begun(self._context, rename.on, where="renames", todo=f"say so when {rename.old} has its new name")
        self._state.require_calendar(self._context.manifest())
        with self._context.lock() as token:
            work = IdentityWork(
                self._state, self._gate, Transaction(self._context.manifests, token, self._context.retention)
            )
            change = work.rename(renames, source, reason, by or self._context.writer_id, force=force, lenient=lenient)
            self._save_cursors(change)
        self._show(publish=publish)
        return change

    def _save_cursors(self, change: IdentityChange) -> None:
        if change.changed:
            progress = self._progress.after(self._context.manifest(), self._state.completeness())
            save_progress(self._context.layout, progress, fetched=False)

    def _show(self, *, publish: bool) -> None:
        if publish:
            publish_if_behind(self._context)
