"""Which version is meant, and how it is cited: by number, by the name of a pin, or by a time."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Final, Self

from historical_etl.errors import ChecksumMismatchError, ConfigurationError, ManifestCorruptError
from historical_etl.models import DATASET_ID, SyncManifest
from historical_etl.store.commit_times import current_since
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.pins import read_pins

__all__ = ["Citation", "version_at", "version_named"]

_NUMBER: Final = re.compile(r"v?(\d{1,18})")
_EMPTY: Final = "nothing was committed yet; run `historical-etl backfill`"
_CITED: Final = re.compile(r"([a-z0-9_]+)@v(\d{1,18}):([0-9a-f]{8,64})")


@dataclass(frozen=True)
class Citation:
    """A version as papers and backtests name it, e.g. `historical_daily@v42:3fa1…` with the whole checksum."""

    dataset: str
    version: int
    checksum: str

    @classmethod
    def of(cls, manifest: SyncManifest) -> Self:
        """That of a version."""
        return cls(manifest.dataset, manifest.version, manifest.checksum)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives; the checksum may be cut down to eight digits or more.

        Raises:
            ConfigurationError: it is not a citation.
        """
        match = _CITED.fullmatch(text.strip())
        if match is None:
            raise ConfigurationError(
                f"{text!r} is not a citation of a version",
                where="expect",
                todo=f"write it as `historical-etl cite` prints it, e.g. {DATASET_ID}@v42:3fa1b2c3",
            )
        return cls(match.group(1), int(match.group(2)), match.group(3))

    def __str__(self) -> str:
        return f"{self.dataset}@v{self.version}:{self.checksum}"

    def require(self, manifest: SyncManifest | None, where: object) -> None:
        """Refuse anything else.

        Raises:
            ChecksumMismatchError: `manifest` is another version, or has other data.
        """
        if manifest is not None and (manifest.dataset, manifest.version) == (self.dataset, self.version):
            if manifest.checksum.startswith(self.checksum):
                return
            found = f"version {manifest.version} has the checksum {manifest.checksum}"
        else:
            found = f"there is {Citation.of(manifest)}" if manifest else "nothing was committed yet"
        raise ChecksumMismatchError(
            f"Expected {self}, but {found}",
            where=str(where),
            todo="`historical-etl versions` lists what is kept: scan(version=…) reads one, `historical-etl rollback` "
            "brings it back under a new number",
        )


def version_named(manager: ManifestManager, name: int | str) -> SyncManifest:
    """The kept version with a number (42, "42", "v42") or the name of a pin.

    Raises:
        ConfigurationError: no such version is kept.
        ManifestCorruptError: its manifest is damaged.
    """
    number = _NUMBER.fullmatch(str(name).strip())
    pins = read_pins(manager.layout)
    version = int(number.group(1)) if number else pins[str(name)].version if str(name) in pins else None
    if (current := manager.load_manifest()) and current.version == version:
        return current
    available = manager.list_versions()
    if version in available:
        try:
            return manager.load_version(version)
        except ManifestCorruptError:
            available = manager.list_versions()
            if version in available:  # else it was vacuumed a moment ago
                raise
    named = f", or a pin: {', '.join(pins)}" if pins else ""
    raise ConfigurationError(
        f"There is no version {name!r}" if version is None else f"Version {version} is not kept",
        where=manager.layout.history_folder(),
        todo=f"use one of {_listed(available)}{named}" if available else _EMPTY,
    )


def version_at(manager: ManifestManager, moment: datetime | date | str) -> SyncManifest:
    """The version that was current at a time; a date means its end, in UTC.

    For a time before the newest version's stamp the answer is the same for ever, or that it is not kept.

    Raises:
        ConfigurationError: a time without a zone, one before the first commit, or one whose version is not kept.
        ManifestCorruptError: a manifest that must be looked at is damaged.
    """
    at = _moment(moment)
    current = manager.load_manifest()
    newest = current.version if current else 0
    versions = [*(v for v in manager.list_versions() if v < newest), newest]
    since = current_since(_readable(manager, versions, current))
    for version, following in reversed(list(zip(versions, [*versions[1:], newest + 1], strict=True))):
        manifest = current if version == newest else manager.load_version(version)
        if manifest is None or since[version] > at:
            continue
        if following != version + 1:
            break  # any of those in between may have been current then
        return manifest
    available = f"kept are {_listed(versions)}; `historical-etl pin` keeps a version for good"
    raise ConfigurationError(
        f"The version that was current at {at:%Y-%m-%d %H:%M:%S} UTC is not kept",
        where="as_of",
        todo=available if current else _EMPTY,
    )


def _readable(
    manager: ManifestManager, versions: Iterable[int], current: SyncManifest | None
) -> Iterator[SyncManifest]:
    for version in versions:
        if current is not None and version == current.version:
            yield current
        elif version:
            with suppress(ManifestCorruptError):  # reported where it must be looked at
                yield manager.load_version(version)


def _listed(versions: list[int]) -> str:
    return ", ".join(map(str, versions))


def _moment(value: datetime | date | str) -> datetime:
    try:
        moment = _parsed(value) if isinstance(value, str) else value
    except ValueError:
        raise ConfigurationError(
            f"{value!r} is not a time", where="as_of", todo="write 2026-11-24 or 2026-11-24T18:30:00+00:00"
        ) from None
    if not isinstance(moment, datetime):
        return datetime.combine(moment, time.max, UTC)
    if moment.tzinfo is None:
        raise ConfigurationError(
            f"{moment} has no time zone", where="as_of", todo="add one, e.g. 2026-11-24T18:30:00+00:00 or tzinfo=UTC"
        )
    return moment.astimezone(UTC)


def _parsed(text: str) -> datetime | date:
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        return datetime.fromisoformat(text.strip())
