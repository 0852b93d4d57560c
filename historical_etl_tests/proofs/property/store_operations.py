"""What is done to a store: in this process, or in another one that is killed at it."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Literal

from historical_etl import FilesSettings, HistoricalETL, Settings
from historical_etl.etl.adopt import adopt, opened_for
from historical_etl_tests.proofs.crash.commands import Acknowledge
from historical_etl_tests.proofs.property.store_model import CLOSED, OPENED, Truth, TruthSource
from historical_etl_tests.scenario import Ticking, plain_settings

__all__ = ["KEPT", "Moment", "Operation", "current_version"]

#: How many versions the store keeps that nothing else keeps.
KEPT = 3


@cache
def _settings(corrections: Path | None) -> Settings:
    return plain_settings().changed({"keep_versions": KEPT, "keep_days": 0, "calendar_corrections": corrections})


@dataclass(frozen=True)
class Moment:
    """When, what the source says then, and where the later calendar is written down, once it is released."""

    now: datetime
    truth: Truth
    calendar: Path

    @property
    def corrections(self) -> Path | None:
        """The file that makes the later calendar."""
        if self.truth.released and not self.calendar.exists():
            lines = [f"XNYS,{CLOSED},removed,a storm,", f"XNYS,{OPENED},added,for the storm,"]
            self.calendar.write_text("\n".join(["exchange,date,change,reason,close", *lines, ""]), encoding="utf-8")
        return self.calendar if self.truth.released else None

    def store(self, root: Path) -> HistoricalETL:
        """The store of a folder at that moment."""
        return HistoricalETL.open(
            root, TruthSource(self.truth), clock=Ticking(self.now), settings=_settings(self.corrections)
        )

    def adopting(self, root: Path, files: Path) -> HistoricalETL:
        """The same with files as its source."""
        basis = TruthSource(self.truth).info.adjustment
        theirs = FilesSettings(path=str(files), adjustment=basis, split_adjusted=True)
        settings = _settings(self.corrections).changed({"data_dir": root, "files": theirs})
        return opened_for(settings, clock=Ticking(self.now))


@dataclass(frozen=True)
class Operation:
    """One thing that is done at a moment; what it needs is in `arguments`."""

    kind: Literal["backfill", "increment", "rollback", "pin", "unpin", "vacuum", "adopt", "publish"]
    moment: Moment
    symbols: tuple[str, ...] = ()
    span: tuple[date, date] = (date.min, date.max)
    version: int = 0
    name: str = ""
    files: Path = Path()

    def __call__(self, root: Path, acknowledge: Acknowledge) -> None:
        """Do it on the store of a folder, and tell which version then stands."""
        store = self.moment.store(root)
        match self.kind:
            case "backfill":
                store.run_full_etl(self.symbols, *self.span, resume=False)
            case "increment":
                store.run_incremental_etl()
            case "rollback":
                store.rollback(self.version)
            case "pin":
                store.pin(self.name, self.version)
            case "unpin":
                store.unpin(self.name)
            case "vacuum":
                store.vacuum()
            case "adopt":
                done = adopt(self.moment.adopting(root, self.files))
                assert done.complete, done.row_counts
            case "publish":
                store.publish_catalog()
        acknowledge(current_version(store))


def current_version(store: HistoricalETL) -> int:
    """The number of the current version; 0 if nothing was committed yet."""
    manifest = store.manifest()
    return manifest.version if manifest else 0
