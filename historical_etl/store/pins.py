"""Pins: versions that are kept under a name until they are unpinned. Owns `manifests/pins/`.

Each pin is a file of its own, and its name alone says what it pins: a pin whose content is damaged still protects.
"""

import re
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from historical_etl.durable import fsync_folder, storage_errors, write_atomic
from historical_etl.errors import ConfigurationError
from historical_etl.folders import entries_of
from historical_etl.regular_files import read_regular
from historical_etl.store.checksummed_json import parse_checksummed, render_checksummed
from historical_etl.store.layout import Layout

__all__ = ["Pin", "drop_pin", "read_pins", "write_pin"]

#: Not to be taken for a version, a path or an option.
_NAME: Final = re.compile(r"(?!v?\d+$)[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_FILE: Final = re.compile(r"(.+)@(\d{8,})\.json")


class Pin(BaseModel):
    """A version with a name. `by`, `at` and `checksum`, that of the version, are None if the record is damaged."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: int
    checksum: str | None = None
    by: str | None = None
    at: datetime | None = None


def read_pins(layout: Layout) -> dict[str, Pin]:
    """All pins by name, sorted."""
    pins: dict[str, Pin] = {}
    with storage_errors("reading which versions are pinned", layout.pins, "nothing was changed"):
        paths = entries_of(layout.pins, "*.json")
    for path in paths:
        if match := _FILE.fullmatch(path.name):
            name, version = match.group(1), int(match.group(2))
            pins[name] = _read(path, Pin(name=name, version=version))
    return pins


def write_pin(layout: Layout, pin: Pin) -> None:
    """Keep a version under a name, durably.

    Raises:
        ConfigurationError: the name is malformed, or pins another version already.
        StorageError: the file system refused.
    """
    if not _NAME.fullmatch(pin.name):
        raise ConfigurationError(
            f"{pin.name!r} is not a name for a pin",
            where="pin",
            todo="use letters, digits, dots, dashes and underscores, 63 at most, and not a number",
        )
    known = read_pins(layout).get(pin.name)
    if known is not None and known.version != pin.version:
        raise ConfigurationError(
            f"{pin.name!r} pins version {known.version} already",
            where="pin",
            todo=f"choose another name, or `historical-etl unpin {pin.name}` first",
        )
    path = _file(layout, pin)
    with storage_errors("pinning a version", path, "it is not pinned"):
        write_atomic(path, render_checksummed(pin))


def drop_pin(layout: Layout, name: str) -> Pin:
    """Remove a pin; returns what it was.

    Raises:
        ConfigurationError: there is none of that name.
        StorageError: the file system refused.
    """
    pins = read_pins(layout)
    if name not in pins:
        named = f"pinned are: {', '.join(pins)}" if pins else "nothing is pinned"
        raise ConfigurationError(f"There is no pin {name!r}", where="pin", todo=named)
    with storage_errors("unpinning a version", layout.pins, "it may still be pinned"):
        _file(layout, pins[name]).unlink(missing_ok=True)
        fsync_folder(layout.pins)
    return pins[name]


def _file(layout: Layout, pin: Pin) -> Path:
    return layout.pins / f"{pin.name}@{pin.version:08d}.json"


def _read(path: Path, named: Pin) -> Pin:
    try:
        pin = parse_checksummed(read_regular(path), Pin)
    except (OSError, ValueError):
        return named
    return pin if (pin.name, pin.version) == (named.name, named.version) else named
