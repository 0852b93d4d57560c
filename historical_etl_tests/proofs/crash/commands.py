"""The commands that the proofs by fault disturb: each with the store that it starts from, and what it does.

A command runs on the evening of a fixed day against the sample, so that it does the same whenever it is run, and
comes to the same bytes however often it was disturbed before.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import polars as pl

from historical_etl import DataQualityError, FetchRequest, FetchResult, HistoricalETL
from historical_etl.durable import fsync_folder, make_folder, write_atomic
from historical_etl.etl.adopt import adopt, opened_for
from historical_etl.etl.compare import compare
from historical_etl.etl.maintenance.archive import import_store
from historical_etl.etl.runs import YearEvent
from historical_etl.models import SyncManifest
from historical_etl.sources.base import Capabilities
from historical_etl.sources.sample import SampleSource
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl_tests.scenario import plain_settings

__all__ = ["COMMANDS", "DAMAGED", "REPAIRED", "SEQUENCES", "Acknowledge", "Command", "Sequence", "in_place", "store_on"]

SYMBOLS: Final = ("AAPL", "IBM")
FIRST, YEAR_END, JANUARY = date(2004, 12, 20), date(2004, 12, 31), date(2005, 1, 5)
#: The evening before AAPL's split, two for one, and its own.
BEFORE, SPLIT = date(2005, 2, 25), date(2005, 2, 28)

#: Called with each version that a command has acknowledged, before it goes on; and, as a negative number, of how many
#: units it has said to be staged.
Acknowledge = Callable[[int], None]


class AsOfSource(SampleSource):
    """The sample as it was on the evening of a day: before its split, AAPL was adjusted to another basis."""

    info = replace(SampleSource.info, capabilities=Capabilities())

    def __init__(self, day: date) -> None:
        self._day = day

    def fetch(self, request: FetchRequest) -> FetchResult:
        answer = super().fetch(request)
        basis = pl.when(pl.col("symbol") == "AAPL").then(1.0 if self._day >= SPLIT else 2.0).otherwise(1.0)
        return replace(answer, frame=answer.frame.with_columns(pl.col("adj_close") * basis))


def store_on(root: Path, day: date) -> HistoricalETL:
    """The store as it is written on the evening of `day`; it keeps two versions."""
    evening = datetime(day.year, day.month, day.day, 23, 30, tzinfo=UTC)
    source, settings = AsOfSource(day), plain_settings()
    return HistoricalETL.open(root, source, clock=lambda: evening, settings=settings, keep_versions=2, keep_days=0)


def _year(root: Path, acknowledge: Acknowledge) -> None:
    etl = store_on(root, YEAR_END)
    acknowledge(etl.run_full_etl(SYMBOLS, FIRST, YEAR_END, progress=_heard(etl, acknowledge)).version)


def _backfill(root: Path, acknowledge: Acknowledge) -> None:
    etl = store_on(root, JANUARY)
    acknowledge(etl.run_full_etl(SYMBOLS, FIRST, JANUARY, progress=_heard(etl, acknowledge)).version)


def _heard(etl: HistoricalETL, acknowledge: Acknowledge) -> Callable[[YearEvent], None]:
    def heard(event: YearEvent) -> None:
        if event.step == "committed":
            acknowledge(_current_version(etl))
        elif event.step == "fetching" and event.done:
            acknowledge(-event.done)

    return heard


def _increment(root: Path, acknowledge: Acknowledge) -> None:
    acknowledge(store_on(root, BEFORE).run_incremental_etl().version)


def _restatement(root: Path, acknowledge: Acknowledge) -> None:
    result = store_on(root, SPLIT).run_incremental_etl()
    assert result.version < 5 or result.years_written in ((), (2004, 2005))
    acknowledge(result.version)


def _unpublished(root: Path, acknowledge: Acknowledge) -> None:
    acknowledge(store_on(root, BEFORE).run_incremental_etl(publish=False).version)


def _publish(root: Path, acknowledge: Acknowledge) -> None:
    acknowledge(store_on(root, BEFORE).publish_catalog().version)


def _pin(root: Path, acknowledge: Acknowledge) -> None:
    acknowledge(store_on(root, BEFORE).pin("before-the-split").version)


def _unpin(root: Path, acknowledge: Acknowledge) -> None:
    etl = store_on(root, BEFORE)
    if "before-the-split" in etl.pins():  # run again after a kill, it may be gone
        etl.unpin("before-the-split")
    acknowledge(_current_version(etl))


def _rollback(root: Path, acknowledge: Acknowledge) -> None:
    acknowledge(store_on(root, SPLIT).rollback("before-the-split").version)


def _vacuum(root: Path, acknowledge: Acknowledge) -> None:
    etl = store_on(root, SPLIT)
    etl.vacuum(keep_versions=1, keep_days=0)
    acknowledge(_current_version(etl))


def in_place(root: Path, _: Acknowledge) -> None:
    """Somebody has let `daily` be a link to a folder of their own: it stays, and its files are replaced one by one."""
    layout = Layout(root)
    make_folder(layout.storage / "elsewhere")
    layout.daily.symlink_to("elsewhere")
    fsync_folder(layout.storage)


def _as_before(root: Path, _: Acknowledge) -> None:
    """`daily/` as earlier releases made it: a plain folder of links."""
    layout = Layout(root)
    shown = layout.daily.resolve(strict=True)
    layout.daily.unlink()
    shown.rename(layout.daily)
    shutil.rmtree(layout.daily_folders)


def _current_version(etl: HistoricalETL) -> int:
    manifest = etl.manifest()
    return manifest.version if manifest else 0


def _read(root: Path, acknowledge: Acknowledge) -> None:
    """What only reads, as far as it gives an answer and not a query."""
    etl = store_on(root, SPLIT)
    kept = etl.versions().get_column("version")
    etl.diff(kept[0], kept[-1])
    etl.explain("IBM", JANUARY)
    compare(etl, AsOfSource(BEFORE), SYMBOLS, JANUARY, BEFORE)
    for name in ("gaps", "holds", "corrections"):
        etl.ledger(name)
    etl.completeness()
    acknowledge(_current_version(etl))


# ── from outside ─────────────────────────────────────────────────────────────────────────────────────────────────────


def aside(root: Path, name: str) -> Path:
    """What a command takes in, or what somebody has elsewhere: outside of what is watched and disturbed."""
    return root.parents[1] / name


def _files(root: Path, _: Acknowledge) -> None:
    """Files that somebody has: a new symbol and one that is stored, a year each, one with a row that is refused."""
    folder = aside(root, "files")
    folder.mkdir()
    source = SampleSource()
    for symbol in ("IBM", "MSFT"):
        bars = source.fetch(FetchRequest((symbol,), date(2003, 12, 1), JANUARY)).frame.drop("ret")
        odd = (pl.col("symbol") == "MSFT") & (pl.col("date") == YEAR_END)
        bars = bars.with_columns(pl.when(odd).then(-1.0).otherwise("close").alias("close"))
        bars.write_csv(folder / f"{symbol}.csv")


def _adopt(root: Path, acknowledge: Acknowledge) -> None:
    files = {"path": str(aside(root, "files")), "adjustment": SampleSource.info.adjustment}
    settings = plain_settings().changed({"data_dir": root, "files": files, "keep_versions": 4, "keep_days": 0})
    etl = opened_for(settings, clock=lambda: datetime(2005, 2, 25, 23, 30, tzinfo=UTC))
    done = adopt(etl, progress=_heard(etl, acknowledge))
    assert (done.row_counts.refused, done.row_counts.held, done.symbols) == (1, 0, ("IBM", "MSFT"))
    acknowledge(_current_version(etl))


def _archive(root: Path, _: Acknowledge) -> None:
    """A store somewhere else, and one version of it as a file."""
    elsewhere = aside(root, "elsewhere")
    for work in (_backfill, _increment):
        work(elsewhere, lambda _: None)
    store_on(elsewhere, BEFORE).export(aside(root, "archive.tar"))


def _import(root: Path, acknowledge: Acknowledge) -> None:
    acknowledge(import_store(store_on(root, BEFORE).store.state, aside(root, "archive.tar")).version)


# ── repair ───────────────────────────────────────────────────────────────────────────────────────────────────────────


DAMAGED: Final = b"damaged: "


def _damage(root: Path, _: Acknowledge) -> None:
    """One file of each kind, in a store that was copied to another place, so that no two names are one file."""
    layout = Layout(root)
    manifest = _manifest(layout)
    (of_symbols,) = manifest.ledgers["symbols"]
    for path in layout.daily.iterdir():
        write_atomic(path, path.read_bytes())
    for path in (
        layout.manifest_file(),
        layout.progress_file(),
        layout.catalog,
        layout.daily_file(2004),
        _object(layout, manifest, 2005),
        layout.resolve(of_symbols.path),
    ):
        write_atomic(path, DAMAGED + path.name.encode())


def _lose(root: Path, _: Acknowledge) -> None:
    """A year of which nothing is left, and that no older version has in these bytes."""
    layout = Layout(root)
    for path in (_object(layout, _manifest(layout), 2005), layout.daily_file(2005)):
        write_atomic(path, DAMAGED + path.name.encode())


def _manifest(layout: Layout) -> SyncManifest:
    manifest = ManifestManager(layout).load_manifest()
    assert manifest is not None
    return manifest


def _object(layout: Layout, manifest: SyncManifest, year: int) -> Path:
    partition = manifest.partition(year)
    assert partition is not None
    return layout.resolve(partition.path)


def _repair(root: Path, acknowledge: Acknowledge, *, refetch: bool = False) -> None:
    report = store_on(root, SPLIT).repair(refetch=refetch)
    if not report.ok:  # as the command line says it: the check at the end may meet a fault, too
        raise DataQualityError(f"not all is well: {report}", where=root, todo="repair again")
    acknowledge(report.version or 0)


def _refetch(root: Path, acknowledge: Acknowledge) -> None:
    _repair(root, acknowledge, refetch=True)


@dataclass(frozen=True)
class Command:
    """What is disturbed.

    Attributes:
        run: does it on the store of a folder, and tells of what was acknowledged.
        day: the evening on which it runs, for those who open the store after it.
        before: what is done, undisturbed, before it.
        repairs: whether it finds a damaged store; until it has ended, the store may refuse to answer.
        migrates: whether it finds a plain folder in the place of `daily`, which is not there for a moment.
    """

    run: Callable[[Path, Acknowledge], None]
    day: date
    before: tuple[Callable[[Path, Acknowledge], None], ...] = ()
    repairs: bool = False
    migrates: bool = False


COMMANDS: Final[Mapping[str, Command]] = {
    "backfill": Command(_backfill, JANUARY),
    "increment": Command(_increment, BEFORE, (_backfill,)),
    "restatement": Command(_restatement, SPLIT, (_backfill, _increment)),
    "migration": Command(_restatement, SPLIT, (_backfill, _increment, _as_before), migrates=True),
    "in place": Command(_restatement, SPLIT, (in_place, _backfill, _increment)),
    "publish": Command(_publish, BEFORE, (_backfill, _unpublished)),
    "pin": Command(_pin, BEFORE, (_backfill, _increment)),
    "unpin": Command(_unpin, BEFORE, (_backfill, _increment, _pin)),
    "rollback": Command(_rollback, SPLIT, (_backfill, _increment, _pin, _restatement)),
    "vacuum": Command(_vacuum, SPLIT, (_backfill, _increment, _restatement)),
    "read": Command(_read, SPLIT, (_backfill, _increment, _pin, _restatement)),
    "adopt": Command(_adopt, BEFORE, (_backfill, _increment, _files)),
    "import": Command(_import, BEFORE, (_archive,)),
    "repair": Command(_repair, SPLIT, (_backfill, _increment, _restatement, _damage), repairs=True),
    "refetch": Command(_refetch, SPLIT, (_backfill, _increment, _restatement, _lose), repairs=True),
}


@dataclass(frozen=True)
class Sequence:
    """Commands one after the other on one store, from an empty folder on.

    Attributes:
        works: the commands.
        day: the evening of the last one.
        aside: what is made ready outside of the store before them.
    """

    works: tuple[Callable[[Path, Acknowledge], None], ...]
    day: date
    aside: tuple[Callable[[Path, Acknowledge], None], ...] = ()


SEQUENCES: Final[Mapping[str, Sequence]] = {
    "forth": Sequence((_year, _backfill, _increment, _restatement), SPLIT),
    "back": Sequence((_backfill, _increment, _pin, _restatement, _rollback, _unpin, _vacuum), SPLIT),
    "taken in": Sequence((_import, _adopt), BEFORE, (_archive, _files)),
}
#: The last one repairs what the one before it has damaged.
REPAIRED: Final = Sequence((_backfill, _increment, _restatement, _damage, _repair), SPLIT)
