"""Checksummed JSON: files that contain the SHA-256 of all their fields, so that a flipped bit is noticed.

A record without a checksum is accepted as long as it has no unknown field: people may write one by hand, but a checksum
whose name was damaged is none.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import Final, TypeVar, cast

from pydantic import BaseModel, ValidationError

from historical_etl.strict_json import object_of

__all__ = ["CHECKSUM_FIELD", "add_checksum", "parse_checksummed", "read_checksummed", "reason_of", "render_checksummed"]

CHECKSUM_FIELD: Final = "record_sha256"
_Record = TypeVar("_Record", bound=BaseModel)


def render_checksummed(record: BaseModel) -> bytes:
    """A record as the bytes of its file."""
    return add_checksum(record.model_dump(mode="json"))


def parse_checksummed(content: bytes, kind: type[_Record]) -> _Record:
    """Read what `render_checksummed` gave.

    Raises:
        ValueError: it is not a record of this kind, or not what was written.
    """
    return kind.model_validate(read_checksummed(content, kind.model_fields))


def add_checksum(body: Mapping[str, object], name: str = CHECKSUM_FIELD) -> bytes:
    """Fields as the bytes of a file, with their checksum under `name`."""
    return (json.dumps({**body, name: _checksum(body)}, indent=1) + "\n").encode()


def read_checksummed(
    content: bytes,
    known: Collection[str] | None,
    name: str = CHECKSUM_FIELD,
    look: Callable[[Mapping[str, object]], None] | None = None,
) -> dict[str, object]:
    """The fields in a file, without their checksum.

    Args:
        content: the bytes of the file.
        known: the fields that a file without a checksum may have; None allows any.
        name: of the checksum field.
        look: given the fields before the checksum is compared.

    Raises:
        ValueError: it is no JSON object, has two values under one name, or the checksum is wrong.
    """
    try:
        body: object = object_of(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(body, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - of the file, not of an argument
    fields = cast("dict[str, object]", body)
    stated = fields.pop(name, None)
    if look is not None:
        look(fields)
    if stated is not None and stated != _checksum(fields):
        raise ValueError("it does not match its own checksum")
    if stated is None and known is not None and (strange := sorted(set(fields) - set(known))):
        raise ValueError(f"it has no checksum, and unknown fields: {', '.join(strange)[:100]}")
    return fields


def reason_of(error: ValueError) -> str:
    """What is wrong with a record, in a few words that can be written anywhere: JSON may hold half a character."""
    words = str(error.errors()[0]["msg"] if isinstance(error, ValidationError) else error)[:200]
    return words.encode(errors="backslashreplace").decode()


def _checksum(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
