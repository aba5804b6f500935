"""Error reporters collect the local variables of logged tracebacks: no secret is among them.

Tested with sentry-sdk and its defaults. A ticket is a secret until it is used.
"""

from __future__ import annotations

import json
import logging

import pytest
import sentry_sdk
from adapters import RUNNERS, Exchange
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from tcaptcha_middleware import Guard, MemoryReplayStore, TencentVerifier, sources
from tcaptcha_middleware.testing import FakeVerifier, TencentEmulator

TICKET, RANDSTR = "tr03secretticket", "@secretrandstr"
APP_SECRET_KEY, SECRET_KEY = "appsecretkey000000000000", "secretkey00000000000000000000000"
TOKEN = "secrettoken0000000000000"
SECRETS = [TICKET, RANDSTR, APP_SECRET_KEY, SECRET_KEY, TOKEN]

HEADERS = Exchange(headers=(("X-Captcha-Ticket", TICKET), ("X-Captcha-Randstr", RANDSTR)))
PAIR = {"ticket": TICKET, "randstr": RANDSTR}
JSON = Exchange(
    headers=(("Content-Type", "application/json"),), pieces=(json.dumps(PAIR).encode(),)
)
FORM = Exchange(
    headers=(("Content-Type", "application/x-www-form-urlencoded"),),
    pieces=(f"ticket={TICKET}&randstr={RANDSTR}".encode(),),
)
PART = '--B\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
MULTIPART = Exchange(
    headers=(("Content-Type", "multipart/form-data; boundary=B"),),
    pieces=("".join(PART.format(*field) for field in PAIR.items()).encode(), b"--B--"),
)
QUERY = Exchange(target=f"/login?ticket={TICKET}&randstr={RANDSTR}")
EXCHANGES = {
    "headers": HEADERS,
    "JSON": JSON,
    "form": FORM,
    "multipart": MULTIPART,
    "query": QUERY,
}


class Collecting(Transport):
    """Keeps the events that would be sent."""

    def __init__(self):
        super().__init__()
        self.events = []

    def capture_envelope(self, envelope):
        self.events += [event for item in envelope.items if (event := item.get_event())]


@pytest.fixture
def events():
    """Collect the events of sentry-sdk, without its integrations for servers and frameworks."""
    settings = {"default_integrations": False, "auto_enabling_integrations": False}
    transport = Collecting()
    with sentry_sdk.isolation_scope():
        sentry_sdk.init(
            dsn="http://key@127.0.0.1:1/1",
            transport=transport,
            integrations=[LoggingIntegration()],
            **settings,
        )
        yield transport.events
        sentry_sdk.init(**settings)


def failing(*_):
    raise ZeroDivisionError


class FailingVerifier:
    def verify(self, submission):
        raise ZeroDivisionError(f"cannot verify {submission.ticket} {submission.randstr}")

    async def averify(self, submission):
        self.verify(submission)


class FailingReplayStore(MemoryReplayStore):
    def claim(self, key, seconds):
        raise ZeroDivisionError

    async def aclaim(self, key, seconds):
        raise ZeroDivisionError


FAILURES = {
    "when": lambda: Guard(["/login"], FakeVerifier(), when=failing, sources=EVERYWHERE),
    "client_ip": lambda: Guard(
        ["/login"], FakeVerifier(), client_ip=failing, sources=EVERYWHERE
    ),
    "client_ip, no text": lambda: Guard(
        ["/login"], FakeVerifier(), client_ip=lambda _: 1, sources=EVERYWHERE
    ),
    "responder": lambda: Guard(
        ["/login"], FakeVerifier(15), responder=failing, sources=EVERYWHERE
    ),
    "on_event": lambda: Guard(["/login"], FakeVerifier(), on_event=failing, sources=EVERYWHERE),
    "Head": lambda: Guard(["/login"], FakeVerifier(), sources=[sources.Head(failing)]),
    "Head, no pair": lambda: Guard(["/login"], FakeVerifier(), sources=[sources.Head(bool)]),
    "verifier": lambda: Guard(["/login"], FailingVerifier(), sources=EVERYWHERE),
    "replay store": lambda: Guard(
        ["/login"], FakeVerifier(), replay_store=FailingReplayStore(), sources=EVERYWHERE
    ),
}
EVERYWHERE = [sources.Header(), sources.Query(), sources.Form(), sources.Json()]


def texts_of(events):
    return json.dumps(events, default=repr)


@pytest.mark.parametrize("runner", ["asgi", "wsgi"])
@pytest.mark.parametrize("exchange", EXCHANGES.values(), ids=EXCHANGES)
@pytest.mark.parametrize("make", FAILURES.values(), ids=FAILURES)
def test_no_secret_of_a_request_is_reported(make, exchange, runner, events):
    RUNNERS[runner](make(), exchange)
    assert [event["logger"] for event in events] == ["tcaptcha_middleware"]
    assert [secret for secret in SECRETS if secret in texts_of(events)] == []


@pytest.mark.parametrize("runner", ["asgi", "wsgi"])
@pytest.mark.parametrize("exchange", [JSON, FORM, MULTIPART], ids=["JSON", "form", "multipart"])
@pytest.mark.parametrize("function", [failing, lambda *_: 7], ids=["raises", "returns no pair"])
def test_no_body_is_reported(function, exchange, runner, events):
    RUNNERS[runner](
        Guard(["/login"], FakeVerifier(), sources=[sources.Body(function)]), exchange
    )
    assert len(events) == 1
    assert [secret for secret in SECRETS if secret in texts_of(events)] == []


@pytest.mark.parametrize("runner", ["asgi", "wsgi"])
@pytest.mark.parametrize(
    ("problem", "lines"), [("AuthFailure.SignatureFailure", 1), ("InternalError", 0)]
)
def test_no_key_is_reported(problem, lines, runner, events):
    emulator = TencentEmulator(
        secret_id="AKID0123456789abcdef0123456789abcdef",
        secret_key=SECRET_KEY,
        token=TOKEN,
        app_secret_key=APP_SECRET_KEY,
    )
    with emulator.serve() as endpoint:
        emulator.script({"error": problem})
        guard = Guard(["/login"], TencentVerifier(**emulator.settings, endpoint=endpoint))
        assert RUNNERS[runner](guard, HEADERS).status in (500, 503)
        guard.close()
    assert len(events) == lines
    assert [secret for secret in SECRETS if secret in texts_of(events)] == []


def telling(request, *_):
    """Fail with the secrets of a request in the errors' texts."""
    try:
        raise KeyError(TICKET)
    except KeyError as error:
        raise ValueError(f"cannot read {request.raw}") from error


TELLING = {
    "when": {"when": telling},
    "client_ip": {"client_ip": telling},
    "percent": {"client_ip": telling, "percent": 50},
    "responder": {"responder": telling},
    "Head": {"sources": [sources.Head(telling)]},
    "Body": {"sources": [sources.Body(telling)]},
}


@pytest.mark.parametrize("runner", ["asgi", "wsgi"])
@pytest.mark.parametrize("settings", TELLING.values(), ids=TELLING)
def test_the_text_of_a_hooks_error_is_not_reported(settings, runner, events):
    exchange = Exchange(headers=HEADERS.headers + JSON.headers, pieces=JSON.pieces)
    RUNNERS[runner](Guard(["/login"], FakeVerifier(15), **settings), exchange)
    texts = texts_of(events)
    assert "in telling" in texts
    assert "ValueError (text left out)\\ncaused by" in texts
    assert [secret for secret in SECRETS if secret in texts] == []


class FailsToClose(FakeVerifier):
    def __init__(self):
        super().__init__()
        self.password = SECRET_KEY

    def __repr__(self):
        return f"FailsToClose({self.password})"

    def close(self):
        password = self.password
        raise ZeroDivisionError(len(password))


def test_no_key_is_reported_when_closing_fails(events):
    Guard(["/login"], FailsToClose()).close()
    assert len(events) == 1
    assert SECRET_KEY not in texts_of(events)


@pytest.mark.parametrize("runner", ["asgi", "wsgi"])
def test_the_log_shows_in_which_line_a_function_failed(runner, events, caplog):
    RUNNERS[runner](Guard(["/login"], FakeVerifier(), when=failing), HEADERS)
    assert "in failing" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert all(record.exc_info is None for record in caplog.records)


def test_sentry_would_report_locals(events):
    """Proves that the tests above can fail."""
    ticket = TICKET
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        logging.getLogger("other").exception("failed")
    assert ticket in texts_of(events)
