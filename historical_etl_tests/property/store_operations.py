"""What is done to a store: in this process, or in another one that is killed at it."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Literal

from historical_etl import HistoricalETL, Settings
from historical_etl.etl.adopt import adopt, opened_for
from historical_etl_tests.crash.commands import Tell
from historical_etl_tests.property.store_model import Truth, TruthSource
from historical_etl_tests.scenario import Ticking

__all__ = ["KEPT", "Moment", "Operation", "stands"]

#: How many versions the store keeps that nothing else keeps.
KEPT = 3


@cache
def _settings() -> Settings:
    return Settings(_env_file=None, keep_versions=KEPT, keep_days=0)  # pyright: ignore[reportCallIssue]


@dataclass(frozen=True)
class Moment:
    """When, and what the source says then."""

    now: datetime
    truth: Truth

    def store(self, root: Path) -> HistoricalETL:
        """The store of a folder at that moment."""
        return HistoricalETL.open(root, TruthSource(self.truth), clock=Ticking(self.now), settings=_settings())

    def adopting(self, root: Path, files: Path) -> HistoricalETL:
        """The same with files as its source."""
        basis = TruthSource(self.truth).info.adjustment
        settings = Settings(
            _env_file=None,  # pyright: ignore[reportCallIssue]
            data_dir=root,
            files={"path": str(files), "adjustment": basis},  # pyright: ignore[reportArgumentType]
            keep_versions=KEPT,
            keep_days=0,
        )
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

    def __call__(self, root: Path, tell: Tell) -> None:
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
                assert done.complete, done.account
            case "publish":
                store.publish_catalog()
        tell(stands(store))


def stands(store: HistoricalETL) -> int:
    """The number of the version that stands; 0 if nothing was committed yet."""
    manifest = store.manifest()
    return manifest.version if manifest else 0
