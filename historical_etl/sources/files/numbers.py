"""How a file writes its numbers: with a point or a comma, thousands set apart, signs of money, 1.2M for volumes.

Thousands are groups of three digits, or of two before the last three as in India, set apart by the sign that is not the
decimal one, by spaces or by apostrophes. What can be read in two ways is no number: "1,234" is a price only where the
file shows that a point is its decimal sign.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from historical_etl.settings import PREFIX
from historical_etl.sources.files.column_spellings import NULLS

__all__ = ["NumberRule", "advice", "number_rule", "question"]

_MONEY: Final = r"^([+-]?)\s*(?:US|C|A|HK)?[$€£¥₹]\s*"
#: What numbers of the commonest files consist of.
_BARE: Final = frozenset("0123456789.")
#: A decimal point, and no sign between thousands.
_POINTED: Final = re.compile(r"\d+\.(\d{1,2}|\d{4,})|\d{4,}\.\d+|0\.\d+")
_UNITS: Final = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_SPLIT: Final = r"^(\d+(?:\.\d+)?)\s*[:/]\s*(\d+(?:\.\d+)?)$"
#: Spaces, narrow and no-break ones too, and apostrophes: they only set thousands apart.
_APART: Final = "[ '\u00a0\u2009\u2019\u202f]"


def _grouped(sign: str) -> str:
    return rf"([1-9]\d{{0,2}}({sign}\d{{3}})+|[1-9]\d?({sign}\d{{2}})+{sign}\d{{3}})"


def _well_formed(point: str, group: str) -> str:
    """Numbers with thousands set apart; Python and Polars read it alike."""
    return rf"^[+-]?({_grouped(_APART)}|{_grouped(re.escape(group))})({re.escape(point)}\d+)?$"


_OPEN: Final = re.compile(r"[+-]?[1-9]\d{0,2}([.,])\d{3}")
_SIGNS: Final = {".": ",", ",": "."}


@dataclass(frozen=True)
class NumberRule:
    """How the numbers of one file are read.

    Attributes:
        decimal: its decimal sign.
        proven: whether that is set, or shown by the file.
        wholes: whether a price such as 1,234 is a thousand and some.
        plain: whether the first rows have nothing but digits and the decimal sign: the fast way.
    """

    decimal: str
    proven: bool
    wholes: bool
    plain: bool

    def parsed(self, text: pl.Expr, *, volume: bool = False) -> tuple[pl.Expr, pl.Expr]:
        """The number that a text is, null for none; and whether it is neither."""
        value = (self._plain(text) if self.plain else self._rich(text, volume=volume)).fill_nan(None)
        return value, value.is_null() & ~text.is_in(NULLS)

    def split(self, text: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
        """The ratio of a split, as a number or as in 4:1; and whether it is none."""
        number, fault = self.parsed(text)
        new, old = (text.str.extract(_SPLIT, group).cast(pl.Float64, strict=False) for group in (1, 2))
        ratio = pl.when(old > 0).then(new / old)
        return pl.coalesce(number, ratio), fault & ratio.is_null()

    def _plain(self, text: pl.Expr) -> pl.Expr:
        if self.decimal == ",":
            # With decimal commas, 1.234 is a thousand and some: it must not pass as one and a bit.
            text = pl.when(~text.str.contains(".", literal=True)).then(text.str.replace(",", ".", literal=True))
        return text.cast(pl.Float64, strict=False)

    def _rich(self, text: pl.Expr, *, volume: bool) -> pl.Expr:
        point, group = self.decimal, _SIGNS[self.decimal]
        bare = text.str.replace(_MONEY, "${1}")
        factor: pl.Expr | None = None
        if volume:
            unit = bare.str.extract(r"\d\s*([KkMmBbTt])$", 1).str.to_uppercase()
            factor = unit.replace_strict(_UNITS, default=None, return_dtype=pl.Float64)
            bare = bare.str.replace(r"(\d)\s*[KkMmBbTt]$", "${1}")
        grouped = bare.str.contains(_well_formed(point, group))
        if not volume and not self.wholes:
            grouped &= ~bare.str.contains(rf"^[+-]?\d{{1,3}}{re.escape(group)}\d{{3}}$")
        apart = rf"{_APART}|{re.escape(group)}"
        digits = pl.when(grouped).then(bare.str.replace_all(apart, "")).otherwise(bare)
        number = pl.when(~digits.str.contains(group, literal=True)).then(digits.str.replace(point, ".", literal=True))
        value = number.cast(pl.Float64, strict=False)
        return value if factor is None else pl.when(factor.is_null()).then(value).otherwise((value * factor).round(0))


def number_rule(prices: Sequence[str], volumes: Sequence[str], decimal: str | None) -> NumberRule:
    """How the numbers of a file are written, by those of its first rows; `decimal` where it is set."""
    if decimal is None and _BARE.issuperset("".join(prices)) and _BARE.issuperset("".join(volumes)):
        is_plain = not any(text.count(".") > 1 for text in (*prices, *volumes))
        if is_plain:
            proven = any(_POINTED.fullmatch(text) for text in prices)
            return NumberRule(".", proven, wholes=proven, plain=True)
    if decimal is None:
        shown = {_decimal_of(text) for text in _known(prices)}
        sign, proven = ("," if "," in shown and "." not in shown else "."), bool(shown - {None})
    else:
        sign, proven = decimal, True
    simple = re.compile(rf"[+-]?\d*({re.escape(sign)}\d*)?([eE][+-]?\d+)?")
    is_plain = all(simple.fullmatch(text) or text in NULLS for text in (*prices, *volumes))
    grouped = re.compile(_grouped(re.escape(".")) + r",\d+")
    wholes = sign == "." or any(map(grouped.fullmatch, prices)) or not any("," in text for text in prices)
    return NumberRule(sign, proven, proven and wholes, is_plain)


def question(prices: Sequence[str], volumes: Sequence[str]) -> tuple[str, str] | None:
    """What is asked of a file that shows no decimal sign, and whose volumes tell that its points set thousands apart.

    A volume is whole: where each has a point before its last three digits, or fewer than four, 1.219 is no price of one
    and a bit. The words, and what to do; None where nothing is to be asked.
    """
    wholes = re.compile(rf"\d{{1,3}}|{_grouped(re.escape('.'))}")
    shares, texts = _known(volumes), _known(prices)
    share = next((text for text in shares if "." in text), None)
    if share is None or not all(wholes.fullmatch(text) for text in (*shares, *texts)):
        return None
    text = next((text for text in texts if _OPEN.fullmatch(text)), share)
    if text == share and text.count(".") > 1:
        text = "1.234"
    return f"Prices such as {text!r} beside volumes such as {share!r} may have thousands set apart", advice(text, ".")


def advice(text: str, decimal: str) -> str:
    """What to do about a price that is not read with a decimal sign: the setting that reads it, where there is one."""
    name, other = f"{PREFIX}FILES_DECIMAL", _SIGNS[decimal]
    if found := _OPEN.fullmatch(text):
        point = found.group(1)
        one, many = text.replace(point, "."), text.replace(point, "")
        return f"set {name}={point} if it is {one}, or {name}={_SIGNS[point]} if it is {many}"
    if re.fullmatch(rf"[+-]?\d+{re.escape(other)}\d+", text) or re.fullmatch(_well_formed(other, decimal), text):
        return f"set {name}={other}, if that is how the file writes it"
    return "export prices as plain numbers, such as 1234.5, or correct the file"


def _known(texts: Sequence[str]) -> list[str]:
    return [re.sub(_MONEY, r"\1", text) for text in texts if text not in NULLS]


def _decimal_of(text: str) -> str | None:
    """The decimal sign that a number shows; None where it shows none, or 1.234 and 1,234 may be either."""
    bare = re.sub(rf"(?<=\d){_APART}(?=\d)", "", text).lstrip("+-")
    for point, group in _SIGNS.items():
        dot, comma = re.escape(point), re.escape(group)
        if re.fullmatch(rf"\d*{dot}\d+([eE][+-]?\d+)?|{_grouped(comma)}({dot}\d+)?", bare) and not _OPEN.fullmatch(
            bare
        ):
            return point
    return None
