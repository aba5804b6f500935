"""The visitor's address: where it is taken from, and what is fit to be sent to Tencent.

Pure text; nothing that is no valid address ever leaves this module.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Request

NO_ADDRESS = "127.0.0.1"
"""Sent as UserIp, which Tencent requires, where no address is known (its own sample's)."""


def peer_address(request: Request) -> str:
    """Return the connection's other end, the default for `client_ip`."""
    return request.peer


def usable(text: str) -> str:
    """Return `text` as an address without zone or IPv4 in IPv6; `NO_ADDRESS` if it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return NO_ADDRESS
    return str(getattr(address, "ipv4_mapped", None) or address)
