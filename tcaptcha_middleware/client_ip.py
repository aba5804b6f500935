"""The visitor's address: where it is taken from, and what is fit to be sent to Tencent.

Pure text; nothing that is no valid address ever leaves this module.

https://www.rfc-editor.org/rfc/rfc7239
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from tcaptcha_middleware.models import RequestInfo

    Address = IPv4Address | IPv6Address

_UNIX = "unix"
# IPv6 in full, with brackets, zone, port and blanks around it, is shorter.
_LONGEST = 100
# An address, or one in brackets (RFC 3986, section 3.2.2), and the port that proxies may add.
_NODE = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d+)?|(?P<v4>[0-9.]+):\d+|(?P<bare>.*)", re.DOTALL)
# Elements of a list, and the pairs of one; quoted strings may hold commas and semicolons.
# Possessive, so that no header takes longer than its length.
_ELEMENTS = re.compile(r'(?:[^,"]++|"[^"]*+")++')
_PAIRS = re.compile(r'(?:[^;"]++|"[^"]*+")++')
_FOR = re.compile(r'\s*+for="?(?P<node>[^"]*+)"?\s*', re.IGNORECASE)


def peer_address(request: RequestInfo) -> str:
    """Return the connection's other end, the default for `client_ip`."""
    return request.peer


def usable(text: str) -> str | None:
    """Return `text` as an address without zone or IPv4 in IPv6; None if it is no address."""
    return _usable(text) if len(text) <= _LONGEST else None


@lru_cache(maxsize=1024)
def _usable(text: str) -> str | None:
    address = _parsed(text)
    return None if address is None else str(address)


class TrustedProxies:
    """Take the visitor's address from what your own proxies say; for `client_ip`.

    The chain of addresses is walked from the connection's other end to the left, past
    trusted proxies only. So whatever a client writes into the header itself is never reached.
    A custom function gets the `RequestInfo`, whose `header` returns a list, and returns one
    text: `lambda request: "".join(request.header("X-Real-Ip"))`.

    Args:
        networks: Your proxies' addresses or networks, such as `"10.0.0.0/8"`; `"unix"` for
            whoever connects over a Unix socket, where no peer has an address.
        header: Where they write the chain: `"X-Forwarded-For"`, `"Forwarded"` (RFC 7239), or
            a header with a single address that they overwrite, such as `"X-Real-Ip"`.

    Raises:
        ConfigurationError: No network is given, or one is none.
    """

    def __init__(self, networks: Sequence[str], header: str = "X-Forwarded-For") -> None:
        if isinstance(networks, str) or not networks:
            raise ConfigurationError('networks has to be a list, such as ["10.0.0.0/8"]')
        self._networks = tuple(_network(text) for text in networks if text != _UNIX)
        self._trusts_sockets = _UNIX in networks
        self._header = header
        self._nodes = _forwarded if header.lower() == "forwarded" else _listed

    def __call__(self, request: RequestInfo) -> str:
        """Return the visitor's address, or the last one on the way that can be trusted."""
        found = request.peer
        chain = self._nodes(",".join(request.header(self._header)))
        for node in reversed(chain):
            if not self._trusts(found) or _address(node) is None:
                break
            found = node
        return usable(found) or ""

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        if address is None:
            # A Unix socket's other end, which servers call "", "unix:" or "localhost".
            return self._trusts_sockets
        return any(address in network for network in self._networks)


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is no network ({error}): write it like 10.0.0.0/8"
        ) from error


def _listed(header: str) -> list[str]:
    return header.split(",") if header else []


def _forwarded(header: str) -> list[str]:
    # Read from its end, where trusted proxies wrote: a quote that a client leaves open to the
    # left of them cannot pair with one of theirs, and make its own element the last.
    return [_for(element[::-1]) for element in _ELEMENTS.findall(header[::-1])][::-1]


def _for(element: str) -> str:
    # No address holds a backslash, and one could hide where a quoted string ends.
    pairs = [] if "\\" in element else _PAIRS.findall(element)
    found = [match["node"] for pair in pairs if (match := _FOR.fullmatch(pair))]
    # An element without an address stands in the chain all the same, and ends the walk.
    return found[0] if found else ""


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
