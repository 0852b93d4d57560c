"""Commands as they were recorded, what is true after each, and what may be wrong with a state that is found later."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from historical_etl import HistoricalETLError, SyncManifest
from historical_etl.durable import sha256_of
from historical_etl.models import ETLProgressManifest
from historical_etl.store.catalog_version import read_catalog_pointer
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.manifest_file import parse_manifest
from historical_etl.store.recovery import recover
from historical_etl.store.staging import Staging
from historical_etl.store.vacuum import Retention
from historical_etl.store.verify.store import verify_store
from historical_etl_tests.proofs.crash.disk import Disk, Staged
from historical_etl_tests.proofs.crash.plain import plain_fault, plain_sums, sums_of
from historical_etl_tests.proofs.crash.power_loss import State
from historical_etl_tests.proofs.crash.process import Work
from historical_etl_tests.proofs.crash.tracing import traced

__all__ = ["Recorded", "fault", "record", "recovery_fault"]

#: What an acknowledged version consists of, below the data folder.
PROMISED = (
    "historical/",
    "manifests/historical_daily.json",
    "manifests/historical_daily.catalog",
    "manifests/history/",
    "manifests/pins/",
    "sync_progress/historical_daily_progress.json",
    "duckdb/historical_catalog.duckdb",
    "quarantine/",
)


@dataclass(frozen=True)
class Recorded:
    """Commands that were run one after the other, from an empty folder on.

    Attributes:
        top: the folder above the data folder.
        disk: what they did.
        manifests: every version that was committed.
        begins: after how many operations each command begins.
    """

    top: Path
    disk: Disk
    manifests: Mapping[int, SyncManifest]
    begins: Sequence[int]

    @property
    def root(self) -> Path:
        """The data folder."""
        return self.top / "data"

    def command_at(self, at: int) -> int:
        """The number of the command that is under way after so many operations."""
        return sum(begin < at for begin in self.begins) - 1


def record(
    works: Sequence[Work], folder: Path, inject: Mapping[int, str] | None = None, aside: Sequence[Work] = ()
) -> Recorded:
    """Run commands under strace; each must end well, but for those that a fault is injected into."""
    top, marks = folder / "top", folder / "marks"
    top.mkdir()
    for work in aside:
        work(top / "data", lambda _: None)
    disk = Disk(top, marks)
    manifests: dict[int, SyncManifest] = {}
    begins: list[int] = []
    for number, work in enumerate(works):
        begins.append(len(disk.operations))
        fault = (inject or {}).get(number, "")
        calls, ended = traced(work, top / "data", folder / "log", marks, fault)
        assert (ended.exitcode == 0 and not ended.error) or fault, ended
        disk.replay(calls)
        found = {str(path.relative_to(top)): path for path in top.rglob("*") if path.is_file()}
        assert disk.files() == {name: path.read_bytes() for name, path in found.items()}, "the model is the disk"
        for path in (top / "data" / "manifests" / "history").glob("*.json"):
            manifests[int(path.stem)] = parse_manifest(path.read_bytes(), path)
    return Recorded(top, disk, manifests, begins)


def fault(state: State, recorded: Recorded, tree: Mapping[str, bytes] | None) -> str:
    """What is wrong with a state that is found after a loss of power, before anything is repaired; "": nothing.

    Args:
        state: what is found; it is made on the disk.
        recorded: what was done.
        tree: where a version was just acknowledged, all that was there.
    """
    shutil.rmtree(recorded.top)
    recorded.top.mkdir()
    state.materialize(recorded.top)
    manager = ManifestManager(recorded.root)
    try:
        manifest = manager.load_manifest()
        wrong = _current_fault(manager, state, manifest, recorded.manifests)
    except HistoricalETLError as error:
        return str(error)
    if wrong or manifest is None:
        return wrong
    if tree is None:
        return ""
    if plain_sums(manager.layout) != sums_of(manifest):
        return f"daily/ is not version {manifest.version}"
    return _broken_promise(state, recorded, tree)


def recovery_fault(recorded: Recorded) -> str:
    """What is wrong with the state on the disk once a writer has recovered it; "" if nothing is."""
    manager = ManifestManager(recorded.root)
    try:
        with manager.acquire_lock() as token:
            recover(manager, token, Retention(2, 0))
    except HistoricalETLError as error:
        return f"recover: {error}"
    return "; ".join(str(finding) for finding in verify_store(manager).findings if finding.severity == "error")


def _current_fault(
    manager: ManifestManager, state: State, manifest: SyncManifest | None, committed: Mapping[int, SyncManifest]
) -> str:
    version = manifest.version if manifest else 0
    if version < state.least:
        return f"version {version} stands, {state.least} was acknowledged"
    if manifest is not None:
        if manifest != committed[version]:
            return f"version {version} is not what was committed"
        if manager.load_version(version) != manifest:
            return f"version {version} stands, and is not in the history"
        for number in manager.list_versions():
            if number <= version and (wrong := _lacking(manager.layout.root, manager.load_version(number))):
                return f"version {number}: {wrong}, while {version} stands"
    return (
        _ahead(manager.layout, version, committed)
        or _unstaged(manager.layout, state)
        or plain_fault(manager.layout, committed.values(), least=state.least)
    )


def _ahead(layout: Layout, version: int, committed: Mapping[int, SyncManifest]) -> str:
    pointer = read_catalog_pointer(layout)
    if pointer and pointer.version > version:
        return f"the catalog shows version {pointer.version}, ahead of {version}"
    try:
        progress = ETLProgressManifest.model_validate_json(layout.progress_file().read_bytes())
    except FileNotFoundError:
        return ""
    except ValidationError:
        return "progress is damaged"
    if progress.data_version > version:
        return f"progress describes version {progress.data_version}, ahead of {version}"
    back = _is_rollback(version, committed) and progress.data_version < version
    return f"progress describes version {progress.data_version}, from which {version} went back" if back else ""


def _is_rollback(version: int, committed: Mapping[int, SyncManifest]) -> bool:
    if version - 2 not in committed or committed[version].partitions == committed[version - 1].partitions:
        return False
    return any(committed[version].partitions == committed[older].partitions for older in committed if older < version)


def _unstaged(layout: Layout, state: State) -> str:
    done = state.operations[-1]
    if not isinstance(done, Staged):
        return ""
    units = sum(len(Staging(layout, folder.name).units()) for folder in layout.staging.glob("*"))
    return "" if units >= done.units else f"{done.units} units were said to be staged, {units} are"


def _lacking(root: Path, manifest: SyncManifest) -> str:
    files = [(part.path, part.checksum) for part in manifest.partitions]
    files += [(file.path, file.checksum) for parts in manifest.ledgers.values() for file in parts]
    for path, checksum in files:
        if not (root / path).is_file():
            return f"{path} is missing"
        if sha256_of(root / path) != checksum:
            return f"{path} is damaged"
    return ""


def _broken_promise(state: State, recorded: Recorded, tree: Mapping[str, bytes]) -> str:
    if not state.lost and {path: file.content() for path, file in state.files.items()} != tree:
        return "nothing was lost, and yet it is not what was done"
    if not any("/staging/" in path for path in tree) and any("/staging/" in path for path in state.files):
        return "what was staged for a command that has ended is there again"
    if again := [path for path in state.files if "/pins/" in path and path not in tree]:
        return f"{again} is pinned again"
    for path, content in tree.items():
        promised = path.removeprefix("data/").startswith(PROMISED) and not path.endswith(".backup")
        if promised and (path not in state.files or (recorded.top / path).read_bytes() != content):
            return f"{path} is not what was acknowledged with version {state.least}"
    return ""
