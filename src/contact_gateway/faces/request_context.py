"""The context of a request: its id, caller and headers, and the fields of its log line."""

import random
import re
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from starlette.types import Scope

from contact_gateway.access.api_keys import PREFIX as API_KEY_PREFIX
from contact_gateway.access.caller import Caller
from contact_gateway.access.client_address import TrustedProxies, client_address
from contact_gateway.access.key_guessing import KeyGuessLimiter
from contact_gateway.access.principals import Credential
from contact_gateway.access.rate_limits import HourlyRateLimit
from contact_gateway.contacts.origin import Face
from contact_gateway.contacts.source import ContactCaller, Source
from contact_gateway.faces.client_name import Client, client_of

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}")
_SPACES: Final = " \t"
_BEARER: Final = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
# A path that begins with two slashes would name another host in `Location`.
_PREFIX: Final = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+;=:@%-]+)+")
_SCHEMES: Final = frozenset({"http", "https"})
# RFC 9110, section 7.2: a registered name without escapes, or an address in brackets, and a port.
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_FORWARDING_HEADERS: Final = frozenset(
    {
        "forwarded",
        "via",
        "x-real-ip",
        *(f"x-forwarded-{name}" for name in ("for", "host", "prefix", "proto")),
    }
)
SAME_HEAD: Final = "contact_gateway.same_head"
"""The ASGI extension by which the server gives requests with the same head, on one connection, a
dictionary to keep what was found in the head."""

_SCOPE_KEY: Final = "contact_gateway.request_context"

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]


@dataclass(slots=True)
class RequestContext:
    """One request, with the fields of its log line.

    Attributes:
        request_id: the id that the client sent, if well-formed, or a new one.
        caller: the sender of the request.
        headers: the headers of the request, by lower-case name.
        method: the method of the request.
        operation: the operation that it invokes.
        outcome: the outcome of that operation, or the code of an error.
        status: the status of the response; 0 until the response starts.
        face: the face that handles the request.
        root_path: the path below which the client reaches the gateway, such as `/gw`, or empty.
        client: the client program, if it names itself.
        max_batch_size: how many contacts the request may create at once.
        replayed: the response keys of GraphQL fields that returned what an earlier call created.
        is_replay: whether the request is one creation, and an earlier call created its contact.
        trace_id: the id of the trace that the request belongs to, if traces are on.
    """

    request_id: str
    caller: ContactCaller
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = ""
    operation: str | None = None
    outcome: str | None = None
    status: int = 0
    face: Face | None = None
    root_path: str = ""
    client: Client | None = None
    max_batch_size: int = 1
    replayed: tuple[str, ...] = ()
    is_replay: bool = False
    trace_id: str | None = None


current_request: Final[ContextVar[RequestContext]] = ContextVar("current_request")
"""The request in hand, where no parameter gives it: for log lines and errors."""


def request_context_of(scope: Scope) -> RequestContext:
    """Return the context of the request with this ASGI scope."""
    context: RequestContext = scope[_SCOPE_KEY]
    return context


class _Sender(NamedTuple):
    """What the head of a request says of its sender."""

    headers: Mapping[str, str]
    credential: Credential | None
    address: str
    root_path: str
    client: Client | None


@dataclass(frozen=True, slots=True)
class CallerFactory:
    """Creates the callers of requests, over one source of truth and with its limits."""

    source: Source
    max_batch_size: int
    rate_limit: HourlyRateLimit | None = None
    guesses: KeyGuessLimiter | None = None
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
    root_path: str = ""

    def request_context(self, scope: Scope) -> RequestContext:
        """Return the context of a new request, and store it in the request's ASGI scope."""
        found = scope.get("extensions", {}).get(SAME_HEAD, {})
        sender: _Sender | None = found.get(_SCOPE_KEY)
        if sender is None:
            sender = found[_SCOPE_KEY] = self._sender(scope)
        caller: ContactCaller = Caller(
            sender.credential,
            self.source.authenticate,
            self.rate_limit,
            self.guesses,
            sender.address,
        )
        context = scope[_SCOPE_KEY] = RequestContext(
            _request_id(sender.headers, sender.credential),
            caller,
            sender.headers,
            scope["method"],
            root_path=sender.root_path,
            client=sender.client,
            max_batch_size=self.max_batch_size,
        )
        return context

    def _sender(self, scope: Scope) -> "_Sender":
        headers = _joined_headers(scope["headers"])
        credential = None
        if key := headers.get("x-api-key"):
            credential = Credential.of(key)
        elif bearer := _BEARER.fullmatch(headers.get("authorization", "")):
            credential = Credential.of(bearer[1])
        client: tuple[str, int] | None = scope.get("client")
        peer = None if client is None else client[0]
        return _Sender(
            headers,
            credential,
            client_address(peer, headers, self.trusted_proxies),
            self._root_path(peer, headers),
            client_of(headers, credential),
        )

    def _root_path(self, peer: str | None, headers: Mapping[str, str]) -> str:
        """Return the prefix that a trusted proxy has removed from the path, or the setting."""
        given = headers.get("x-forwarded-prefix")
        if given is None or not self.trusted_proxies.trust(peer):
            return self.root_path
        prefixes = [prefix.strip(_SPACES).rstrip("/") for prefix in given.split(",")]
        # Each proxy on the way adds the prefix that it has removed.
        prefix = "".join(prefixes)
        return prefix if not prefix or _PREFIX.fullmatch(prefix) else self.root_path


def origin_of(scope: Scope, trusted_proxies: TrustedProxies) -> str:
    """Return the origin at which the client reaches the gateway, or an empty string if unknown.

    A client that connects directly names the host in `Host`. Behind a proxy, the origin is known
    only if the proxy is trusted and sends `X-Forwarded-Proto`. The host is then that of
    `X-Forwarded-Host`, else of `Host`. Of several values, the first counts.
    """
    headers = request_context_of(scope).headers
    client: tuple[str, int] | None = scope.get("client")
    if trusted_proxies.trust(None if client is None else client[0]):
        scheme, host = (
            headers.get(name, "").partition(",")[0].strip(_SPACES)
            for name in ("x-forwarded-proto", "x-forwarded-host")
        )
        host = host or headers.get("host", "")
    elif headers.keys() & _FORWARDING_HEADERS:
        return ""
    else:
        scheme, host = scope["scheme"], headers.get("host", "")
    return f"{scheme}://{host}" if scheme in _SCHEMES and _HOST.fullmatch(host) else ""


def _joined_headers(lines: RawHeaders) -> Mapping[str, str]:
    """Return the headers by name. Repeated ones are joined by commas (RFC 9110, section 5.3).

    So two API keys in one request become one that is not valid.
    """
    headers: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for raw_name, raw_value in lines:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name in headers:
            repeated.setdefault(name, [headers[name]]).append(value)
        else:
            headers[name] = value
    for name, values in repeated.items():
        headers[name] = ", ".join(values)
    return headers


def _request_id(headers: Mapping[str, str], credential: Credential | None) -> str:
    given = headers.get("x-request-id", "")
    well_formed = (
        given
        and _REQUEST_ID.fullmatch(given)
        and API_KEY_PREFIX not in given
        and (credential is None or credential.secret not in given)
    )
    return given if well_formed else f"{random.getrandbits(128):032x}"
