"""The address of a client: the nearest one that is not a trusted proxy."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contact_gateway.access.client_address import UNKNOWN, client_address

PROXIES = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        pytest.param("192.0.2.1", "", "192.0.2.1", id="no proxy"),
        pytest.param("192.0.2.1", "198.51.100.7", "192.0.2.1", id="an untrusted proxy"),
        pytest.param("10.0.0.1", "198.51.100.7", "198.51.100.7", id="a trusted proxy"),
        pytest.param("10.0.0.1", "198.51.100.7, 10.0.0.2", "198.51.100.7", id="two of them"),
        pytest.param("10.0.0.1", "203.0.113.9, 198.51.100.7", "198.51.100.7", id="a made-up one"),
        pytest.param("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3", id="only trusted proxies"),
        pytest.param("10.0.0.1", "", "10.0.0.1", id="a proxy without the header"),
        pytest.param("10.0.0.1", "nonsense", "10.0.0.1", id="a proxy with an invalid header"),
        pytest.param(
            "10.0.0.1", "nonsense, 198.51.100.7", "198.51.100.7", id="an invalid address before"
        ),
        pytest.param("10.0.0.1", "198.51.100.7:4711", "198.51.100.7", id="with a port"),
        pytest.param("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1", id="IPv6 with a port"),
        pytest.param("fd00::1", "2001:DB8::1", "2001:db8::1", id="IPv6"),
        pytest.param(None, "198.51.100.7", UNKNOWN, id="a Unix socket"),
        pytest.param("not-an-address", "198.51.100.7", "not-an-address", id="a test client"),
    ],
)
def test_the_address_is_the_nearest_untrusted_one(
    peer: str | None, forwarded_for: str, address: str
) -> None:
    assert client_address(peer, forwarded_for, PROXIES) == address


@given(st.text())
def test_the_header_is_ignored_without_a_trusted_proxy(forwarded_for: str) -> None:
    assert client_address("192.0.2.1", forwarded_for, ()) == "192.0.2.1"
    assert client_address("192.0.2.1", forwarded_for, PROXIES) == "192.0.2.1"


@given(st.text(), st.ip_addresses())
def test_addresses_that_a_client_adds_change_nothing(added: str, caller: object) -> None:
    alone = client_address("10.0.0.1", str(caller), PROXIES)

    if not any(ipaddress.ip_address(alone) in network for network in PROXIES):
        assert client_address("10.0.0.1", f"{added}, {caller}", PROXIES) == alone
