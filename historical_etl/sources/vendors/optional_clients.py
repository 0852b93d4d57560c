"""Clients of vendors, imported when first used: an error names the extra that installs a missing one."""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import SecretStr

from historical_etl.errors import ConfigurationError

__all__ = ["client_version", "how_to_install", "key_from", "require"]


def require(module: str, extra: str) -> Any:  # noqa: ANN401 - a module
    """Import a vendor's client.

    Raises:
        ConfigurationError: it is not installed; names the extra.
    """
    try:
        # The limiter and the retries come with the same extra.
        importlib.import_module("pyrate_limiter")
        importlib.import_module("tenacity")
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The package {error.name or module!r} is not installed",
            where="HISTORICAL_ETL_SOURCE",
            todo=how_to_install(extra),
        ) from None


def how_to_install(extra: str) -> str:
    """What to type for an extra of this package. It is in no index, so pip needs the folder."""
    return f"`make setup` in the checkout brings all extras; elsewhere pip install 'PATH/TO/CHECKOUT[{extra}]'"


def client_version(package: str) -> str:
    """A client and its version, as in `yfinance 1.7.0`; the name alone where it is not installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def key_from(secret: SecretStr | None, variable: str) -> str:
    """The key itself.

    Raises:
        ConfigurationError: it is not set, or can be no key; names the variable, and does not tell what it holds.
    """
    key = secret.get_secret_value().strip() if secret else ""
    if not key:
        raise ConfigurationError(f"{variable} is not set", where=variable, todo="set it to the key of your account")
    # In a header it would be refused by a library's error that repeats it, or be more than one header.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError(
            f"{variable} holds a character that no key has", where=variable, todo="set it to the key of your account"
        )
    return key
