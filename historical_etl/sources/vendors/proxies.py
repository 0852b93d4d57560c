"""The proxy that the environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY), the same for all clients."""

from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from historical_etl.errors import ConfigurationError

__all__ = ["proxy_for", "proxy_secrets"]


def proxy_for(url: str) -> str | None:
    """The address of the proxy through which another one is asked; None: it is asked itself.

    Raises:
        ConfigurationError: the variable holds no address of an HTTP proxy.
    """
    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    named = getproxies()
    proxy = named.get(parts.scheme) or named.get("all")
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        known = urlsplit(proxy)
        good = known.scheme in {"http", "https"} and known.hostname and known.port != 0
    except ValueError:
        good = False
    if not good:
        variable = f"{parts.scheme.upper()}_PROXY" if named.get(parts.scheme) else "ALL_PROXY"
        raise ConfigurationError(
            f"{variable} is no address of an HTTP proxy",
            where=variable,
            todo="write it as http://host:port, or name the vendor's host in NO_PROXY",
        )
    return proxy


def proxy_secrets() -> tuple[str, ...]:
    """The passwords of the proxies that the environment names."""
    found: dict[str, None] = {}
    for proxy in getproxies().values():
        try:
            password = urlsplit(proxy).password or ""
        except ValueError:
            continue
        found |= dict.fromkeys((password, unquote(password)))
    return tuple(filter(None, found))
