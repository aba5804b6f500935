"""The probe: a call that cannot pass, over a new connection, that shows if Tencent is up."""

from __future__ import annotations

import asyncio
import re
import time

import httpx
import pytest
from tencentcloud.captcha.v20190722.captcha_client import CaptchaClient
from tencentcloud.captcha.v20190722.captcha_client_async import (
    CaptchaClient as AsyncCaptchaClient,
)
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencents import (  # noqa: F401
    address,
    answering,
    hangs_up,
    nowhere,
    one_context,
    says,
    shared_tls,
    tencent,
)

from tcaptcha_middleware import (
    OutageError,
    TencentMiniProgramVerifier,
    TencentVerifier,
    ThrottledError,
    VerifierError,
    in_thread,
)
from tcaptcha_middleware.verifiers.sdk import TencentSDKVerifier

# The official client calls datetime.utcfromtimestamp at each call.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")


def native(arguments, limit):
    with TencentVerifier(**arguments) as verifier:
        verifier.probe(limit)


def mini_program(arguments, limit):
    TencentMiniProgramVerifier(**arguments).probe(limit)


def bridged(arguments, limit):
    in_thread(TencentVerifier(**arguments)).probe(limit)


def over_client(arguments, limit):
    with httpx.Client(verify=False) as client:  # speaks no TLS
        TencentVerifier(**arguments, client=client).probe(limit)


def configured(kind, arguments):
    scheme, _, host = arguments["endpoint"].partition("://")
    profile = HttpProfile(protocol=scheme, endpoint=host, certification=False)
    credential = Credential(arguments["secret_id"], arguments["secret_key"])
    return kind(credential, "", ClientProfile(httpProfile=profile))


def captcha(arguments):
    return arguments["app_id"], arguments["app_secret_key"]


def sdk(arguments, limit):
    client = configured(CaptchaClient, arguments)
    TencentSDKVerifier(client, *captcha(arguments)).probe(limit)
    client.request.conn._session.close()


def async_sdk(arguments, limit):
    async def main():
        async with configured(AsyncCaptchaClient, arguments) as client:
            await TencentSDKVerifier(client, *captcha(arguments)).aprobe(limit)

    asyncio.run(main())


KINDS = {
    "native": native,
    "mini-programs": mini_program,
    "in_thread": bridged,
    "a client of the user's own": over_client,
    "the official client": sdk,
    "the official async client": async_sdk,
}
every_kind = pytest.mark.parametrize("probe", KINDS.values(), ids=KINDS)


@every_kind
def test_a_probe_sends_a_fresh_disaster_ticket(probe, tencent):  # noqa: F811
    assert probe(tencent.arguments(), 5) is None
    [call] = tencent.calls
    made = re.fullmatch(r"trerror_1001_190000000_(\d+)", call["Ticket"])
    assert abs(time.time() - int(made[1])) < 60
    assert (call["UserIp"], call.get("Randstr", "@probe")) == ("127.0.0.1", "@probe")


ANSWERED = {
    "code 21": {},
    "code 15": {"code": 15},
    "code 16, another captcha": {"code": 16},
    "code 100, wrong AppSecretKey": {"code": 100},
    "code 1": {"code": 1},
    "AuthFailure": {"error": "AuthFailure.SignatureFailure"},
    "RequestLimitExceeded": {"error": "RequestLimitExceeded"},
}


@pytest.mark.parametrize("step", ANSWERED.values(), ids=ANSWERED)
@every_kind
def test_any_answer_shows_that_tencent_is_up(probe, step, tencent):  # noqa: F811
    tencent.script(step)
    assert probe(tencent.arguments(), 5) is None


FAILED = {
    "code 26": {"code": 26},
    "InternalError": {"error": "InternalError"},
    "silence": {"latency": 10.0},
}


@pytest.mark.parametrize("step", FAILED.values(), ids=FAILED)
@every_kind
def test_a_failure_shows_that_tencent_is_down(probe, step, tencent):  # noqa: F811
    tencent.script(step)
    with pytest.raises(OutageError):
        probe(tencent.arguments(), 0.3 if "latency" in step else 5)


@every_kind
def test_a_connection_that_fails_shows_that_tencent_is_down(probe, tencent):  # noqa: F811
    with pytest.raises(OutageError) as caught:
        probe(tencent.arguments(endpoint=nowhere()), 5)
    assert not caught.value.connected
    with answering(hangs_up) as origin, pytest.raises(OutageError) as caught:
        probe(tencent.arguments(endpoint=origin), 5)
    assert caught.value.connected


VOID = {
    "garbage": says(b"220 ESMTP ready\r\n\r\n"),
    "HTML": says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"),
    "404": says(b"HTTP/1.1 404 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
}


@pytest.mark.parametrize("speak", VOID.values(), ids=VOID)
@every_kind
def test_an_unclear_failure_of_a_probe_shows_nothing(probe, speak, tencent):  # noqa: F811
    with answering(speak) as origin, pytest.raises(VerifierError) as caught:
        probe(tencent.arguments(endpoint=origin), 5)
    assert not isinstance(caught.value, OutageError)


def test_an_unknown_code_shows_nothing(tencent):  # noqa: F811
    tencent.script({"code": 0})
    with pytest.raises(VerifierError) as caught:
        native(tencent.arguments(), 5)
    assert caught.type is VerifierError


def test_a_shortage_of_this_machine_shows_nothing(tencent, monkeypatch):  # noqa: F811
    def throttled(*_):
        raise ThrottledError("no file", answered=False)

    verifier = TencentVerifier(**tencent.arguments())
    monkeypatch.setattr(verifier, "_verify", throttled)
    with pytest.raises(ThrottledError):
        verifier.probe(5)


def test_each_probe_opens_a_new_connection(tencent):  # noqa: F811
    with TencentVerifier(**tencent.arguments()) as verifier:
        for _ in range(2):
            assert verifier.verify(tencent.ticket()).passed
            verifier.probe(5)
    assert len(tencent.connections) == 3


class Unprobed:
    def verify(self, ticket):
        raise AssertionError


def test_with_only_an_async_client_probing_is_disabled(tencent):  # noqa: F811
    both = {"client": object(), "async_client": object()}
    for name, settings in (("async", {"async_client": object()}), ("both", both)):
        verifier = TencentVerifier(**tencent.arguments(), **settings)
        assert hasattr(verifier, "probe") is (name == "both")
    assert not hasattr(in_thread(Unprobed()), "probe")


def test_the_official_client_probes_as_it_verifies(tencent):  # noqa: F811
    arguments = tencent.arguments()
    blocking = TencentSDKVerifier(configured(CaptchaClient, arguments), *captcha(arguments))
    awaited = TencentSDKVerifier(configured(AsyncCaptchaClient, arguments), *captcha(arguments))
    names = "probe", "aprobe"
    assert [hasattr(blocking, name) for name in names] == [True, False]
    assert [hasattr(awaited, name) for name in names] == [False, True]
