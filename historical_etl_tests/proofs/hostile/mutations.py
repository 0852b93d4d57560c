"""Hostile bytes: whatever may come, and valid content with something spoilt in it.

    @fuzz(40)
    @given(spoilt_json(RECORD))
    def test_...(content): ...

With `--hypothesis-profile torture` each test tries many times as many: see `shares.examples`.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any, TypeAlias

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from historical_etl_tests.shares import examples

__all__ = ["ODD", "fuzz", "spoilt_bytes", "spoilt_json"]

Json: TypeAlias = Any

#: Values where another one should stand: wrong types, bounds of integers and dates, what no encoding can write.
ODD: tuple[Json, ...] = (
    *(None, True, False, "", [], {}, [None], {"": None}, [[]], "x" * 5000),
    *(0, -1, 2**31, 2**63, -(2**63) - 1, 2**64, 10**30, 10**400, 0.5, 1e308, -0.0),
    *(float("nan"), float("inf"), float("-inf"), "NaN", "1e999", "-1", "²", "٣", "1_0"),
    *("\ud800", "a\udfffb", "\x00", "a\nb", "é", "\u202e", "\ufeff", "ß", "🎈"),
    *("0000-00-00", "0001-01-01", "9999-12-31", "10000-01-01", "2012-02-30", "2013-01-02T03:04:05"),
    *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2013-01-02T03:04:05Z", "2013-01-02T24:00:00Z"),
    *("../../../../etc/passwd", "/etc/passwd", "..", ".", "*", "a'b", 'a"b', "%s%n{}", "-rf", "v99", "v" + "9" * 5000),
)


def fuzz(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The settings of a fuzzing test that tries so many inputs in `make test`."""
    return settings(
        max_examples=examples(count),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
    )


@st.composite
def spoilt_bytes(draw: st.DrawFn, intact: bytes) -> bytes:
    """Sound content with bytes flipped, put in, taken out, repeated or cut off; or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    content = bytearray(intact)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(["flip", "set", "insert", "delete", "repeat", "cut", "number"])):
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if content:
                content[at] = draw(st.sampled_from([0, 1, 0x0A, 0x22, 0x2C, 0x7F, 0x80, 0xFE, 0xFF]))
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=20))
            case "delete":
                del content[at : at + draw(st.integers(1, 50))]
            case "repeat":
                content[at:at] = content[at : at + draw(st.integers(1, 200))] * draw(st.integers(1, 20))
            case "number":
                content[at : at + 4] = draw(st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"]))
            case _:
                del content[at:]
    return bytes(content)


@st.composite
def spoilt_json(draw: st.DrawFn, intact: Json) -> bytes:  # noqa: C901, PLR0912 - a case for each way to spoil
    """A sound document with values changed, lost, added, repeated, nested or encoded as they should not be."""
    if draw(st.integers(0, 4)) == 0:
        return draw(spoilt_bytes(json.dumps(intact).encode()))
    document: Json = deepcopy(intact)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "replace", "replace", "lose", "add", "twist"])):
            case "lose":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["", "\ud800", "__class__", "version", "x" * 3000]))] = draw(_odd)
            case "twist":
                holder[key] = [holder[key]] if draw(st.booleans()) else {str(key): holder[key]}
            case _:
                holder[key] = draw(_odd)
    text = json.dumps(document, ensure_ascii=draw(st.booleans()))
    match draw(st.sampled_from(["as it is"] * 6 + ["deep", "twice", "bare", "encoded", "after"])):
        case "deep":
            text = _DEEP[draw(st.sampled_from(["[", '{"a":']))].replace("0", text if len(text) < 100 else "0")
        case "twice" if text.startswith("{") and text != "{}":
            text = f"{text[:-1]}, {text[1:]}"
        case "bare":
            text = json.dumps(draw(_odd))
        case "encoded":
            return text.encode(draw(st.sampled_from(["utf-16", "utf-32", "utf-8-sig", "latin-1"])), "replace")
        case "after":
            text += draw(st.sampled_from(["\x00", "{}", "]", "\n\n", "garbage"]))
        case _:
            pass
    return text.encode("utf-8", "surrogatepass")


_odd = st.one_of(
    st.sampled_from(ODD).map(deepcopy),  # the next turn may change what is in the document
    st.integers(),
    st.floats(),
    st.text(st.characters(), max_size=20),
    st.datetimes().map(str),
)
_DEEP = {"[": "[" * 100_000 + "0" + "]" * 100_000, '{"a":': '{"a":' * 100_000 + "0" + "}" * 100_000}


def _places(document: Json) -> Iterator[tuple[Json, Json]]:
    """Every place in a document that holds a value: what holds it, and under which key or number."""
    pairs: list[tuple[Json, Json]] = []
    if isinstance(document, dict):
        pairs = list(document.items())
    elif isinstance(document, list):
        pairs = list(enumerate(document))
    for key, value in pairs:
        yield document, key
        yield from _places(value)
