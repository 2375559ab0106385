"""The name and the version that a client gives of itself, for the log and the metrics.

They are text of the caller, and logs have no keys and no persons, so only what can be the name of a
program is accepted. The rest counts as not given.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from contact_gateway.access.api_keys import PREFIX as API_KEY_PREFIX
from contact_gateway.access.principals import Credential

MAX_LENGTH: Final = 64
"""Maximum length of a name and of a version."""

# Those of Apollo; of Hive's and WunderGraph's routers; and of Hive's and Stellate's libraries.
_HEADERS: Final = tuple(
    (f"{prefix}-name", f"{prefix}-version")
    for prefix in ("apollographql-client", "graphql-client", "x-graphql-client")
)
_REST: Final = rf"[A-Za-z0-9 ._:/()+-]{{0,{MAX_LENGTH - 1}}}"
_NAME: Final = re.compile(f"[A-Za-z]{_REST}")
_VERSION: Final = re.compile(f"[A-Za-z0-9]{_REST}")
# The gateway's own, a UUID, or a long run of letters and digits. Programs have no such names.
_KEY: Final = re.compile(
    rf"{API_KEY_PREFIX}|[0-9A-Fa-f]{{8}}-[0-9A-Fa-f]{{4}}-|(?=[A-Za-z]*[0-9])[A-Za-z0-9]{{20}}"
)


class Client(NamedTuple):
    """A program that calls the gateway, as it names itself."""

    name: str
    version: str | None


def client_of(headers: Mapping[str, str], credential: Credential | None) -> Client | None:
    """Return the client that the headers of a request name; None if they name none."""
    for name_header, version_header in _HEADERS:
        if name_header in headers:
            name = _accepted(headers[name_header], _NAME, credential)
            version = _accepted(headers.get(version_header, ""), _VERSION, credential)
            return None if name is None else Client(name, version)
    return None


def _accepted(text: str, shape: re.Pattern[str], credential: Credential | None) -> str | None:
    # The shape comes first: in a long text, the search for a key takes quadratic time.
    if not shape.fullmatch(text) or _KEY.search(text):
        return None
    return None if credential is not None and credential.secret in text else text
