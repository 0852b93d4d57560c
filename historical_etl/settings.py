"""Settings: one model, read by the command line, by Dagster and by plain Python.

Each setting is an environment variable with the prefix `HISTORICAL_ETL_`, or a line of a `.env` file in the
current directory. Secrets are `SecretStr`: they never print.
"""

import difflib
import logging
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Self, cast

from pydantic import ByteSize, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from historical_etl.arguments import is_table
from historical_etl.dotenv_file import DOTENV_NAME, OWN_FILE, ThisFolder, read_dotenv, unread_lines, upper
from historical_etl.errors import ConfigurationError
from historical_etl.files_settings import FilesSettings
from historical_etl.masking import SHORTEST, display_value, hidden, looks_secret
from historical_etl.retention import Retention
from historical_etl.symbols import normalize_symbols
from historical_etl.vendor_settings import (
    VENDOR_GROUPS,
    AlpacaSettings,
    EodhdSettings,
    MassiveSettings,
    TiingoSettings,
    VendorSettings,
    YfinanceSettings,
    variable_of,
    without_password,
)

__all__ = [
    "LENIENT_ENVIRONMENTS",
    "PREFIX",
    "FilesSettings",
    "GivenSetting",
    "Settings",
    "given_settings",
    "load_settings",
    "secrets_of",
    "unknown_variables",
]

PREFIX: Final = "HISTORICAL_ETL_"
#: Names that are not production. Any other name counts as production.
LENIENT_ENVIRONMENTS: Final = frozenset({"development", "dev", "test", "testing", "ci", "local"})

_log = logging.getLogger(__name__)
#: More than anybody can mean, and far from what a date, a time or a column of integers can hold.
_MANY: Final = 1_000_000
_WEEK: Final = 7 * 24 * 60  # in minutes
_YEAR: Final = 365 * 86400.0  # in seconds
#: A symbol of an option, which looks like a key.
_OPTION: Final = re.compile(r"[A-Za-z]{1,6}\d{6}[CPcp]\d{8}")
#: What the name of a variable has that may be one of ours with an error in it.
_LIKE_OURS: Final = re.compile(r"HIST|_ETL|[^\x00-\x7f]|TIINGO|EODHD|APCA|MASSIVE")
_SURELY: Final = 0.88
_KEYS: Final = frozenset(variable for group in VENDOR_GROUPS.values() for variable in group.variables)


class Settings(ThisFolder):
    """All settings. See the README's table for what each one does."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=OWN_FILE, env_ignore_empty=True, extra="ignore", frozen=True
    )

    data_dir: Path = Path("data")
    source: str = "sample"
    symbols: Annotated[tuple[str, ...] | None, NoDecode] = None
    universe: str | None = None
    start: date = date(2000, 1, 1)
    environment: str = "development"
    exchange: str = "XNYS"
    calendar_corrections: Path | None = None
    settle_minutes: int = Field(default=60, ge=0, le=_WEEK)
    overlap_sessions: int = Field(default=5, ge=1, le=_MANY)
    batch_symbols: int = Field(default=1000, ge=1, le=_MANY)
    fetch_workers: int = Field(default=4, ge=1, le=_MANY)
    max_rejected_share: float = Field(default=0.05, ge=0, le=1)
    lock_timeout_seconds: float = Field(default=30, ge=0, le=_YEAR)
    query_timeout_seconds: float = Field(default=600, gt=0, le=_YEAR)
    query_memory: ByteSize = Field(default=ByteSize(4 * 1024**3), gt=0)
    keep_versions: int = Field(default=Retention.versions, ge=Retention.VERSIONS[0], le=Retention.VERSIONS[1])
    keep_days: int = Field(default=Retention.days, ge=Retention.DAYS[0], le=Retention.DAYS[1])
    sensor_on: bool = False
    confirm_runs: int = Field(default=3, ge=1, le=_MANY)
    ended_after_sessions: int = Field(default=10, ge=1, le=_MANY)
    long_gap_sessions: int = Field(default=20, ge=1, le=_MANY)
    max_pause_sessions: int = Field(default=20, ge=1, le=_MANY)
    stale_sessions: int = Field(default=5, ge=3, le=_MANY)
    max_empty_share: float = Field(default=0.2, ge=0, le=1)
    max_corrected_share: float = Field(default=0.01, ge=0, le=1)
    replay_from: date | None = None
    files: FilesSettings = Field(default_factory=FilesSettings)
    tiingo: TiingoSettings = Field(default_factory=TiingoSettings)
    eodhd: EodhdSettings = Field(default_factory=EodhdSettings)
    yfinance: YfinanceSettings = Field(default_factory=YfinanceSettings)
    alpaca: AlpacaSettings = Field(default_factory=AlpacaSettings)
    massive: MassiveSettings = Field(default_factory=MassiveSettings)

    @field_validator("symbols", mode="before")
    @classmethod
    def _parse_symbols(cls, value: object) -> object:
        if isinstance(value, str) or is_table(value):
            try:
                return tuple(normalize_symbols(cast("str", value))) if str(value).strip() else None
            except ConfigurationError as error:
                raise ValueError(str(error)) from None  # so that the message names the variable
        return value

    @field_validator("data_dir", mode="before")
    @classmethod
    def _refuse_blank_folder(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip():
            raise ValueError("it is blank; write . for the current folder")
        return value

    @property
    def is_production(self) -> bool:
        """True unless the environment's name is known to be something less."""
        return self.environment.strip().lower() not in LENIENT_ENVIRONMENTS

    def changed(self, changes: Mapping[str, object]) -> Self:
        """These settings with some of them changed, by field name.

        Raises:
            ConfigurationError: a name is not a setting, or a value not allowed.
        """
        if not changes:
            return self
        unknown = sorted(set(changes) - set(type(self).model_fields))
        if unknown:
            raise ConfigurationError(
                f"Unknown setting(s): {', '.join(unknown)}",
                where="settings",
                todo=f"use one of {', '.join(type(self).model_fields)}",
            )
        try:
            # Groups go over as they are: which of their settings were given decides what a layout of files implies.
            return type(self).model_validate({**dict(self), **changes})
        except ValidationError as error:
            raise _refused(error) from None


def load_settings() -> Settings:
    """Read the settings from the environment and `.env`.

    Raises:
        ConfigurationError: a value is not allowed; the message names its variable and what is allowed.
    """
    _warn_of_unknown_names()
    _refuse_contradictions()
    try:
        settings = Settings()
    except ValidationError as error:
        raise _refused(error) from None
    except SettingsError as error:  # the variable of a whole group, such as HISTORICAL_ETL_FILES, is not JSON
        group = next((name for name in ("files", *VENDOR_GROUPS) if f'"{name}"' in str(error)), "files").upper()
        raise ConfigurationError(
            f"A group of settings cannot be read: {error}",
            where=f"{PREFIX}{group}",
            todo=f"unset it and set {PREFIX}{group}_… one by one instead",
        ) from None
    _warn_of_unread_lines()  # only now: one that is an error is not ignored
    _look_for_keys(settings)
    return settings


def _refused(error: ValidationError) -> ConfigurationError:
    first = error.errors()[0]
    titles = {FilesSettings.__name__: "files"} | {group.__name__: name for name, group in VENDOR_GROUPS.items()}
    group = f"{PREFIX}{titles[error.title].upper()}_" if error.title in titles else PREFIX
    places = [str(part) for part in first["loc"]]
    named = next((part for part in places if part in _KEYS), None)  # a key has a name without our prefix
    name = named or group + "_".join(places).upper()
    whole = not places or places[-1] in {"files", *VENDOR_GROUPS}
    given: object = first["input"]
    value = "" if named or whole or not isinstance(given, str | int | float) else f"={display_value(given)}"
    return ConfigurationError(f"{name}{value}: {first['msg']}", where=name, todo="correct or unset this variable")


def _refuse_contradictions() -> None:
    """Of two variables that differ in case only, one would win without a word."""
    known = {variable for variable, _ in _places()}
    found: dict[str, str] = {}
    for name, value in os.environ.items():
        if (variable := name.upper()) in known and value and found.setdefault(variable, value) != value:
            raise ConfigurationError(
                f"{variable} is set twice, in different cases and to different values", where=variable, todo="unset one"
            )


def _look_for_keys(settings: Settings) -> None:
    """Warn of keys that are too short to be masked, and refuse one in the place of symbols."""
    for vendor in VENDOR_GROUPS:
        group: VendorSettings = getattr(settings, vendor)
        for variable, key in zip(group.variables, group.secrets, strict=False):
            if len(key) < SHORTEST:
                _log.warning(
                    "%s has fewer than %d characters: it is hardly a key, and messages do not mask it",
                    variable,
                    SHORTEST,
                )
    given = upper(os.environ).get(f"{PREFIX}SYMBOLS") or upper(read_dotenv()).get(f"{PREFIX}SYMBOLS", "")
    keys = {key.upper() for key in secrets_of(settings) if len(key) >= SHORTEST}
    for symbol in given.split(","):
        text = symbol.strip()
        odd = looks_secret(text) and text.upper() != text and not _OPTION.fullmatch(text)
        if text and (odd or text.upper() in keys):
            raise ConfigurationError(
                f"{PREFIX}SYMBOLS holds what looks like a key, and it would be sent to the source as a symbol",
                where=f"{PREFIX}SYMBOLS",
                todo="write symbols in capitals, separated by commas; where a key was meant, set its own variable",
            )


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The keys and passwords in settings: no message may hold them."""
    groups: list[VendorSettings] = [getattr(settings, vendor) for vendor in VENDOR_GROUPS]
    return tuple(secret for group in groups for secret in group.hidden)


def _warn_of_unknown_names() -> None:
    for name, near in unknown_variables().items():
        _log.warning("%s is not a setting and was ignored%s", name, f"; did you mean {near}?" if near else "")


def _warn_of_unread_lines() -> None:
    """By their numbers alone: what they hold may be a key."""
    numbers = [str(number) for number in unread_lines()]
    if numbers:
        *most, last = numbers
        lines = f"Lines {', '.join(most)} and {last}" if most else f"Line {last}"
        words = "are no NAME=value and were ignored" if most else "is no NAME=value and was ignored"
        _log.warning("%s of %s %s", lines, Path(DOTENV_NAME).absolute(), words)


def unknown_variables() -> dict[str, str]:
    """Variables with our prefix, in the environment or `.env`, that are no setting; each with what may be meant."""
    known = [variable for variable, _ in _places()]
    given: dict[str, None] = dict.fromkeys([*os.environ, *_of_file()])
    unknown = [name for name in given if name.upper() not in known]
    nearest = {name: _nearest(name, known) for name in unknown}
    return {name: near for name, near in nearest.items() if near or name.upper().startswith(PREFIX)}


def _nearest(name: str, known: list[str]) -> str:
    """The variable that a name may stand for; of one without our prefix only where the two are nearly the same."""
    # Letters of other scripts, or of full width, that look like ours.
    plain = unicodedata.normalize("NFKC", name).upper()
    ours = plain.startswith(PREFIX)
    if not (ours or _LIKE_OURS.search(plain)):
        return ""
    if ours and plain in known:
        return plain
    # A vendor's key has the name that the vendor gives it, without our prefix.
    if ours and (near := difflib.get_close_matches(plain.removeprefix(PREFIX), _KEYS, n=1, cutoff=_SURELY)):
        return near[0]
    return next(iter(difflib.get_close_matches(plain, known, n=1, cutoff=0.6 if ours else _SURELY)), "")


@dataclass(frozen=True)
class GivenSetting:
    """A setting that somebody has set: its variable, its value as text, and where it is set. Keys are only "set"."""

    variable: str
    value: str
    origin: str


def given_settings(settings: Settings) -> list[GivenSetting]:
    """Which settings are not left to their defaults, and where each of them is set.

    The environment goes before `.env`. No secret is in the answer: of a key it tells that it is set, of an address
    it leaves out user and password, and what looks like a key is not shown wherever it is.
    """
    environment, file = upper(os.environ), upper(_of_file())
    given: list[GivenSetting] = []
    for variable, place in _places():
        origin = "environment" if variable in environment else ".env" if variable in file else None
        if origin is not None:
            given.append(GivenSetting(variable, _shown(settings, place), origin))
    return given


def _of_file() -> Mapping[str, str | None]:
    """The variables of `.env`; none where it cannot be read, which `load_settings` tells of."""
    try:
        return read_dotenv()
    except ConfigurationError:
        return {}


def _places() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every variable, with the fields that lead to its value."""
    for name in Settings.model_fields:
        yield PREFIX + name.upper(), (name,)
    for name in FilesSettings.model_fields:
        yield f"{PREFIX}FILES_{name.upper()}", ("files", name)
    for vendor, group in VENDOR_GROUPS.items():
        for name, field in group.model_fields.items():
            yield variable_of(vendor, name, field), (vendor, name)


def _shown(settings: Settings, place: tuple[str, ...]) -> str:
    value: object = settings
    for name in place:
        value = getattr(value, name)
    if isinstance(value, SecretStr | BaseSettings):
        return "set"
    if isinstance(value, tuple):
        text = ",".join(str(item) for item in cast("tuple[object, ...]", value))
    elif isinstance(value, dict):
        text = ",".join(f"{ours}={theirs}" for ours, theirs in cast("dict[str, str]", value).items())
    else:
        text = str(value)
    if "://" in text:
        return without_password(text)
    return "set, and not shown: it looks like a key" if hidden(text, secrets_of(settings)) else text
