"""Tencent's official clients work with the emulator, and it accepts only what they send.

They verify the emulator independently: they sign, send and read without this package.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import closing

import httpx
import pytest
from tencentcloud.captcha.v20190722.captcha_client import CaptchaClient
from tencentcloud.captcha.v20190722.captcha_client_async import CaptchaClient as AsyncClient
from tencentcloud.captcha.v20190722.models import (
    DescribeCaptchaMiniResultRequest,
    DescribeCaptchaMiniResultResponse,
    DescribeCaptchaResultRequest,
)
from tencentcloud.common.credential import Credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile

from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._calls import OPTIONAL, REQUIRED
from tcaptcha_middleware.testing.emulator._http import serving

# The clients use datetime.utcfromtimestamp, deprecated since Python 3.12. They also change the
# warning filters on import; pytest restores those after collection.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")

SIGNATURE = "AuthFailure.SignatureFailure"


class Tap:
    """Record the raw requests and forward them."""

    def __init__(self):
        self.emulator = None
        self.calls = []

    async def __call__(self, scope, receive, send):
        message = await receive()
        body = message["body"]
        while message.get("more_body"):
            message = await receive()
            body += message["body"]
        self.calls.append((scope["headers"], body))

        async def receive_recorded():
            return {"type": "http.request", "body": body}

        await self.emulator(scope, receive_recorded, send)


@pytest.fixture(scope="module")
def served():
    tap = Tap()
    with serving(tap, lifespan="off") as origin:
        yield tap, origin.removeprefix("http://")


@pytest.fixture
def tap(served):
    tap, _ = served
    tap.emulator, tap.calls = TencentEmulator(), []
    return tap


def request_of(emulator, pair=None, **more):
    pair = pair or emulator.mint()
    settings = emulator.settings
    request = DescribeCaptchaResultRequest()
    parameters = {
        "CaptchaType": 9,
        "Ticket": pair["ticket"],
        "UserIp": "203.0.113.7",
        "Randstr": pair["randstr"],
        "CaptchaAppId": settings["app_id"],
        "AppSecretKey": settings["app_secret_key"],
    }
    request.from_json_string(json.dumps(parameters | more))
    return request


def mini_request_of(emulator, pair=None, **more):
    settings = emulator.settings
    request = DescribeCaptchaMiniResultRequest()
    parameters = {
        "CaptchaType": 9,
        "Ticket": (pair or emulator.mint(kind="mini"))["ticket"],
        "UserIp": "203.0.113.7",
        "CaptchaAppId": settings["app_id"],
        "AppSecretKey": settings["app_secret_key"],
    }
    request.from_json_string(json.dumps(parameters | more))
    return request


def made(client, emulator, host, **own):
    settings = emulator.settings | own
    credential = Credential(settings["secret_id"], settings["secret_key"], settings["token"])
    http = HttpProfile(protocol="http", endpoint=host, reqTimeout=10)
    return client(credential, "", ClientProfile(httpProfile=http))


def blocking(emulator, host, requests, **own):
    client = made(CaptchaClient, emulator, host, **own)
    # The client never closes its session, and an open socket would be a ResourceWarning.
    with closing(client.request.conn._session):
        return [outcome_of(client, request) for request in requests]


def method_of(request):
    return type(request).__name__.removesuffix("Request")


def outcome_of(client, request):
    try:
        return getattr(client, method_of(request))(request)
    except TencentCloudSDKException as error:
        return error


def awaited(emulator, host, requests, **own):
    async def main():
        async with made(AsyncClient, emulator, host, **own) as client:
            return [await awaited_outcome_of(client, request) for request in requests]

    return asyncio.run(main())


async def awaited_outcome_of(client, request):
    try:
        return await getattr(client, method_of(request))(request)
    except TencentCloudSDKException as error:
        return error


@pytest.fixture(params=[blocking, awaited], ids=["the client", "the async client"])
def ask(request, tap, served):
    """Call the emulator over a socket; return the answers, or the client's errors."""
    return lambda *requests, **own: request.param(tap.emulator, served[1], requests, **own)


def codes(outcomes):
    return [getattr(outcome, "code", None) or outcome.CaptchaCode for outcome in outcomes]


def test_a_ticket_passes_once(ask, tap):
    pair = tap.emulator.mint()
    assert codes(ask(*[request_of(tap.emulator, pair) for _ in range(2)])) == [1, 9]


def test_the_client_reads_every_field_of_the_answer(ask, tap):
    pair = tap.emulator.mint(evil_level=100, score=90, age=100)
    (answer,) = ask(request_of(tap.emulator, pair, NeedGetCaptchaTime=1))
    assert (answer.CaptchaCode, answer.CaptchaMsg) == (1, "OK")
    assert (answer.EvilLevel, answer.Score, answer.EvilBitmap) == (100, 90, 0)
    assert answer.DeviceRiskCategory is None
    assert answer.GetCaptchaTime == answer.SubmitCaptchaTime
    assert 90 <= time.time() - answer.GetCaptchaTime <= 200
    assert len(answer.RequestId) == 36


CODES = {
    7: lambda emulator: request_of(emulator, Randstr="@other"),
    8: lambda emulator: request_of(emulator, emulator.mint(age=301)),
    15: lambda emulator: request_of(emulator, {"ticket": "tr03x", "randstr": "@x"}),
    16: lambda emulator: request_of(emulator, emulator.mint(app_id=1)),
    21: lambda emulator: request_of(emulator, emulator.mint(code=21)),
    100: lambda emulator: request_of(emulator, AppSecretKey="another"),
}


@pytest.mark.parametrize(("code", "request_for"), CODES.items(), ids=map(str, CODES))
def test_the_client_gets_the_code(ask, tap, code, request_for):
    (answer,) = ask(request_for(tap.emulator))
    assert answer.CaptchaCode == code


MINI_CODES = {
    1: lambda emulator: mini_request_of(emulator, BusinessId=1, SceneId=2),
    7: lambda emulator: mini_request_of(emulator, emulator.mint(kind="mini", app_id=1)),
    8: lambda emulator: mini_request_of(emulator, emulator.mint(kind="mini", age=301)),
    10: lambda emulator: mini_request_of(emulator, {"ticket": "~"}),
    15: lambda emulator: mini_request_of(emulator, emulator.mint()),
    16: lambda emulator: mini_request_of(emulator, CaptchaAppId=1),
    21: lambda emulator: mini_request_of(emulator, {"ticket": "trerror_1001_1_1700000000"}),
    100: lambda emulator: mini_request_of(emulator, AppSecretKey="another"),
}


@pytest.mark.parametrize(("code", "request_for"), MINI_CODES.items(), ids=map(str, MINI_CODES))
def test_the_client_gets_the_code_of_a_mini_programs_ticket(ask, tap, code, request_for):
    (answer,) = ask(request_for(tap.emulator))
    assert isinstance(answer, DescribeCaptchaMiniResultResponse)
    assert answer.CaptchaCode == code
    assert answer.CaptchaMsg
    assert len(answer.RequestId) == 36


FIELDS = {"_CaptchaCode", "_CaptchaMsg", "_RequestId"}


def test_the_answer_to_a_mini_program_has_no_more_fields():
    assert vars(DescribeCaptchaMiniResultResponse()).keys() == FIELDS


@pytest.mark.parametrize(
    ("request_type", "action"),
    [
        (DescribeCaptchaResultRequest, WEB),
        (DescribeCaptchaMiniResultRequest, MINI_PROGRAM),
    ],
    ids=["pages", "mini-programs"],
)
def test_the_clients_parameters_are_those_of_the_emulator(request_type, action):
    known = {name for name in REQUIRED | OPTIONAL if name not in action.without}
    own = {name for name in vars(request_type()) if name[1:2].isupper()}
    assert own == {f"_{name}" for name in known}
    assert method_of(request_type()) == action.name


REFUSED = {
    "another key": ({}, {"secret_id": "AKIDother"}, "AuthFailure.SecretIdNotFound"),
    "another secret": ({}, {"secret_key": "other"}, SIGNATURE),
    "a token": ({}, {"token": "old"}, "AuthFailure.TokenFailure"),
    "an id as text": ({"CaptchaAppId": "190000000"}, {}, "InvalidParameter"),
    "no randstr": ({"Randstr": None}, {}, "MissingParameter"),
}
MINI_REFUSED = {name: row for name, row in REFUSED.items() if name != "no randstr"}


@pytest.mark.parametrize(("more", "own", "code"), REFUSED.values(), ids=REFUSED)
def test_a_refused_call_raises_the_clients_error(ask, tap, more, own, code):
    (error,) = ask(request_of(tap.emulator, **more), **own)
    assert isinstance(error, TencentCloudSDKException)
    assert (error.code, len(error.requestId)) == (code, 36)


@pytest.mark.parametrize(("more", "own", "code"), MINI_REFUSED.values(), ids=MINI_REFUSED)
def test_a_refused_mini_program_call_raises_the_clients_error(ask, tap, more, own, code):
    (error,) = ask(mini_request_of(tap.emulator, **more), **own)
    assert isinstance(error, TencentCloudSDKException)
    assert (error.code, len(error.requestId)) == (code, 36)


def test_the_client_gets_an_outage_and_the_rate_limit(ask, tap):
    now = time.time()
    tap.emulator = TencentEmulator(rate=2, clock=lambda: now)
    tap.emulator.script({"error": "InternalError"})
    asked = [request_of(tap.emulator) for _ in range(3)]
    assert codes(ask(*asked)) == ["InternalError", 1, "RequestLimitExceeded"]


def test_a_temporary_key_works_with_its_token(ask, tap):
    tap.emulator = TencentEmulator(token="temporary")
    assert codes(ask(request_of(tap.emulator))) == [1]


def test_a_client_with_a_wrong_clock_is_refused(ask, tap):
    tap.emulator = TencentEmulator(clock=lambda: time.time() + 400)
    assert codes(ask(request_of(tap.emulator))) == ["AuthFailure.SignatureExpire"]


def altered(text, *masks):
    """Yield `text` with one byte altered, for each byte and each mask."""
    for place in range(len(text)):
        for mask in masks:
            yield text[:place] + bytes([text[place] ^ mask]) + text[place + 1 :]


def replayed(emulator, calls):
    """Send captured calls again in-process; return the code of each answer."""

    async def main():
        transport = httpx.ASGITransport(emulator)
        async with httpx.AsyncClient(transport=transport) as client:
            answers = [
                await client.post("http://emulator/", headers=headers, content=body)
                for headers, body in calls
            ]
        assert {answer.status_code for answer in answers} == {200}
        return [answer.json()["Response"] for answer in answers]

    return [
        answer["Error"]["Code"] if "Error" in answer else answer["CaptchaCode"]
        for answer in asyncio.run(main())
    ]


@pytest.fixture
def captured(ask, tap):
    """A genuine call of the client, as received, whose ticket is not spent."""
    request = request_of(tap.emulator)
    tap.emulator.script({"status": 503})
    ask(request)
    ((headers, body),) = tap.calls
    return dict(headers), body


def test_the_captured_call_is_valid(captured, tap):
    assert replayed(tap.emulator, [captured, captured]) == [1, 9]


def test_an_altered_byte_in_the_body_breaks_the_signature(captured, tap):
    headers, body = captured
    others = [*altered(body, 1, 128), body + b" ", b" " + body, body[1:], body[:-1]]
    assert set(replayed(tap.emulator, [(headers, other) for other in others])) == {SIGNATURE}
    assert tap.emulator.calls == []
    assert replayed(tap.emulator, [captured]) == [1]


@pytest.mark.parametrize("name", [b"content-type", b"host"])
def test_an_altered_byte_in_a_signed_header_breaks_the_signature(captured, tap, name):
    headers, body = captured
    assert b"SignedHeaders=content-type;host," in headers[b"authorization"]
    others = [(headers | {name: other}, body) for other in altered(headers[name], 1, 128)]
    assert set(replayed(tap.emulator, others)) == {SIGNATURE}
    assert replayed(tap.emulator, [captured]) == [1]


@pytest.mark.parametrize("name", [b"authorization", b"x-tc-timestamp"])
def test_an_altered_byte_in_the_signature_or_timestamp_is_refused(captured, tap, name):
    headers, body = captured
    others = [(headers | {name: other}, body) for other in altered(headers[name], 1)]
    codes = set(replayed(tap.emulator, others))
    assert {code.partition(".")[0] for code in codes} == {"AuthFailure"}
    assert SIGNATURE in codes
    assert replayed(tap.emulator, [captured]) == [1]
