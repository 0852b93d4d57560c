"""Pins: a version has a name as long as the file with that name is there, whatever is in it."""

from datetime import UTC, datetime

import pytest

from historical_etl import ConfigurationError, StorageError
from historical_etl.store.layout import Layout
from historical_etl.store.pins import Pin, drop_pin, read_pins, write_pin

PAPER = Pin(name="paper", version=3, checksum="a" * 64, by="me", at=datetime(2020, 1, 1, tzinfo=UTC))


@pytest.fixture
def layout(root) -> Layout:
    return Layout(root)


def test_pins_are_read_as_written_by_name(layout):
    assert read_pins(layout) == {}
    other = Pin(name="a.b-c_9", version=123456789)
    write_pin(layout, PAPER)
    write_pin(layout, other)
    assert list(read_pins(layout).items()) == [("a.b-c_9", other), ("paper", PAPER)]
    again = PAPER.model_copy(update={"by": "you"})
    write_pin(layout, again)
    assert read_pins(layout)["paper"] == again, "the same version may be pinned again"
    assert drop_pin(layout, "paper") == again
    assert read_pins(layout) == {"a.b-c_9": other}


@pytest.mark.parametrize("name", ["", "3", "v3", "v12", "../x", "a/b", "-x", ".x", "a b", "x" * 64, "ü", "paper\n"])
def test_a_name_that_could_be_something_else_is_refused(layout, name):
    with pytest.raises(ConfigurationError, match=r"not a name.*pin"):
        write_pin(layout, PAPER.model_copy(update={"name": name}))
    assert not layout.pins.exists()


@pytest.mark.parametrize("name", ["x", "v", "v3a", "3a", "vv3", "x" * 63])
def test_names_that_may_be_given(layout, name):
    pin = PAPER.model_copy(update={"name": name})
    write_pin(layout, pin)
    assert read_pins(layout) == {name: pin}


def test_a_name_that_pins_another_version_is_not_taken_from_it(layout):
    write_pin(layout, PAPER)
    with pytest.raises(ConfigurationError, match="pins version 3 already") as caught:
        write_pin(layout, PAPER.model_copy(update={"version": 4}))
    assert "unpin paper" in caught.value.todo
    assert read_pins(layout) == {"paper": PAPER}


def test_a_pin_whose_record_is_damaged_still_pins(layout):
    write_pin(layout, PAPER)
    path = layout.pins / "paper@00000003.json"
    for content in (b"", path.read_bytes().replace(b"paper", b"taper"), b'{"name": "paper", "version": 4}'):
        path.write_bytes(content)
        assert read_pins(layout) == {"paper": Pin(name="paper", version=3)}
    path.write_bytes(b'{"name": "caper", "version": 3}')
    assert read_pins(layout) == {"paper": Pin(name="paper", version=3)}


def test_files_that_are_no_pins_are_passed_over(layout):
    write_pin(layout, PAPER)
    for name in ("notes.json", "x@3.json", "@00000003.json", "y@00000003.txt"):
        (layout.pins / name).write_bytes(b"{}")
    (layout.pins / "folder@00000004.json").mkdir()
    assert read_pins(layout) == {"paper": PAPER, "folder": Pin(name="folder", version=4)}


def test_what_is_not_pinned_cannot_be_unpinned(layout):
    with pytest.raises(ConfigurationError, match="There is no pin 'paper'") as caught:
        drop_pin(layout, "paper")
    assert caught.value.todo == "nothing is pinned"
    write_pin(layout, PAPER)
    write_pin(layout, PAPER.model_copy(update={"name": "b"}))
    with pytest.raises(ConfigurationError) as caught:
        drop_pin(layout, "pape")
    assert caught.value.todo == "pinned are: b, paper"


def test_refusals_of_the_file_system_are_reported_in_our_words(layout):
    layout.pins.parent.mkdir(parents=True)
    layout.pins.write_bytes(b"a file is in the place of the folder")
    with pytest.raises(StorageError, match=r"pinning .*is not pinned"):
        write_pin(layout, PAPER)
    layout.pins.unlink()
    (layout.pins / "paper@00000003.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"unpinning .*may still be pinned"):
        drop_pin(layout, "paper")
