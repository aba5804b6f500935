"""The emulator is as strict as Tencent, by its own word; the official client is its judge."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import contextmanager

import httpx
import pytest

from tcaptcha_middleware import TencentVerifier, Ticket, tencent
from tcaptcha_middleware.credentials import Captcha
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.ledger import LIFETIME
from tcaptcha_middleware.testing.serving import serving

IP = "203.0.113.7"
NOW = 1_800_000_000.0


class World:
    """An emulator at a set time, and one who calls it in-process."""

    def __init__(self, **settings):
        self.now = NOW
        self.emulator = TencentEmulator(clock=lambda: self.now, **settings)
        self.captcha = Captcha(
            self.emulator.settings["app_id"], self.emulator.settings["app_secret_key"]
        )

    def parameters(self, pair=None, **more):
        pair = pair or self.emulator.mint()
        ticket = Ticket(**pair, user_ip=IP)
        return tencent.parameters(self.captcha, ticket) | more

    def signed(self, body, *, at=None, token=None, **own):
        settings = self.emulator.settings | own
        key = settings["secret_id"], settings["secret_key"], token
        at = int(self.now if at is None else at)
        return tencent.headers(key, host="emulator", body=body, timestamp=at)

    def call(self, parameters, headers=None, **how):
        body = parameters if isinstance(parameters, bytes) else json.dumps(parameters).encode()
        return self.send(body, self.signed(body, **how) | (headers or {}))

    def send(self, body, headers, method="POST", path="/"):
        async def main():
            transport = httpx.ASGITransport(self.emulator)
            async with httpx.AsyncClient(transport=transport) as client:
                sent = [(name, value) for name, value in headers.items() if value is not None]
                answer = await client.request(
                    method, f"http://emulator{path}", headers=sent, content=body
                )
                assert answer.status_code == 200
                return answer.json()["Response"]

        return asyncio.run(main())


@pytest.fixture
def world():
    return World()


def error(response):
    return response["Error"]["Code"]


def test_a_fresh_ticket_passes_once(world):
    pair = world.emulator.mint()
    first, second = (world.call(world.parameters(pair)) for _ in range(2))
    assert (first["CaptchaCode"], first["CaptchaMsg"], first["EvilLevel"]) == (1, "OK", 0)
    assert first["GetCaptchaTime"] == first["SubmitCaptchaTime"] == NOW
    assert second["CaptchaCode"] == 9
    assert first["RequestId"] != second["RequestId"]


def play(world, pair=None, **more):
    return world.call(world.parameters(pair, **more))["CaptchaCode"]


def test_the_documented_rules_are_played(world):
    mint = world.emulator.mint
    disaster = f"trerror_1001_{world.captcha.app_id}_{int(NOW)}"
    codes = {
        "another randstr": play(world, mint(), Randstr="@other"),
        "five minutes": play(world, mint(age=LIFETIME)),
        "older": play(world, mint(age=LIFETIME + 1)),
        "made up": play(world, {"ticket": "tr03made-up", "randstr": "@x"}),
        "no address": play(world, mint(), UserIp="unknown"),
        "another type": play(world, mint(), CaptchaType=8),
        "another captcha": play(world, mint(app_id=1)),
        "wrong AppSecretKey": play(world, mint(), AppSecretKey="wrong"),
        "wrong CaptchaAppId": play(world, mint(), CaptchaAppId=1),
        "disaster": play(world, {"ticket": disaster, "randstr": "@x"}),
        "disaster, other spelling": play(
            world, {"ticket": disaster.replace("trerror", "terror"), "randstr": "@x"}
        ),
        "disaster, malformed": play(world, {"ticket": "trerror_1", "randstr": "@x"}),
        "disaster of another captcha": play(
            world, {"ticket": f"trerror_1001_1_{int(NOW)}", "randstr": "@x"}
        ),
        "risky": play(world, mint(code=21)),
    }
    assert codes == {
        "another randstr": 7,
        "five minutes": 1,
        "older": 8,
        "made up": 15,
        "no address": 15,
        "another type": 15,
        "another captcha": 16,
        "wrong AppSecretKey": 100,
        "wrong CaptchaAppId": 100,
        "disaster": 21,
        "disaster, other spelling": 21,
        "disaster, malformed": 16,
        "disaster of another captcha": 16,
        "risky": 21,
    }


def test_invisible_mode_passes_the_malicious_and_tells_of_it(world):
    answer = world.call(world.parameters(world.emulator.mint(evil_level=100, score=90)))
    assert (answer["CaptchaCode"], answer["EvilLevel"], answer["Score"]) == (1, 100, 90)


def test_a_ticket_expires_while_it_waits(world):
    pair = world.emulator.mint()
    world.now += LIFETIME + 1
    assert play(world, pair) == 8


def test_the_time_of_fetching_is_told_where_it_is_asked_for(world):
    parameters = world.parameters()
    del parameters["NeedGetCaptchaTime"]
    assert world.call(parameters)["GetCaptchaTime"] == 0


def test_beyond_the_rate_calls_are_throttled(world):
    world = World(rate=2)
    answers = [world.call(world.parameters()) for _ in range(4)]
    assert ["Error" in answer for answer in answers] == [False, False, True, True]
    assert error(answers[-1]) == "RequestLimitExceeded"
    world.now += 1
    assert play(world) == 1


PARAMETERS = {
    "one missing": (lambda p: p.pop("UserIp"), "MissingParameter"),
    "one unknown": (lambda p: p.update(Extra=1), "UnknownParameter"),
    "an id as text": (lambda p: p.update(CaptchaAppId="190000000"), "InvalidParameter"),
    "a ticket as a number": (lambda p: p.update(Ticket=1), "InvalidParameter"),
    "a type that is true": (lambda p: p.update(CaptchaType=True), "InvalidParameter"),
    "null": (lambda p: p.update(Randstr=None), "InvalidParameter"),
}


@pytest.mark.parametrize(("change", "code"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameters_are_read_strictly(world, change, code):
    parameters = world.parameters()
    change(parameters)
    assert error(world.call(parameters)) == code


def test_optional_parameters_may_come(world):
    assert play(world, BusinessId=1, SceneId=2, MacAddress="a", Imei="b") == 1


HEADERS = {
    "no action": ({"X-TC-Action": None}, "MissingParameter"),
    "another action": ({"X-TC-Action": "DescribeCaptchaMiniResult"}, "InvalidAction"),
    "another version": ({"X-TC-Version": "2018-01-01"}, "NoSuchVersion"),
    "no signature": ({"Authorization": None}, "MissingParameter"),
    "no such format": ({"Authorization": "Basic eDp5"}, "AuthFailure.InvalidAuthorization"),
    "a time that is none": ({"X-TC-Timestamp": "now"}, "InvalidParameter"),
    "another time": ({"X-TC-Timestamp": str(int(NOW) - 1)}, "AuthFailure.SignatureFailure"),
    "a token nobody asked for": ({"X-TC-Token": "x"}, "AuthFailure.TokenFailure"),
    "another media type": (
        {"Content-Type": "application/json"},
        "AuthFailure.SignatureFailure",
    ),
}


@pytest.mark.parametrize(("headers", "code"), HEADERS.values(), ids=HEADERS)
def test_headers_are_read_strictly(world, headers, code):
    assert error(world.call(world.parameters(), headers)) == code


@pytest.mark.parametrize(
    ("skew", "code"), [(-301, True), (-299, False), (299, False), (301, True)]
)
def test_a_clock_may_be_five_minutes_off(world, skew, code):
    answer = world.call(world.parameters(), at=NOW + skew)
    assert ("Error" in answer) is code
    if code:
        assert error(answer) == "AuthFailure.SignatureExpire"


def test_another_key_is_unknown_and_another_secret_does_not_sign(world):
    unknown = world.call(world.parameters(), secret_id="AKIDother")
    wrong = world.call(world.parameters(), secret_key="other")
    assert error(unknown) == "AuthFailure.SecretIdNotFound"
    assert error(wrong) == "AuthFailure.SignatureFailure"


def test_a_temporary_key_needs_its_token():
    world = World(token="temporary")
    assert world.call(world.parameters(), token="temporary")["CaptchaCode"] == 1
    assert error(world.call(world.parameters(), token="old")) == "AuthFailure.TokenFailure"
    assert error(world.call(world.parameters())) == "AuthFailure.TokenFailure"


def test_one_altered_byte_anywhere_breaks_the_signature(world):
    body = json.dumps(world.parameters()).encode()
    headers = world.signed(body)
    for place in range(len(body)):
        altered = bytearray(body)
        altered[place] ^= 1
        assert error(world.send(bytes(altered), headers)) == "AuthFailure.SignatureFailure"
    assert error(world.send(body + b" ", headers)) == "AuthFailure.SignatureFailure"
    assert world.emulator.calls == []
    assert world.send(body, headers)["CaptchaCode"] == 1


def test_what_has_to_be_signed_is_signed(world):
    body = json.dumps(world.parameters()).encode()
    headers = world.signed(body)
    bare = headers["Authorization"].replace("content-type;host;x-tc-action", "host")
    absent = headers["Authorization"].replace("x-tc-action", "x-tc-absent")
    for authorization in (bare, absent):
        answer = world.send(body, headers | {"Authorization": authorization})
        assert error(answer) == "AuthFailure.SignatureFailure"


BODIES = {
    "no JSON": (b"{", "InvalidParameter"),
    "no object": (b"[]", "InvalidParameter"),
    "too deep": (b"[" * 100_000, "InvalidParameter"),
    "no UTF-8": (b"\xff", "InvalidParameter"),
}


@pytest.mark.parametrize(("body", "code"), BODIES.values(), ids=BODIES)
def test_a_body_that_makes_no_sense_is_told_so(world, body, code):
    assert error(world.call(body)) == code


def test_json_is_the_only_media_type(world):
    body = json.dumps(world.parameters()).encode()
    signed = {"Content-Type": "text/plain", "Host": "emulator"}
    settings = world.emulator.settings
    proof = tencent.authorization(
        settings["secret_id"],
        settings["secret_key"],
        headers=signed,
        body=body,
        timestamp=int(NOW),
    )
    headers = world.signed(body) | signed | {"Authorization": proof}
    assert error(world.send(body, headers)) == "InvalidRequest"


@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/other")])
def test_calls_are_posted_to_the_root(world, method, path):
    body = json.dumps(world.parameters()).encode()
    assert error(world.send(body, world.signed(body), method, path)) == "InvalidRequest"


def test_the_siblings_of_the_answer_say_nothing_about_the_ticket():
    emulator = TencentEmulator()
    with emulator.serve() as endpoint:
        answer = httpx.post(endpoint, json={}).json()
    assert (answer["retcode"], answer["retmsg"]) == (0, "success")
    assert "Error" in answer["Response"]


def test_calls_are_remembered_without_the_secret(world):
    pair = world.emulator.mint()
    world.call(world.parameters(pair))
    (call,) = world.emulator.calls
    assert (call["Ticket"], call["UserIp"]) == (pair["ticket"], IP)
    assert "AppSecretKey" not in call


SCRIPTS = {
    "an error": ({"error": "InternalError"}, ("error", "InternalError")),
    "a code": ({"code": 26}, ("code", 26)),
}


@pytest.mark.parametrize(("step", "expected"), SCRIPTS.values(), ids=SCRIPTS)
def test_a_script_decides_one_call(world, step, expected):
    world.emulator.script(step)
    answer = world.call(world.parameters())
    assert expected == (
        ("error", error(answer)) if "Error" in answer else ("code", answer["CaptchaCode"])
    )
    assert play(world) == 1


@pytest.mark.parametrize("word", ["evil", "ticket"])
def test_an_unknown_word_is_refused(world, word):
    with pytest.raises(TypeError, match=f"{word} is unknown"):
        world.emulator.script({word: 1})
    with pytest.raises(TypeError, match=f"{word} is unknown"):
        world.emulator.mint(**{word: 1})


def test_old_tickets_are_forgotten(world):
    for _ in range(50):
        world.emulator.mint()
    world.now += 3 * LIFETIME
    world.emulator.mint()
    assert len(world.emulator._ledger._minted) == 1


def test_other_scopes_are_not_served(world):
    with pytest.raises(NotImplementedError, match="websocket"):
        asyncio.run(world.emulator({"type": "websocket"}, None, None))


@contextmanager
def served(**settings):
    emulator = TencentEmulator(**settings)
    with emulator.serve() as endpoint:
        yield emulator, endpoint


def test_over_http_it_hands_out_tickets_and_takes_scripts():
    with served() as (emulator, endpoint), httpx.Client(base_url=endpoint) as client:
        told = {"evil_level": 100}
        pair = client.post("/__emulator__/tickets", json=told).json()
        assert pair.keys() == {"ticket", "randstr"}
        assert client.post("/__emulator__/script", json={"code": 8}).status_code == 200
        with TencentVerifier(**emulator.settings, endpoint=endpoint) as verifier:
            assert verifier.verify(Ticket(**pair, user_ip=IP)).code == 8
            assert verifier.verify(Ticket(**pair, user_ip=IP)).evil_level == 100


@pytest.mark.parametrize("body", [b"{", b"[1]", b'{"evil": 1}', b'"x"'])
@pytest.mark.parametrize("path", ["tickets", "script"])
def test_over_http_bad_input_is_told_so(body, path):
    with served() as (_, endpoint):
        answer = httpx.post(f"{endpoint}/__emulator__/{path}", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_it_breaks_down_when_it_is_told_to():
    with served() as (emulator, endpoint), httpx.Client(base_url=endpoint) as client:
        emulator.script({"status": 502}, {"drop": True}, {"content_type": "text/plain"})
        down = client.post("/")
        assert (down.status_code, down.text) == (502, "<html>")
        with pytest.raises(httpx.RemoteProtocolError):
            client.post("/")
        assert client.post("/").headers["content-type"] == "text/plain"
        emulator.latency = 0.05
        began = time.monotonic()
        client.post("/")
        assert time.monotonic() - began >= 0.05


def test_a_body_in_pieces_is_one_body(world):
    body = json.dumps(world.parameters()).encode()
    headers = [(k.lower().encode(), v.encode()) for k, v in world.signed(body).items()]
    messages = [
        {"type": "http.request", "body": body[:10], "more_body": True},
        {"type": "http.request", "body": body[10:]},
    ]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
    asyncio.run(world.emulator(scope, receive, send))
    assert json.loads(sent[1]["body"])["Response"]["CaptchaCode"] == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its exit
def test_a_server_that_does_not_start_is_told():
    async def fails(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"), serving(fails):
        raise AssertionError


def test_a_port_in_use_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"),
            TencentEmulator().serve(port=port),
        ):
            raise AssertionError
