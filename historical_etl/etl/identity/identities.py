"""Which security a symbol is: renames that go on with a history, and splits that part two, as a person or a file says.

Each is one commit over all years, recorded in the ledgers `aliases` and `runs`; a rollback undoes it.
"""

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path

from historical_etl.clock import as_date
from historical_etl.errors import ConfigurationError
from historical_etl.etl.commit.decisions import require_reason
from historical_etl.etl.identity.change import IdentityChange, IdentityWork
from historical_etl.etl.runs.windows import PriceRuns
from historical_etl.etl.symbology.renames import Rename, read_renames
from historical_etl.store.progress import save_progress
from historical_etl.store.transaction import Transaction
from historical_etl.symbols import normalize_symbols

__all__ = ["SecurityIdentities"]


class SecurityIdentities(PriceRuns):
    """A store that knows renames and former names of its symbols."""

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

        All years move in one commit, and a request by either name finds them. What `old` has from `on` on stays: it
        is another security's. Nothing is fetched.

        Args:
            old: the name until then.
            new: the name since then.
            on: the first date of the new name; it need not be a session.
            reason: why, for the ledger.
            by: who says so; empty takes the writer's name.
            force: do it although the histories contradict each other: rows of `new` win, those of `old` go to
                `replaced_rows`. Needs a reason. It also records a name of which nothing is stored.
            publish: whether to refresh the catalog afterwards.

        Raises:
            ConfigurationError: a name or the date is wrong, it contradicts a rename that is known, or the calendar is
                another exchange's.
            DataQualityError: the two histories do not fit each other; nothing was changed.
            LockTimeoutError, DiskSpaceError, StorageError: likewise.
        """
        day = as_date(on, "on")
        one = Rename(normalize_symbols([old])[0], normalize_symbols([new])[0], day)
        if force:
            require_reason(reason)
        self.require_store()
        return self._rename([one], "person", reason, by, force=force, lenient=False, publish=publish)

    def rename_from(
        self, path: str | Path, *, reason: str = "", by: str = "", force: bool = False, publish: bool = True
    ) -> IdentityChange:
        """All renames of a CSV file with the columns old, new, date and perhaps reason, in one commit.

        Their order does not matter, those that are known are passed over, and so are those of which neither name is
        stored. A name that is not stored is recorded if the new one is. The other arguments are those of `rename`.

        Raises: as `rename`.
        """
        if force:
            require_reason(reason)
        renames = read_renames(path)
        self.require_store()
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

        Nothing joins the two: no `ret`, no comparison. What has the ticker since then is `symbol`; its history comes
        with the next update. The one before has ended, and its new name is never asked for.

        Args:
            symbol: the ticker.
            on: the first date of the other security; None takes the session that is held.
            as_: the name for what was before; None makes one of the symbol and the year of its last bar, as in
                `ACME-2019`.
            reason: why, for the ledgers.
            by: who says so.
            publish: whether to refresh the catalog afterwards.

        Raises:
            ConfigurationError: nothing is held and no date is given, nothing is to be split off, the name is taken, or
                the calendar is another exchange's.
            LockTimeoutError, DiskSpaceError, StorageError: nothing was changed.
        """
        require_reason(reason)
        (name,) = normalize_symbols([symbol])
        day = None if on is None else as_date(on, "on")
        self.require_store()
        self.require_calendar()
        with self.lock() as token:
            work = IdentityWork(self, Transaction(self.manifests, token, self.retention))
            change = work.split(name, day, as_, reason, by)
            self._save_cursors(change)
        self._show(publish=publish)
        return change

    def _rename(
        self, renames: Sequence[Rename], source: str, reason: str, by: str, *, force: bool, lenient: bool, publish: bool
    ) -> IdentityChange:
        ends = self.calendar.sessions[-1]
        for rename in renames:
            if rename.old == rename.new:
                raise ConfigurationError(f"{rename.old} cannot be renamed to itself", where="renames")
            if not self.calendar.sessions[0] < rename.on <= ends:
                raise ConfigurationError(
                    f"{rename.on} lies outside the calendar of {self.calendar.name}, which ends on {ends}",
                    where="renames",
                    todo="correct the date",
                )
            if rename.on > self.calendar.back(self.last_closed_session(), -1):
                raise ConfigurationError(
                    f"{rename.on} is to come, and all that is stored would have another name at once",
                    where="renames",
                    todo=f"say so when {rename.old} has its new name",
                )
        self.require_calendar()
        with self.lock() as token:
            work = IdentityWork(self, Transaction(self.manifests, token, self.retention))
            change = work.rename(renames, source, reason, by or self.writer_id, force=force, lenient=lenient)
            self._save_cursors(change)
        self._show(publish=publish)
        return change

    def _save_cursors(self, change: IdentityChange) -> None:
        if change.changed:
            save_progress(self.layout, self._progress.after(self.manifest(), self.completeness()))

    def _show(self, *, publish: bool) -> None:
        if publish:
            self._publish_quietly()
