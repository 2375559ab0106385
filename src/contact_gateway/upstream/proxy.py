"""The proxy for calls to upstream, from the environment variables that other programs read too."""

import base64
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from yarl import URL

from contact_gateway.settings import SettingsError, is_loopback

_PORTS: Final = {"http": 80, "https": 443}


class Proxy(NamedTuple):
    """An HTTP proxy: its URL without credentials, and the headers that present them."""

    url: URL
    headers: Mapping[str, str]


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for a URL, or None to connect directly, as always to this machine.

    `HTTPS_PROXY` (for http URLs, `HTTP_PROXY`) or `ALL_PROXY` names it, in upper or lower case, and
    `NO_PROXY` lists hosts that are reached directly.

    Raises:
        SettingsError: the variable is not the URL of an HTTP proxy.
    """
    target = urlsplit(url)
    variables = getproxies_environment()
    name = target.scheme if target.scheme in variables else "all"
    if name not in variables or is_loopback(target):
        return None
    port = target.port or _PORTS[target.scheme]
    if proxy_bypass(f"{target.hostname}:{port}"):
        return None
    proxy = _parsed(variables[name])
    if proxy is None:
        # The value may contain a password.
        raise SettingsError(
            f"{name.upper()}_PROXY: it must be the URL of an HTTP proxy, such as "
            "http://proxy.example:3128. For a direct connection, add the host to NO_PROXY."
        )
    return Proxy(proxy.with_user(None), _credentials(proxy))


def _parsed(text: str) -> URL | None:
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        return None
    return proxy if proxy.scheme in _PORTS and proxy.host else None


def _credentials(proxy: URL) -> Mapping[str, str]:
    if proxy.user is None:
        return {}
    text = f"{proxy.user}:{proxy.password or ''}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
