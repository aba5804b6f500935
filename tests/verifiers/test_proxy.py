"""Verification through a proxy, and with a custom certificate authority."""

from __future__ import annotations

import base64
import logging
import ssl
from contextlib import contextmanager

import anyio
import httpx
import pytest
from proxies import Proxy
from tencents import (  # noqa: F401
    answering,
    certificate,
    http,
    nowhere,
    one_context,
    says,
    shared_tls,
    speaks_tls,
    trusted_tls,
)

from tcaptcha_middleware import (
    ConfigurationError,
    MisconfiguredError,
    OutageError,
    Submission,
    TencentVerifier,
    VerifierError,
)
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.verifiers.proxy import parse_proxy

TICKET = Submission("tr03ticket", "@r", "203.0.113.7")
ARGUMENTS = {
    "app_id": 190000000,
    "app_secret_key": "emulatorAppSecretKey12345",
    "secret_id": "AKIDemulator00000000000000000000",
    "secret_key": "emulatorSecretKey000000000000000",
}


def blocking(verifier):
    with verifier:
        return [verifier.verify(TICKET).code for _ in range(2)]


def on(backend):
    async def main(verifier):
        async with verifier:
            return [(await verifier.averify(TICKET)).code for _ in range(2)]

    return lambda verifier: anyio.run(main, verifier, backend=backend)


every_kind = pytest.mark.parametrize(
    "run", [blocking, on("asyncio"), on("trio")], ids=["sync", "asyncio", "trio"]
)


@pytest.fixture(params=["http", "https"])
def tls(request):
    return request.getfixturevalue("trusted_tls") if request.param == "https" else None


@contextmanager
def through(proxy, tls=None, user=""):
    with answering(says(http()), tls) as origin, proxy.serve() as address:
        url = address.replace("//", f"//{user}")
        yield TencentVerifier(**ARGUMENTS, endpoint=origin, proxy=url)


@every_kind
def test_a_proxy_connects_once_for_all_calls(run, tls):
    proxy = Proxy()
    with through(proxy, tls) as verifier:
        assert run(verifier) == [1, 1]
    [head] = proxy.heads
    assert head.startswith("CONNECT 127.0.0.1:")
    assert "Authorization" not in head


@every_kind
def test_a_proxy_is_sent_the_password(run):
    proxy = Proxy(b"HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n")
    with through(proxy, user="user:p%40ss@") as verifier:
        assert run(verifier) == [1, 1]
        assert "p%40ss" not in repr(vars(verifier))
    password = base64.b64encode(b"user:p@ss").decode()
    assert f"\r\nProxy-Authorization: Basic {password}\r\n" in proxy.heads[0]


REFUSALS = {
    "no password": (b"407 Proxy Authentication Required", MisconfiguredError, "HTTP 407"),
    "forbidden": (b"403 Forbidden", MisconfiguredError, "HTTP 403"),
    "no way": (b"502 Bad Gateway", VerifierError, "HTTP 502"),
}


@every_kind
@pytest.mark.parametrize(("status", "kind", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_proxy_that_refuses_is_not_an_outage(run, status, kind, message):
    proxy = Proxy(b"HTTP/1.1 " + status + b"\r\nContent-Length: 9\r\n\r\n<html>no!")
    with through(proxy) as verifier, pytest.raises(VerifierError, match=message) as caught:
        run(verifier)
    error = caught.value
    assert (type(error), error.answered, error.sent) == (kind, False, False)


@every_kind
def test_an_unreachable_proxy_is_not_an_outage(run):
    verifier = TencentVerifier(**ARGUMENTS, proxy=nowhere())
    with pytest.raises(VerifierError, match="the proxy is out of reach") as caught:
        run(verifier)
    assert type(caught.value) is VerifierError


@every_kind
def test_a_proxy_that_disconnects_is_not_an_outage(run):
    with answering(lambda client: client.recv(1)) as proxy:
        verifier = TencentVerifier(**ARGUMENTS, proxy=proxy)
        with pytest.raises(VerifierError, match="the proxy is out of reach") as caught:
            run(verifier)
    assert type(caught.value) is VerifierError


@every_kind
def test_an_address_of_ipv6_is_in_brackets(run):
    proxy = Proxy(b"HTTP/1.1 403 no\r\n\r\n")
    with proxy.serve() as url:
        verifier = TencentVerifier(**ARGUMENTS, endpoint="http://[::1]:9", proxy=url)
        with pytest.raises(MisconfiguredError):
            run(verifier)
    assert proxy.heads[0].startswith("CONNECT [::1]:9 HTTP/1.1\r\nHost: [::1]:9\r\n")


def test_a_refusal_is_the_same_through_httpx():
    proxy = Proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    with proxy.serve() as url, httpx.Client(proxy=url, verify=False) as client:
        verifier = TencentVerifier(**ARGUMENTS, client=client)
        with pytest.raises(MisconfiguredError, match="HTTP 407") as caught:
            verifier.verify(TICKET)
    assert (caught.value.answered, caught.value.sent) == (False, False)


@every_kind
def test_a_custom_certificate_authority_is_trusted(run, speaks_tls, certificate):  # noqa: F811
    context = ssl.create_default_context(cafile=certificate)
    with answering(says(http()), speaks_tls) as origin:
        verifier = TencentVerifier(**ARGUMENTS, endpoint=origin, ssl_context=context)
        assert run(verifier) == [1, 1]


# Settings.

PROXIES = {
    "http://proxy.example:3128": ("proxy.example", 3128, ""),
    "HTTP://[::1]:8080/": ("::1", 8080, ""),
    "http://a@h:1": ("h", 1, "Proxy-Authorization: Basic YTo=\r\n"),
}


@pytest.mark.parametrize(("url", "expected"), PROXIES.items())
def test_the_url_of_a_proxy_is_read(url, expected):
    assert tuple(parse_proxy(url)) == expected


NO_PROXIES = [
    "",
    "proxy.example:3128",
    "http://proxy.example",
    "http://proxy.example:0",
    "http://proxy.example:65536",
    "https://proxy.example:3128",
    "socks5://proxy.example:1080",
    "http://user:secret word@proxy.example:3128",
    "http://user:secret@x\r\nX: y:1",
    3128,
]


@pytest.mark.parametrize("url", NO_PROXIES, ids=repr)
def test_anything_else_is_refused_without_repeating_a_password(url):
    with pytest.raises(ConfigurationError, match="not the URL of an HTTP proxy") as caught:
        TencentVerifier(**ARGUMENTS, proxy=url)
    assert "secret" not in str(caught.value)


def test_ssl_context_must_be_a_context():
    with pytest.raises(ConfigurationError, match=r"ssl\.SSLContext, not str"):
        TencentVerifier(**ARGUMENTS, ssl_context="ca.pem")


@pytest.mark.parametrize("client", ["client", "async_client"])
@pytest.mark.parametrize("setting", ["proxy", "ssl_context"])
def test_a_client_has_its_own_proxy_and_authorities(client, setting):
    values = {"proxy": "http://h:1", "ssl_context": ssl.create_default_context()}
    with pytest.raises(ConfigurationError, match="on your httpx client"):
        TencentVerifier(**ARGUMENTS, **{client: object(), setting: values[setting]})


# The environment's proxy.


@pytest.fixture(autouse=True)
def fresh_log(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    log.ignored_proxy.cache_clear()
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def fail(**settings):
    verifier = TencentVerifier(**ARGUMENTS, endpoint=nowhere(), **settings)
    for _ in range(2):
        with pytest.raises(OutageError):
            verifier.verify(TICKET)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy"])
def test_an_ignored_proxy_is_mentioned_once_when_calls_fail(name, monkeypatch, caplog):
    monkeypatch.setenv(name, "http://user:secret@proxy.example:3128")
    fail()
    [record] = [record for record in caplog.records if "proxy" in record.message]
    assert record.message == (
        f"Tencent did not answer; {name} is set, and ignored: pass proxy= to the verifier"
    )


def test_an_ignored_proxy_is_mentioned_if_no_name_can_be_resolved(monkeypatch, caplog):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    verifier = TencentVerifier(**ARGUMENTS, endpoint="https://no-such-host.invalid")
    with pytest.raises(VerifierError):
        verifier.verify(TICKET)
    assert "HTTPS_PROXY is set, and ignored" in caplog.text


class NoKey:
    def get_credential_info(self):
        raise FileNotFoundError


def test_an_ignored_proxy_is_not_mentioned_if_no_call_was_made(monkeypatch, caplog):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    verifier = TencentVerifier(190000000, "secret-of-captcha", credentials=NoKey())
    with pytest.raises(VerifierError):
        verifier.verify(TICKET)
    assert "proxy=" not in caplog.text


def test_without_a_proxy_in_the_environment_none_is_mentioned(caplog):
    fail()
    assert "proxy=" not in caplog.text


def test_a_given_client_may_have_read_the_environment(monkeypatch, caplog):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    with httpx.Client(trust_env=False) as client:
        fail(client=client)
    assert "proxy=" not in caplog.text
