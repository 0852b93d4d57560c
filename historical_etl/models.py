"""The records that travel between floors and live on disk as JSON. No Polars here: `status` must start fast."""

import hashlib
import os
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

__all__ = [
    "DATASET_ID",
    "SCHEMA_VERSION",
    "UNSTATED",
    "CatalogPointer",
    "ETLProgressManifest",
    "ETLResult",
    "Finding",
    "LedgerFile",
    "Outcome",
    "Partition",
    "SyncManifest",
    "combined_checksum",
    "major_version",
]

DATASET_ID: Final = "historical_daily"
#: Raised when files written by this release can no longer be read by the one before.
SCHEMA_VERSION: Final = 1
#: A price basis of which nothing is known: whether it fits shows in the prices.
UNSTATED: Final = "unstated"
_NAME_BYTES: Final = 255  # of one name in a folder


def major_version(value: object) -> object:
    """The number that decides what can be read: 1 for 1, "1" and "v1.2.0"; anything else as it is."""
    match = re.match(r"v?(\d+)", value) if isinstance(value, str) else None
    return int(match.group(1)) if match else value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:  # in the first or last hours of what a datetime can hold
        raise ValueError("the moment has no place in UTC") from None


def _can_be_path(value: str) -> str:
    # What no file system takes would be an error of it wherever the path is looked for.
    if not value or "\0" in value or any(len(os.fsencode(part)) > _NAME_BYTES for part in value.split("/")):
        raise ValueError("a path that no file can have")
    return value


RecordedPath = Annotated[str, Field(max_length=4096), AfterValidator(_can_be_path)]
UtcDatetime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
SchemaVersion = Annotated[int, BeforeValidator(major_version)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def combined_checksum(partition_checksums: Iterable[str]) -> str:
    """SHA-256 over the hex SHA-256s of the partitions, in year order: the checksum of a whole version."""
    return hashlib.sha256("".join(partition_checksums).encode("ascii")).hexdigest()


class Partition(BaseModel):
    """One committed year.

    `path` is relative to the root and names the immutable object; `checksum` is the SHA-256 of its bytes;
    `writer` is the library and version that encoded it, on which byte-identity rests.
    """

    model_config = ConfigDict(frozen=True)

    year: int
    path: RecordedPath
    rows: int = Field(ge=0)
    symbols: int = Field(ge=0)
    first_session: date
    last_session: date
    checksum: Sha256
    size_bytes: int = Field(ge=0)
    writer: str = ""


class LedgerFile(BaseModel):
    """One committed file of a ledger: what commits changed, or what is known of symbols and gaps.

    `path` is relative to the root; `checksum` is the SHA-256 of its bytes.
    """

    model_config = ConfigDict(frozen=True)

    path: RecordedPath
    rows: int = Field(ge=0)
    checksum: Sha256
    size_bytes: int = Field(ge=0)


class SyncManifest(BaseModel):
    """One version of a dataset: which files it consists of, and their source.

    `checksum` is `combined_checksum` over `partitions`. `version` and `previous_checksum` are set by
    `ManifestManager.save_manifest`. `sync_timestamp` is later than that of every version before it; where the clock
    said something else, that is `clock_timestamp`. `ledgers` names the files of each ledger, oldest first. Times are
    aware and in UTC. `start_date` and `end_date` are the first and last stored session, None in a version without bars:
    one whose first history is held.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    dataset: str = DATASET_ID
    version: int = Field(default=0, ge=0)
    previous_checksum: str | None = None
    sync_timestamp: UtcDatetime
    clock_timestamp: UtcDatetime | None = None
    start_date: date | None
    end_date: date | None
    row_count: int = Field(ge=0)
    checksum: str
    checksum_algorithm: Literal["sha256"] = "sha256"
    schema_version: SchemaVersion = SCHEMA_VERSION
    query_hash: str = Field(default="", validation_alias=AliasChoices("query_hash", "wrds_query_hash"))
    file_paths: tuple[RecordedPath, ...] = ()
    validation_status: Literal["passed", "failed", "quarantined"] = "passed"
    quarantine_path: str | None = None
    provider: str = ""
    provider_version: str = ""
    adjustment: str = ""
    calendar: str = ""
    writer_id: str = ""
    partitions: tuple[Partition, ...] = ()
    ledgers: dict[str, tuple[LedgerFile, ...]] = Field(default_factory=dict[str, tuple[LedgerFile, ...]])

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.start_date is None) != (self.end_date is None):
            raise ValueError(f"one of start_date {self.start_date} and end_date {self.end_date} is null")
        if self.start_date is None or self.end_date is None:
            if self.partitions or self.file_paths or self.row_count:
                raise ValueError("start_date and end_date are null though there are rows")
        elif self.end_date < self.start_date:
            raise ValueError(f"end_date {self.end_date} is before start_date {self.start_date}")
        if self.partitions:
            years = [partition.year for partition in self.partitions]
            if years != sorted(set(years)):
                raise ValueError(f"partitions are not in strict year order: {years}")
            if self.checksum != combined_checksum(p.checksum for p in self.partitions):
                raise ValueError("checksum is not the one of its partitions")
        return self

    def named_paths(self) -> list[str]:
        """Every file that this version consists of, relative to the root."""
        return [*self.file_paths, *(file.path for files in self.ledgers.values() for file in files)]

    def reaches(self, session: date) -> bool:
        """Whether bars are stored up to a session or beyond."""
        return self.end_date is not None and self.end_date >= session

    def partition(self, year: int) -> Partition | None:
        """The partition of `year`, or None."""
        return next((p for p in self.partitions if p.year == year), None)


class ETLProgressManifest(BaseModel):
    """How far the work has come; it may lag behind the data, never run ahead of it.

    `symbol_last_dates` holds each symbol's cursor: its last contiguous session. `request_hash` names the
    request that `years_completed` and `years_remaining` belong to. `data_version` is the manifest version
    that the cursors describe.
    """

    dataset: str = DATASET_ID
    last_updated: UtcDatetime
    symbol_last_dates: dict[str, date] = Field(default_factory=dict[str, date])
    years_completed: list[int] = Field(default_factory=list[int])
    years_remaining: list[int] = Field(default_factory=list[int])
    status: Literal["running", "paused", "completed", "failed"] = "running"
    request_hash: str = ""
    data_version: int = Field(default=0, ge=0)


class CatalogPointer(BaseModel):
    """Which version the catalog file shows, the folder of the objects that its views name, and its SHA-256.

    `following` is the SHA-256 of a file that may just have been swapped in for it.
    """

    version: int
    objects: str
    checksum: Sha256 | None = None
    following: Sha256 | None = None


class Finding(BaseModel):
    """One thing a check found: a value, not an exception.

    `field` is the column, year or file concerned, `count` how many rows or items, `sample` a few of them.
    Findings of severity `error` make a gate refuse; `warning` ones are reported.
    """

    model_config = ConfigDict(frozen=True)

    field: str
    message: str
    severity: Literal["error", "warning"] = "error"
    count: int = 1
    sample: tuple[str, ...] = ()

    def __str__(self) -> str:
        examples = f" (e.g. {', '.join(self.sample)})" if self.sample else ""
        return f"{self.field}: {self.message}{examples}"


class Outcome(StrEnum):
    """What became of one symbol in a fetch; only `OK` may move its cursor.

    `REFUSED` is the verdict of the quality rules on fetched rows, `HELD` that of reconciling them with stored ones; the
    others come from a source. `NOT_COVERED`: it has the data, and does not give them to this account. `NOT_PUBLISHED`:
    it will have them later.
    """

    OK = "ok"
    EMPTY = "empty"
    NOT_FOUND = "not_found"
    NOT_COVERED = "not_covered"
    NOT_PUBLISHED = "not_published"
    RATE_LIMITED = "rate_limited"
    ERROR = "error"
    REFUSED = "refused"
    HELD = "held"


class ETLResult(BaseModel):
    """What a run did.

    `total_rows` counts the rows that passed and are now stored, whether new, changed or equal to what was
    there; `partitions_written` the years whose bytes changed; `details` says why a symbol did not come; `requests`
    counts what a vendor was asked, retries included.
    `rows_flagged` counts bars that were stored and have something wrong beside their close: they are in the ledger
    `flagged_rows` as fetched, and are no reason to look unless `warnings` say so.
    `corrections` counts cells that changed while the price level did not, `restated_symbols` those whose whole history
    was replaced, `held` those whose rows were kept out, with the evidence, `ended_symbols` those that were asked for
    and count as ended; `sessions_missing` is the number of sessions in open gaps after the run; `withheld` counts
    the cells that the source did not give though they are stored, or though their series has them: a stored value is
    never replaced by a null; `unadjusted_symbols` got a bar without `adj_close` though their series has one.
    `warnings` tell what is worth a look, though it kept nothing back, `calendar_notes` what the calendar could not
    judge, or judges otherwise than before, `notes` how the source understood what it has, `set_aside` what it could not
    read as a whole.
    A run that changes nothing has `changed == False`, and the version and checksum it found.
    `catalog_error` tells that the data is committed but the catalog still shows an older version.
    """

    model_config = ConfigDict(frozen=True)

    total_rows: int = 0
    partitions_written: int = 0
    years_written: tuple[int, ...] = ()
    symbols_processed: int = 0
    start_date: date
    end_date: date
    duration_seconds: float = 0.0
    manifest_checksum: str = ""
    version: int = 0
    outcomes: dict[str, Outcome] = Field(default_factory=dict[str, Outcome])
    details: dict[str, str] = Field(default_factory=dict[str, str])
    requests: int = 0
    rows_fetched: int = 0
    rows_rejected: int = 0
    rejected_by_reason: dict[str, int] = Field(default_factory=dict[str, int])
    rows_flagged: int = 0
    flagged_by_reason: dict[str, int] = Field(default_factory=dict[str, int])
    quarantine_paths: tuple[str, ...] = ()
    corrections: int = 0
    restated_symbols: tuple[str, ...] = ()
    held: dict[str, str] = Field(default_factory=dict[str, str])
    ended_symbols: tuple[str, ...] = ()
    sessions_missing: int = 0
    withheld: int = 0
    unadjusted_symbols: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    calendar_notes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    set_aside: tuple[str, ...] = ()
    disk_warnings: tuple[str, ...] = ()
    catalog_error: str | None = None

    @property
    def changed(self) -> bool:
        """True if the run changed the bars of a year. What only the ledgers record makes a version, too."""
        return self.partitions_written > 0

    @property
    def complete(self) -> bool:
        """True if every symbol was fetched that still trades, and nothing was refused, skipped or held.

        Nor may a new bar lack an `adj_close` that its series has. A bar may be stored without the `adj_close` that
        was fetched, since that contradicts a named event.
        """
        silent = (Outcome.EMPTY, Outcome.NOT_FOUND)
        return (
            not self.rows_rejected
            and not self.set_aside
            and not self.unadjusted_symbols
            and all(why.startswith("adj_close:") for why in self.held.values())
            and all(
                outcome is Outcome.OK or (outcome in silent and symbol in self.ended_symbols)
                for symbol, outcome in self.outcomes.items()
            )
        )
