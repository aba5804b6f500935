"""TencentSDKVerifier: what it uses of the official client, and what it leaves unchanged."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from http.client import BadStatusLine, RemoteDisconnected

import httpx
import pytest
from tencentcloud.captcha.v20190722.captcha_client import CaptchaClient
from tencentcloud.captcha.v20190722.captcha_client_async import (
    CaptchaClient as AsyncCaptchaClient,
)
from tencentcloud.common import retry, retry_async
from tencentcloud.common.common_client import CommonClient
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.http.request import requests
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencents import address, answering, drips, http, tencent  # noqa: F401

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    MisconfiguredError,
    OutageError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.verifiers.sdk import TencentSDKVerifier

# The official client calls datetime.utcfromtimestamp at each verification.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")

CAPTCHA = 190000000, "emulatorAppSecretKey12345"
KEY = "AKIDemulator00000000000000000000", "emulatorSecretKey000000000000000"
PATIENCE = 3.0
RETRYERS = {
    CaptchaClient: retry.StandardRetryer,
    AsyncCaptchaClient: retry_async.StandardRetryer,
}

every_client = pytest.mark.parametrize(
    "kind", [CaptchaClient, AsyncCaptchaClient], ids=["sync", "async"]
)


def made(kind, origin="http://127.0.0.1:9", credential=None, **profile):
    scheme, _, host = origin.partition("://")
    # It speaks no TLS, and a certificate store takes longer to load than a test.
    over = HttpProfile(protocol=scheme, endpoint=host, certification=False)
    credential = credential or Credential(*KEY)
    return kind(credential, "", ClientProfile(httpProfile=over, **profile))


def check(client, ticket, **settings):
    verifier = TencentSDKVerifier(client, *CAPTCHA, **settings)
    if isinstance(client, AsyncCaptchaClient):
        return asyncio.run(awaited(client, verifier, ticket))
    try:
        return verifier.verify(ticket)
    finally:
        client.request.conn._session.close()


async def awaited(client, verifier, ticket):
    async with client:
        return await verifier.averify(ticket)


@every_client
def test_the_clients_retryer_is_not_used_and_not_changed(tencent, kind):  # noqa: F811
    retryer = RETRYERS[kind](max_attempts=3, backoff_fn=lambda _: 0)
    client = made(kind, tencent.origin, retryer=retryer)
    tencent.script({"error": "RequestLimitExceeded"})
    with pytest.raises(ThrottledError):
        check(client, tencent.ticket())
    assert len(tencent.calls) == 1
    assert client.profile.retryer is retryer


@every_client
def test_the_deadline_replaces_the_clients_sixty_seconds(tencent, kind):  # noqa: F811
    client = made(kind, tencent.origin)
    tencent.script({"latency": 10.0})
    began = time.monotonic()
    with pytest.raises(OutageError, match="too long"):
        check(client, tencent.ticket(), timeout=0.2)
    assert time.monotonic() - began < PATIENCE
    assert client.profile.httpProfile.reqTimeout == 60


@every_client
def test_an_answer_that_arrives_byte_by_byte_ends_at_the_deadline(tencent, kind):  # noqa: F811
    with answering(drips(http(b" " * 500)[:16])) as origin, pytest.raises(OutageError):
        check(made(kind, origin), tencent.ticket(), timeout=0.3)


def test_the_verifier_is_sync_or_async_like_its_client():
    blocking = TencentSDKVerifier(made(CaptchaClient), *CAPTCHA)
    awaitable = TencentSDKVerifier(made(AsyncCaptchaClient), *CAPTCHA)
    assert [hasattr(blocking, name) for name in ("verify", "averify")] == [True, False]
    assert [hasattr(awaitable, name) for name in ("verify", "averify")] == [False, True]


def threads():
    return {
        thread for thread in threading.enumerate() if thread.name.startswith("tcaptcha-sdk")
    }


def test_threads_of_a_sync_client_end_with_the_guard_and_start_again(tencent):  # noqa: F811
    client, others = made(CaptchaClient, tencent.origin), threads()
    verifier = TencentSDKVerifier(client, *CAPTCHA)
    guard = Guard(["/login"], verifier)
    for _ in range(2):
        assert verifier.verify(tencent.ticket()).passed
        own = threads() - others
        assert own
        guard.close()
        for thread in own:
            thread.join(PATIENCE)
        assert not threads() - others
    client.request.conn._session.close()


NO_CLIENTS = {
    "nothing": lambda: None,
    "a class": lambda: CaptchaClient,
    "an async class": lambda: AsyncCaptchaClient,
    "a client of another product": lambda: CommonClient(
        "cvm", "2017-03-12", Credential(*KEY), ""
    ),
    "credentials": lambda: Credential(*KEY),
}


@pytest.mark.parametrize("make", NO_CLIENTS.values(), ids=NO_CLIENTS)
def test_another_client_is_refused(make):
    with pytest.raises(ConfigurationError, match="not a CaptchaClient"):
        TencentSDKVerifier(make(), *CAPTCHA)


BAD = {
    "an app_id that is not a number": ({"app_id": "abc"}, "app_id"),
    "a blank app_secret_key": ({"app_secret_key": ""}, "app_secret_key"),
    "an unknown site": ({"site": "us"}, "site is 'us'"),
    "the other site's script": ({"script": "TCaptcha-global.js"}, "use TJCaptcha.js"),
    "a timeout of 0": ({"timeout": 0}, "timeout is 0"),
    "an infinite timeout": ({"timeout": float("inf")}, "timeout is inf"),
    "no timeout": ({"timeout": None}, "timeout is None"),
}


@pytest.mark.parametrize(("settings", "message"), BAD.values(), ids=BAD)
def test_invalid_settings_are_refused_at_construction(settings, message):
    settings = dict(zip(("app_id", "app_secret_key"), CAPTCHA, strict=True)) | settings
    with pytest.raises(ConfigurationError, match=message):
        TencentSDKVerifier(made(CaptchaClient), **settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("cn", "https://turing.captcha.qcloud.com/TJCaptcha.js")),
        (
            {"site": "intl"},
            ("intl", "https://ca.turing.captcha.qcloud.com/TJNCaptcha-global.js"),
        ),
        ({"script": "http://127.0.0.1:9/a.js"}, ("cn", "http://127.0.0.1:9/a.js")),
    ],
)
def test_public_settings_contain_its_captcha(settings, expected):
    verifier = TencentSDKVerifier(made(CaptchaClient), *CAPTCHA, **settings)
    shown = Guard(["/a"], verifier, page="/tcaptcha").public_settings()
    assert (shown["appId"], shown["site"], shown["script"]) == ("190000000", *expected)


def test_the_repr_contains_no_secret():
    text = repr(TencentSDKVerifier(made(CaptchaClient), *CAPTCHA))
    assert text == "<TencentSDKVerifier app_id=190000000>"


class Broken:
    """Credentials that fail during a verification."""

    def __init__(self, error):
        self.error = error

    def get_credential_info(self):
        raise self.error


SDK_ERRORS = {
    "ClientNetworkError": VerifierError,  # without the network error as its cause
    "InternalError": OutageError,
    "InternalError.Backend": OutageError,
    "RequestLimitExceeded": ThrottledError,
    "InvalidCredential": MisconfiguredError,
    "AuthFailure.SignatureFailure": MisconfiguredError,
    "UnauthorizedOperation.Unauthorized": MisconfiguredError,
    "ServerNetworkError": VerifierError,
    "ClientError": VerifierError,
    "AttributeError": VerifierError,
    "JSONDecodeError": VerifierError,
    None: VerifierError,
}


@pytest.mark.parametrize(("code", "expected"), SDK_ERRORS.items())
@every_client
def test_every_error_of_the_client_has_its_class(tencent, kind, code, expected):  # noqa: F811
    broken = Broken(TencentCloudSDKException(code, "secret detail", "r-1"))
    with pytest.raises(VerifierError) as caught:
        check(made(kind, credential=broken), tencent.ticket())
    assert caught.type is expected
    assert "secret detail" not in str(caught.value)


def caused(error, cause):
    error.__context__ = cause
    return error


RAW_ERRORS = {
    "httpx, connecting": (httpx.ConnectError("x"), OutageError),
    "httpx, in time": (httpx.ReadTimeout("x"), OutageError),
    "httpx, hung up": (
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        OutageError,
    ),
    "httpx, garbage": (httpx.RemoteProtocolError("illegal status line"), VerifierError),
    "httpx, proxy": (httpx.ProxyError("x"), VerifierError),
    "httpx, proxy, no password": (httpx.ProxyError("407 Authentication"), MisconfiguredError),
    "httpx, no connection free": (httpx.PoolTimeout("x"), ThrottledError),
    "httpx, our own call": (httpx.LocalProtocolError("x"), VerifierError),
    "requests, connection": (requests.ConnectionError("x"), OutageError),
    "requests, broken off": (requests.exceptions.ChunkedEncodingError("x"), VerifierError),
    "requests, in time": (requests.ReadTimeout("x"), OutageError),
    "requests, hung up": (
        caused(requests.ConnectionError("x"), RemoteDisconnected()),
        OutageError,
    ),
    "requests, garbage": (
        caused(requests.ConnectionError("x"), BadStatusLine("SMTP ready")),
        VerifierError,
    ),
    "requests, no such name": (
        caused(requests.ConnectionError("x"), socket.gaierror(-2, "unknown")),
        VerifierError,
    ),
    "requests, certificate": (
        caused(requests.exceptions.SSLError("x"), ssl.SSLCertVerificationError("x")),
        MisconfiguredError,
    ),
    "requests, proxy, no password": (
        caused(requests.exceptions.ProxyError("x"), OSError("Tunnel connection failed: 407 x")),
        MisconfiguredError,
    ),
    "the client, around it": (
        caused(TencentCloudSDKException("ClientNetworkError"), requests.ConnectionError("x")),
        OutageError,
    ),
    "requests, no URL": (requests.exceptions.InvalidURL("x"), VerifierError),
    "credentials, nothing set": (OSError("TKE_REGION not exist"), VerifierError),
    "credentials, no file": (FileNotFoundError("x"), VerifierError),
    "the client, broken": (AttributeError("x"), VerifierError),
}


@pytest.mark.parametrize(("error", "expected"), RAW_ERRORS.values(), ids=RAW_ERRORS)
@every_client
def test_raw_errors_are_an_outage_only_if_the_connection_failed(tencent, kind, error, expected):  # noqa: F811
    with pytest.raises(VerifierError) as caught:
        check(made(kind, credential=Broken(error)), tencent.ticket())
    assert caught.type is expected


@every_client
def test_a_temporary_key_is_sent_with_its_token(tencent, kind):  # noqa: F811
    client = made(kind, tencent.origin, Credential(*KEY, "temporary-token"))
    with pytest.raises(MisconfiguredError, match="TokenFailure"):
        check(client, tencent.ticket())
    assert tencent.heads[0]["x-tc-token"] == "temporary-token"


@pytest.mark.parametrize("method", ["TC3-HMAC-SHA256", "HmacSHA256"])
@every_client
def test_the_clients_debug_log_does_not_print_the_call(tencent, kind, method, caplog):  # noqa: F811
    caplog.set_level(logging.DEBUG, "tencentcloud_sdk_common")
    ticket = tencent.ticket()
    try:
        check(made(kind, tencent.origin, signMethod=method), ticket)
    except VerifierError:
        assert method == "HmacSHA256"  # which the emulator does not speak
    assert "GetResponse" in caplog.text
    assert not any(secret in caplog.text for secret in (*CAPTCHA[1:], *KEY, ticket.ticket))


def test_many_verifiers_leave_one_filter_behind():
    log = logging.getLogger("tencentcloud_sdk_common")
    TencentSDKVerifier(made(CaptchaClient), *CAPTCHA)
    before = list(log.filters)
    TencentSDKVerifier(made(CaptchaClient), 190000001, "anotherAppSecretKey123456")
    assert log.filters == before
