"""The emulator's control API in Python and over HTTP, scripted failures, and its server."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from networks import needs_ipv6

from tcaptcha_middleware import Submission, TencentVerifier
from tcaptcha_middleware.errors import OutageError, VerifierError
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._http import _listening, serving

IP = "203.0.113.7"
TICKETS, SCRIPT = "/__emulator__/tickets", "/__emulator__/script"
CHALLENGES, LOADS = "/__emulator__/challenges", "/__emulator__/loads"
ENDPOINTS = [TICKETS, SCRIPT, CHALLENGES, LOADS, "/__emulator__/challenge"]


@pytest.fixture(scope="module")
def address():
    """Listen once for the module; each test serves its own emulator there."""

    async def app(scope, receive, send):
        await current[0](scope, receive, send)

    current = [None]
    with serving(app, lifespan="off") as origin:
        yield current, origin


@pytest.fixture
def emulator(address):
    address[0][0] = TencentEmulator()
    return address[0][0]


@pytest.fixture
def client(emulator, address):
    with httpx.Client(base_url=address[1], timeout=5) as client:
        yield client


@pytest.fixture
def check(emulator, address):
    with TencentVerifier(**emulator.settings, endpoint=address[1]) as verifier:
        yield lambda pair: verifier.verify(Submission(**pair, user_ip=IP))


# Over HTTP.


def test_a_ticket_minted_over_http_passes_once(client, check):
    pair = client.post(TICKETS).json()
    assert pair.keys() == {"ticket", "randstr"}
    assert [check(pair).code for _ in range(2)] == [1, 9]


def test_a_ticket_minted_over_http_has_the_given_properties(client, check):
    properties = {"evil_level": 100, "score": 90, "age": 12.5}
    verdict = check(client.post(TICKETS, json=properties).json())
    assert (verdict.code, verdict.evil_level, verdict.score) == (1, 100, 90)
    assert 10 <= time.time() - verdict.fetched_at <= 60


def test_over_http_steps_come_alone_or_in_a_list(client, emulator, check):
    assert client.post(SCRIPT, json={"code": 8}).json() is None
    assert client.post(SCRIPT, json=[{"code": 21}, {"code": 7}]).status_code == 200
    pair = emulator.mint()
    assert [check(pair).code for _ in range(4)] == [8, 21, 7, 1]


INVALID_BODIES = {
    "not JSON": b"{",
    "not UTF-8": b"\xff",
    "too deep": b"[" * 100_000,
    "text": b'"code"',
    "a list of numbers": b"[1]",
    "null": b"null",
    "an unknown key": b'{"evil": 1}',
    "a very long number": b'{"code": %b}' % (b"9" * 5000),
    "not a number": b'{"age": NaN, "latency": NaN}',
}


@pytest.mark.parametrize("body", INVALID_BODIES.values(), ids=INVALID_BODIES)
@pytest.mark.parametrize("path", ENDPOINTS)
def test_over_http_an_invalid_body_is_refused(client, emulator, check, path, body):
    answer = client.post(path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert check(emulator.mint()).passed


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_control_api_allows_only_post(client, path, method):
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/__emulator__/", "/__emulator__/ticket"])
def test_an_unknown_path_is_answered_with_the_known_ones(client, path):
    answer = client.post(path)
    assert answer.status_code == 404
    assert all(endpoint in answer.json()["error"] for endpoint in ENDPOINTS)


def test_the_control_api_takes_no_step_and_adds_no_latency(client, emulator, check):
    emulator.script({"code": 8})
    emulator.latency = 600
    pair = client.post(TICKETS).json()
    emulator.latency = 0
    assert check(pair).code == 8


# Schema.

INVALID_TICKETS = {
    "kind": ["app", "", None, True, 1, ["web"], "MINI"],
    "code": ["1", None, True, 1.0, 2**63],
    "evil_level": [-1, 101, "100", None, True],
    "score": [-1, 101, "90", True],
    "age": [-1, False, -0.5, math.nan, math.inf, 10**400, "12", None, True],
    "app_id": [0, -1, "190000000", None, True],
}
INVALID_STEPS = {
    "latency": [-1, False, math.nan, math.inf, 10**400, "1", None, True],
    "error": ["", None, 1, "Internal\nError"],
    "code": ["1", None, True],
    "status": [99, 101, 199, 600, "503", None, True, 200.0],
    "drop": [1, 0, None, "yes"],
    "content_type": [None, 1, "text/plain\r\nX: y", "t\xe9xt"],
}


def pairs(table):
    return [
        pytest.param(key, value, id=f"{key}={value!r:.9}")
        for key, values in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("key", "value"), pairs(INVALID_TICKETS))
def test_an_invalid_property_of_a_ticket_is_refused(key, value):
    with pytest.raises(ValueError, match=f"^{key} must be .*, got "):
        TencentEmulator().mint(**{key: value})


@pytest.mark.parametrize(("key", "value"), pairs(INVALID_STEPS))
def test_an_invalid_step_is_refused_at_once(key, value):
    with pytest.raises(ValueError, match=f"^{key} must be .*, got "):
        TencentEmulator().script({}, {key: value})


@pytest.mark.parametrize("key", ["evil", "ticket", 1])
def test_an_unknown_key_of_a_step_is_refused_with_the_known_ones(key):
    with pytest.raises(TypeError, match=f"unknown key {key}: use .*latency"):
        TencentEmulator().script({key: 1})


def test_an_unknown_property_of_a_ticket_is_refused_with_the_known_ones():
    with pytest.raises(TypeError, match="unknown key evil: use age, app_id, code"):
        TencentEmulator().mint(evil=1)


@pytest.mark.parametrize("step", [1, "drop", None, ["drop"]], ids=repr)
def test_a_step_must_be_a_dict(step):
    with pytest.raises(TypeError, match="a call's step must be a dict"):
        TencentEmulator().script(step)


@pytest.mark.parametrize(
    "step",
    [{"error": "InternalError", "code": 1}, {"status": 502, "code": 1}],
    ids=["error and code", "code and status"],
)
def test_a_call_has_one_answer(step):
    with pytest.raises(ValueError, match="a call has one answer"):
        TencentEmulator().script(step)


def test_no_step_is_added_if_one_is_invalid(client, emulator, check):
    with pytest.raises(ValueError, match="status"):
        emulator.script({"code": 8}, {"status": 0})
    assert check(emulator.mint()).code == 1


def test_a_step_is_copied(emulator, check):
    step = {"code": 8}
    emulator.script(step)
    step["code"] = 21
    assert check(emulator.mint()).code == 8


# Scripted failures.


@pytest.mark.parametrize("status", [200, 204, 302, 304, 429, 500, 503, 599])
def test_a_step_sets_the_status(client, emulator, status):
    emulator.script({"status": status})
    answer = client.post("/")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html")
    assert answer.text == ("" if status in (204, 304) else "<html>")
    assert client.post("/").status_code == 200


def test_a_call_answered_with_a_status_does_not_spend_the_ticket(emulator, check):
    emulator.script({"status": 503})
    pair = emulator.mint()
    with pytest.raises(OutageError):
        check(pair)
    assert emulator.calls == []
    assert check(pair).passed


def test_an_emulator_that_is_not_up_answers_503_and_keeps_its_steps(client, emulator, check):
    emulator.script({"code": 8})
    emulator.is_up = False
    assert client.post("/").status_code == 503
    assert client.post("/__emulator__/tickets").status_code == 200
    emulator.is_up = True
    assert check(emulator.mint()).code == 8


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ({"error": "InternalError"}, OutageError),
        ({"code": 26}, None),
        ({"drop": True}, VerifierError),
        ({"status": 503, "drop": True}, VerifierError),
        ({"error": "Made.Up", "content_type": "text/plain"}, VerifierError),
    ],
    ids=["an error", "a code", "a drop", "a status and a drop", "a content type"],
)
def test_a_step_applies_to_one_call(emulator, check, step, error):
    emulator.script(step)
    if error is None:
        assert check(emulator.mint()).code == step["code"]
    else:
        with pytest.raises(error):
            check(emulator.mint())
    assert check(emulator.mint()).passed


def test_a_dropped_answer_still_spends_the_ticket(emulator, check):
    emulator.script({"drop": True})
    pair = emulator.mint()
    with pytest.raises(VerifierError):
        check(pair)
    assert check(pair).code == 9


def test_the_client_sees_a_dropped_answer_as_incomplete(client, emulator):
    emulator.script({"drop": True}, {"drop": False})
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/")
    assert client.post("/").json()["Response"]["Error"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=utf-8", ""])
def test_a_step_sets_the_content_type(client, emulator, content_type):
    emulator.script(
        {"content_type": content_type}, {"content_type": content_type, "status": 502}
    )
    assert [client.post("/").headers["content-type"] for _ in range(2)] == [content_type] * 2


def duration(client):
    began = time.monotonic()
    client.post("/")
    return time.monotonic() - began


def test_the_latency_of_a_step_replaces_that_of_the_emulator(client, emulator):
    emulator.latency = 0.1
    assert duration(client) >= 0.09
    emulator.latency = 600
    emulator.script({"latency": 0}, {"latency": 0.1})
    assert duration(client) < 60
    assert duration(client) >= 0.09
    emulator.latency = 0
    assert duration(client) < 60


def test_a_slow_answer_does_not_delay_others(client, emulator):
    emulator.script({"latency": 600})
    with pytest.raises(httpx.ReadTimeout):
        client.post("/", timeout=0.2)
    assert client.post("/").status_code == 200


# Threads and load.


def test_a_ticket_passes_once_under_concurrent_calls(emulator, check):
    pair = emulator.mint()
    with ThreadPoolExecutor(16) as threads:
        codes = sorted(verdict.code for verdict in threads.map(check, [pair] * 40))
    assert codes == [1] + [9] * 39


def test_tickets_can_be_minted_from_many_threads_while_others_expire():
    turns = iter(range(10**9))
    # Ten minutes pass every few tickets, so there are always tickets to discard.
    emulator = TencentEmulator(clock=lambda: next(turns) * 100)
    with ThreadPoolExecutor(8) as threads:
        tickets = list(threads.map(lambda _: emulator.mint()["ticket"], range(4000)))
    assert len(set(tickets)) == 4000
    assert len(emulator._tickets._tickets) < 100


def test_minting_takes_constant_time():
    emulator = TencentEmulator()
    began = time.process_time()
    for _ in range(30_000):
        emulator.mint()
    # A scan of all tickets for every new one took minutes.
    assert time.process_time() - began < 10


# Scopes.


def run(scope, *messages):
    pending, sent = list(messages), []

    async def receive():
        return pending.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(TencentEmulator()(scope, receive, send))
    assert pending == []
    return [message["type"] for message in sent]


def test_the_emulator_answers_the_lifespan():
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    assert run({"type": "lifespan"}, *messages) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_a_websocket_is_rejected():
    assert run({"type": "websocket"}, {"type": "websocket.connect"}) == ["websocket.close"]


def test_uvicorn_serves_the_emulator_without_warnings(tmp_path):
    (tmp_path / "some.py").write_text(
        "from tcaptcha_middleware.testing import TencentEmulator as Tencent\n"
        "emulator = Tencent()\n"
    )
    command = [sys.executable, "-m", "uvicorn", "some:emulator", "--port=0", "--no-use-colors"]
    # In Python's development mode, asyncio logs warnings on a slow machine.
    options = {"cwd": tmp_path, "env": os.environ | {"PYTHONDEVMODE": ""}, "text": True}
    with subprocess.Popen(command, stderr=subprocess.PIPE, **options) as process:
        try:
            lines = [process.stderr.readline() for _ in range(4)]
            origin = next(word for word in lines[3].split() if word.startswith("http://"))
            assert httpx.post(f"{origin}{TICKETS}").json().keys() == {"ticket", "randstr"}
        finally:
            process.terminate()
        rest = process.stderr.read().splitlines()
    assert lines[2].strip() == "INFO:     Application startup complete."
    assert rest[-2].strip() == "INFO:     Application shutdown complete."
    assert all(line.startswith("INFO:") for line in (*lines, *rest))


# Sockets.


def test_a_port_in_use_raises():
    with (
        TencentEmulator().serve() as origin,
        pytest.raises(
            OSError,
            match=rf"cannot listen on {origin.removeprefix('http://')} \(.*\): choose another",
        ),
        TencentEmulator().serve(port=int(origin.rpartition(":")[2])),
    ):
        raise AssertionError


def test_only_one_of_two_servers_can_bind_a_port():
    with _listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=r"in use\)"), _listening("127.0.0.1", port):
            raise AssertionError


def test_an_address_of_another_machine_raises():
    with (
        pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0 \([^)]*\)$"),
        TencentEmulator().serve("192.0.2.1"),
    ):
        raise AssertionError


def test_a_port_is_free_again_when_the_context_ends():
    emulator = TencentEmulator()
    with emulator.serve() as first:
        httpx.post(first)
    with emulator.serve(port=int(first.rpartition(":")[2])) as second:
        assert httpx.post(f"{second}{TICKETS}").status_code == 200
    assert first == second


def test_one_emulator_can_be_served_twice():
    emulator = TencentEmulator()
    with emulator.serve() as first, emulator.serve() as second:
        assert first != second
        httpx.post(f"{first}{SCRIPT}", json={"status": 418})
        assert httpx.post(second).status_code == 418


@needs_ipv6
def test_the_emulator_listens_on_ipv6():
    with TencentEmulator().serve("::1") as origin:
        assert origin.startswith("http://[::1]:")
        assert httpx.post(origin).json()["Response"]["Error"]


def test_the_context_ends_while_an_answer_is_delayed():
    emulator = TencentEmulator()
    emulator.latency = 600
    began = time.monotonic()
    with emulator.serve() as origin, pytest.raises(httpx.ReadTimeout):
        httpx.post(origin, timeout=0.1)
    assert time.monotonic() - began < 20


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # its exit
def test_a_server_that_does_not_start_raises():
    async def fails(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"), serving(fails):
        raise AssertionError


def test_the_emulators_settings_are_what_a_verifier_needs():
    settings = {
        "app_id": 199999164,
        "app_secret_key": "E4kwK9AcXQMHkktiItyMEyQPn",
        "secret_id": "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE",
        "secret_key": "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
        "token": "temporary",
    }
    emulator = TencentEmulator(**settings)
    assert emulator.settings == settings
    assert json.dumps(emulator.settings)
    with (
        emulator.serve() as origin,
        TencentVerifier(**emulator.settings, endpoint=origin) as verifier,
    ):
        assert verifier.verify(Submission(**emulator.mint(), user_ip=IP)).passed
