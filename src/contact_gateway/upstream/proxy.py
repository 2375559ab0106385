"""The proxy for calls to upstream, from the environment variables that other programs read too."""

import base64
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from yarl import URL

from contact_gateway.settings import is_loopback
from contact_gateway.variables import SettingsError

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
    text = variables[name]
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in _PORTS or not proxy.host:
        # The value may contain a password.
        raise SettingsError(
            f"{name.upper()}_PROXY: it must be the URL of an HTTP proxy, such as "
            "http://proxy.example:3128. For a direct connection, add the host to NO_PROXY."
        )
    headers = {}
    if proxy.user is not None:
        credentials = f"{proxy.user}:{proxy.password or ''}".encode()
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(credentials).decode()}"
    return Proxy(proxy.with_user(None), headers)
