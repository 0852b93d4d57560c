"""How exports spell the schema's columns, and what they write for no value. One table, for CSV and Parquet alike.

Names are compared without case, spaces, underscores, dots, hyphens, asterisks and angle brackets, and without the
numbers of Alpha Vantage ("5. adjusted close"). The export of a spelling is named beside it.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

__all__ = ["EVENT_SPELLINGS", "MARKS", "NULLS", "SPELLINGS", "is_unnamed", "looks_like", "plain"]

#: Column of ours → its spellings, as `plain` writes them. The first is our own, and goes before the others.
SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "date": (
        "date",
        *("timestamp", "datetime", "day", "time"),  # Alpha Vantage, yfinance, backtrader, TradingView
        *("tradedate", "tradingdate", "tradingday", "exchangedate", "quotedate", "pricedate", "businessdate"),  # LSEG
        *("dlycaldt", "caldt", "datadate"),  # CRSP, Compustat
        *("windowstart", "t"),  # Polygon's flat files, its bars
        *("index", "indexlevel0", "dates"),  # R's zoo, pandas' to_parquet
        "data",  # stooq.pl
    ),
    "symbol": (
        "symbol",
        *("ticker", "tickers", "tickersymbol", "tic", "sym", "stocksymbol"),  # Sharadar, Quandl WIKI, WRDS
        *("actsymbol", "tscode", "secucode", "stockcode"),  # DoltHub's stocks, Tushare, AkShare
        *("instrument", "ric", "code"),  # LSEG, EODHD
    ),
    "open": (
        "open",
        "openprice",
        "openingprice",
        "priceopen",
        "pxopen",
        "tradeopen",
        "dlyopen",
        "prcod",
        "o",
        "otwarcie",
    ),
    "high": ("high", "highprice", "pricehigh", "dayhigh", "pxhigh", "tradehigh", "dlyhigh", "prchd", "h", "najwyzszy"),
    "low": ("low", "lowprice", "pricelow", "daylow", "pxlow", "tradelow", "dlylow", "prcld", "l", "najnizszy"),
    "close": (
        "close",
        *("closeprice", "closingprice", "priceclose", "dlyclose", "prccd", "c", "zamkniecie"),
        "pxlast",  # Bloomberg
        *("tradeclose", "trdprc1"),  # LSEG
        *("close/last", "closelast"),  # nasdaq.com
    ),
    "volume": (
        "volume",
        *("vol", "totalvolume", "tradingvolume", "tradevolume", "sharevolume", "dlyvol", "cshtrd", "v", "wolumen"),
        *("pxvolume", "accvolume", "accumulatedvolume"),  # Bloomberg, LSEG
        *("totaltradequantity", "totaltradedquantity", "tottrdqty", "ttltrdqnty"),  # NSE
    ),
    "adj_close": (
        "adjclose",
        *("adjustedclose", "closeadjusted", "closeadj", "adjusted"),  # Alpha Vantage and EODHD, Sharadar, quantmod
        *("adjcloseprice", "adjustedcloseprice", "adjclosingprice", "adjustedclosingprice", "closepriceadjusted"),
    ),
}
#: Events beside the bars → their spellings: yfinance, Tiingo, Quandl WIKI, Alpha Vantage.
EVENT_SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "split": ("split", "stocksplits", "stocksplit", "splitfactor", "splitratio", "splitcoefficient"),
    "dividend": ("dividend", "dividends", "divcash", "exdividend", "dividendamount", "cashdividend"),
    "gains": ("capitalgains", "capitalgain"),
}
#: What tells whether rows are of one series → its spellings; of the first that a file has, all rows of a symbol must
#: have one value. The surest goes first: a security keeps its PERMNO when its CUSIP changes. Columns of the basis, as
#: baostock's adjustflag, and of the kind of security, as NSE's SERIES, say as much as a currency does.
MARKS: Final[Mapping[str, tuple[str, ...]]] = {
    "currency": (
        *("currency", "currencycode", "pricecurrency", "tradingcurrency", "tradecurrency", "quotecurrency"),
        *("listingcurrency", "ccy", "crncy", "curr", "currencyiso", "curcdd"),  # Bloomberg, Compustat
        *("isocurrency", "currencysymbol", "curcode", "cur"),
        *("devise", "monnaie", "währung", "waehrung", "wahrung", "moneda", "divisa", "valuta", "waluta", "moeda"),
    ),
    "unit": (
        *("unit", "units", "priceunit", "quoteunit", "quotationunit", "unitofmeasure", "pricescale"),
        *("einheit", "unité", "unite", "unidad", "unità", "unita", "jednostka"),
    ),
    "basis": (
        *("adjustflag", "adjflag", "adjustedflag", "adjustmentflag"),  # baostock
        *("adjusttype", "adjtype", "adjustmenttype", "isadjusted", "isadj", "adjustmentmode", "adjustmethod"),
        *("fq", "autype"),  # Futu
        *("pricetype", "typeofprice", "pricekind", "pricebasis", "basis", "preistyp", "typeprix", "tipoprecio"),
        *("pricingtype", "quotetype", "datatype", "whattoshow"),  # Interactive Brokers
    ),
    "kind": (
        *("series", "sctysrs", "instrumenttype", "fininstrmtp", "securitytype", "sectype", "assettype"),  # NSE
        *("assetclass", "typeofsecurity", "issuetype", "producttype", "instrumentclass", "wertpapierart", "tpmerc"),
    ),
    "class": ("shareclass", "classofshare", "classofshares", "stockclass", "securityclass", "aktiengattung", "shrcls"),
    "market": (
        *("mic", "exchangemic", "miccode", "exchange", "exchangecode", "exchcode", "exch", "primaryexchange"),
        *("listingexchange", "stockexchange", "exchangename", "venue", "ex"),  # EODHD writes Ex
    ),
    "security": (
        *("permno", "permaticker", "compositefigi", "figi", "sharefigi"),  # CRSP, Sharadar, Massive
        *("isin", "isincode", "cusip", "cusip9", "sedol", "wkn", "gvkey"),
    ),
}
#: What is written for no value, in small letters.
_NULLS: Final = (
    "",
    "-",
    "--",
    "n/a",
    "na",
    "#n/a",
    "#na",
    "n.a.",
    "nan",
    "null",
    "none",
    "nil",
    "\\n",
    ".",
    "#n/a n/a",
)
NULLS: Final = tuple(
    sorted(
        {text for mark in _NULLS for text in (mark, mark.upper(), mark.capitalize(), mark.title())}
        | {"NaN", "#N/A N/A"}
    )
)
#: Names that hold a word of ours and are known to mean something else.
_OTHERS: Final = re.compile(
    r"unadj|prev|^tickvol|chang|chg|52|week|year|month|time$|update|refresh|openint|interest|vwap|average|avg|turnover|value"
    r"|count|trades|transaction|asset|currency|name|company|sector|industry|exchange|type|flag|source|currency|market"
    r"|return|yield|pct|percent|%|bid|ask|range|limit|target|dividend|split|factor|cap\b|marketcap|adj(usted|ustment)?(open|high"
    r"|low|vol)|(open|high|low|volume)adj"
)
#: Parts of a name that point at a column of ours, where no other column of the file is it.
_HINTS: Final[Mapping[str, str]] = {
    "adj_close": r"adj.*(cl|price|last)|(cl|price|last).*adj|^adj|totalreturn|^aclose",
    "date": r"date|time|^day|session",
    "symbol": r"symb|tick|^ric$|isin|cusip|permno|^code|securit|^name$",
    "open": r"open",
    "high": r"high|^max",
    "low": r"^low|low$|lowest|^min",
    "close": r"clos|last|price|settle|^nav$|^value$|^px",
    "volume": r"vol|quantity|qty|shares|^size$",
}
_SIMILAR: Final = 0.84
_SHORT: Final = 4


@lru_cache(4096)
def plain(name: str) -> str:
    """A column's name without what spellings differ by."""
    unnumbered = re.sub(r"^\s*\d+\.\s+", "", name)
    return re.sub(r"[\s_.\-*<>\u00a0\ufeff]+", "", unnumbered).casefold()


def is_unnamed(name: str) -> bool:
    """Whether a header has no name here: an index that pandas wrote."""
    return not name.strip() or re.fullmatch(r"Unnamed: \d+", name.strip()) is not None


def looks_like(name: str, missing: Iterable[str]) -> str | None:
    """The column of ours, among `missing`, that a column with an unknown name may be; None if it looks like none."""
    text = plain(name)
    wanted = list(missing)
    adjusted = "adj" in text
    for ours, hint in _HINTS.items():
        if ours in wanted and adjusted is (ours == "adj_close") and re.search(hint, text) and not _OTHERS.search(text):
            return ours
    if len(text) < _SHORT:
        return None
    for ours in wanted:
        near = difflib.get_close_matches(text, SPELLINGS[ours], n=1, cutoff=_SIMILAR)
        if near and not _OTHERS.search(text):
            return ours
    return None
