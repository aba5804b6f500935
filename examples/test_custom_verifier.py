"""Test your application with a custom verifier, or with `FakeVerifier`.

Run it in this folder:

    pytest test_custom_verifier.py
"""

from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask
from flask.testing import FlaskClient

from tcaptcha_middleware import (
    Guard,
    OutageError,
    Submission,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    Verdict,
    in_thread,
)
from tcaptcha_middleware.testing import FakeVerifier

RULES = ["POST /login"]


class Password:
    """A custom verifier: one ticket passes, and all others are rejected."""

    def verify(self, ticket: Submission) -> Verdict:
        passed = ticket.ticket == "open-sesame"
        return Verdict(outcome="passed" if passed else "rejected")


class AsyncPassword:
    """Same as `Password`, but awaited."""

    async def averify(self, ticket: Submission) -> Verdict:
        passed = ticket.ticket == "open-sesame"
        return Verdict(outcome="passed" if passed else "rejected")


def pair(ticket: str) -> dict[str, str]:
    return {"X-Captcha-Ticket": ticket, "X-Captcha-Randstr": "any"}


def flask_client(guard: Guard) -> FlaskClient:
    app = Flask(__name__)
    app.post("/login")(lambda: {"hello": "human"})
    app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, guard)  # type: ignore[method-assign]
    return app.test_client()


def fastapi_client(guard: Guard) -> TestClient:
    app = FastAPI()
    app.post("/login")(lambda: {"hello": "human"})
    app.add_middleware(TCaptchaMiddleware, guard=guard)
    return TestClient(app)


def test_flask_calls_a_custom_verifier() -> None:
    client = flask_client(Guard(RULES, Password()))
    assert (
        client.post("/login", headers=pair("open-barley")).get_json()["code"]
        == "ticket_rejected"
    )
    assert client.post("/login", headers=pair("open-sesame")).get_json() == {"hello": "human"}


def test_fastapi_awaits_a_custom_verifier() -> None:
    client = fastapi_client(Guard(RULES, AsyncPassword()))
    assert (
        client.post("/login", headers=pair("open-barley")).json()["code"] == "ticket_rejected"
    )
    assert client.post("/login", headers=pair("open-sesame")).json() == {"hello": "human"}


def test_fastapi_calls_a_sync_verifier_in_a_thread() -> None:
    client = fastapi_client(Guard(RULES, in_thread(Password())))
    assert client.post("/login", headers=pair("open-sesame")).json() == {"hello": "human"}


def test_flask_lets_the_first_request_in_and_refuses_the_second_as_expired() -> None:
    verifier = FakeVerifier(1, 8)
    client = flask_client(Guard(RULES, verifier))
    assert client.post("/login", headers=pair("one")).get_json() == {"hello": "human"}
    assert client.post("/login", headers=pair("two")).get_json()["code"] == "ticket_expired"
    assert [ticket.ticket for ticket in verifier.tickets] == ["one", "two"]


def test_fastapi_refuses_a_request_that_cannot_be_verified() -> None:
    client = fastapi_client(Guard(RULES, FakeVerifier(OutageError("down"), 1)))
    assert client.post("/login", headers=pair("one")).json()["code"] == "verifier_unavailable"
    assert client.post("/login", headers=pair("two")).json() == {"hello": "human"}
