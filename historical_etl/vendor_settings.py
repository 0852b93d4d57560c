"""Settings of the vendors: one group each, with its own prefix. Keys are read here and nowhere else.

A group is `HISTORICAL_ETL_<VENDOR>_<NAME>`; the keys have the names that the vendors themselves gave them, such as
`TIINGO_API_KEY`. They are `SecretStr`: they never print.

A key goes only where its owner sends it. An address is https, or on this machine. And `.env` goes with a folder that
somebody else may have filled: an address in it never gets a key that is not in it, nor anything of the environment.
"""

import ipaddress
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import SettingsConfigDict

from historical_etl.dotenv_file import OWN_FILE, ThisFolder, of_group, read_dotenv, upper
from historical_etl.errors import ConfigurationError

__all__ = [
    "VENDOR_GROUPS",
    "AlpacaSettings",
    "EodhdSettings",
    "MassiveSettings",
    "TiingoSettings",
    "VendorSettings",
    "YfinanceSettings",
    "variable_of",
    "without_password",
]

_PREFIX: Final = "HISTORICAL_ETL_"
_RATE: Final = r"^[1-9][0-9]{0,8}/(second|minute|hour|day)$"
_YEAR: Final = 365 * 86400.0
_PERIODS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def _config(vendor: str) -> SettingsConfigDict:
    return SettingsConfigDict(
        env_prefix=f"{_PREFIX}{vendor.upper()}_",
        env_file=OWN_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # The keys go by their vendors' names in the environment, and by ours in Python.
        populate_by_name=True,
    )


def _key(variable: str) -> Any:  # noqa: ANN401 - as pydantic's own Field
    return Field(default=None, validation_alias=variable)


class Address(str):
    """An address that prints without its password."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Without user and password."""
        return repr(without_password(self))


def without_password(address: str) -> str:
    """An address whose user and password, if it has them, are ***."""
    scheme, sign, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    user, at, host = place.rpartition("@")
    return f"{scheme}{sign}{'***' if user else ''}{at}{host}{slash}{path}"


class VendorSettings(ThisFolder):
    """What every vendor has: how fast it may be asked, how often, and when to give up.

    Attributes:
        base_url: where its API is; empty: where the vendor has it.
        rate: the most requests in a period, as in `50/hour`; periods are second, minute, hour and day.
        daily_budget: the most requests within any 24 hours; None: as many as `rate` allows.
        timeout_seconds: for one request, from connecting to its last byte.
        attempts: how often one request is tried before it counts as failed.
        max_wait_seconds: the longest wait for a turn, or for a Retry-After; longer ones stop the run.
        breaker_failures: so many failed requests in a row, and nothing more is asked.
        breaker_seconds: for so long.
    """

    variables: ClassVar[tuple[str, ...]] = ()

    base_url: str = ""
    rate: str = Field(default="60/minute", pattern=_RATE)
    daily_budget: int | None = Field(default=None, ge=1)
    timeout_seconds: float = Field(default=30, gt=0, le=_YEAR)
    attempts: int = Field(default=4, ge=1, le=1000)
    max_wait_seconds: float = Field(default=120, ge=0, le=_YEAR)
    breaker_failures: int = Field(default=5, ge=1)
    breaker_seconds: float = Field(default=300, ge=0, le=_YEAR)

    @field_validator("base_url")
    @classmethod
    def _parse_base_url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:  # its words may repeat the password
            raise ValueError("write it as https://host/path") from None
        if value and (
            port == 0 or parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment
        ):
            raise ValueError("write it as https://host/path")
        if not (parts.hostname or "").isascii():  # it may look like another one
            raise ValueError("write the host in ASCII, as xn--…")
        if parts.scheme == "http" and not _is_this_machine(parts.hostname):
            raise ValueError("write it with https: what is sent and what comes can be read and changed on its way")
        return Address(value.rstrip("/"))

    @field_serializer("base_url", when_used="json")
    def _without_password(self, value: str) -> str:
        return without_password(value)

    @model_validator(mode="after")
    def _keep_keys_at_home(self) -> Self:
        prefix = str(self.model_config.get("env_prefix", ""))
        environment = upper(os.environ)
        if f"{prefix}BASE_URL" in environment or _is_this_machine(urlsplit(self.base_url).hostname):
            return self
        file = upper(read_dotenv()) if self.base_url else {}
        if self.base_url not in _addresses(file, environment, prefix):
            return self
        absent = [name for name, key in self._keys() if key != file.get(name, "").strip()]
        if absent:
            raise ConfigurationError(
                f"{prefix}BASE_URL is in .env and {' and '.join(absent)} is not: that file would decide to"
                " whom a key is sent which is not its own",
                where=f"{prefix}BASE_URL",
                todo="set the address in the environment, where the key is; or remove it from .env",
            )
        if self.base_url not in _addresses(upper(read_dotenv(interpolate=False)), environment, prefix):
            raise ConfigurationError(
                f"{prefix}BASE_URL in .env takes other variables into an address",
                where=f"{prefix}BASE_URL",
                todo="write it out, without ${…}",
            )
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys that are set, in the order of `variables`."""
        return tuple(key for _, key in self._keys())

    @property
    def hidden(self) -> tuple[str, ...]:
        """What no message may hold: the keys, and the password of the address."""
        password = urlsplit(self.base_url).password or ""
        return (*self.secrets, *filter(None, dict.fromkeys((password, unquote(password)))))

    def _keys(self) -> list[tuple[str, str]]:
        """The variables of the keys that are set, each with its key."""
        names = {field.validation_alias: name for name, field in type(self).model_fields.items()}
        held: dict[str, SecretStr | None] = {variable: getattr(self, names[variable]) for variable in self.variables}
        return [(name, key) for name, secret in held.items() if secret and (key := secret.get_secret_value().strip())]

    @property
    def requests(self) -> int:
        """How many requests `rate` allows in its period."""
        return int(self.rate.partition("/")[0])

    @property
    def period_seconds(self) -> int:
        """The period of `rate`."""
        return _PERIODS[self.rate.partition("/")[2]]


class TiingoSettings(VendorSettings):
    """Tiingo: `HISTORICAL_ETL_TIINGO_…` and `TIINGO_API_KEY`. The defaults are the free plan's."""

    model_config = _config("tiingo")
    variables: ClassVar[tuple[str, ...]] = ("TIINGO_API_KEY",)

    api_key: SecretStr | None = _key("TIINGO_API_KEY")
    rate: str = Field(default="50/hour", pattern=_RATE)
    daily_budget: int | None = Field(default=1000, ge=1)


class EodhdSettings(VendorSettings):
    """EODHD: `HISTORICAL_ETL_EODHD_…` and `EODHD_API_KEY`.

    `market` is the exchange code behind the symbol, as in AAPL.US. `currency` is that of its prices, GBX for pence;
    empty: as the vendor lists the market. `actions` asks for splits and dividends too: two more requests for each
    symbol. `daily_budget` counts the vendor's API calls: a whole market costs 100.
    """

    model_config = _config("eodhd")
    variables: ClassVar[tuple[str, ...]] = ("EODHD_API_KEY",)

    api_key: SecretStr | None = _key("EODHD_API_KEY")
    rate: str = Field(default="1000/minute", pattern=_RATE)
    daily_budget: int | None = Field(default=100_000, ge=1)
    market: str = Field(default="US", pattern=r"^[A-Z0-9]+$")
    currency: str = Field(default="", pattern=r"^([A-Za-z]{3})?$")
    actions: bool = True


class YfinanceSettings(VendorSettings):
    """Yahoo by way of yfinance: `HISTORICAL_ETL_YFINANCE_…`. Without a key, and without a promise by Yahoo."""

    model_config = _config("yfinance")

    rate: str = Field(default="60/minute", pattern=_RATE)


class AlpacaSettings(VendorSettings):
    """Alpaca: `HISTORICAL_ETL_ALPACA_…`, `APCA_API_KEY_ID` and `APCA_API_SECRET_KEY`.

    `actions` asks for splits and dividends too: one more request for each page of symbols, or a few.
    """

    model_config = _config("alpaca")
    variables: ClassVar[tuple[str, ...]] = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")

    key_id: SecretStr | None = _key("APCA_API_KEY_ID")
    secret_key: SecretStr | None = _key("APCA_API_SECRET_KEY")
    rate: str = Field(default="200/minute", pattern=_RATE)
    page_symbols: int = Field(default=100, ge=1, le=1000)
    actions: bool = True


class MassiveSettings(VendorSettings):
    """Massive (was Polygon): `HISTORICAL_ETL_MASSIVE_…` and `MASSIVE_API_KEY`. The defaults are the free plan's.

    `actions` asks for splits and dividends too: two more requests for every 100 symbols. `universe` are types of
    tickers, as in `CS,ADRC`: where no symbols are named, all of these are meant that traded at the time.
    """

    model_config = _config("massive")
    variables: ClassVar[tuple[str, ...]] = ("MASSIVE_API_KEY",)

    api_key: SecretStr | None = _key("MASSIVE_API_KEY")
    rate: str = Field(default="5/minute", pattern=_RATE)
    actions: bool = True
    universe: str = Field(default="", pattern=r"^([A-Z]+(,[A-Z]+)*)?$")


def _is_this_machine(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _addresses(file: Mapping[str, str], environment: Mapping[str, str], prefix: str) -> set[str]:
    """The base URLs that `.env` gives: of its own variable, or in the one of the whole group."""
    group = prefix.rstrip("_")
    whole = of_group(file.get(group, ""), "base_url") if group not in environment else None
    return {str(text).rstrip("/") for text in (file.get(f"{prefix}BASE_URL"), whole) if text}


#: The groups by the name of their field in `Settings`, which is the name of the source too.
VENDOR_GROUPS: Final[dict[str, type[VendorSettings]]] = {
    "tiingo": TiingoSettings,
    "eodhd": EodhdSettings,
    "yfinance": YfinanceSettings,
    "alpaca": AlpacaSettings,
    "massive": MassiveSettings,
}


def variable_of(vendor: str, name: str, field: FieldInfo) -> str:
    """The environment variable that a setting of a vendor is read from."""
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"{_PREFIX}{vendor.upper()}_{name.upper()}"
