"""The replay in Dagster: the sample's sessions one after the other, each stored by a run of its own.

`historical-etl replay` does the same in a terminal. Here the sensor asks for the next session as soon as one is stored,
and for the history before the first one if the store is empty. `HISTORICAL_ETL_REPLAY_FROM` says where it begins.
"""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

import dagster as dg

from historical_etl.assets.increment import update
from historical_etl.automation import Tick
from historical_etl.errors import ConfigurationError
from historical_etl.etl.pipeline import HistoricalETL, stored_through
from historical_etl.markets import DailyRun, assemble
from historical_etl.models import ETLResult, SyncManifest
from historical_etl.resources import PriceSourceResource, StoreResource
from historical_etl.sessions import calendar_of
from historical_etl.settings import Settings
from historical_etl.sources.replay import clock_for
from historical_etl.sources.sample import SampleSource
from historical_etl.store.layout import Layout

__all__ = ["ReplayStoreResource", "build_replay", "defs"]

#: A month with a split, two dividends, a correction, and a bar that is late.
_FIRST: Final = date(2005, 2, 1)
_EVERY_SECONDS: Final = 5


class ReplayStoreResource(StoreResource):
    """A store whose time is the evening of the session after those that are stored."""

    def settings(self) -> Settings:
        """The settings, of the sample and with a first session.

        Raises:
            ConfigurationError: one of them is wrong.
        """
        settings = super().settings()
        return settings.changed({"source": SampleSource.info.name, "replay_from": settings.replay_from or _FIRST})

    def open(self, source: PriceSourceResource, run_id: str = "") -> HistoricalETL:
        """The store on the evening of the next session; on that before the first one if nothing is stored.

        Raises:
            ConfigurationError: a setting is wrong, or the replay begins after the sample has ended.
            ManifestCorruptError: there is data, but no usable manifest.
        """
        through = stored_through(Layout(self.settings().data_dir))
        return self._on_evening_after(through, source, run_id) if through else self._before_it_begins(source, run_id)

    def open_reader(self, source: PriceSourceResource, run_id: str = "") -> HistoricalETL:
        """The store on the evening of the last stored session.

        Raises: as `open`.
        """
        through = stored_through(Layout(self.settings().data_dir))
        return self._on_evening_of(through, source, run_id) if through else self._before_it_begins(source, run_id)

    def _on_evening_after(self, through: date, source: PriceSourceResource, run_id: str) -> HistoricalETL:
        return self.opened(source, run_id, clock_for(self.settings(), lambda: through))

    def _before_it_begins(self, source: PriceSourceResource, run_id: str) -> HistoricalETL:
        """The history of a replay ends on the evening before it, by whatever run it is fetched."""
        settings = self.settings()
        first = settings.replay_from or _FIRST
        clock_for(settings, lambda: None)  # refuses a replay that begins after the sample
        return self._on_evening_of(calendar_of(settings).back(first, 1), source, run_id)

    def _on_evening_of(self, session: date, source: PriceSourceResource, run_id: str) -> HistoricalETL:
        return self.opened(source, run_id, clock_for(self.settings().changed({"replay_from": session}), lambda: None))


class ReplayTick(Tick):
    """Asks for one session after the other, and first for the history."""

    def obstacle(self, manifest: SyncManifest | None) -> str:
        """None: an empty store gets its history.

        Raises:
            ConfigurationError: the store has another price basis; every run would be refused.
        """
        if manifest is not None and manifest.adjustment != self.etl.source.info.adjustment:
            raise ConfigurationError(
                f"What is stored has another price basis than a replay: {manifest.provider!r}, {manifest.adjustment!r}",
                where=self.etl.layout.root,
                todo="give the replay a folder of its own with HISTORICAL_ETL_DATA_DIR",
            )
        return ""

    def first_session(self, manifest: SyncManifest | None) -> date:
        """Of an empty store, the first one of the history."""
        return super().first_session(manifest) if manifest else _history(self.etl)[0]

    def next_session(self) -> str:
        """There is nothing after the sample."""
        return "The replay is at the end of the sample. To see it again, give it another HISTORICAL_ETL_DATA_DIR"


def replay_updates(etl: HistoricalETL, symbols: Sequence[str] | None) -> Iterator[tuple[ETLResult, int]]:
    """The history of an empty store; else the symbols that are new on this evening, and then all others."""
    manifest = etl.manifest()
    if manifest is None:
        start, end = _history(etl)
        yield etl.run_full_etl(etl.source.members(start, end), start, end), 0
        return
    if symbols is None and (listed := _newly_listed(etl, manifest)):
        # First: a run that is interrupted between the two makes up for what lags, and forgets what it does not know.
        yield etl.run_incremental_etl(listed, publish=False), manifest.version
    yield from update(etl, symbols)


def build_replay() -> dg.Definitions:
    """The definitions of the replay, in the data folder of the settings.

    Raises:
        ConfigurationError: a setting is wrong.
    """
    daily = DailyRun(updates=replay_updates, tick=ReplayTick, every_seconds=_EVERY_SECONDS, replays=True)
    return assemble(store=ReplayStoreResource(), daily=daily)


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads."""
    return build_replay()


def _history(etl: HistoricalETL) -> tuple[date, date]:
    coverage = etl.source.info.coverage
    start = max(etl.settings.start, coverage.first) if coverage else etl.settings.start
    return start, etl.available_through()


def _newly_listed(etl: HistoricalETL, manifest: SyncManifest) -> list[str]:
    """Symbols that began to trade after what is stored: an increment of that does not know them."""
    members = etl.source.members
    first = etl.calendar.after(manifest.end_date) if manifest.end_date else None
    if first is None:
        return []
    return sorted(set(members(first, etl.available_through())) - set(members(None, manifest.end_date)))
