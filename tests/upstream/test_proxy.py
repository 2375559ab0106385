"""Proxies and private CAs, named by the environment variables that other programs read too."""

import base64
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
import trustme
from yarl import URL

from contact_gateway.access.principals import Credential
from contact_gateway.upstream.calls import Call, Delivery, UpstreamUnavailable
from contact_gateway.upstream.client import UpstreamClient
from contact_gateway.upstream.proxy import Proxy, proxy_for
from contact_gateway.variables import SettingsError
from support.connect_proxy import connect_proxy
from support.faces import FACES, Face
from support.gateway import empty_store, running_gateway
from support.programs import skip_or_fail
from support.upstream import KEY, RecordedUpstream, recorded, recorded_upstream

pytestmark = pytest.mark.anyio

# Only a proxy can resolve it.
HOST: Final = "hienergy.test"
URL_OF_UPSTREAM: Final = f"https://{HOST}/api/v1"
CREATE: Final = Call("POST", "contacts", Credential.of(KEY), body={"contact": {}})
_VARIABLES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Return a certificate of upstream, by a CA that `SSL_CERT_FILE` names."""
    ca = trustme.CA()
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(HOST, "127.0.0.1").configure_cert(context)
    return context


@asynccontextmanager
async def _upstream(
    certificate: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[RecordedUpstream, int]]:
    """Run an upstream API; return it and its port."""
    answer = recorded(404, '{"error": {"message": "Said upstream."}}')
    async with recorded_upstream(lambda _: answer, certificate=certificate) as upstream:
        yield upstream, urlsplit(upstream.url).port or 0


async def _send(url: str = URL_OF_UPSTREAM) -> int:
    async with UpstreamClient(url, timeout_seconds=60, max_connections=1) as client:
        return (await client.send(CREATE)).status


@pytest.mark.parametrize("face", FACES.values(), ids=list(FACES))
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
async def test_upstream_is_reached_through_a_proxy(
    variable: str,
    face: Face,
    certificate: ssl.SSLContext,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys = dict.fromkeys(
        ("admin", "other_admin", "third_admin", "member", "expired", "revoked", "unknown"), KEY
    )
    async with _upstream(certificate) as (upstream, port), connect_proxy(port) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        store = empty_store(tmp_path, keys)
        async with running_gateway(tmp_path, store, upstream_url=URL_OF_UPSTREAM) as gateway:
            answer = await face.submit(
                gateway, {"advertiser_id": 2001, "email": "maya@example.com"}, KEY
            )

    assert (answer.outcome, answer.message) == ("NOT_FOUND", "Said upstream.")
    assert proxy.heads[0].startswith(f"CONNECT {HOST}:443 HTTP/1.1\r\n")
    assert all(request.headers["host"] == HOST for request in upstream.requests)
    assert KEY not in "".join(proxy.heads)


async def test_a_tunnel_is_used_again(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _upstream(certificate) as (upstream, port), connect_proxy(port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with UpstreamClient(URL_OF_UPSTREAM, timeout_seconds=60, max_connections=1) as client:
            for _ in range(3):
                await client.send(CREATE)

    assert len(upstream.requests) == 3
    assert len(proxy.heads) == 1


async def test_the_credentials_of_a_proxy_are_sent_to_it_alone(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _upstream(certificate) as (upstream, port), connect_proxy(port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://user:p%40ss@"))
        assert await _send() == 404

    expected = base64.b64encode(b"user:p@ss").decode()
    assert f"Proxy-Authorization: Basic {expected}\r\n" in proxy.heads[0]
    (request,) = upstream.requests
    assert {"proxy-authorization", "authorization"}.isdisjoint(request.headers)


async def test_the_credentials_of_a_netrc_file_are_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with _upstream() as (upstream, _):
        await _send(upstream.url)

    (request,) = upstream.requests
    assert "authorization" not in request.headers
    assert request.headers["x-api-key"] == KEY


async def test_this_machine_is_never_reached_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with _upstream() as (upstream, port), connect_proxy(port) as proxy:
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert await _send(upstream.url) == 404

    assert proxy.heads == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\n<h1>!", "502"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://login.example/\r\n\r\n", "302"),
        (b"", "ServerDisconnected"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ""),
    ],
    ids=["407", "502", "a captive portal", "an end", "what is no HTTP"],
)
async def test_a_creation_that_a_proxy_refuses_was_never_sent(
    answer: bytes, reason: str, certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _upstream(certificate) as (upstream, port), connect_proxy(port, answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(UpstreamUnavailable) as raised:
            await _send()

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert reason in raised.value.reason
    assert upstream.requests == []


async def test_a_creation_without_a_connection_to_the_proxy_was_never_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with connect_proxy(0) as proxy:
        pass
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(UpstreamUnavailable) as raised:
        await _send()

    assert raised.value.delivery is Delivery.NEVER_SENT
    assert raised.value.reason == "no connection to upstream: Connection refused"


async def test_a_private_ca_is_trusted(certificate: ssl.SSLContext) -> None:
    async with _upstream(certificate) as (upstream, _):
        assert await _send(upstream.url) == 404


async def test_a_folder_of_private_cas_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file of such a folder is named by a hash of its subject."""
    ca = trustme.CA()
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(certificate)
    file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(file)
    file.rename(tmp_path / f"{_subject_hash(file)}.0")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    async with _upstream(certificate) as (upstream, _):
        assert await _send(upstream.url) == 404


PROXY: Final = Proxy(URL("http://proxy.example:3128"), {})


@pytest.mark.parametrize(
    ("url", "variables", "expected"),
    [
        (URL_OF_UPSTREAM, {}, None),
        (URL_OF_UPSTREAM, {"HTTPS_PROXY": "http://proxy.example:3128"}, PROXY),
        (URL_OF_UPSTREAM, {"HTTPS_PROXY": "proxy.example:3128"}, PROXY),
        (URL_OF_UPSTREAM, {"HTTPS_PROXY": ""}, None),
        (URL_OF_UPSTREAM, {"HTTP_PROXY": "http://proxy.example:3128"}, None),
        (URL_OF_UPSTREAM, {"https_proxy": "proxy.example:3128", "HTTPS_PROXY": "x:1"}, PROXY),
        (
            URL_OF_UPSTREAM,
            {"ALL_PROXY": "socks5://x:1", "HTTPS_PROXY": "proxy.example:3128"},
            PROXY,
        ),
        (URL_OF_UPSTREAM, {"ALL_PROXY": "socks5://x:1", "NO_PROXY": HOST}, None),
        (URL_OF_UPSTREAM, {"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "*"}, None),
        (URL_OF_UPSTREAM, {"HTTPS_PROXY": "proxy.example:3128", "no_proxy": "a, .test"}, None),
        (URL_OF_UPSTREAM, {"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": f"{HOST}:443"}, None),
        (URL_OF_UPSTREAM, {"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": f"{HOST}:444"}, PROXY),
        (URL_OF_UPSTREAM, {"HTTPS_PROXY": "proxy.example:3128", "NO_PROXY": "energy.test"}, PROXY),
        ("http://localhost:1/api", {"HTTP_PROXY": "proxy.example:3128"}, None),
        ("https://[::1]/api", {"ALL_PROXY": "proxy.example:3128"}, None),
        (
            URL_OF_UPSTREAM,
            {"HTTPS_PROXY": "https://user@proxy.example/"},
            Proxy(URL("https://proxy.example/"), {"Proxy-Authorization": "Basic dXNlcjo="}),
        ),
    ],
)
def test_the_proxy_of_a_url(
    url: str,
    variables: Mapping[str, str],
    expected: Proxy | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert proxy_for(url) == expected


@pytest.mark.parametrize("value", ["socks5://user:secret@x:1", "http://", "http://x:port", "://"])
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
def test_an_unusable_proxy_stops_the_start(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name) as raised:
        UpstreamClient(URL_OF_UPSTREAM, timeout_seconds=1, max_connections=1)

    assert "secret" not in str(raised.value)


def _subject_hash(file: Path) -> str:
    openssl = shutil.which("openssl")
    if openssl is None:
        skip_or_fail("openssl is missing")
    command = (openssl, "x509", "-noout", "-hash", "-in", str(file))
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
