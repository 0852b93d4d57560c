"""Checksummed records: what was written comes back, and nothing that was changed since."""

import json

import pytest
from pydantic import BaseModel, ValidationError

from historical_etl.store.checksummed_json import (
    add_checksum,
    parse_checksummed,
    read_checksummed,
    reason_of,
    render_checksummed,
)


class Note(BaseModel):
    name: str
    count: int = 0


NOTE = Note(name="ü", count=7)


def test_a_record_comes_back_as_it_was():
    content = render_checksummed(NOTE)
    assert parse_checksummed(content, Note) == NOTE
    assert content.endswith(b"}\n")
    assert json.loads(content).keys() == {"name", "count", "record_sha256"}


def test_every_single_bit_counts():
    content = render_checksummed(NOTE)
    reported = 0
    for at in range(len(content)):
        for bit in range(8):
            changed = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
            try:
                assert parse_checksummed(changed, Note) == NOTE, changed
            except ValueError:
                reported += 1
    assert reported > len(content) * 6, "all but the blanks between the fields"


def test_a_record_that_somebody_wrote_by_hand_needs_no_checksum_if_it_has_known_fields_only():
    assert parse_checksummed(b'{"count": 3, "name": "x"}', Note) == Note(name="x", count=3)
    with pytest.raises(ValueError, match=r"no checksum.*unknown fields: a, b$"):
        parse_checksummed(b'{"name": "x", "b": 1, "a": 2}', Note)
    assert read_checksummed(b'{"name": "x", "b": 1}', None) == {"name": "x", "b": 1}
    long = {f"field{number:03}": 1 for number in range(50)}
    with pytest.raises(ValueError, match="unknown fields: field000") as caught:
        read_checksummed(json.dumps(long).encode(), ["name"])
    assert len(str(caught.value)) < 150


def test_a_checksummed_record_may_have_fields_that_are_not_known():
    assert read_checksummed(add_checksum({"name": "x", "later": 1}), ["name"]) == {"name": "x", "later": 1}


def test_a_checksum_has_a_name():
    content = add_checksum({"name": "x"}, "manifest_sha256")
    assert read_checksummed(content, None, "manifest_sha256") == {"name": "x"}
    with pytest.raises(ValueError, match="its own checksum"):
        read_checksummed(content.replace(b'"x"', b'"y"'), None, "manifest_sha256")
    with pytest.raises(ValueError, match="unknown fields: manifest_sha256"):
        read_checksummed(content, ["name"])


def test_the_order_of_the_fields_is_no_part_of_what_is_checksummed():
    body = json.loads(render_checksummed(NOTE))
    assert parse_checksummed(json.dumps(dict(reversed(body.items()))).encode(), Note) == NOTE


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"[" * 100_000, "nested too deeply"), (b"[]", "not a JSON object"), (b"{", "Expecting"), (b"\xff", "utf-8")],
)
def test_what_is_no_record_is_a_value_error(content, words):
    with pytest.raises(ValueError, match=words):
        parse_checksummed(content, Note)


def test_reasons_are_short():
    with pytest.raises(ValidationError) as caught:
        parse_checksummed(b'{"name": 1}', Note)
    assert reason_of(caught.value) == "Input should be a valid string"
    assert reason_of(ValueError("x" * 500)) == "x" * 200
