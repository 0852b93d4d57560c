"""Thrift's compact protocol, as far as a Parquet footer needs it: open what you name, keep the rest as bytes.

A footer is a tree of thousands of structs, and a splice changes a few integers in each. So `decode` takes a
*shape*, the fields to open; every other value stays the bytes it was, and `encode` writes it back unchanged.

Put the wire format here. No meaning of any field, no files. Maps are left out: parquet.thrift has none.
Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Mapping
from typing import Final, TypeAlias, TypeVar

__all__ = ["Shape", "Struct", "Structs", "ThriftError", "decode", "encode"]

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET = range(1, 11)
_STRUCT: Final = 12
_FIXED: Final = {_TRUE: 0, _FALSE: 0, _BYTE: 1, _DOUBLE: 8}  # bytes of the types of fixed width
_LONG: Final = 15  # in place of a list's size: it has so many elements or more, and the size follows
_BITS: Final = 64  # the longest integer

#: Fields to open, by id: a struct, a list of structs, or an integer (whose own shape is empty).
Shape: TypeAlias = Mapping[int, "Shape"]
Value: TypeAlias = "bytes | int | Struct | Structs"
_V = TypeVar("_V", bound=Value)


class ThriftError(ValueError):
    """The bytes are not the struct they should be: cut short, garbage, or without a field that is needed."""


class Struct(dict[int, tuple[int, Value]]):
    """Field id -> (wire type, value), in the order on the wire."""

    __slots__ = ()

    def read(self, field: int, kind: type[_V]) -> _V:
        """The value of a field: `int`, `Struct` or `Structs` if it was opened, `bytes` as on the wire if not.

        Raises:
            ThriftError: the field is missing or of another kind.
        """
        value = self[field][1] if field in self else None
        if not isinstance(value, kind):
            raise ThriftError(f"Field {field} should be {kind.__name__}, and is {type(value).__name__}")
        return value

    def text(self, field: int) -> bytes:
        """The content of a string or binary field that was not opened. Raises as `read` does."""
        raw = self.read(field, bytes)
        if self[field][0] != _BINARY:
            raise ThriftError(f"Field {field} should be a string")
        return raw[_varint(raw, 0)[1] :]

    def write(self, field: int, value: Value) -> None:
        """Give a field that is present another value of its type."""
        self[field] = self[field][0], value


class Structs(list[Struct]):
    """An opened list of structs."""


def decode(data: bytes, shape: Shape) -> Struct:
    """Read one struct that fills `data` exactly.

    Raises:
        ThriftError: the bytes end early, go on after the struct, or are no Thrift.
    """
    try:
        struct, end = _decode(data, 0, shape)
    except (IndexError, RecursionError) as error:
        raise ThriftError("The bytes end inside a value, or nest without end") from error
    if end != len(data):
        raise ThriftError(f"The struct should end at byte {len(data)}, and ends at {end}")
    return struct


def encode(struct: Struct) -> bytes:
    """Write a struct: what was opened from its value, the rest from its bytes."""
    out = bytearray()
    _encode(out, struct)
    return bytes(out)


def _decode(data: bytes, pos: int, shape: Shape) -> tuple[Struct, int]:
    struct, field = Struct(), 0
    while header := data[pos]:
        pos, kind = pos + 1, header & 0xF
        if header & 0xF0:  # the high half is the step from the field before; 0 means the id follows in full
            field += header >> 4
        else:
            field, pos = _zigzag(data, pos)
        inner, start = shape.get(field), pos
        value: Value
        if inner is None:
            pos = _skip(data, pos, kind)
            value = data[start:pos]
        elif kind == _STRUCT:
            value, pos = _decode(data, pos, inner)
        elif kind in (_I16, _I32, _I64):
            value, pos = _zigzag(data, pos)
        else:
            item, size, pos = _list_header(data, pos)
            if (kind, item) != (_LIST, _STRUCT):
                raise ThriftError(f"Field {field} is no integer, struct or list of structs")
            value = Structs()
            for _ in range(size):
                element, pos = _decode(data, pos, inner)
                value.append(element)
        struct[field] = kind, value
    return struct, pos + 1


def _skip(data: bytes, pos: int, kind: int) -> int:
    """The position after a value."""
    if kind in (_I16, _I32, _I64):
        while data[pos] & 0x80:
            pos += 1
        return pos + 1
    if kind == _BINARY:
        size, pos = _varint(data, pos)
        return pos + size
    if kind == _STRUCT:
        while header := data[pos]:
            pos = _skip(data, pos + 1, _I16) if not header & 0xF0 else pos + 1
            pos = _skip(data, pos, header & 0xF)
        return pos + 1
    if kind in (_LIST, _SET):
        item, size, pos = _list_header(data, pos)
        # No element is less than a byte: in a list a boolean is one of its own; in a struct the header says it all.
        if size > len(data) - pos:
            raise ThriftError("A list has more elements than bytes are left")
        for _ in range(size):
            pos = _skip(data, pos, _BYTE if item in (_TRUE, _FALSE) else item)
        return pos
    if kind not in _FIXED:
        raise ThriftError(f"Wire type {kind} is unknown")
    return pos + _FIXED[kind]


def _list_header(data: bytes, pos: int) -> tuple[int, int, int]:
    size, item = data[pos] >> 4, data[pos] & 0xF
    if size == _LONG:
        size, pos = _varint(data, pos + 1)
        return item, size, pos
    return item, size, pos + 1


def _varint(data: bytes, pos: int) -> tuple[int, int]:
    if (byte := data[pos]) < 0x80:  # noqa: PLR2004 - the bit that says more follows; most numbers are one byte
        return byte, pos + 1
    value = shift = 0
    while (byte := data[pos]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift, pos = shift + 7, pos + 1
        if shift > _BITS:  # garbage would grow one for ever
            raise ThriftError("A number has more than 64 bits")
    return value | byte << shift, pos + 1


def _zigzag(data: bytes, pos: int) -> tuple[int, int]:
    value, pos = _varint(data, pos)
    return value >> 1 ^ -(value & 1), pos


def _encode(out: bytearray, struct: Struct) -> None:
    before = 0
    for field, (kind, value) in struct.items():
        step, before = field - before, field
        if 0 < step < 1 << 4:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            _put_integer(out, field)
        if isinstance(value, bytes):
            out += value
        elif isinstance(value, int):
            _put_integer(out, value)
        elif isinstance(value, Struct):
            _encode(out, value)
        else:
            out.append(min(len(value), _LONG) << 4 | _STRUCT)
            if len(value) >= _LONG:
                _put_varint(out, len(value))
            for element in value:
                _encode(out, element)
    out.append(0)


def _put_integer(out: bytearray, value: int) -> None:
    _put_varint(out, value << 1 if value >= 0 else (-value << 1) - 1)


def _put_varint(out: bytearray, value: int) -> None:
    while value >> 7:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
