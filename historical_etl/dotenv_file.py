"""The file `.env` in the current folder: read by ourselves, since faults in it must be reported.

It goes with the folder that somebody happens to stand in, so it is trusted less than the environment: see
`vendor_settings`.
"""

import io
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from dotenv import dotenv_values
from dotenv.parser import Binding, parse_stream
from pydantic import ValidationInfo, field_validator
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from historical_etl.arguments import is_no_moment, is_truth
from historical_etl.errors import ConfigurationError
from historical_etl.regular_files import SETTINGS, read_text
from historical_etl.strict_json import object_of

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_settings import PydanticBaseSettingsSource

__all__ = ["DOTENV_NAME", "OWN_FILE", "ThisFolder", "of_group", "read_dotenv", "unread_lines", "upper"]

DOTENV_NAME: Final = ".env"
#: For `env_file` of a class, in place of the name: else pydantic-settings reads the file first, in its own way.
OWN_FILE: Final = ""


class OwnEnvironment(EnvSettingsSource):
    """The environment, where the JSON of a whole group gives nothing two values."""

    def decode_complex_value(self, field_name: str, field: "FieldInfo", value: Any) -> Any:  # noqa: ANN401 - as pydantic has it
        found: Any = super().decode_complex_value(field_name, field, value)
        return found if found is value else object_of(value)


class OwnDotEnv(DotEnvSettingsSource):
    """What pydantic-settings takes from the file, read by `read_dotenv`."""

    def __init__(self, kind: type[BaseSettings], given: "PydanticBaseSettingsSource") -> None:
        super().__init__(kind, env_file=cast("DotEnvSettingsSource", given).env_file)

    def _read_env_files(self) -> Mapping[str, str | None]:
        if self.env_file is None:
            return {}
        found = upper(read_dotenv(self._variables(), Path(cast("str", self.env_file or DOTENV_NAME))))
        return {name.lower(): value for name, value in found.items()}  # as it looks for them

    def decode_complex_value(self, field_name: str, field: "FieldInfo", value: Any) -> Any:  # noqa: ANN401 - likewise
        found: Any = super().decode_complex_value(field_name, field, value)
        return found if found is value else object_of(value)

    def _variables(self) -> set[str]:
        """The variables of this class, and the one of its whole group."""
        prefix = str(self.config.get("env_prefix", ""))
        fields: dict[str, Any] = dict(self.settings_cls.model_fields)
        return {prefix.rstrip("_"), *(f.validation_alias or f"{prefix}{name}".upper() for name, f in fields.items())}


class ThisFolder(BaseSettings):
    """Settings that come from the environment, or from `.env` in the current folder."""

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_what_python_converts(cls, value: object, info: ValidationInfo) -> object:
        """True counts as 1, and what pandas has for no date breaks the library that reads settings."""
        annotation = cls.model_fields[info.field_name or ""].annotation
        kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        if is_truth(value) and any(issubclass(kind, int | float) and kind is not bool for kind in kinds):
            raise ValueError(f"it is {value}, which is no number")
        if is_no_moment(value):
            raise ValueError(f"it is {value}, which is no date")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: "PydanticBaseSettingsSource",
        env_settings: "PydanticBaseSettingsSource",
        dotenv_settings: "PydanticBaseSettingsSource",
        file_secret_settings: "PydanticBaseSettingsSource",
    ) -> "tuple[PydanticBaseSettingsSource, ...]":
        """What pydantic-settings would ask, but for our readers of the environment and of the file."""
        del env_settings, file_secret_settings
        return init_settings, OwnEnvironment(settings_cls), OwnDotEnv(settings_cls, dotenv_settings)


def read_dotenv(
    ours: Collection[str] = (), path: Path = Path(DOTENV_NAME), *, interpolate: bool = True
) -> Mapping[str, str | None]:
    """The variables of the file; none where there is none.

    Args:
        ours: variables of which two different values are an error.
        path: of the file.
        interpolate: whether `${DOTENV_NAME}` means a variable of the environment or of the file.

    Raises:
        ConfigurationError: it is no regular file of text, a line of it cannot be read, or it contradicts itself.
    """
    seen: dict[str, Binding] = {}
    bindings = _bindings(path)
    for binding in bindings:
        line = _line(binding)
        if _is_no_pair(binding) and any(name in binding.original.string.upper() for name in ours):
            raise _refused(path, f"cannot be read: line {line} is no NAME=value", "correct it, or close its quote")
        name = (binding.key or "").upper()
        if name in ours and name in seen and seen[name].value != binding.value:
            lines = f"lines {_line(seen[name])} and {line}"
            raise _refused(path, f"gives {name} two values, in {lines}", "remove one of them")
        seen[name] = binding
    readable = "".join(binding.original.string for binding in bindings if not _is_no_pair(binding))
    return dotenv_values(stream=io.StringIO(readable), interpolate=interpolate)


def unread_lines(path: Path = Path(DOTENV_NAME)) -> list[int]:
    """The numbers of the lines that `read_dotenv` passes over, because they are no NAME=value.

    Raises: as `read_dotenv`.
    """
    return [_line(binding) for binding in _bindings(path) if _is_no_pair(binding)]


def _bindings(path: Path) -> list[Binding]:
    try:
        text = read_text(path, SETTINGS)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is not UTF-8"
        raise _refused(path, f"cannot be read: {reason}", "correct or remove it") from None
    if "\0" in text:
        raise _refused(path, "cannot be read: it holds a NUL, as files in UTF-16 do", "save it as UTF-8")
    return list(parse_stream(io.StringIO(text)))


def _is_no_pair(binding: Binding) -> bool:
    return binding.error or (binding.key is not None and binding.value is None)


def _line(binding: Binding) -> int:
    """The line on which it begins, after the blank ones that the parser counts as part of it."""
    text = binding.original.string
    return binding.original.line + text.count("\n", 0, len(text) - len(text.lstrip()))


def upper(variables: Mapping[str, str | None]) -> dict[str, str]:
    """Variables as pydantic-settings reads them: in any case, and an empty one is none."""
    return {name.upper(): value for name, value in variables.items() if value}


def of_group(text: str, name: str) -> object:
    """A setting in the variable of a whole group, which is JSON; None where it holds none."""
    try:
        group: object = object_of(text)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, object]", group).get(name) if isinstance(group, dict) else None


def _refused(path: Path, what: str, todo: str) -> ConfigurationError:
    return ConfigurationError(f"The file of settings {what}", where=path.absolute(), todo=todo)
