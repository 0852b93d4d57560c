"""The codec against bytes written out by hand, and against every way of cutting them short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from historical_etl.store.parquet.footer import Shape, Struct, Structs, ThriftError, decode, encode

#: One of each: i32 -3; binary "ab"; bool; i64 150 after a step of 20 ids; a list of two structs with a double and a
#: byte each; a set of 16 booleans; an empty struct.
SAMPLE = bytes.fromhex(
    "15 05 18 02 61 62 11 06 2e ac 02 19 2c"
    "17 00 00 00 00 00 00 f0 3f 13 07 00"
    "17 00 00 00 00 00 00 00 40 13 08 00"
    "1a f1 10" + "01" * 16 + "1c 00 00"
)
SHAPE: Shape = {1: {}, 23: {}, 24: {}, 26: {}}


def test_open_fields_are_values_and_the_rest_is_bytes() -> None:
    struct = decode(SAMPLE, SHAPE)
    assert struct.read(1, int) == -3
    assert struct.read(2, bytes) == b"\x02ab"
    assert struct.read(23, int) == 150
    assert [element.read(2, bytes) for element in struct.read(24, Structs)] == [b"\x07", b"\x08"]
    assert struct.read(26, Struct) == {}


def test_a_closed_struct_may_number_its_fields_in_full() -> None:
    """A field far from the one before it has its number after its header, here in two bytes."""
    assert decode(bytes.fromhex("1c 05 80 02 06 00 15 08 00"), {2: {}}).read(2, int) == 4


@pytest.mark.parametrize("shape", [{}, SHAPE, {1: {}}, {24: {}, 99: {}}])
def test_whatever_is_opened_the_bytes_come_back(shape: Shape) -> None:
    assert encode(decode(SAMPLE, shape)) == SAMPLE


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40))
def test_integers_and_long_lists_round_trip(numbers: list[int]) -> None:
    struct = decode(SAMPLE, SHAPE)
    struct.write(24, Structs(Struct({1: (6, number)}) for number in numbers))
    again = decode(encode(struct), {24: {1: {}}})
    assert [element.read(1, int) for element in again.read(24, Structs)] == numbers


@pytest.mark.parametrize("shape", [{}, SHAPE])
@pytest.mark.parametrize("size", range(len(SAMPLE)))
def test_cut_short_anywhere_is_one_error(size: int, shape: Shape) -> None:
    with pytest.raises(ThriftError):
        decode(SAMPLE[:size], shape)


@pytest.mark.parametrize(
    "data",
    [SAMPLE + b"\x00", b"\x1d\x00\x00", b"\x16" + b"\xff" * 99, b"\x1c" * 99_999, b"\x19" * 99_999],
    ids=["more behind", "unknown type", "endless number", "endless structs", "endless lists"],
)
@pytest.mark.parametrize("shape", [{}, {1: {}}])
def test_garbage_is_one_error(data: bytes, shape: Shape) -> None:
    with pytest.raises(ThriftError):
        decode(data, shape)


def test_a_field_that_is_missing_or_closed_is_named() -> None:
    with pytest.raises(ThriftError, match=r"Field 7 .*int.*NoneType"):
        decode(SAMPLE, SHAPE).read(7, int)
    with pytest.raises(ThriftError, match=r"Field 1 .*int.*bytes"):
        decode(SAMPLE, {}).read(1, int)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        struct = decode(data, {1: {1: {}}, 2: {}})
    except ThriftError:
        return
    encode(struct)
