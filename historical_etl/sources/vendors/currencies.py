"""Money: what is one currency and what another, and in which one EODHD's prices of a market are.

Pence and pounds are units of one currency, so that one becomes the other without any rate; dollars are another one.
"""

from typing import Final

__all__ = ["currency_of_market", "in_units_of"]

#: Units of which a hundred are one of their currency, as vendors write them; GBp and GBP differ by the small letter.
_HUNDREDTHS: Final = {
    **dict.fromkeys(("GBX", "GBp", "GBx"), "GBP"),
    **dict.fromkeys(("ZAC", "ZAc"), "ZAR"),
    **dict.fromkeys(("ILA", "ILa"), "ILS"),
}
#: Markets of EODHD by the currency of their prices, as its list of exchanges has them; three of them it quotes in
#: hundredths, as its guide says. A market may list single securities in another one.
_MARKETS: Final = {
    "USD": "US NYSE NASDAQ BATS AMEX IL",
    "CAD": "TO V NEO",
    "EUR": "BE HM XETRA DU HA MU STU F LU VI PA BR MC LS AS IR HE AT ZSE",
    "GBX": "LSE",
    "CHF": "SW",
    "NOK": "OL",
    "DKK": "CO",
    "SEK": "ST",
    "ISK": "IC",
    "CZK": "PR",
    "HUF": "BUD",
    "PLN": "WAR",
    "RON": "RO",
    "ILA": "TA",
    "ZAC": "JSE",
    "KRW": "KO KQ",
    "CNY": "SHG SHE",
    "TWD": "TW TWO",
    "INR": "NSE",
    "AUD": "AU",
    "BRL": "SA",
    "MXN": "MX",
    "CLP": "SN",
    "ARS": "BA",
    "PEN": "LIM",
    "PHP": "PSE",
    "IDR": "JK",
    "THB": "BK",
    "VND": "VN",
    "MYR": "KLSE",
    "PKR": "KAR",
    "LKR": "CM",
    "EGP": "EGX",
    "MAD": "BC",
    "MUR": "SEM",
    "NGN": "XNSA",
    "KES": "XNAI",
    "GHS": "GSE",
    "BWP": "XBOT",
    "UGX": "USE",
    "TZS": "DSE",
    "RWF": "RSE",
    "ZMW": "LUSE",
    "MWK": "MSE",
}
_BY_MARKET: Final = {market: currency for currency, markets in _MARKETS.items() for market in markets.split()}


def currency_of_market(market: str) -> str:
    """The currency or unit of the prices of one of EODHD's markets; empty where no public source tells."""
    return _BY_MARKET.get(market, "")


def in_units_of(theirs: str, ours: str) -> float | None:
    """How many of `ours` one of `theirs` is; None where they are of different currencies."""
    currency, parts = _currency(theirs)
    own, own_parts = _currency(ours)
    return own_parts / parts if currency == own else None


def _currency(unit: str) -> tuple[str, int]:
    """The currency that a unit belongs to, and how many of the unit are one of it."""
    text = unit.strip()
    hundredth = _HUNDREDTHS.get(text)
    return (hundredth, 100) if hundredth else (text.upper(), 1)
