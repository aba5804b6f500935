"""The visitor's address: from the peer, or from what trusted proxies say, and never raw."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import ConfigurationError, RequestInfo, TrustedProxies
from tcaptcha_middleware.client_ip import _usable, usable

ADDRESSES = {
    "203.0.113.7": "203.0.113.7",
    "2001:db8::1": "2001:db8::1",
    "2001:DB8::1": "2001:db8::1",
    "fe80::1%eth0": "fe80::1",
    "::ffff:203.0.113.7": "203.0.113.7",
    "[2001:db8::1]": "2001:db8::1",
    "[2001:db8::1]:443": "2001:db8::1",
    "[fe80::1%25eth0]:1": "fe80::1",
    "203.0.113.7:80": "203.0.113.7",
    " 203.0.113.7 ": "203.0.113.7",
    "": None,
    "unknown": None,
    "_hidden": None,
    "testclient": None,
    "1.2.3": None,
    "01.2.3.4": None,
    "1.2.3.4:x": None,
    "[1.2.3.4": None,
    "2001:db8::1]:80": None,
    "1.2.3.4\r\nX: y": None,
    "1.2.3.4, 5.6.7.8": None,
}


@pytest.mark.parametrize(("text", "sent"), ADDRESSES.items(), ids=repr)
def test_only_a_valid_address_is_ever_sent(text, sent):
    assert usable(text) == sent


def test_a_long_text_is_neither_an_address_nor_remembered():
    before = _usable.cache_info().currsize
    assert usable("1" * 60_000) is None
    assert _usable.cache_info().currsize == before


PROXY = "10.0.0.1"
XFF = {
    "the visitor, as the proxy saw it": (["198.51.100.1"], "198.51.100.1"),
    "what the visitor made up stands left": (["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
    "past a second proxy": (["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    "past a proxy in IPv6": (["198.51.100.1, 2001:db8:aa::7"], "198.51.100.1"),
    "repeated headers are one list": (["1.1.1.1", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    "with a port": (["198.51.100.1:4711"], "198.51.100.1"),
    "IPv6 in brackets": (['"[2001:db8::5]:4711"'.strip('"')], "2001:db8::5"),
    "IPv4 in IPv6": (["::ffff:198.51.100.1"], "198.51.100.1"),
    "nothing": ([], PROXY),
    "an empty header": ([""], PROXY),
    "what is no address ends the walk": (["198.51.100.1, unknown"], PROXY),
    "and keeps what came before": (["evil, 10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    "a header of proxies only": (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    "four thousand entries": ([", ".join(["1.1.1.1"] * 4096)], "1.1.1.1"),
}


def request(name: str, values: list[str], peer: str = PROXY) -> RequestInfo:
    pairs = tuple((name.lower().encode(), value.encode("latin-1")) for value in values)
    return RequestInfo("http", "POST", "/", headers=pairs, peer=peer)


@pytest.mark.parametrize(("values", "address"), XFF.values(), ids=XFF)
def test_the_address_is_the_last_that_a_trusted_proxy_vouches_for(values, address):
    client_ip = TrustedProxies(["10.0.0.0/8", "2001:db8:aa::/48"])
    assert client_ip(request("X-Forwarded-For", values)) == address


FORWARDED = {
    "a token": (["for=198.51.100.1"], "198.51.100.1"),
    "any case, other parameters": (
        ["by=10.9.9.9; FOR=198.51.100.1;proto=https"],
        "198.51.100.1",
    ),
    "IPv6, quoted": (['for="[2001:db8::5]:4711"'], "2001:db8::5"),
    "a comma inside quotes": (['for=198.51.100.1;host="a,b", for=10.0.0.2'], "198.51.100.1"),
    "what the visitor made up stands left": (["for=1.1.1.1, for=198.51.100.1"], "198.51.100.1"),
    "an element without for ends the walk": (["for=198.51.100.1, proto=https"], PROXY),
    "an obfuscated one too": (["for=198.51.100.1, for=_x"], PROXY),
    "for inside another value is none": (['host="x;for=1.1.1.1"'], PROXY),
    "an open quote": (['for="198.51.100.1'], PROXY),
    "nothing": ([], PROXY),
}


@pytest.mark.parametrize(("values", "address"), FORWARDED.values(), ids=FORWARDED)
def test_the_standard_header_is_read_as_the_standard_says(values, address):
    client_ip = TrustedProxies(["10.0.0.0/8"], header="Forwarded")
    assert client_ip(request("Forwarded", values)) == address


def test_a_header_that_a_proxy_overwrites_can_be_named():
    client_ip = TrustedProxies([PROXY], header="X-Real-Ip")
    assert client_ip(request("X-Real-Ip", ["198.51.100.1"])) == "198.51.100.1"


def test_nobody_is_believed_who_is_no_trusted_proxy():
    spoofed = request("X-Forwarded-For", ["198.51.100.1"], peer="203.0.113.9")
    assert TrustedProxies(["10.0.0.0/8"])(spoofed) == "203.0.113.9"


@pytest.mark.parametrize("peer", ["", "unix", "unix:", "localhost"])
def test_whoever_connects_over_a_unix_socket_may_be_a_proxy(peer):
    forwarded = request("X-Forwarded-For", ["1.1.1.1, 198.51.100.1"], peer)
    assert TrustedProxies(["unix"])(forwarded) == "198.51.100.1"
    assert TrustedProxies([PROXY])(forwarded) == ""
    # Trusted is the socket, not whoever says to be one.
    spoofed = request("X-Forwarded-For", ["198.51.100.1", peer], "203.0.113.9")
    assert TrustedProxies(["unix"])(spoofed) == "203.0.113.9"


def test_a_peer_without_an_address_is_none():
    assert TrustedProxies(["10.0.0.0/8"])(request("X-Forwarded-For", ["1.1.1.1"], "unix")) == ""


BAD_NETWORKS = {
    "a text": ("10.0.0.0/8", "list"),
    "none": ([], "list"),
    "no network": (["proxy"], "no network"),
    "host bits": (["10.0.0.1/8"], "host bits"),
}


@pytest.mark.parametrize(("networks", "mend"), BAD_NETWORKS.values(), ids=BAD_NETWORKS)
def test_networks_that_cannot_work_are_refused(networks, mend):
    with pytest.raises(ConfigurationError, match=mend):
        TrustedProxies(networks)


HEADER = st.text(
    st.one_of(st.sampled_from('0123456789.:[]%,;="\\ for'), st.characters(max_codepoint=255))
)


@given(HEADER, st.sampled_from(["X-Forwarded-For", "Forwarded"]))
def test_no_header_raises_and_only_addresses_come_out(header, name):
    found = TrustedProxies(["0.0.0.0/0", "::/0"], name)(request(name, [header]))
    assert str(ip_address(found)) == found
