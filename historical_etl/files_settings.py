"""Settings of the source `files`: how the files are written that somebody has."""

from collections.abc import Iterable
from typing import Annotated, Literal, cast

from pydantic import ByteSize, Field, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from historical_etl.dotenv_file import OWN_FILE, ThisFolder
from historical_etl.errors import ConfigurationError
from historical_etl.masking import looks_secret
from historical_etl.models import UNSTATED
from historical_etl.regular_files import read_text
from historical_etl.symbols import normalize_symbols

__all__ = ["FilesSettings"]


class FilesSettings(ThisFolder):
    r"""The `files` source: a folder or glob of CSV or Parquet files.

    `columns` maps schema columns to the file's names, e.g. `date=Date,symbol=Ticker,close=Last`; names that exports
    are known to use need no mapping. `ignore` names columns that look like ours and are not. `date_format`, `decimal`
    and `separator` are `auto`: as each file shows; the date format `excel` also takes days that Excel counts.
    `separator` is one character; a tab may be spelled out as `tab` or `\t`. A blank `symbol` means it is not set.
    `symbols` maps spellings of the files to ours, as in `BRK B=BRK.B`, or names a CSV file of two such columns.
    `market_suffix` says what becomes of the market in SAP.DE: `auto` leaves it out where all symbols have the same,
    `keep`, `strip`. `layout` names an export whose columns are known: `stooq`, `sharadar`, `crsp`; `generic` goes by
    names. `split_adjusted` says whether prices are adjusted for splits, where files do not show it. `memory` is what
    reading one file may take.
    """

    model_config = SettingsConfigDict(
        env_prefix="HISTORICAL_ETL_FILES_", env_file=OWN_FILE, env_ignore_empty=True, extra="ignore", frozen=True
    )

    path: str = ""
    layout: str = "generic"
    columns: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict[str, str])
    ignore: Annotated[tuple[str, ...], NoDecode] = ()
    date_format: str = "auto"
    decimal: str = Field(default="auto", pattern=r"^([.,]|auto)$")
    separator: str = Field(default="auto", pattern=r"^(auto|[\s\S])$")
    symbol: str | None = None
    symbols: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict[str, str])
    market_suffix: Literal["auto", "keep", "strip"] = "auto"
    adjustment: str = UNSTATED
    split_adjusted: bool | None = None
    memory: ByteSize = Field(default=ByteSize(4 * 1024**3), gt=0)

    @field_validator("columns", mode="before")
    @classmethod
    def _parse_columns(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [item.partition("=") for item in value.split(",") if item.strip()]
        if any(not sep or not theirs.strip() for _, sep, theirs in pairs):
            raise ValueError("write it as ours=theirs,ours=theirs, e.g. date=Date,symbol=Ticker")
        return _each_once((ours.strip(), theirs.strip()) for ours, _, theirs in pairs)

    @field_validator("ignore", mode="before")
    @classmethod
    def _parse_ignore(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("symbols", mode="before")
    @classmethod
    def _parse_symbols(cls, value: object) -> object:
        if isinstance(value, str):
            lines = [value]
            if "=" not in value and value.strip():
                try:
                    lines = [line.replace(",", "=", 1) for line in read_text(value.strip()).splitlines()]
                except (OSError, ValueError) as error:
                    why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
                    raise ValueError(
                        f"it is no file that can be read{why}; or write it as theirs=ours,theirs=ours"
                    ) from None
            items = [item for line in lines for item in line.split(",") if item.strip()]
            value = _each_once(_pair(item) for item in items)
        if isinstance(value, dict):
            given = cast("dict[object, object]", value)
            try:
                return {str(theirs).upper(): normalize_symbols([str(ours)])[0] for theirs, ours in given.items()}
            except ConfigurationError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("date_format")
    @classmethod
    def _check_date_format(cls, value: str) -> str:
        if "%" not in value and value not in {"auto", "excel"}:
            raise ValueError("write it as auto, excel, or with % as in %d.%m.%Y")
        return value

    @field_validator("adjustment")
    @classmethod
    def _check_adjustment(cls, value: str) -> str:
        if looks_secret(value):  # it is committed, and shown by `status`
            raise ValueError("it looks like a key: say in words how the prices are adjusted")
        return value

    @field_validator("separator", mode="before")
    @classmethod
    def _parse_separator(cls, value: object) -> object:
        return "\t" if isinstance(value, str) and value.strip().lower() in {"tab", r"\t"} else value

    @field_validator("symbol")
    @classmethod
    def _parse_symbol(cls, value: str | None) -> str | None:
        return value if value and value.strip() else None


def _pair(item: str) -> tuple[str, str]:
    theirs, sign, ours = item.rpartition("=")
    if not sign or not theirs.strip() or not ours.strip():
        raise ValueError("write it as theirs=ours,theirs=ours, e.g. BRK B=BRK.B")
    return theirs.strip(), ours.strip()


def _each_once(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise ValueError("it gives two values to one name")
    return found
