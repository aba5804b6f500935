"""The emulator's browser side over HTTP, without a browser."""

from __future__ import annotations

import math
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from tcaptcha_middleware import Submission, TencentVerifier
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._control import CHALLENGE as CHALLENGE_SCHEMA
from tcaptcha_middleware.testing.emulator._control import LOAD as LOAD_SCHEMA

APP_ID = "190000000"
ORIGIN = {"Origin": "http://shop.test:8000"}
SCRIPTS = ["/TJCaptcha.js", "/TCaptcha.js", "/TJNCaptcha-global.js", "/TCaptcha-global.js"]
CHALLENGE, CHALLENGES, LOADS = (
    f"/__emulator__/{name}" for name in ("challenge", "challenges", "loads")
)


@pytest.fixture(scope="module")
def behind():
    class Behind:
        emulator = None

        async def __call__(self, scope, receive, send):
            await self.emulator(scope, receive, send)

    behind = Behind()
    with TencentEmulator.serve(behind) as behind.origin:
        yield behind


@pytest.fixture
def emulator(behind):
    behind.emulator = TencentEmulator()
    return behind.emulator


@pytest.fixture
def client(emulator, behind):
    with httpx.Client(base_url=behind.origin, timeout=5, headers=ORIGIN) as client:
        yield client


@pytest.fixture
def code_of(emulator, behind):
    with TencentVerifier(**emulator.settings, endpoint=behind.origin) as verifier:
        yield (
            lambda answer: (
                verifier.verify(
                    Submission(answer["ticket"], answer["randstr"], "203.0.113.7")
                ).code
            )
        )


def request(app_id=APP_ID, **options):
    return {"script": "TJCaptcha.js", "appId": app_id, "options": options}


def test_an_emulator_can_be_mounted_in_an_application():
    emulator = TencentEmulator()
    with TestClient(Starlette(routes=[Mount("/emulator", emulator)])) as client:
        assert "TencentCaptcha" in client.get("/emulator/TJCaptcha.js").text
        request = {"script": "TJCaptcha.js", "appId": APP_ID, "options": {}}
        answer = client.post(f"/emulator{CHALLENGE}", json=request)
        assert answer.json()["outcome"] == "solve"
        assert "Response" in client.post("/emulator/").json()


# Challenges.


def test_a_challenge_is_solvable_and_its_ticket_valid(client, code_of):
    answer = client.post(CHALLENGE, json=request()).json()
    assert answer.keys() == {"outcome", "ticket", "randstr", "sid"}
    assert answer["outcome"] == "solve"
    assert [code_of(answer) for _ in range(2)] == [1, 9]


def test_a_challenges_ticket_belongs_to_its_captcha(behind):
    shop = {"app_id": 190000001, "app_secret_key": "shopsOwnAppSecretKey"}
    emulator = behind.emulator = TencentEmulator(captchas={190000001: shop["app_secret_key"]})
    answer = httpx.post(f"{behind.origin}{CHALLENGE}", json=request("190000001")).json()
    ticket = Submission(answer["ticket"], answer["randstr"], "203.0.113.7")
    codes = []
    for settings in (emulator.settings, emulator.settings | shop):
        with TencentVerifier(**settings, endpoint=behind.origin) as verifier:
            codes.append(verifier.verify(ticket).code)
    assert codes == [16, 1]


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        ({}, "solve"),
        ({"ticket": {}}, "solve"),
        ({"skip": True}, "skip"),
        ({"skip": True, "ticket": {"code": 1}}, "skip"),
        ({"close": True}, "close"),
        ({"hang": True}, "hang"),
        ({"error": 1001}, "error"),
        ({"error": 1013, "latency": 0}, "error"),
    ],
    ids=str,
)
def test_steps_for_challenges_come_from_python_and_over_http(client, emulator, step, outcome):
    emulator.challenge(step)
    assert client.post(CHALLENGES, json=[step]).json() is None
    answers = [client.post(CHALLENGE, json=request()).json() for _ in range(3)]
    assert [answer["outcome"] for answer in answers] == [outcome, outcome, "solve"]


def test_a_single_step_needs_no_list(client):
    client.post(CHALLENGES, json={"error": 1006})
    answer = client.post(CHALLENGE, json=request()).json()
    assert answer == {
        "outcome": "error",
        "errorCode": 1006,
        "errorMessage": "get_captcha_config_request_error (as scripted)",
    }


@pytest.mark.parametrize(
    ("ticket", "code"),
    [({"code": 15}, 15), ({"age": 301}, 8), ({"app_id": 1}, 16)],
    ids=["forged", "expired", "another captcha's"],
)
def test_a_solved_challenge_gives_the_ticket_of_its_step(
    client, emulator, code_of, ticket, code
):
    emulator.challenge({"ticket": ticket})
    assert code_of(client.post(CHALLENGE, json=request()).json()) == code


def test_a_step_is_copied(client, emulator, code_of):
    step = {"ticket": {"code": 15}}
    emulator.challenge(step)
    step["ticket"]["code"] = 1
    assert code_of(client.post(CHALLENGE, json=request()).json()) == 15


def test_a_challenge_waits_for_the_latency_of_its_step(client, emulator):
    emulator.challenge({"latency": 600})
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHALLENGE, json=request(), timeout=0.2)
    assert client.post(CHALLENGE, json=request()).json()["outcome"] == "solve"


def test_another_captcha_is_refused_and_takes_no_step(client, emulator):
    emulator.challenge({"close": True})
    refused = client.post(CHALLENGE, json=request("1")).json()
    assert (refused["outcome"], refused["errorCode"]) == ("error", 1006)
    assert "captcha is 190000000, not 1" in refused["errorMessage"]
    assert client.post(CHALLENGE, json=request()).json()["outcome"] == "close"


def test_requests_of_pages_are_recorded_in_order(client, emulator):
    requests = [request(userLanguage="en", bizState={"a": 1}), request("1")]
    for each in requests:
        client.post(CHALLENGE, json=each)
    assert emulator.challenges == requests


def test_the_record_is_bounded(client, emulator):
    emulator.challenges.extend([request("1")] * 10_000)
    client.post(CHALLENGE, json=request())
    assert len(emulator.challenges) == 10_000
    assert emulator.challenges[-1] == request()


INVALID_REQUESTS = {
    "empty": ({}, "missing key script, appId, options"),
    "incomplete": ({"script": "", "appId": "1"}, "missing key options"),
    "a number": (request(1), "appId must be text, got 1"),
    "not an object": (request() | {"options": []}, "options must be a JSON object"),
    "too many keys": (request() | {"extra": 1}, "unknown key extra"),
}


@pytest.mark.parametrize(("body", "message"), INVALID_REQUESTS.values(), ids=INVALID_REQUESTS)
def test_an_invalid_request_is_refused_and_not_recorded(client, emulator, body, message):
    answer = client.post(CHALLENGE, json=body)
    assert (answer.status_code, emulator.challenges) == (400, [])
    assert message in answer.json()["error"]


# Loads.


@pytest.mark.parametrize("path", SCRIPTS)
def test_the_script_is_public_under_each_of_tencents_names(client, path):
    answer = client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (
        200,
        "text/javascript; charset=utf-8",
    )
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "TencentCaptcha" in answer.text


def test_steps_for_loads_come_from_python_and_over_http(client, emulator):
    whole = client.get(SCRIPTS[0]).text
    steps = [{"status": 503}, {"broken": True}, {"throw": "show"}, {"latency": 0}]
    emulator.load(steps[0])
    assert client.post(LOADS, json=steps[1:]).json() is None
    failed, broken, throwing, good, after = (client.get(SCRIPTS[0]) for _ in range(5))
    assert (failed.status_code, failed.text) == (503, "<html>")
    assert broken.text == whole[: len(whole) // 2]
    assert throwing.text == whole.replace('THROWS_IN = ""', 'THROWS_IN = "show"') != whole
    assert good.text == after.text == whole


def test_a_load_waits_for_the_latency_of_its_step(client, emulator):
    emulator.load({"latency": 600})
    with pytest.raises(httpx.ReadTimeout):
        client.get(SCRIPTS[0], timeout=0.2)
    assert client.get(SCRIPTS[0]).status_code == 200


def test_a_head_request_is_not_a_load(client, emulator):
    emulator.load({"status": 503})
    assert client.head(SCRIPTS[0]).status_code == 200
    assert client.get(SCRIPTS[0]).status_code == 503


def test_the_script_allows_only_get_and_head(client):
    answer = client.post(SCRIPTS[0])
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


# Pages of any origin.


@pytest.mark.parametrize(
    "name", ["tickets", "script", "challenges", "loads", "challenge", "none"]
)
def test_pages_of_any_origin_may_use_the_control_api(client, name):
    path = f"/__emulator__/{name}"
    headers = {"Access-Control-Request-Method": "POST"}
    answers = [client.options(path, headers=headers), client.post(path, json={})]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {"*"}
    assert answers[0].headers["access-control-allow-headers"] == "content-type"
    assert answers[0].headers["access-control-allow-methods"] == "POST"
    assert answers[0].status_code == (404 if name == "none" else 204)


def test_no_answer_to_a_page_allows_cookies_or_has_a_secret(client, emulator):
    answers = [client.post(CHALLENGE, json=request()), client.get(SCRIPTS[0])]
    secrets = [emulator.settings["app_secret_key"], emulator.settings["secret_key"]]
    for answer in answers:
        assert "access-control-allow-credentials" not in answer.headers
        assert not any(secret in answer.text for secret in secrets)


def test_pages_cannot_read_answers_of_the_api(client):
    assert "access-control-allow-origin" not in client.post("/").headers


# Schema.

INVALID = {
    "challenge": {
        "latency": [-1, "1", math.inf],
        "ticket": [1, None, []],
        "skip": [False, 1],
        "close": [False, "yes"],
        "hang": [None],
        "error": [1000, 1014, "1006", True, 1006.0],
    },
    "load": {
        "latency": [math.nan],
        "status": [199, 600, "503"],
        "broken": [False],
        "throw": ["", "callback", True, ["show"]],
    },
}


@pytest.mark.parametrize(
    ("method", "key", "value"),
    [
        pytest.param(method, key, value, id=f"{method}-{key}={value!r}")
        for method, keys in INVALID.items()
        for key, values in keys.items()
        for value in values
    ],
)
def test_an_invalid_value_is_refused_at_once(method, key, value):
    with pytest.raises(ValueError, match=f"^{key} must be .*, got "):
        getattr(TencentEmulator(), method)({}, {key: value})


@pytest.mark.parametrize(
    ("method", "step", "message"),
    [
        ("challenge", {"close": True, "hang": True}, "one way, got close and hang"),
        ("challenge", {"ticket": {}, "error": 1001}, "one way, got ticket and error"),
        ("challenge", {"skip": True, "close": True}, "one way, got skip and close"),
        ("challenge", {"ticket": {"age": -1}}, "age must be .*, got -1"),
        ("load", {"status": 500, "throw": "show"}, "one way, got status and throw"),
        ("load", {"broken": True, "status": 500}, "one way, got status and broken"),
    ],
)
def test_a_contradictory_step_is_refused_at_once(method, step, message):
    with pytest.raises(ValueError, match=message):
        getattr(TencentEmulator(), method)(step)


@pytest.mark.parametrize(
    ("method", "step", "message"),
    [
        ("challenge", {"status": 500}, "unknown key status: use close, error"),
        ("challenge", {"ticket": {"evil": 1}}, "unknown key evil: use age"),
        ("challenge", "close", "a challenge's step must be a dict"),
        ("load", {"error": 1001}, "unknown key error: use broken, latency"),
        ("load", None, "a load's step must be a dict"),
    ],
)
def test_an_unknown_key_is_refused_with_the_known_ones(method, step, message):
    with pytest.raises(TypeError, match=message):
        getattr(TencentEmulator(), method)(step)


def test_no_step_is_added_if_one_is_invalid(client, emulator):
    with pytest.raises(ValueError, match="error"):
        emulator.challenge({"close": True}, {"error": 1})
    assert client.post(CHALLENGE, json=request()).json()["outcome"] == "solve"


@pytest.mark.parametrize("key", sorted(CHALLENGE_SCHEMA.keys() | LOAD_SCHEMA.keys()))
def test_the_guide_lists_every_key(key):
    guide = Path(__file__).parents[2] / "docs/browser-tests.md"
    assert f"| `{key}`" in guide.read_text()
