import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.api.trusted_proxies import TrustedProxies
from controller.trust.errors import Refusal, RefusalCode

PROXIES = TrustedProxies("10.0.0.0/24, ::1/128")
HEADER = (b"client-cert", b":" + base64.b64encode(b"der") + b":")


def call(client: str | None, *headers: tuple[bytes, bytes], port: int | None = 8600) -> dict[str, Any]:
    """Return a request that arrives from the client, at a port or at a Unix socket."""
    server = ("10.0.0.1", port) if port else ("/run/edgefleet.sock", None)
    return {"client": (client, 4711) if client else None, "server": server, "headers": list(headers)}


@pytest.mark.parametrize("client", ["10.0.0.9", "::1", "::ffff:10.0.0.9"])
def test_the_certificate_that_a_trusted_proxy_passes_on_is_taken(client: str) -> None:
    assert PROXIES.client_certificate(call(client, HEADER)) == b"der"


@pytest.mark.parametrize("client", ["10.0.1.9", "2001:db8::1", "::ffff:10.0.1.9", "localhost", None])
def test_a_certificate_from_anybody_else_is_refused(client: str | None) -> None:
    refused = PROXIES.client_certificate(call(client, HEADER))
    assert isinstance(refused, Refusal)
    assert refused.code is RefusalCode.DEVICE_CERT


def test_where_no_proxy_is_trusted_the_header_counts_from_nowhere() -> None:
    assert isinstance(TrustedProxies("").client_certificate(call("127.0.0.1", HEADER)), Refusal)


def test_a_name_that_a_client_gives_itself_makes_it_no_proxy() -> None:
    forged = call("192.0.2.7", HEADER, (b"x-forwarded-for", b"10.0.0.9"))
    assert isinstance(PROXIES.client_certificate(forged), Refusal)


def test_the_unix_socket_counts_only_where_it_is_named() -> None:
    local = call(None, HEADER, port=None)
    assert TrustedProxies("unix:").client_certificate(local) == b"der"
    assert isinstance(PROXIES.client_certificate(local), Refusal)


def test_a_tcp_peer_without_an_address_is_not_the_unix_socket() -> None:
    assert not TrustedProxies("unix:").include(call(None, HEADER))


@pytest.mark.parametrize(
    "values",
    [(), (b"",), (b":",), (b"ZGVy",), (b":ZGVy",), (b":no base64:",), (b":ZGVy:", b":ZGVy:")],
    ids=["none", "empty", "colon", "bare", "open", "not-base64", "two"],
)
def test_a_header_that_is_not_one_certificate_is_refused(values: tuple[bytes, ...]) -> None:
    found = PROXIES.client_certificate(call("10.0.0.9", *[(b"client-cert", value) for value in values]))
    assert isinstance(found, Refusal)


@given(st.binary(max_size=50))
def test_any_header_is_read_without_an_error(value: bytes) -> None:
    assert isinstance(PROXIES.client_certificate(call("10.0.0.9", (b"client-cert", value))), bytes | Refusal)


def test_the_peer_speaks_for_itself_unless_it_is_a_proxy_of_ours() -> None:
    forwarded = (b"x-forwarded-for", b"203.0.113.5")
    assert PROXIES.client_address(call("192.0.2.7", forwarded)) == "192.0.2.7"
    assert PROXIES.client_address(call("10.0.0.9", forwarded)) == "203.0.113.5"


def test_of_a_chain_the_last_one_counts_that_is_no_proxy_of_ours() -> None:
    forwarded = (b"x-forwarded-for", b"1.1.1.1, 203.0.113.5"), (b"x-forwarded-for", b"10.0.0.8")
    assert PROXIES.client_address(call("10.0.0.9", *forwarded)) == "203.0.113.5"


def test_a_proxy_that_names_nobody_stands_for_nobody() -> None:
    assert PROXIES.client_address(call("10.0.0.9")) is None


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="example"):
        TrustedProxies("proxy.example.org")
