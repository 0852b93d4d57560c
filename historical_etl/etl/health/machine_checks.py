"""The doctor's checks of what the store depends on: clock, volume, versions, and the store itself. No network here."""

import platform
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import polars as pl

from historical_etl.clock import Clock
from historical_etl.errors import DiskSpaceError
from historical_etl.etl.health.blockers import other_basis_of_all, update_blockers
from historical_etl.etl.health.check import Check, CheckStatus
from historical_etl.models import SCHEMA_VERSION
from historical_etl.sessions import calendar_of
from historical_etl.settings import Settings
from historical_etl.sources.base import SourceInfo
from historical_etl.sources.vendors.optional_clients import how_to_install
from historical_etl.store.commit_times import clock_trouble
from historical_etl.store.daily_folders import is_replaceable
from historical_etl.store.layout import Layout
from historical_etl.store.manifest import ManifestManager
from historical_etl.store.newer_release import unknown_fields
from historical_etl.store.verify import verify_store
from historical_etl.store.volume import Trial, existing_folder, mount_of, try_volume

__all__ = ["clock", "disk", "store", "time_zone", "versions", "volume", "written_by"]

_PACKAGES: Final = ("historical-etl", "dagster", "polars", "duckdb", "exchange-calendars")
_POLITE: Final = ("pyrate-limiter", "tenacity")
#: The packages behind the vendors that come with this one.
_CLIENTS: Final = {
    "tiingo": ("httpx", *_POLITE),
    "eodhd": ("httpx", *_POLITE),
    "alpaca": ("alpaca-py", *_POLITE),
    "massive": ("massive", *_POLITE),
    "yfinance": ("yfinance", *_POLITE),
}
_CLOCK_OFF: Final = timedelta(seconds=60)
_CLOCK_WRONG: Final = timedelta(minutes=10)
_SHOWN: Final = 3


def clock(now: datetime, offset: timedelta | None, vendor: str, newest: datetime | None) -> Check:
    """Whether the machine's clock is right, and has not gone back.

    Args:
        now: what it says.
        offset: how far the vendor's is before it.
        vendor: its name.
        newest: the latest stamp of a version.
    """
    text = f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if (offset is None or abs(offset) < _CLOCK_OFF) and (trouble := clock_trouble(newest, now)) is not None:
        agrees = f"; it agrees with {vendor}'s" if offset is not None else ""
        todo = "" if offset is not None else "set the clock if it is wrong, and let the machine keep it (NTP); "
        todo += "`historical-etl vacuum --keep-days 0` frees what the wrong stamps keep"
        facts: dict[str, object] = {"offset": offset and round(offset.total_seconds(), 1), "newest_stamp": newest}
        return Check("clock", CheckStatus.WARNING, f"{trouble}{agrees}", todo, facts)
    if offset is None:
        return Check(
            "clock", CheckStatus.OK, f"{text}; there is no other clock to compare it with", facts={"offset": None}
        )
    seconds = offset.total_seconds()
    facts = {"offset": round(seconds, 1)}
    if abs(offset) < _CLOCK_OFF:
        return Check("clock", CheckStatus.OK, f"{text}; it agrees with {vendor}'s within a minute", facts=facts)
    wrong = abs(offset) >= _CLOCK_WRONG
    way = "behind" if seconds > 0 else "ahead of"
    what = f"{text}; it is {abs(seconds):,.0f} s {way} {vendor}'s, and it decides which sessions have closed"
    todo = "set the clock, and let the machine keep it (NTP)"
    return Check("clock", CheckStatus.PROBLEM if wrong else CheckStatus.WARNING, what, todo, facts)


def time_zone(settings: Settings, clock: Clock) -> Iterator[Check]:
    """The zones here and at the exchange, and the last session that has closed there."""
    calendar, now = calendar_of(settings), clock()
    settle = timedelta(minutes=settings.settle_minutes)
    last = calendar.last_closed(now, settle)
    here, there = now.astimezone(), now.astimezone(ZoneInfo(calendar.timezone))
    what = (
        f"here {here:%Z (UTC%z)}, {settings.exchange} in {calendar.timezone} {there:(UTC%z)}; "
        f"last closed session {last}, closed {calendar.close_of(last):%H:%M} UTC and given"
        f" {settings.settle_minutes} min to settle"
    )
    facts: dict[str, object] = {
        "local": f"{here:%Z}",
        "exchange": settings.exchange,
        "exchange_zone": calendar.timezone,
        "last_closed_session": last,
    }
    yield Check("time zone", CheckStatus.OK, what, facts=facts)


def disk(manager: ManifestManager) -> Iterator[Check]:
    """Whether there is room on the volume of the data."""
    todo = "free space on this volume, or move the data folder"
    try:
        found = manager.check_disk_space(0)
    except DiskSpaceError as error:
        yield Check("disk", CheckStatus.PROBLEM, error.what, todo, {"level": "full"})
        return
    facts: dict[str, object] = {
        "level": found.level,
        "used_share": round(found.used_share, 4),
        "free_bytes": found.free_bytes,
    }
    what = f"{found.used_share:.0%} used, {found.free_bytes / 1e9:,.1f} GB free"
    fine = found.level == "ok"
    yield Check("disk", CheckStatus.OK if fine else CheckStatus.WARNING, what, "" if fine else todo, facts)


def volume(layout: Layout, mounts: Path) -> Iterator[Check]:
    """What the file system of the data folder is, and what it does when it is tried."""
    folder = existing_folder(layout.root)
    mount = mount_of(layout.root, mounts)
    facts: dict[str, object] = {"folder": layout.root, "type": mount.kind if mount else None}
    if mount is None:
        yield Check("file system", CheckStatus.OK, f"{layout.root}; its type is not known on this system", facts=facts)
    elif mount.is_shared:
        what = f"{layout.root} lies on {mount.kind} ({mount.point}), whose locks need not hold between machines"
        todo = "write from one machine only, or move the data folder to a local disk"
        yield Check("file system", CheckStatus.WARNING, what, todo, facts)
    elif mount.is_in_memory:
        what = f"{layout.root} lies on {mount.kind} ({mount.point}), which a restart empties"
        yield Check("file system", CheckStatus.WARNING, what, "move the data folder to a disk", facts)
    elif mount.is_fragile:
        what = f"{layout.root} lies on {mount.kind} ({mount.point}), which may undo a commit when the power fails"
        todo = "move the data folder to a file system with a journal, such as ext4, xfs or btrfs"
        yield Check("file system", CheckStatus.WARNING, what, todo, facts)
    elif mount.is_layered:
        what = f"{layout.root} lies on {mount.kind} ({mount.point}); in a container it goes when the container goes"
        yield Check("file system", CheckStatus.WARNING, what, "mount a volume for the data folder", facts)
    else:
        yield Check("file system", CheckStatus.OK, f"{layout.root} lies on {mount.kind} ({mount.point})", facts=facts)
    tried = try_volume(layout.root)
    if tried.writing:
        what = f"Nothing can be written in {folder}: {tried.writing}"
        yield Check("locks", CheckStatus.PROBLEM, what, "check the owner, permissions and mount options of this folder")
        return
    if tried.locking:
        what = f"Two writers are not kept apart here: {tried.locking}"
        yield Check(
            "locks", CheckStatus.PROBLEM, what, "move the data folder to a file system with kernel locks (flock)"
        )
    else:
        yield Check("locks", CheckStatus.OK, "a second writer is kept out while the first one holds the lock")
    if tried.linking:
        what = f"There are no hard links here ({tried.linking}): daily/ holds copies, and takes the space twice"
        yield Check("hard links", CheckStatus.WARNING, what, "mind the space, or move the data folder to a local disk")
    else:
        yield Check("hard links", CheckStatus.OK, "they work")
    yield _of_daily(layout, tried)


def _of_daily(layout: Layout, tried: Trial) -> Check:
    """Whether all years in `daily/` are replaced at once, for whoever reads them with other tools."""
    reason, todo = "", "move the data folder to a local disk"
    if tried.pointing:
        reason = f"there are no symbolic links here: {tried.pointing}"
    elif tried.linking:
        reason = "there are no hard links here"
    elif not is_replaceable(layout):
        reason = f"it is a link to {layout.daily.readlink()}, which is not the store's"
        todo = f"to read one version at any time, remove the link {layout.daily}: the next write makes its own"
    if reason:
        what = f"Its files are replaced one by one, since {reason}. A reader may meet two versions in mid-commit"
        return Check("daily/", CheckStatus.WARNING, what, todo)
    return Check("daily/", CheckStatus.OK, "one rename replaces all of its years at once")


def versions(settings: Settings | None) -> Iterator[Check]:
    """What is installed; without settings, what does not depend on them."""
    clients = _CLIENTS.get(settings.source.strip().lower(), ()) if settings else ()
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in (*_PACKAGES, *clients):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    missing = [name for name, number in found.items() if number is None]
    texts = [f"{name} {number or 'not installed'}" for name, number in found.items()]
    todo = ""
    if missing and settings:
        extra = {"yfinance": "yahoo"}.get(settings.source.strip().lower(), settings.source.strip().lower())
        todo = how_to_install(extra if set(missing) & set(clients) else "plot")
    yield Check("versions", CheckStatus.PROBLEM if missing else CheckStatus.OK, ", ".join(texts), todo, dict(found))


def written_by(manager: ManifestManager) -> Iterator[Check]:
    """Whether what is installed reads what is stored, and writes it as it was written."""
    manifest, ours = manager.load_manifest(), f"polars {pl.__version__}"
    facts: dict[str, object] = {"schema_version": SCHEMA_VERSION, "writes_as": ours}
    if manifest is None:
        yield Check(
            "written by", CheckStatus.OK, f"nothing is stored; schema {SCHEMA_VERSION}, files by {ours}", facts=facts
        )
        return
    for path, names in unknown_fields(manager.layout):
        what = f"{path} holds {', '.join(names)}, which this release does not know: it reads the store, it cannot write"
        yield Check("written by", CheckStatus.PROBLEM, what, "upgrade historical-etl", facts)
        return
    others: dict[str, int] = {}
    for partition in manifest.partitions:
        if partition.writer and partition.writer != ours:
            others[partition.writer] = others.get(partition.writer, 0) + 1
    facts |= {"stored_schema_version": manifest.schema_version, "other_writers": others}
    what = f"schema {manifest.schema_version}, this release's is {SCHEMA_VERSION}"
    if not others:
        yield Check("written by", CheckStatus.OK, f"{what}; all years are as {ours} writes them", facts=facts)
        return
    named = ", ".join(f"{count} year(s) by {name}" for name, count in others.items())
    what = f"{what}; {named}, where {ours} is installed: equal rows may become other bytes"
    todo = "nothing: a year is written anew when its rows change; for equal bytes on all machines install one version"
    yield Check("written by", CheckStatus.WARNING, what, todo, facts)


def store(
    manager: ManifestManager,
    settings: Settings,
    available: Callable[[], date],
    source: SourceInfo | None,
    catalog_version: Callable[[], int] | None,
) -> Iterator[Check]:
    """What is stored, how current it is, and whether it is as it was committed, by a quick look.

    Args:
        manager: of the store.
        settings: whose exchange's sessions count.
        available: the last session that can be had.
        source: what the configured source says of itself; None if it cannot be made.
        catalog_version: as in `verify_store`.
    """
    report = verify_store(manager, quick=True, catalog_version=catalog_version)
    manifest = manager.load_manifest()
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if errors:
        more = f", and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        what = f"{len(errors)} damaged: {'; '.join(map(str, errors[:_SHOWN]))}{more}"
        facts: dict[str, object] = {"version": report.version, "damaged": len(errors)}
        yield Check("store", CheckStatus.PROBLEM, what, f"{errors[0].todo}; `historical-etl verify` tells all", facts)
        return
    if manifest is None:
        yield Check(
            "store", CheckStatus.OK, "nothing was committed yet", "run `historical-etl backfill`", {"version": None}
        )
        return
    missing = 0
    if manifest.end_date is not None:
        missing = len(calendar_of(settings).between(manifest.end_date + timedelta(days=1), available()))
    facts = {
        "version": manifest.version,
        "current_through": manifest.end_date,
        "sessions_missing": missing,
        "verified": "quick",
    }
    reach = f"current through {manifest.end_date}" if manifest.end_date else "no bar is stored"
    what = f"version {manifest.version}, {reach}, undamaged by a quick look"
    catalog = [finding for finding in report.findings if finding.field.startswith("catalog")]
    blockers = [*update_blockers(manager.layout, manifest), *catalog]
    others = [finding for finding in report.findings if finding not in catalog]
    notes = [str(finding) for finding in (*blockers, *others)]
    if notes:
        what = f"{what}; {'; '.join(notes[:_SHOWN])}"
    if source is not None and (other := other_basis_of_all(manager.layout, manifest, source.adjustment)):
        what = f"{what}; it was filled from {manifest.provider!r} with {other.basis!r}, and {source.name!r} gives "
        what += f"{source.adjustment!r}: an update is refused"
        yield Check("store", CheckStatus.PROBLEM, what, other.todo, facts)
        return
    if source is not None and manifest.provider != source.name:
        what = f"{what}; it was filled from {manifest.provider!r}, and the source is now {source.name!r}"
        todo = f"set HISTORICAL_ETL_SOURCE={manifest.provider}, or use another data folder: a store has one vendor"
        yield Check("store", CheckStatus.WARNING, what, todo, facts)
        return
    if missing and not blockers:
        yield Check(
            "store", CheckStatus.WARNING, f"{what}; {missing} session(s) behind", "run `historical-etl update`", facts
        )
        return
    if blockers:
        yield Check("store", CheckStatus.WARNING, what, blockers[0].todo, facts)
        return
    yield Check("store", CheckStatus.OK, what, facts=facts)
