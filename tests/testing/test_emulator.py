"""The emulator reads calls as strictly as Tencent, and follows its rules for tickets."""

from __future__ import annotations

import asyncio
import json
import re

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tcaptcha_middleware import ConfigurationError, Submission
from tcaptcha_middleware.tencent import api
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.tencent.api import authorization
from tcaptcha_middleware.tencent.credentials import Captcha
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._http import read_body

IP = "203.0.113.7"
LIFETIME = 300
MAX_CALL = 10 * 1024 * 1024
NOW = 1_800_000_000.0
HOST = "emulator"
SIGNATURE = "AuthFailure.SignatureFailure"


class World:
    """An emulator at a fixed time, and an in-process client."""

    def __init__(self, **settings):
        self.now = NOW
        self.emulator = TencentEmulator(clock=lambda: self.now, **settings)
        settings = self.emulator.settings
        self.captcha = Captcha(settings["app_id"], settings["app_secret_key"])

    def parameters(self, pair=None, action=WEB, **more):
        ticket = Submission(**({"randstr": ""} | (pair or self.emulator.mint())), user_ip=IP)
        return api.parameters(self.captcha, ticket, action) | more

    def signed(self, body, *, at=None, token=None, action=WEB, **own):
        settings = self.emulator.settings | own
        key = settings["secret_id"], settings["secret_key"], token
        at = int(self.now if at is None else at)
        writer = api.CallWriter(Captcha(1, "any"), action, HOST)
        return writer.constant_headers | writer.headers(key, body, at)

    def proof(self, body, headers, **own):
        """Return an `Authorization` that signs only these headers."""
        settings = self.emulator.settings | own
        key = settings["secret_id"], settings["secret_key"]
        return authorization(*key, headers=headers, body=body, timestamp=int(self.now))

    def call(self, parameters, headers=None, **how):
        body = parameters if isinstance(parameters, bytes) else json.dumps(parameters).encode()
        return self.send(body, self.signed(body, **how) | (headers or {}))

    def send(self, body, headers, method="POST", target="/"):
        return self.send_all([(body, headers)], method, target)[0]

    def send_all(self, requests, method="POST", target="/"):
        """Send each body with its headers, except those that are None."""

        async def main():
            transport = httpx.ASGITransport(self.emulator)
            async with httpx.AsyncClient(transport=transport) as client:
                return [
                    await client.request(
                        method,
                        f"http://{HOST}{target}",
                        headers=[(k, v) for k, v in headers.items() if v is not None],
                        content=body,
                    )
                    for body, headers in requests
                ]

        answers = asyncio.run(main())
        # Tencent answers every call with HTTP 200.
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["content-type"] for answer in answers} == {"application/json"}
        return [answer.json()["Response"] for answer in answers]

    def over_asgi(self, headers, *pieces, gone=False):
        """Send raw headers and a body in pieces; return the answer, or None without one."""
        scope = {"type": "http", "method": "POST", "path": "/"}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in headers]
        messages = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
        messages.append({"type": "http.disconnect" if gone else "http.request"})
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        asyncio.run(self.emulator(scope, receive, send))
        return json.loads(sent[1]["body"])["Response"] if sent else None


@pytest.fixture
def world():
    return World()


def code_of(answer):
    """Return the code of the API error, or the CaptchaCode."""
    return answer["Error"]["Code"] if "Error" in answer else answer["CaptchaCode"]


def verify(world, pair=None, **more):
    return code_of(world.call(world.parameters(pair, **more)))


# Tickets.


def test_a_fresh_ticket_passes_once(world):
    pair = world.emulator.mint()
    first, second = (world.call(world.parameters(pair)) for _ in range(2))
    assert (first["CaptchaCode"], first["CaptchaMsg"], first["EvilLevel"]) == (1, "OK", 0)
    assert first["GetCaptchaTime"] == first["SubmitCaptchaTime"] == NOW
    assert (second["CaptchaCode"], second["CaptchaMsg"]) == (9, "ticket reused")
    assert first["RequestId"] != second["RequestId"]


def test_every_ticket_is_different(world):
    pairs = [world.emulator.mint() for _ in range(200)]
    assert len({pair["ticket"] for pair in pairs}) == 200
    assert all(re.fullmatch(r"tr03[\w-]{128}\*", pair["ticket"]) for pair in pairs)
    assert all(re.fullmatch(r"@[0-9a-f]{3}", pair["randstr"]) for pair in pairs)


def typed(ticket):
    return {"ticket": ticket, "randstr": "@x"}


ID = TencentEmulator().settings["app_id"]
TICKETS = {
    "another randstr": ({}, {"Randstr": "@other"}, 7),
    "exactly five minutes": ({"age": LIFETIME}, {}, 1),
    "a second older": ({"age": LIFETIME + 1}, {}, 8),
    "a fraction older": ({"age": LIFETIME + 0.25}, {}, 8),
    "a fraction younger": ({"age": LIFETIME - 0.25}, {}, 1),
    "30 years old": ({"age": 10.0**9}, {}, 8),
    "made up": (typed("tr03made-up"), {}, 15),
    "empty": (typed(""), {}, 15),
    "a lone surrogate": (typed("\ud800"), {}, 15),
    "not an IP address": ({}, {"UserIp": "unknown"}, 15),
    "an IPv6 address": ({}, {"UserIp": "2001:db8::1"}, 1),
    "another type": ({}, {"CaptchaType": 8}, 15),
    "of another captcha": ({"app_id": 1}, {}, 16),
    "wrong AppSecretKey": ({}, {"AppSecretKey": "wrong"}, 100),
    "wrong CaptchaAppId": ({}, {"CaptchaAppId": 1}, 100),
    "made up, wrong AppSecretKey": (typed("tr03made-up"), {"AppSecretKey": "wrong"}, 100),
    "disaster": (typed(f"trerror_1001_{ID}_{NOW:.0f}"), {}, 21),
    "disaster, other spelling": (typed(f"terror_1001_{ID}_{NOW:.0f}"), {}, 21),
    "disaster, in capitals": (typed(f"TRERROR_1001_{ID}_{NOW:.0f}"), {}, 16),
    "disaster, malformed": (typed("trerror_1"), {}, 16),
    "disaster of another captcha": (typed(f"trerror_1001_1_{NOW:.0f}"), {}, 16),
    "disaster of an endless captcha": (typed(f"trerror_1001_{'1' * 5000}_{NOW:.0f}"), {}, 16),
    "risky": ({"code": 21}, {}, 21),
    "undocumented": ({"code": 0}, {}, 0),
}


@pytest.mark.parametrize(("ticket", "more", "code"), TICKETS.values(), ids=TICKETS)
def test_web_tickets_follow_the_documented_rules(world, ticket, more, code):
    pair = ticket if "ticket" in ticket else world.emulator.mint(**ticket)
    answer = world.call(world.parameters(pair, **more))
    assert answer["CaptchaCode"] == code
    assert isinstance(answer["CaptchaMsg"], str)
    assert isinstance(answer["RequestId"], str)
    for name in ("EvilLevel", "GetCaptchaTime", "EvilBitmap", "SubmitCaptchaTime"):
        assert type(answer[name]) is int


def test_a_malicious_visitor_passes_with_an_evil_level_as_in_invisible_mode(world):
    answer = world.call(world.parameters(world.emulator.mint(evil_level=100, score=90)))
    assert (answer["CaptchaCode"], answer["EvilLevel"], answer["Score"]) == (1, 100, 90)


def test_a_rejected_ticket_has_no_evil_level(world):
    answer = world.call(world.parameters(world.emulator.mint(evil_level=100, code=21)))
    assert (answer["CaptchaCode"], answer["EvilLevel"]) == (21, 0)


def test_a_ticket_expires_after_five_minutes_to_the_fraction():
    world = World()
    world.now = NOW + 0.9
    pairs = [world.emulator.mint() for _ in range(2)]
    world.now += LIFETIME - 0.5
    assert verify(world, pairs[0]) == 1
    world.now += 1
    assert verify(world, pairs[1]) == 8


def test_a_ticket_with_a_wrong_randstr_is_not_spent(world):
    pair = world.emulator.mint()
    assert verify(world, pair, Randstr="@other") == 7
    assert verify(world, pair) == 1


def test_the_time_of_the_captcha_is_only_returned_on_request(world):
    parameters = world.parameters()
    del parameters["NeedGetCaptchaTime"]
    assert world.call(parameters)["GetCaptchaTime"] == 0


def test_calls_above_the_rate_are_throttled_until_the_next_second():
    world = World(rate=2)
    answers = [verify(world) for _ in range(4)]
    assert answers == [1, 1, "RequestLimitExceeded", "RequestLimitExceeded"]
    world.now += 1
    assert verify(world) == 1


def test_a_throttled_call_does_not_spend_the_ticket():
    world, pair = World(rate=1), None
    pair = world.emulator.mint()
    assert [verify(world), verify(world, pair)] == [1, "RequestLimitExceeded"]
    world.now += 1
    assert verify(world, pair) == 1


def test_calls_that_are_not_authentic_do_not_count_against_the_rate():
    world = World(rate=1)
    for _ in range(3):
        assert code_of(world.call(world.parameters(), secret_key="other")) == SIGNATURE
    assert verify(world) == 1


# Tickets of mini-programs.


def mini(world, pair=None, **more):
    """Verify a mini-program's ticket."""
    pair = pair or world.emulator.mint(kind="mini")
    return world.call(world.parameters(pair, MINI_PROGRAM, **more), action=MINI_PROGRAM)


def test_a_mini_programs_ticket_has_no_randstr(world):
    assert world.emulator.mint(kind="mini").keys() == {"ticket"}
    assert world.emulator.mint(kind="web").keys() == {"ticket", "randstr"}


def test_the_answer_about_a_mini_programs_ticket_has_three_fields(world):
    answer = mini(world)
    assert answer.keys() == {"CaptchaCode", "CaptchaMsg", "RequestId"}
    assert (answer["CaptchaCode"], answer["CaptchaMsg"]) == (1, "OK")


def test_a_mini_programs_ticket_is_never_reported_as_reused(world):
    pair = world.emulator.mint(kind="mini")
    assert [code_of(mini(world, pair)) for _ in range(3)] == [1, 1, 1]


MINI_TICKETS = {
    "exactly five minutes": ({"age": LIFETIME}, {}, 1),
    "a fraction older": ({"age": LIFETIME + 0.25}, {}, 8),
    "made up": (typed("tr03made-up"), {}, 15),
    "empty": (typed(""), {}, 10),
    "invalid characters": (typed("tr03~"), {}, 10),
    "not an IP address": ({}, {"UserIp": "unknown"}, 100),
    "another type": ({}, {"CaptchaType": 8}, 100),
    "of another captcha": ({"app_id": 1}, {}, 7),
    "wrong AppSecretKey": ({}, {"AppSecretKey": "wrong"}, 100),
    "wrong CaptchaAppId": ({}, {"CaptchaAppId": 1}, 16),
    "disaster": (typed(f"trerror_1001_{ID}_{NOW:.0f}"), {}, 21),
    "disaster, malformed": (typed("trerror_1"), {}, 21),
    "ticket error": ({"code": 21}, {}, 21),
    "invalid": ({"code": 25}, {}, 25),
    "arrears": ({"code": 31}, {}, 31),
    "undocumented": ({"code": 0}, {}, 0),
}


@pytest.mark.parametrize(("ticket", "more", "code"), MINI_TICKETS.values(), ids=MINI_TICKETS)
def test_mini_programs_tickets_follow_the_documented_rules(world, ticket, more, code):
    pair = ticket if "ticket" in ticket else world.emulator.mint(kind="mini", **ticket)
    answer = mini(world, pair, **more)
    assert answer["CaptchaCode"] == code
    assert isinstance(answer["CaptchaMsg"], str)


def test_steps_apply_to_mini_programs_too(world):
    world.emulator.script({"code": 26}, {"error": "InternalError"})
    assert [code_of(mini(world)) for _ in range(3)] == [26, "InternalError", 1]


def test_a_ticket_is_only_valid_for_its_action(world):
    web_ticket, mini_ticket = world.emulator.mint(), world.emulator.mint(kind="mini")
    assert code_of(mini(world, web_ticket)) == 15
    assert verify(world, mini_ticket, Randstr="@r") == 15
    assert (verify(world, web_ticket), code_of(mini(world, mini_ticket))) == (1, 1)


@pytest.mark.parametrize(("name", "value"), [("Randstr", "@r"), ("NeedGetCaptchaTime", 1)])
def test_a_mini_programs_call_has_fewer_parameters(world, name, value):
    assert code_of(mini(world, **{name: value})) == "UnknownParameter"


@pytest.mark.parametrize("name", World().parameters(action=MINI_PROGRAM))
def test_a_mini_programs_call_needs_all_its_parameters(world, name):
    parameters = world.parameters(world.emulator.mint(kind="mini"), MINI_PROGRAM)
    del parameters[name]
    assert code_of(world.call(parameters, action=MINI_PROGRAM)) == "MissingParameter"


@pytest.mark.parametrize("word", ["evil_level", "score"])
def test_the_web_only_properties_do_not_apply_to_a_mini_programs_ticket(world, word):
    with pytest.raises(ValueError, match=f"{word} does not apply"):
        world.emulator.mint(kind="mini", **{word: 1})


# Several captchas.


def test_each_captcha_has_its_own_secret_and_its_own_tickets():
    world = World(captchas={7: "anotherAppSecretKey"})
    other = {"CaptchaAppId": 7, "AppSecretKey": "anotherAppSecretKey"}
    first, second = world.emulator.mint(), world.emulator.mint(app_id=7)
    assert (verify(world, first, **other), verify(world, second)) == (16, 16)
    assert verify(world, second, CaptchaAppId=7) == 100
    assert (verify(world, first), verify(world, second, **other)) == (1, 1)


@pytest.mark.parametrize("captchas", [{0: "secret-key"}, {7: ""}, {"x": "secret-key"}])
def test_an_invalid_captcha_is_refused(captchas):
    with pytest.raises(ConfigurationError):
        TencentEmulator(captchas=captchas)


# Reading calls.

MINTED = World().parameters()
PARAMETERS = {
    **{f"no {name}": ({name: ...}, "MissingParameter") for name in list(MINTED)[:6]},
    "an unknown name": ({"Extra": 1}, "UnknownParameter"),
    "a name in lower case": ({"ticket": "tr03"}, "UnknownParameter"),
    "an id as text": ({"CaptchaAppId": "190000000"}, "InvalidParameter"),
    "an id as a fraction": ({"CaptchaAppId": 190000000.0}, "InvalidParameter"),
    "an id below 0": ({"CaptchaAppId": -1}, "InvalidParameter"),
    "an id over 64 bits": ({"CaptchaAppId": 2**64}, "InvalidParameter"),
    "a ticket as a number": ({"Ticket": 1}, "InvalidParameter"),
    "a ticket as a list": ({"Ticket": ["tr03"]}, "InvalidParameter"),
    "a type that is true": ({"CaptchaType": True}, "InvalidParameter"),
    "a type that is text": ({"CaptchaType": "9"}, "InvalidParameter"),
    "an address that is null": ({"UserIp": None}, "InvalidParameter"),
    "a randstr that is null": ({"Randstr": None}, "InvalidParameter"),
    "a secret that is an object": ({"AppSecretKey": {}}, "InvalidParameter"),
    "a scene as text": ({"SceneId": "2"}, "InvalidParameter"),
    "a device as a number": ({"Imei": 1}, "InvalidParameter"),
    "a flag that is true": ({"NeedGetCaptchaTime": True}, "InvalidParameter"),
    "all optional ones": ({"BusinessId": 1, "SceneId": 2, "MacAddress": "", "Imei": "b"}, 1),
    "a flag below 0": ({"NeedGetCaptchaTime": -1}, 1),
}


@pytest.mark.parametrize(("change", "code"), PARAMETERS.values(), ids=PARAMETERS)
def test_parameters_are_read_strictly(world, change, code):
    parameters = world.parameters() | change
    assert code_of(world.call({k: v for k, v in parameters.items() if v is not ...})) == code


def test_the_first_missing_parameter_is_named(world):
    answer = world.call({"CaptchaType": 9})
    assert answer["Error"]["Message"] == "The parameter Ticket is missing."


HEADERS = {
    "no action": ({"X-TC-Action": None}, "MissingParameter"),
    "no version": ({"X-TC-Version": None}, "MissingParameter"),
    "no time": ({"X-TC-Timestamp": None}, "MissingParameter"),
    "no signature": ({"Authorization": None}, "MissingParameter"),
    "an altered action": ({"X-TC-Action": "DescribeCaptchaMiniResult"}, SIGNATURE),
    "another version": ({"X-TC-Version": "2018-01-01"}, "NoSuchVersion"),
    "another scheme": ({"Authorization": "Basic eDp5"}, "AuthFailure.InvalidAuthorization"),
    "an invalid time": ({"X-TC-Timestamp": "now"}, "InvalidParameter"),
    "a time with a leading zero": ({"X-TC-Timestamp": f"0{NOW:.0f}"}, SIGNATURE),
    "a time with a fraction": ({"X-TC-Timestamp": f"{NOW}"}, "InvalidParameter"),
    "a very long time": ({"X-TC-Timestamp": "1" * 5000}, "InvalidParameter"),
    "another time": ({"X-TC-Timestamp": f"{NOW - 1:.0f}"}, SIGNATURE),
    "an unexpected token": ({"X-TC-Token": "x"}, "AuthFailure.TokenFailure"),
    "another media type": ({"Content-Type": "application/json"}, SIGNATURE),
    "a media type and a non-ASCII space": (
        {"Content-Type": f"{api.CONTENT_TYPE}\xa0".encode("latin-1")},
        SIGNATURE,
    ),
    "another host": ({"Host": "captcha.tencentcloudapi.com"}, SIGNATURE),
    "an empty host": ({"Host": ""}, SIGNATURE),
    "unsigned headers": ({"X-TC-Region": "ap-guangzhou", "X-TC-Language": "en-US"}, 1),
}


@pytest.mark.parametrize(("headers", "code"), HEADERS.values(), ids=HEADERS)
def test_headers_are_read_strictly(world, headers, code):
    assert code_of(world.call(world.parameters(), headers)) == code


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title], ids=lambda f: f.__name__)
def test_header_names_are_case_insensitive(world, case):
    body = json.dumps(world.parameters()).encode()
    headers = [(case(name), value) for name, value in world.signed(body).items()]
    assert code_of(world.over_asgi(headers, body)) == 1


@pytest.mark.parametrize("name", ["Authorization", "Host", "Content-Type", "X-TC-Timestamp"])
def test_a_repeated_header_is_not_authentic(world, name):
    body = json.dumps(world.parameters()).encode()
    headers = world.signed(body)
    twice = [*headers.items(), (name, headers[name])]
    assert isinstance(code_of(world.over_asgi(twice, body)), str)
    assert world.emulator.calls == []


@pytest.mark.parametrize(
    ("skew", "code"),
    [
        (-301, "AuthFailure.SignatureExpire"),
        (-300, 1),
        (300, 1),
        (301, "AuthFailure.SignatureExpire"),
    ],
)
def test_clocks_may_differ_by_five_minutes(world, skew, code):
    assert code_of(world.call(world.parameters(), at=NOW + skew)) == code


@pytest.mark.parametrize(
    ("own", "code"),
    [
        ({"secret_id": "AKIDother"}, "AuthFailure.SecretIdNotFound"),
        ({"secret_key": "other"}, SIGNATURE),
    ],
    ids=["another key", "another secret"],
)
def test_a_call_needs_the_right_key(world, own, code):
    assert code_of(world.call(world.parameters(), **own)) == code


@pytest.mark.parametrize(
    ("token", "code"),
    [("temporary", 1), ("old", "AuthFailure.TokenFailure"), (None, "AuthFailure.TokenFailure")],
)
def test_a_temporary_key_needs_its_token(token, code):
    world = World(token="temporary")
    assert code_of(world.call(world.parameters(), token=token)) == code


def test_an_empty_token_means_no_token():
    assert verify(World(token="")) == 1


SIGNED = {
    "only the required ones": (("Content-Type", "Host"), 1),
    "all headers": (
        ("Content-Type", "Host", "X-TC-Action", "X-TC-Timestamp", "X-TC-Version"),
        1,
    ),
    "no media type": (("Host", "X-TC-Action"), SIGNATURE),
    "no host": (("Content-Type", "X-TC-Action"), SIGNATURE),
    "neither of the required ones": (("X-TC-Action",), SIGNATURE),
}


@pytest.mark.parametrize(("names", "code"), SIGNED.values(), ids=SIGNED)
def test_content_type_and_host_must_be_signed(world, names, code):
    body = json.dumps(world.parameters()).encode()
    headers = world.signed(body)
    proof = world.proof(body, {name: headers[name] for name in names})
    assert code_of(world.send(body, headers | {"Authorization": proof})) == code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x-tc-action", "x-tc-absent"),
        ("content-type;host", "host;content-type"),
        ("content-type;host", "content-type;host;host"),
        ("/captcha/", "/cvm/"),
        ("2027-01-15", "2027-01-16"),
    ],
)
def test_an_altered_authorization_is_refused(world, old, new):
    body = json.dumps(world.parameters()).encode()
    headers = world.signed(body)
    assert old in headers["Authorization"]
    altered = headers["Authorization"].replace(old, new)
    assert code_of(world.send(body, headers | {"Authorization": altered})).startswith(
        "AuthFail"
    )


def test_spaces_in_an_authorization_are_optional(world):
    body = json.dumps(world.parameters()).encode()
    headers = world.signed(body)
    dense = headers["Authorization"].replace(", ", ",")
    assert code_of(world.send(body, headers | {"Authorization": dense})) == 1


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "text/plain"}, "InvalidRequest"),
        ({"X-TC-Action": "DescribeCaptchaMiniRiskResult"}, "InvalidAction"),
    ],
    ids=["text", "another action"],
)
def test_an_authentic_call_may_still_be_invalid(world, headers, code):
    body = json.dumps(world.parameters()).encode()
    sent = world.signed(body) | headers
    signed = {name: sent[name] for name in ("Content-Type", "Host", "X-TC-Action")}
    sent["Authorization"] = world.proof(body, signed)
    assert code_of(world.send(body, sent)) == code


def altered(text, *masks):
    """Yield `text` with one byte altered, for each byte and each mask."""
    for place in range(len(text)):
        for mask in masks:
            yield text[:place] + bytes([text[place] ^ mask]) + text[place + 1 :]


def test_an_altered_byte_in_the_body_breaks_the_signature(world):
    body = json.dumps(world.parameters()).encode()
    headers = world.signed(body)
    others = [*altered(body, 1, 128), body + b" ", b" " + body, body[:-1], b""]
    assert {code_of(answer) for answer in world.send_all([(b, headers) for b in others])} == {
        SIGNATURE
    }
    assert world.emulator.calls == []
    assert code_of(world.send(body, headers)) == 1


@pytest.mark.parametrize("name", ["Content-Type", "Host", "X-TC-Action"])
def test_an_altered_byte_in_a_signed_header_breaks_the_signature(world, name):
    body = json.dumps(world.parameters()).encode()
    headers = world.signed(body)
    others = [headers | {name: value} for value in altered(headers[name].encode(), 1, 128)]
    assert {code_of(answer) for answer in world.send_all([(body, h) for h in others])} == {
        SIGNATURE
    }
    assert code_of(world.send(body, headers)) == 1


@pytest.mark.parametrize("name", ["Authorization", "X-TC-Timestamp"])
def test_an_altered_byte_in_the_signature_or_timestamp_is_refused(world, name):
    body = json.dumps(world.parameters()).encode()
    headers = world.signed(body)
    others = [headers | {name: value} for value in altered(headers[name].encode(), 1)]
    codes = {code_of(answer) for answer in world.send_all([(body, h) for h in others])}
    assert {code.partition(".")[0] for code in codes} == {"AuthFailure"}
    assert SIGNATURE in codes
    assert code_of(world.send(body, headers)) == 1


TEXT = json.dumps(MINTED)
BODIES = {
    "not JSON": (b"{", "InvalidParameter"),
    "empty": (b"", "InvalidParameter"),
    "not an object": (b"[]", "InvalidParameter"),
    "too deep": (b"[" * 100_000, "InvalidParameter"),
    "not UTF-8": (b'{"\xff": 1}', "InvalidParameter"),
    "UTF-16": (TEXT.encode("utf-16"), "InvalidParameter"),
    "a byte order mark": (TEXT.encode("utf-8-sig"), "InvalidParameter"),
    "a very long number": (b'{"CaptchaType": %b}' % (b"9" * 5000), "InvalidParameter"),
    "not a number": (TEXT.replace("9", "NaN", 1).encode(), "InvalidParameter"),
    "the maximum length": (b" " * MAX_CALL, "InvalidParameter"),
    "too long": (b" " * (MAX_CALL + 1), "RequestSizeLimitExceeded"),
}


@pytest.mark.parametrize(("body", "code"), BODIES.values(), ids=BODIES)
def test_an_invalid_body_is_refused(world, body, code):
    assert code_of(world.call(body)) == code


VALUES = st.sampled_from([None, True, 1.5, [], {}, ["x"], "9"]) | st.integers() | st.text()
# Timings depend on the machine.
FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@FUZZ
@given(
    st.binary() | st.dictionaries(st.sampled_from([*MINTED, "Imei", "x"]), VALUES),
    st.sampled_from([WEB, MINI_PROGRAM]),
)
def test_every_signed_body_is_answered_with_a_code(content, action):
    world = World()
    if not isinstance(content, bytes):
        content = world.parameters(action=action) | content
    assert code_of(world.call(content, action=action)) is not None


@FUZZ
@given(
    st.sampled_from(["Authorization", "Content-Type", "X-TC-Timestamp", "X-TC-Token", "Host"]),
    st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0")),
)
def test_every_header_value_is_answered_with_a_code(name, text):
    world = World()
    answer = world.call(world.parameters(), {name: text.encode("latin-1")})
    assert isinstance(code_of(answer), str)


@pytest.mark.parametrize(
    ("method", "target"),
    [("GET", "/"), ("PUT", "/"), ("POST", "/other"), ("POST", "/?x=1"), ("POST", "//")],
)
def test_only_a_post_to_the_root_is_a_call(world, method, target):
    body = json.dumps(world.parameters()).encode()
    assert code_of(world.send(body, world.signed(body), method, target)) == "InvalidRequest"


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_a_body_may_come_in_pieces(world, size):
    body = json.dumps(world.parameters()).encode()
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert code_of(world.over_asgi(world.signed(body).items(), *pieces)) == 1


def test_at_most_one_byte_more_than_the_limit_is_kept_of_a_body():
    pieces = [b"ab", b"cd", b"ef", b""]

    async def receive():
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    assert asyncio.run(read_body(receive, 3)) == b"abcd"
    assert pieces == []


def test_a_client_that_disconnects_gets_no_answer_and_takes_no_step(world):
    world.emulator.script({"code": 26})
    assert world.over_asgi([], b'{"Cap', gone=True) is None
    assert verify(world) == 26


def test_retcode_and_retmsg_do_not_depend_on_the_answer(world):
    async def main():
        transport = httpx.ASGITransport(world.emulator)
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.post(f"http://{HOST}", json={})).json()

    document = asyncio.run(main())
    assert (document["retcode"], document["retmsg"]) == (0, "success")
    assert document["Response"].keys() == {"Error", "RequestId"}
    assert document["Response"]["Error"].keys() == {"Code", "Message"}


# Records.


def test_calls_are_recorded_in_order_without_the_secret(world):
    pairs = [world.emulator.mint() for _ in range(2)]
    for pair in pairs:
        verify(world, pair)
    assert [call["Ticket"] for call in world.emulator.calls] == [p["ticket"] for p in pairs]
    secret = world.captcha.app_secret_key
    assert all(secret not in call.values() for call in world.emulator.calls)
    assert all(call.keys() == MINTED.keys() - {"AppSecretKey"} for call in world.emulator.calls)


def test_only_the_last_calls_are_kept(world, monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware.testing.emulator._REMEMBERED", 3)
    pairs = [world.emulator.mint() for _ in range(5)]
    for pair in pairs:
        verify(world, pair)
    assert [call["Ticket"] for call in world.emulator.calls] == [
        pair["ticket"] for pair in pairs[2:]
    ]


def test_only_old_tickets_are_forgotten(world):
    old, *_ = [world.emulator.mint() for _ in range(50)]
    world.now += LIFETIME + 1
    late = world.emulator.mint()
    assert (verify(world, old), verify(world, late)) == (8, 1)
    world.now += LIFETIME
    aged = world.emulator.mint(age=10 * LIFETIME)
    assert (verify(world, old), verify(world, late), verify(world, aged)) == (15, 9, 8)
    world.now += 3 * LIFETIME
    world.emulator.mint()
    assert len(world.emulator._tickets._tickets) == 1
