"""The visitor's address: from the peer, or from headers of trusted proxies; always valid."""

from __future__ import annotations

import logging
from ipaddress import ip_address, ip_network

import pytest
from adapters import RUNNERS, Exchange
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    RequestInfo,
    TrustedProxies,
    client_ip,
)
from tcaptcha_middleware.client_ip import MAX_ELEMENTS, MAX_LENGTH, _usable, usable
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.testing import FakeVerifier

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


def test_a_long_text_is_not_an_address_and_not_cached():
    before = _usable.cache_info().currsize
    assert usable("1" * 60_000) is None
    assert _usable.cache_info().currsize == before


PROXY = "10.0.0.1"
XFF = {
    "the visitor, as the proxy saw it": (["198.51.100.1"], "198.51.100.1"),
    "a forged address to the left": (["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
    "past a second proxy": (["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    "past a proxy in IPv6": (["198.51.100.1, 2001:db8:aa::7"], "198.51.100.1"),
    "repeated headers are one list": (["1.1.1.1", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
    "with a port": (["198.51.100.1:4711"], "198.51.100.1"),
    "IPv6 in brackets": (['"[2001:db8::5]:4711"'.strip('"')], "2001:db8::5"),
    "IPv4 in IPv6": (["::ffff:198.51.100.1"], "198.51.100.1"),
    "nothing": ([], PROXY),
    "an empty header": ([""], PROXY),
    "an invalid address ends parsing": (["198.51.100.1, unknown"], PROXY),
    "an invalid address before valid ones": (["evil, 10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    "a header of proxies only": (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    "a trailing comma": (["198.51.100.1, "], "198.51.100.1"),
    "empty elements": (["1.1.1.1,,198.51.100.1, ,10.0.0.2,,"], "198.51.100.1"),
    "a header of commas": ([", ,,"], PROXY),
    "an empty header among others": (["198.51.100.1", "", "10.0.0.2"], "198.51.100.1"),
    "four thousand entries": ([", ".join(["1.1.1.1"] * 4096)], "1.1.1.1"),
}


def request(name: str, values: list[str], peer: str = PROXY) -> RequestInfo:
    pairs = tuple((name.lower().encode(), value.encode("latin-1")) for value in values)
    return RequestInfo("http", "POST", "/", headers=pairs, peer=peer)


@pytest.mark.parametrize(("values", "address"), XFF.values(), ids=XFF)
def test_the_address_is_the_last_one_from_a_trusted_proxy(values, address):
    trusted = TrustedProxies(["10.0.0.0/8", "2001:db8:aa::/48"])
    assert trusted(request("X-Forwarded-For", values)) == address


FORWARDED = {
    "a token": (["for=198.51.100.1"], "198.51.100.1"),
    "any case, other parameters": (
        ["by=10.9.9.9; FOR=198.51.100.1;proto=https"],
        "198.51.100.1",
    ),
    "IPv6, quoted": (['for="[2001:db8::5]:4711"'], "2001:db8::5"),
    "a comma inside quotes": (['for=198.51.100.1;host="a,b", for=10.0.0.2'], "198.51.100.1"),
    "a forged address to the left": (["for=1.1.1.1, for=198.51.100.1"], "198.51.100.1"),
    "an element without for ends parsing": (["for=198.51.100.1, proto=https"], PROXY),
    "an obfuscated address ends parsing": (["for=198.51.100.1, for=_x"], PROXY),
    "a trailing comma": (["for=198.51.100.1, "], "198.51.100.1"),
    "empty elements": (["for=198.51.100.1, , for=10.0.0.2,,"], "198.51.100.1"),
    "for inside another value is ignored": (['host="x;for=1.1.1.1"'], PROXY),
    "an open quote": (['for="198.51.100.1'], PROXY),
    "nothing": ([], PROXY),
}


@pytest.mark.parametrize(("values", "address"), FORWARDED.values(), ids=FORWARDED)
def test_the_standard_header_is_read_as_the_standard_says(values, address):
    trusted = TrustedProxies(["10.0.0.0/8"], header="Forwarded")
    assert trusted(request("Forwarded", values)) == address


def test_a_header_that_a_proxy_overwrites_can_be_named():
    trusted = TrustedProxies([PROXY], header="X-Real-Ip")
    assert trusted(request("X-Real-Ip", ["198.51.100.1"])) == "198.51.100.1"


def test_an_untrusted_peer_cannot_forward_an_address():
    spoofed = request("X-Forwarded-For", ["198.51.100.1"], peer="203.0.113.9")
    assert TrustedProxies(["10.0.0.0/8"])(spoofed) == "203.0.113.9"


@pytest.mark.parametrize("peer", ["", "unix", "unix:", "localhost"])
def test_a_peer_on_a_unix_socket_can_be_trusted_as_a_proxy(peer):
    forwarded = request("X-Forwarded-For", ["1.1.1.1, 198.51.100.1"], peer)
    assert TrustedProxies(["unix"])(forwarded) == "198.51.100.1"
    assert TrustedProxies([PROXY])(forwarded) == ""
    # Only the socket is trusted, not a header with the same text.
    spoofed = request("X-Forwarded-For", ["198.51.100.1", peer], "203.0.113.9")
    assert TrustedProxies(["unix"])(spoofed) == "203.0.113.9"


def test_a_peer_without_an_address_has_an_empty_address():
    assert TrustedProxies(["10.0.0.0/8"])(request("X-Forwarded-For", ["1.1.1.1"], "unix")) == ""


BAD_NETWORKS = {
    "a string": ("10.0.0.0/8", "list"),
    "none": ([], "list"),
    "an invalid network": (["proxy"], "not a valid network"),
    "host bits": (["10.0.0.1/8"], "host bits"),
}


@pytest.mark.parametrize(("networks", "fix"), BAD_NETWORKS.values(), ids=BAD_NETWORKS)
def test_invalid_networks_are_refused(networks, fix):
    with pytest.raises(ConfigurationError, match=fix):
        TrustedProxies(networks)


HEADER = st.text(
    st.one_of(st.sampled_from('0123456789.:[]%,;="\\ for'), st.characters(max_codepoint=255))
)


@given(HEADER, st.sampled_from(["X-Forwarded-For", "Forwarded"]))
def test_no_header_raises_and_only_addresses_come_out(header, name):
    address = TrustedProxies(["0.0.0.0/0", "::/0"], name)(request(name, [header]))
    assert str(ip_address(address)) == address


# -- Long chains ------

EVERYTHING = ["0.0.0.0/0", "::/0"]
KINDS = {"X-Forwarded-For": "{}", "Forwarded": "for={}"}
every_kind = pytest.mark.parametrize(("name", "element"), KINDS.items(), ids=KINDS)


@pytest.fixture
def read(monkeypatch):
    """Collect the texts that are read as addresses."""
    texts = []
    original = client_ip._parsed
    monkeypatch.setattr(client_ip, "_parsed", lambda text: texts.append(text) or original(text))
    return texts


@every_kind
@pytest.mark.parametrize("blank", ["", " ", ", ,"], ids=repr)
def test_only_the_last_elements_of_a_long_chain_are_read(read, name, element, blank):
    nodes = [f"10.0.{number // 250}.{number % 250}" for number in range(5_000)]
    chain = f",{blank}".join(map(element.format, nodes))
    address = TrustedProxies(["10.0.0.0/8"], name)(request(name, [chain]))
    assert address == nodes[-MAX_ELEMENTS]
    assert len(read) <= 3 * MAX_ELEMENTS


@every_kind
def test_long_elements_are_read_up_to_the_limit(read, name, element):
    node = element.format("10.0.0.1") + " " * 90
    TrustedProxies(EVERYTHING, name)(request(name, [",".join([node] * 600)]))
    assert sum(len(text) for text in set(read)) <= MAX_LENGTH
    assert len(read) <= 2 * MAX_LENGTH / len(node) + 1


@every_kind
@pytest.mark.parametrize("junk", [",", '"', ";", "\\", "x", ',"', "for=", ' "; ,'], ids=repr)
def test_nothing_is_read_left_of_the_limit(name, element, junk):
    chain = junk * (60_000 // len(junk)) + "," + element.format("198.51.100.1")
    trusted = TrustedProxies([PROXY], name)
    assert trusted(request(name, [chain])) == "198.51.100.1"
    everything = TrustedProxies(EVERYTHING, name)
    ip_address(everything(request(name, [chain])))


@every_kind
def test_an_address_that_the_limit_cuts_is_not_read(name, element):
    last = "," + element.format("10.0.0.2").rjust(MAX_LENGTH - len("1.1.1.1") - 1)
    chain = element.format("91.1.1.1") + last
    # The limit is between the 9 and the 1.
    assert chain[-MAX_LENGTH:].startswith("1.1.1.1,")
    assert TrustedProxies(EVERYTHING, name)(request(name, [chain])) != "1.1.1.1"


# -- Warnings ------


@pytest.fixture
def warned(monkeypatch, caplog):
    """Return the warnings of a process that begins now."""
    monkeypatch.setattr(log, "_logged", set())
    caplog.set_level(logging.WARNING, "tcaptcha_middleware")
    return lambda: [record.getMessage() for record in caplog.records]


PRIVATE = ["172.18.0.2", "10.1.2.3", "192.168.0.9", "127.0.0.1", "::1", "fd00::1", "100.64.1.1"]
FORWARDED_FOR = (("X-Forwarded-For", "203.0.113.9"),)


@pytest.mark.parametrize("peer", [*PRIVATE, "::ffff:10.0.0.1"])
@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_private_peer_that_forwards_is_reported_once(runner, peer, warned):
    guard = Guard(["POST /login"], FakeVerifier())
    exchange = Exchange(headers=(*PAIR, *FORWARDED_FOR), peer=peer)
    for _ in range(3):
        runner(guard, exchange)
    (message,) = warned()
    assert f'TrustedProxies(["{peer}"])' in message


PAIR = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
NOT_REPORTED = {
    "no header": (request("X-Real-Ip", ["1.1.1.1"], "172.18.0.2"), client_ip.peer_address),
    "a public peer": (
        request("X-Forwarded-For", ["1.1.1.1"], "8.8.8.8"),
        client_ip.peer_address,
    ),
    "no address": (
        request("X-Forwarded-For", ["1.1.1.1"], "testclient"),
        client_ip.peer_address,
    ),
    "proxies that are named": (
        request("X-Forwarded-For", ["1.1.1.1"], PROXY),
        TrustedProxies([PROXY]),
    ),
    "a peer that is not trusted": (request("X-Other", [], "8.8.8.8"), TrustedProxies([PROXY])),
}


@pytest.mark.parametrize(("head", "find"), NOT_REPORTED.values(), ids=NOT_REPORTED)
def test_other_requests_are_not_reported(head, find, warned):
    find(head)
    assert warned() == []


@pytest.mark.parametrize("peer", [PROXY, "unix"])
def test_a_trusted_proxy_that_forwards_nothing_is_reported_once(peer, warned):
    trusted = TrustedProxies([PROXY, "unix"], "X-Real-Ip")
    for _ in range(3):
        trusted(request("X-Forwarded-For", ["1.1.1.1"], peer))
    (message,) = warned()
    assert peer in message
    assert "X-Real-Ip" in message
    assert "waitress" in message
    # Another header may be missing for another reason.
    TrustedProxies([PROXY])(request("X-Real-Ip", ["1.1.1.1"]))
    assert len(warned()) == 2


def test_networks_for_documentation_are_not_private():
    assert not client_ip._is_private("203.0.113.7")
    assert ip_network("203.0.113.0/24").is_private
