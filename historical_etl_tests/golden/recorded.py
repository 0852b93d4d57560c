"""Stores that earlier releases wrote, as they lie in this folder, and what each of them must answer.

What they must answer was read without the library: from the JSON of the manifests and from the Parquet files that
these name. The bars that the source gave are recorded too, so that nothing here depends on how a later release
simulates a market or packages its sample.
"""

import json
import lzma
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache, cached_property
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import polars as pl

from historical_etl import FetchRequest, FetchResult, HistoricalETL, Outcome, Settings, SourceInfo
from historical_etl_tests.scenario import KEYS, evening, store

FOLDER: Final = Path(__file__).parent
_OPEN: Final = "open"


@dataclass
class RecordedSource:
    """Gives on the evening of `today` what the source of a recorded store gave, and would have given the day after."""

    info: SourceInfo
    bars: pl.DataFrame
    actions: pl.DataFrame | None
    today: date

    def fetch(self, request: FetchRequest) -> FetchResult:
        asked = pl.col("symbol").is_in(request.symbols)
        asked &= pl.col("date").is_between(request.start, min(request.end, self.today))
        rows, known = self.bars.filter(asked), set(self.members(None, None))
        fetched = set(rows["symbol"])
        outcomes = {
            symbol: Outcome.OK if symbol in fetched else Outcome.EMPTY if symbol in known else Outcome.NOT_FOUND
            for symbol in request.symbols
        }
        if self.actions is None:
            return FetchResult(rows, outcomes)
        return FetchResult(rows, outcomes, actions=self.actions.filter(asked))

    def members(self, start: date | None, end: date | None) -> list[str]:
        return self.bars.filter(pl.col("date") <= self.today)["symbol"].unique().sort().to_list()


@dataclass(frozen=True)
class Golden:
    """One recorded store: `NAME.tar.xz`, `NAME.json`, and the bars of its source in `NAME.parquet`."""

    release: str
    name: str

    def __str__(self) -> str:
        return f"{self.release}-{self.name}"

    @cached_property
    def facts(self) -> dict[str, Any]:
        return json.loads(self._file("json").read_text("utf-8"))

    @property
    def first(self) -> date:
        """The first session that was asked for. The source has earlier ones, from which the first `ret` follows."""
        return date.fromisoformat(self.facts["first"])

    @property
    def today(self) -> date:
        """The evening of its last run."""
        return date.fromisoformat(self.facts["today"])

    @property
    def following(self) -> date:
        """The session after that."""
        return date.fromisoformat(self.facts["following"])

    @property
    def require_manifest(self) -> dict[str, Any]:
        """What is recorded of its current version."""
        return self.facts["versions"][-1]

    @property
    def archive(self) -> Path:
        """The tar that the release exported, of those that have one."""
        return self._file("export.tar")

    def bars(self) -> pl.DataFrame:
        """Everything that the source gave up to `following`, in its order."""
        return pl.read_parquet(self._file("parquet"))

    def unpack(self, root: Path) -> None:
        """The data folder, with the hard links of `daily/` and the rights of each file as they were."""
        with tarfile.open(fileobj=BytesIO(_content(self._file("tar.xz")))) as tar:
            tar.extractall(root, filter="tar")

    def open(self, root: Path, today: date | None = None, **options: object) -> HistoricalETL:
        """The store in a folder, on the evening of a day (default: that of its last run), with its own settings."""
        recorded = {name: _value(name, value) for name, value in self.facts["options"].items()}
        day = today or self.today
        # Later than the last command of the life that was recorded: the clock of its store has not gone back.
        options.setdefault("clock", lambda: moment(day, 59))
        return store(root, self.source(day), day, settings=_settings(), **{**recorded, **options})

    def source(self, today: date) -> RecordedSource:
        said = self.facts["source"]
        actions = self.facts["actions"]
        named = None
        if actions is not None:
            names = {"symbol": pl.String(), "date": pl.String(), "split": pl.Float64(), "dividend": pl.Float64()}
            named = pl.DataFrame(actions, schema=names, orient="row").with_columns(pl.col("date").str.to_date())
        return RecordedSource(SourceInfo(**said), self.bars(), named, today)

    def _file(self, suffix: str) -> Path:
        return FOLDER / self.release / f"{self.name}.{suffix}"


def recorded_stores() -> list[Golden]:
    """All of them, of every release."""
    return [Golden(path.parent.name, path.stem) for path in sorted(FOLDER.glob("*/*.json"))]


@cache
def _content(archive: Path) -> bytes:
    return lzma.decompress(archive.read_bytes())


@cache
def _settings() -> Settings:
    return Settings(_env_file=None)  # pyright: ignore[reportCallIssue] - of pydantic-settings


def _value(name: str, value: object) -> object:
    return date.fromisoformat(str(value)) if name == "start" else value


# ── what is recorded ───────────────────────────────────────────────────────────────────────────────────────────────


def fingerprint(rows: pl.DataFrame) -> str:
    """SHA-256 over every value, to the last bit; it depends on no library and no file format."""
    digest = sha256()
    for row in rows.iter_rows():
        digest.update(("\t".join(map(_text, row)) + "\n").encode())
    return digest.hexdigest()


def _text(value: object) -> str:
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return "-" if value is None else str(value)


def in_order(rows: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    return rows.select(list(columns)).sort(KEYS)


def read_recorded(root: Path) -> dict[str, Any]:
    """What the versions of a store consist of, read without the library."""
    manifests = root / "manifests"
    current = _json(manifests / "historical_daily.json")
    kept = [_json(path) for path in sorted((manifests / "history").glob("*.json"))]
    kept = [manifest for manifest in kept if manifest["version"] <= current["version"]]
    ledgers = {name: _rows_of(root, files) for name, files in current.get("ledgers", {}).items()}
    return {
        "writer": current["partitions"][0]["writer"],
        "columns": pl.read_parquet(root / current["partitions"][0]["path"]).columns,
        "ledger_columns": {
            name: _rows_of(root, files).columns
            for manifest in kept
            for name, files in manifest.get("ledgers", {}).items()
        },
        "versions": [_version(root, manifest) for manifest in kept],
        "pins": {pin["name"]: pin["version"] for pin in map(_json, sorted((manifests / "pins").glob("*.json")))},
        "cursors": _cursors(root, ledgers),
        "holds": _listed(ledgers, "holds", ("symbol", "code", "session", "status")),
        "gaps": _listed(ledgers, "gaps", ("symbol", "first_session", "last_session", "status")),
    }


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _version(root: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    years: dict[str, Any] = {}
    for partition in manifest["partitions"]:
        rows = pl.read_parquet(root / partition["path"])
        values = fingerprint(in_order(rows, rows.columns))
        years[str(partition["year"])] = {"rows": rows.height, "file": partition["checksum"], "values": values}
    ledgers = {name: _rows_of(root, files) for name, files in manifest.get("ledgers", {}).items()}
    return {
        "version": manifest["version"],
        "committed_at": manifest["sync_timestamp"],
        "checksum": manifest["checksum"],
        "years": years,
        "ledgers": {name: {"rows": rows.height, "values": fingerprint(rows)} for name, rows in ledgers.items()},
    }


def _rows_of(root: Path, files: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(root / file["path"]) for file in files])


def _cursors(root: Path, ledgers: Mapping[str, pl.DataFrame]) -> dict[str, str]:
    if "symbols" in ledgers:
        through = ledgers["symbols"].sort("symbol").select("symbol", pl.col("contiguous_through").cast(pl.String))
        return dict(through.iter_rows())
    progress = _json(root / "sync_progress" / "historical_daily_progress.json")
    return dict(sorted(progress["symbol_last_dates"].items()))


def _listed(ledgers: Mapping[str, pl.DataFrame], name: str, columns: Iterable[str]) -> list[list[Any]]:
    parts = [ledgers[part] for part in (f"closed_{name}", f"open_{name}") if part in ledgers]
    if not parts:
        return []
    return as_listed(pl.concat(parts, how="diagonal"), columns)


def as_listed(rows: pl.DataFrame, columns: Iterable[str]) -> list[list[Any]]:
    """Rows as JSON has them, in the order of their values."""
    texts = rows.select(pl.col(name).cast(pl.String) for name in columns)
    return sorted(map(list, texts.rows()), key=str)


def is_open(listed: Iterable[list[Any]]) -> list[list[Any]]:
    return [row for row in listed if row[-1] == _OPEN]


def moment(day: date, minute: int) -> datetime:
    """A minute of an evening: each command of a recorded life has its own."""
    return evening(day).replace(minute=minute % 60)
