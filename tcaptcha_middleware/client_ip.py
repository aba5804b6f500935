"""Find the visitor's address, and check that it may be sent to Tencent.

Pure text. Anything that is not a valid address never leaves this module.

https://www.rfc-editor.org/rfc/rfc7239
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.operations import log

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from ipaddress import IPv4Address, IPv6Address

    from tcaptcha_middleware.models import RequestInfo

    Address = IPv4Address | IPv6Address

MAX_ELEMENTS = 64
"""How many addresses of a chain are read, from its right end."""

MAX_LENGTH = 4096
"""How many characters of a chain are read, from its right end."""

_UNIX = "unix"
# IPv6 in full, with brackets, zone, port and whitespace around it, is shorter.
_LONGEST = 100
# An address, or one in brackets (RFC 3986, section 3.2.2), and the port that proxies may add.
_NODE = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d+)?|(?P<v4>[0-9.]+):\d+|(?P<bare>.*)", re.DOTALL)
# Elements of a list, and the pairs of one; quoted strings may hold commas and semicolons.
# Possessive, so a header takes time in proportion to its length.
# They are compiled when they are used: few proxies send `Forwarded`.
_ELEMENTS = r'(?:[^,"]++|"[^"]*+")++'
_PAIRS = r'(?:[^;"]++|"[^"]*+")++'
_FOR = r'(?i:\s*+for="?(?P<node>[^"]*+)"?\s*)'
_FORWARDING = ("X-Forwarded-For", "Forwarded")
# RFC 1918, RFC 4193, RFC 6598, loopback and link-local. Not all that ipaddress calls private:
# networks for documentation are among those.
_PRIVATE = [
    ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "100.64.0.0/10"),
        *("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"),
    )
]


def peer_address(request: RequestInfo) -> str:
    """Return the connection's other end, the default for `client_ip`.

    Warns once if that is a proxy, as far as can be seen: a private address that forwards.
    """
    if _is_private(request.peer) and any(map(request.header, _FORWARDING)):
        log.private_peer(request.peer)
    return request.peer


def usable(text: str) -> str | None:
    """Return `text` as an address without zone or IPv4 in IPv6; None if it is not valid."""
    return _usable(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)
def _usable(text: str) -> str | None:
    address = _parsed(text)
    return None if address is None else str(address)


class TrustedProxies:
    """Take the visitor's address from what your own proxies say; for `client_ip`.

    The chain of addresses is read from the connection's other end to the left, past trusted
    proxies only, so addresses that a client writes itself are never reached. Only the last
    `MAX_ELEMENTS` addresses and `MAX_LENGTH` characters of a chain are read, and empty
    elements are ignored (RFC 9110, section 5.6.1). A warning is logged once if a trusted peer
    sends no such header: some servers remove it, such as waitress without
    `trusted_proxy_headers`.

    A custom function gets the `RequestInfo`, whose `header` returns a list, and returns one
    text: `lambda request: "".join(request.header("X-Real-Ip"))`.

    Args:
        networks: Your proxies' addresses or networks, such as `"10.0.0.0/8"`; `"unix"` for
            peers on a Unix socket, whose address is empty.
        header: The header that contains the chain: `"X-Forwarded-For"`, `"Forwarded"`
            (RFC 7239), or a header with a single address that they overwrite, such as
            `"X-Real-Ip"`.

    Raises:
        ConfigurationError: If `networks` is empty or one of them is not valid.
    """

    def __init__(self, networks: Sequence[str], header: str = "X-Forwarded-For") -> None:
        if isinstance(networks, str) or not networks:
            raise ConfigurationError('networks has to be a list, such as ["10.0.0.0/8"]')
        try:
            self._networks = [ip_network(text) for text in networks if text != _UNIX]
        except ValueError as error:
            message = f"not a valid network: {error}; use e.g. 10.0.0.0/8"
            raise ConfigurationError(message) from error
        self._trusts_sockets = _UNIX in networks
        self._header = header

    def __call__(self, request: RequestInfo) -> str:
        """Return the visitor's address, or the last one on the way that can be trusted."""
        visitor = request.peer
        chain = ",".join(request.header(self._header))
        if not chain and self._trusts(visitor):
            log.not_forwarded(visitor or _UNIX, self._header)
        # Without the element that the limit cuts.
        read = chain if len(chain) <= MAX_LENGTH else chain[-MAX_LENGTH:].partition(",")[2]
        if self._header.lower() == "forwarded":
            nodes = _forwarded(read)
        else:
            listed = [node for element in read.split(",") if (node := element.strip())]
            nodes = reversed(listed[-MAX_ELEMENTS:])
        for node in nodes:
            if not self._trusts(visitor) or _address(node) is None:
                break
            visitor = node
        return usable(visitor) or ""

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        if address is None:
            # A Unix socket's other end, which servers call "", "unix:" or "localhost".
            return self._trusts_sockets
        return any(address in network for network in self._networks)


def _forwarded(chain: str) -> Iterator[str]:
    """Yield the addresses of a `Forwarded` header, the last first."""
    # Read from its end, where trusted proxies wrote: a quote that a client leaves open to the
    # left of them cannot pair with one of theirs, and make its own element the last.
    elements = [part for part in re.findall(_ELEMENTS, chain[::-1]) if part.strip()]
    for element in elements[:MAX_ELEMENTS]:
        # An address contains no backslash, which could hide the end of a quoted string.
        pairs = [] if "\\" in element else re.findall(_PAIRS, element[::-1])
        nodes = [match["node"] for pair in pairs if (match := re.fullmatch(_FOR, pair))]
        # An element without an address is a part of the chain too, and ends the search.
        yield nodes[0] if nodes else ""


@lru_cache(maxsize=1024)
def _is_private(peer: str) -> bool:
    address = _address(peer)
    return address is not None and any(address in network for network in _PRIVATE)


def _address(text: str) -> Address | None:
    return _parsed(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Address | None:
    node = _NODE.fullmatch(text.strip())
    bare = (node["v6"] or node["v4"] or node["bare"] or "") if node else ""
    try:
        address = ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
