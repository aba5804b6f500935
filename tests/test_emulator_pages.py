"""The half of the emulator that pages see, without a browser: what it answers, and to whom."""

from __future__ import annotations

import math
from pathlib import Path

import httpx
import pytest

from tcaptcha_middleware import Submission, TencentVerifier
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._control import CHALLENGE as CHALLENGE_SCHEMA
from tcaptcha_middleware.testing.emulator._control import LOAD as LOAD_SCHEMA

APP_ID = "190000000"
ORIGIN = {"Origin": "http://shop.test:8000"}
SCRIPTS = ["/TJCaptcha.js", "/TCaptcha.js", "/TJNCaptcha-global.js", "/TCaptcha-global.js"]
CHALLENGE, CHALLENGES, LOADS = (
    f"/__emulator__/{order}" for order in ("challenge", "challenges", "loads")
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


def said(app_id=APP_ID, **options):
    return {"script": "TJCaptcha.js", "appId": app_id, "options": options}


# Challenges.


def test_a_challenge_is_to_be_solved_and_its_ticket_is_good(client, code_of):
    answer = client.post(CHALLENGE, json=said()).json()
    assert answer.keys() == {"outcome", "ticket", "randstr", "sid"}
    assert answer["outcome"] == "solve"
    assert [code_of(answer) for _ in range(2)] == [1, 9]


def test_each_captcha_has_challenges_whose_tickets_are_its_own(behind):
    shop = {"app_id": 190000001, "app_secret_key": "shopsOwnAppSecretKey"}
    emulator = behind.emulator = TencentEmulator(captchas={190000001: shop["app_secret_key"]})
    answer = httpx.post(f"{behind.origin}{CHALLENGE}", json=said("190000001")).json()
    ticket = Submission(answer["ticket"], answer["randstr"], "203.0.113.7")
    codes = []
    for own in (emulator.settings, emulator.settings | shop):
        with TencentVerifier(**own, endpoint=behind.origin) as verifier:
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
def test_a_challenge_goes_as_told_in_python_and_over_http(client, emulator, step, outcome):
    emulator.challenge(step)
    assert client.post(CHALLENGES, json=[step]).json() is None
    answers = [client.post(CHALLENGE, json=said()).json() for _ in range(3)]
    assert [answer["outcome"] for answer in answers] == [outcome, outcome, "solve"]


def test_one_step_needs_no_list(client):
    client.post(CHALLENGES, json={"error": 1006})
    answer = client.post(CHALLENGE, json=said()).json()
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
    assert code_of(client.post(CHALLENGE, json=said()).json()) == code


def test_a_step_is_what_it_was_when_it_was_said(client, emulator, code_of):
    step = {"ticket": {"code": 15}}
    emulator.challenge(step)
    step["ticket"]["code"] = 1
    assert code_of(client.post(CHALLENGE, json=said()).json()) == 15


def test_a_challenge_waits_as_long_as_its_step_says(client, emulator):
    emulator.challenge({"latency": 600})
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHALLENGE, json=said(), timeout=0.2)
    assert client.post(CHALLENGE, json=said()).json()["outcome"] == "solve"


def test_another_captcha_is_refused_and_uses_up_no_step(client, emulator):
    emulator.challenge({"close": True})
    refused = client.post(CHALLENGE, json=said("1")).json()
    assert (refused["outcome"], refused["errorCode"]) == ("error", 1006)
    assert "captcha is 190000000, not 1" in refused["errorMessage"]
    assert client.post(CHALLENGE, json=said()).json()["outcome"] == "close"


def test_what_pages_say_is_recorded_in_order(client, emulator):
    told = [said(userLanguage="en", bizState={"a": 1}), said("1")]
    for one in told:
        client.post(CHALLENGE, json=one)
    assert emulator.challenges == told


def test_the_record_is_bounded(client, emulator):
    emulator.challenges.extend([said("1")] * 10_000)
    client.post(CHALLENGE, json=said())
    assert len(emulator.challenges) == 10_000
    assert emulator.challenges[-1] == said()


SAID_WRONG = {
    "nothing": ({}, "missing key script, appId, options"),
    "half": ({"script": "", "appId": "1"}, "missing key options"),
    "a number": (said(1), "appId must be text, got 1"),
    "no object": (said() | {"options": []}, "options must be a JSON object"),
    "more": (said() | {"extra": 1}, "unknown key extra"),
}


@pytest.mark.parametrize(("told", "message"), SAID_WRONG.values(), ids=SAID_WRONG)
def test_what_no_page_says_is_refused_and_not_recorded(client, emulator, told, message):
    answer = client.post(CHALLENGE, json=told)
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


def test_a_load_goes_as_told_in_python_and_over_http(client, emulator):
    whole = client.get(SCRIPTS[0]).text
    steps = [{"status": 503}, {"broken": True}, {"throw": "show"}, {"latency": 0}]
    emulator.load(steps[0])
    assert client.post(LOADS, json=steps[1:]).json() is None
    failed, broken, throwing, good, after = (client.get(SCRIPTS[0]) for _ in range(5))
    assert (failed.status_code, failed.text) == (503, "<html>")
    assert broken.text == whole[: len(whole) // 2]
    assert throwing.text == whole.replace('THROWS_IN = ""', 'THROWS_IN = "show"') != whole
    assert good.text == after.text == whole


def test_a_load_waits_as_long_as_its_step_says(client, emulator):
    emulator.load({"latency": 600})
    with pytest.raises(httpx.ReadTimeout):
        client.get(SCRIPTS[0], timeout=0.2)
    assert client.get(SCRIPTS[0]).status_code == 200


def test_asking_for_the_head_is_no_load(client, emulator):
    emulator.load({"status": 503})
    assert client.head(SCRIPTS[0]).status_code == 200
    assert client.get(SCRIPTS[0]).status_code == 503


def test_the_script_is_only_read(client):
    answer = client.post(SCRIPTS[0])
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


# Pages of any origin.


@pytest.mark.parametrize(
    "order", ["tickets", "script", "challenges", "loads", "challenge", "none"]
)
def test_a_page_of_any_origin_may_give_orders(client, order):
    path = f"/__emulator__/{order}"
    ask = {"Access-Control-Request-Method": "POST"}
    answers = [client.options(path, headers=ask), client.post(path, json={})]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {"*"}
    assert answers[0].headers["access-control-allow-headers"] == "content-type"
    assert answers[0].headers["access-control-allow-methods"] == "POST"
    assert answers[0].status_code == (404 if order == "none" else 204)


def test_no_answer_to_a_page_lets_it_send_cookies_or_shows_a_secret(client, emulator):
    answers = [client.post(CHALLENGE, json=said()), client.get(SCRIPTS[0])]
    secrets = [emulator.settings["app_secret_key"], emulator.settings["secret_key"]]
    for answer in answers:
        assert "access-control-allow-credentials" not in answer.headers
        assert not any(secret in answer.text for secret in secrets)


def test_the_api_itself_is_not_for_pages(client):
    assert "access-control-allow-origin" not in client.post("/").headers


# Words.

WRONG = {
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
    ("order", "word", "value"),
    [
        pytest.param(order, word, value, id=f"{order}-{word}={value!r}")
        for order, words in WRONG.items()
        for word, values in words.items()
        for value in values
    ],
)
def test_a_value_that_does_not_fit_is_refused_when_it_is_said(order, word, value):
    with pytest.raises(ValueError, match=f"^{word} must be .*, got "):
        getattr(TencentEmulator(), order)({}, {word: value})


@pytest.mark.parametrize(
    ("order", "step", "message"),
    [
        ("challenge", {"close": True, "hang": True}, "one way, got close and hang"),
        ("challenge", {"ticket": {}, "error": 1001}, "one way, got ticket and error"),
        ("challenge", {"skip": True, "close": True}, "one way, got skip and close"),
        ("challenge", {"ticket": {"age": -1}}, "age must be .*, got -1"),
        ("load", {"status": 500, "throw": "show"}, "one way, got status and throw"),
        ("load", {"broken": True, "status": 500}, "one way, got status and broken"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused_when_it_is_said(order, step, message):
    with pytest.raises(ValueError, match=message):
        getattr(TencentEmulator(), order)(step)


@pytest.mark.parametrize(
    ("order", "step", "message"),
    [
        ("challenge", {"status": 500}, "unknown key status: use close, error"),
        ("challenge", {"ticket": {"evil": 1}}, "unknown key evil: use age"),
        ("challenge", "close", "a challenge's step must be a dict"),
        ("load", {"error": 1001}, "unknown key error: use broken, latency"),
        ("load", None, "a load's step must be a dict"),
    ],
)
def test_a_word_of_something_else_is_refused_with_the_known_ones(order, step, message):
    with pytest.raises(TypeError, match=message):
        getattr(TencentEmulator(), order)(step)


def test_of_steps_with_a_mistake_none_is_taken(client, emulator):
    with pytest.raises(ValueError, match="error"):
        emulator.challenge({"close": True}, {"error": 1})
    assert client.post(CHALLENGE, json=said()).json()["outcome"] == "solve"


@pytest.mark.parametrize("word", sorted(CHALLENGE_SCHEMA.keys() | LOAD_SCHEMA.keys()))
def test_the_guide_names_every_word(word):
    guide = Path(__file__).parent.parent / "docs/browser-tests.md"
    assert f"| `{word}`" in guide.read_text()
