"""How a file writes its numbers: with a point or a comma, thousands set apart, signs of money, 1.2M for volumes.

What can be read in two ways is no number: "1,234" is a price only where the file shows that a point is its decimal
sign.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from historical_etl.sources.files.spellings import NULLS

__all__ = ["NumberRule", "number_rule"]

_MONEY: Final = r"^([+-]?)\s*(?:US|C|A|HK)?[$€£¥]\s*"
#: What numbers of the commonest files consist of.
_BARE: Final = frozenset("0123456789.")
#: A decimal point, and no sign between thousands.
_POINTED: Final = re.compile(r"\d+\.(\d{1,2}|\d{4,})|\d{4,}\.\d+")
_UNITS: Final = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_SPLIT: Final = r"^(\d+(?:\.\d+)?)\s*[:/]\s*(\d+(?:\.\d+)?)$"


@dataclass(frozen=True)
class NumberRule:
    """How the numbers of one file are read.

    Attributes:
        decimal: its decimal sign.
        proven: whether that is set, or shown by the file.
        plain: whether the first rows have nothing but digits and the decimal sign: the fast way.
    """

    decimal: str
    proven: bool
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
        point, group = (",", ".") if self.decimal == "," else (".", ",")
        bare = text.str.replace(_MONEY, "${1}")
        factor: pl.Expr | None = None
        if volume:
            unit = bare.str.extract(r"\d\s*([KkMmBbTt])$", 1).str.to_uppercase()
            factor = unit.replace_strict(_UNITS, default=None, return_dtype=pl.Float64)
            bare = bare.str.replace(r"(\d)\s*[KkMmBbTt]$", "${1}")
        whole_too = volume or (self.proven and group == ",")
        part = rf"({re.escape(point)}\d+)"
        grouped = rf"^[+-]?\d{{1,3}}({re.escape(group)}\d{{3}})+{part}{'?' if whole_too else ''}$"
        ungrouped = (
            pl.when(bare.str.contains(grouped)).then(bare.str.replace_all(group, "", literal=True)).otherwise(bare)
        )
        number = pl.when(~ungrouped.str.contains(group, literal=True)).then(
            ungrouped.str.replace(point, ".", literal=True)
        )
        value = number.cast(pl.Float64, strict=False)
        return value if factor is None else pl.when(factor.is_null()).then(value).otherwise((value * factor).round(0))


def number_rule(prices: Sequence[str], volumes: Sequence[str], decimal: str | None) -> NumberRule:
    """How the numbers of a file are written, by those of its first rows; `decimal` where it is set."""
    if decimal is None and _BARE.issuperset("".join([*prices, *volumes])):
        return NumberRule(".", any(_POINTED.fullmatch(text) for text in prices), plain=True)
    texts = [re.sub(_MONEY, r"\1", text) for text in prices if text not in NULLS]
    if decimal is None:
        # 1.234 may be a thousand and some: it shows nothing.
        points = any(
            re.fullmatch(r"[+-]?(\d{1,3}(,\d{3})*|\d+)?\.\d+([eE][+-]?\d+)?", text)
            and not re.fullmatch(r"[+-]?\d{1,3}\.\d{3}", text)
            for text in texts
        )
        commas = any(
            re.fullmatch(r"[+-]?\d+,(\d{1,2}|\d{4,})", text) or re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+,\d+", text)
            for text in texts
        )
        sign, proven = ("," if commas and not points else "."), points or commas
    else:
        sign, proven = decimal, True
    others = [*prices, *volumes]
    simple = re.compile(rf"[+-]?\d*({re.escape(sign)}\d*)?([eE][+-]?\d+)?")
    is_plain = all(simple.fullmatch(text) or text in NULLS for text in others)
    return NumberRule(sign, proven, is_plain)
