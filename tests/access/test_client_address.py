"""The address of a client: the nearest one that is not a trusted proxy."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.access.client_address import (
    UNIX,
    UNKNOWN,
    TrustedProxies,
    client_address,
)

NETWORKS = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))
PROXIES = TrustedProxies(NETWORKS)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        pytest.param("192.0.2.1", "", "192.0.2.1", id="no proxy"),
        pytest.param("192.0.2.1", "198.51.100.7", "192.0.2.1", id="an untrusted proxy"),
        pytest.param("10.0.0.1", "198.51.100.7", "198.51.100.7", id="a trusted proxy"),
        pytest.param("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7", id="two of them"),
        pytest.param("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7", id="a made-up one"),
        pytest.param(
            "10.0.0.1", "203.0.113.9, " * 30 + "198.51.100.7", "198.51.100.7", id="many hops"
        ),
        pytest.param("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3", id="only trusted proxies"),
        pytest.param("10.0.0.1", "", "10.0.0.1", id="a proxy without the header"),
        pytest.param("10.0.0.1", "nonsense", "10.0.0.1", id="a proxy with an invalid header"),
        pytest.param(
            "10.0.0.1", "nonsense, 198.51.100.7", "198.51.100.7", id="an invalid address before"
        ),
        pytest.param("10.0.0.1", "198.51.100.7, ", "198.51.100.7", id="an empty one"),
        pytest.param("10.0.0.1", "198.51.100.7:4711", "198.51.100.7", id="with a port"),
        pytest.param("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1", id="IPv6 with a port"),
        pytest.param("fd00::1", "2001:DB8::1", "2001:db8::1", id="IPv6"),
        pytest.param(UNIX, "198.51.100.7", UNIX, id="a Unix socket"),
        pytest.param(None, "198.51.100.7", UNKNOWN, id="a connection that was reset"),
        pytest.param("not-an-address", "198.51.100.7", "not-an-address", id="a test client"),
    ],
)
def test_the_address_is_the_nearest_untrusted_one(
    peer: str | None, forwarded_for: str, address: str
) -> None:
    assert client_address(peer, _xff(forwarded_for), PROXIES) == address


def _xff(forwarded_for: str) -> dict[str, str]:
    return {"x-forwarded-for": forwarded_for}


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        pytest.param(UNIX, "198.51.100.7", "198.51.100.7", id="a Unix socket"),
        pytest.param(UNIX, "203.0.113.9, 198.51.100.7", "198.51.100.7", id="a made-up address"),
        pytest.param(UNIX, "198.51.100.7, unix:", "198.51.100.7", id="two proxies"),
        pytest.param(UNIX, "unix", UNIX, id="no address"),
        pytest.param(UNIX, "", UNIX, id="no header"),
        pytest.param(None, "198.51.100.7", UNKNOWN, id="a connection that was reset"),
        pytest.param("192.0.2.1", "198.51.100.7", "192.0.2.1", id="a TCP connection"),
    ],
)
def test_peers_of_a_unix_socket_name_the_client_if_they_are_trusted(
    peer: str | None, forwarded_for: str, address: str
) -> None:
    assert client_address(peer, _xff(forwarded_for), TrustedProxies((UNIX,))) == address


def test_networks_and_unix_sockets_can_be_trusted_together() -> None:
    trusted = TrustedProxies((*NETWORKS, UNIX))

    assert all(map(trusted.trust, (UNIX, "10.0.0.1", "fd00::1%eth0")))
    assert not any(map(trusted.trust, ("192.0.2.1", "fd00::1%" + "x" * 64, "", None)))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        pytest.param("10.0.0.1", "198.51.100.7, ::ffff:10.0.0.6", "198.51.100.7", id="a hop"),
        pytest.param("::ffff:10.0.0.1", "198.51.100.7", "198.51.100.7", id="the peer"),
        pytest.param("10.0.0.1", "::ffff:198.51.100.7", "198.51.100.7", id="the client"),
        pytest.param("::ffff:192.0.2.1", "198.51.100.7", "192.0.2.1", id="an untrusted peer"),
    ],
)
def test_an_ipv4_address_mapped_into_ipv6_is_that_ipv4_address(
    peer: str, forwarded_for: str, address: str
) -> None:
    assert client_address(peer, _xff(forwarded_for), PROXIES) == address


def test_a_mapped_peer_is_its_ipv4_address_without_proxies_too() -> None:
    assert client_address("::ffff:192.0.2.1", {}, TrustedProxies()) == "192.0.2.1"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        pytest.param("for=198.51.100.7", "198.51.100.7", id="one"),
        pytest.param("for=198.51.100.7, for=10.0.0.2", "198.51.100.7", id="two"),
        pytest.param("For=198.51.100.7;proto=https;by=10.0.0.1", "198.51.100.7", id="parameters"),
        pytest.param("proto=http; for=198.51.100.7:4711", "198.51.100.7", id="not the first"),
        pytest.param('for="[2001:db8::1]:4711"', "2001:db8::1", id="IPv6 in quotes"),
        pytest.param('for="::ffff:198.51.100.7"', "198.51.100.7", id="a mapped address"),
        pytest.param("for=203.0.113.9, for=198.51.100.7", "198.51.100.7", id="a made-up one"),
        pytest.param("for=_hidden", "10.0.0.1", id="an obfuscated one"),
        pytest.param("for=unknown", "10.0.0.1", id="an unknown one"),
        pytest.param("by=198.51.100.7", "10.0.0.1", id="none"),
        pytest.param('for=""', "10.0.0.1", id="an empty one"),
        pytest.param("for=198.51.100.7, by=10.0.0.2", "198.51.100.7", id="one without an address"),
    ],
)
def test_forwarded_names_the_client(forwarded: str, address: str) -> None:
    assert client_address("10.0.0.1", {"forwarded": forwarded}, PROXIES) == address
    assert client_address("192.0.2.1", {"forwarded": forwarded}, PROXIES) == "192.0.2.1"


def test_x_real_ip_names_the_client() -> None:
    headers = {"x-real-ip": "198.51.100.7"}

    assert client_address("10.0.0.1", headers, PROXIES) == "198.51.100.7"
    assert client_address("192.0.2.1", headers, PROXIES) == "192.0.2.1"


@pytest.mark.parametrize("added", ["x-forwarded-for", "x-real-ip", "forwarded"])
def test_a_header_that_the_proxy_does_not_write_makes_no_other_client(added: str) -> None:
    """A client could otherwise choose its address: the proxy passes on what it does not know."""
    chain = {
        "x-forwarded-for": "198.51.100.7",
        "x-real-ip": "198.51.100.7",
        "forwarded": "for=198.51.100.7",
    }
    made_up = {"forwarded": "for=203.0.113.9"}.get(added, "203.0.113.9")

    assert client_address("10.0.0.1", chain, PROXIES) == "198.51.100.7"
    assert client_address("10.0.0.1", chain | {added: made_up}, PROXIES) == "10.0.0.1"


def test_a_header_that_names_a_proxy_disagrees_with_none() -> None:
    headers = {"x-forwarded-for": "198.51.100.7, 10.0.0.2", "x-real-ip": "10.0.0.2"}

    assert client_address("10.0.0.1", headers, PROXIES) == "198.51.100.7"


@given(st.text())
def test_the_header_is_ignored_without_a_trusted_proxy(forwarded_for: str) -> None:
    assert client_address("192.0.2.1", _xff(forwarded_for), TrustedProxies()) == "192.0.2.1"
    assert client_address("192.0.2.1", _xff(forwarded_for), PROXIES) == "192.0.2.1"


@given(st.text(), st.ip_addresses())
def test_addresses_that_a_client_adds_change_nothing(added: str, caller: object) -> None:
    alone = client_address("10.0.0.1", _xff(str(caller)), PROXIES)

    if not any(ipaddress.ip_address(alone) in network for network in NETWORKS):
        assert client_address("10.0.0.1", _xff(f"{added}, {caller}"), PROXIES) == alone
