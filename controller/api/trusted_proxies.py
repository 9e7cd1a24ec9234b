"""Which peers may speak for somebody else: proxies that are named in the settings, and nobody besides.

What a proxy says stands in headers that anybody can send. So the peer of the connection itself must be a proxy of
ours, and the server must run without uvicorn's own `proxy_headers`, which put a forwarded address in its place.
"""

import base64
import binascii
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from starlette.types import Scope

from controller.trust.errors import Refusal, RefusalCode

CLIENT_CERT = b"client-cert"
"""Header that carries the certificate of the TLS client: DER in base64, between colons (RFC 9440)."""
UNIX = "unix:"
"""Stands for whoever reaches the controller's own Unix socket."""


class TrustedProxies:
    """The proxies of the setting `trusted_proxies`."""

    def __init__(self, text: str) -> None:
        """Read a comma-separated list of networks, and `unix:`. ValueError names what is neither."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        self._unix = UNIX in parts
        self._networks: list[IPv4Network | IPv6Network] = [ip_network(part) for part in parts if part != UNIX]

    def include(self, scope: Scope) -> bool:
        """Tell whether the peer of the connection is one of them."""
        client, server = scope.get("client"), scope.get("server")
        if client is None:
            # A TCP peer that is gone already has no address either; a Unix socket's own has no port.
            return self._unix and server is not None and server[1] is None
        return self._named(client[0])

    def client_address(self, scope: Scope) -> str | None:
        """Return who speaks: the peer, or whom a trusted peer names in X-Forwarded-For, read from the right."""
        if not self.include(scope):
            client = scope.get("client")
            return str(client[0]) if client else None
        values = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        hops = [hop.strip() for hop in b",".join(values).decode("latin-1").split(",") if hop.strip()]
        foreign = [hop for hop in hops if not self._named(hop)]
        return foreign[-1] if foreign else None

    def client_certificate(self, scope: Scope) -> bytes | Refusal:
        """Return the certificate (DER) that the proxy says it has checked, or why there is none."""
        values = [value for name, value in scope["headers"] if name == CLIENT_CERT]
        if not self.include(scope):
            return _refused("it must come through one of the trusted proxies")
        if len(values) != 1:
            return _refused(f"the proxy sent {len(values)} Client-Cert headers; one is expected")
        text = values[0].strip()
        if len(text) < 2 or text[:1] != b":" or text[-1:] != b":":
            return _refused("the Client-Cert header is not base64 between colons (RFC 9440)")
        try:
            return base64.b64decode(text[1:-1], validate=True)
        except binascii.Error as error:
            return _refused(f"the Client-Cert header is not base64 between colons (RFC 9440): {error}")

    def _named(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        if isinstance(found, IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped  # how a socket that serves both families shows an IPv4 peer
        return any(found in network for network in self._networks)


@lru_cache(maxsize=8)
def trusted_proxies(text: str) -> TrustedProxies:
    """Return the proxies of a setting, read once."""
    return TrustedProxies(text)


def _refused(detail: str) -> Refusal:
    return Refusal(RefusalCode.DEVICE_CERT, f"a client certificate is needed: {detail}")
