"""Test your application: a verifier of your own, or a scripted one, in Tencent's place.

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
    """A verifier of your own: code 1 lets a request in, 15 is said of a forged ticket."""

    def verify(self, ticket: Submission) -> Verdict:
        return Verdict(1 if ticket.ticket == "open-sesame" else 15)


class AsyncPassword:
    """The same for asyncio."""

    async def averify(self, ticket: Submission) -> Verdict:
        return Verdict(1 if ticket.ticket == "open-sesame" else 15)


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


def test_flask_asks_a_verifier_of_your_own() -> None:
    client = flask_client(Guard(RULES, Password()))
    assert (
        client.post("/login", headers=pair("open-barley")).get_json()["code"]
        == "ticket_rejected"
    )
    assert client.post("/login", headers=pair("open-sesame")).get_json() == {"hello": "human"}


def test_fastapi_awaits_a_verifier_of_your_own() -> None:
    client = fastapi_client(Guard(RULES, AsyncPassword()))
    assert (
        client.post("/login", headers=pair("open-barley")).json()["code"] == "ticket_rejected"
    )
    assert client.post("/login", headers=pair("open-sesame")).json() == {"hello": "human"}


def test_fastapi_takes_a_blocking_verifier_in_a_thread() -> None:
    client = fastapi_client(Guard(RULES, in_thread(Password())))
    assert client.post("/login", headers=pair("open-sesame")).json() == {"hello": "human"}


def test_flask_lets_the_first_request_in_and_refuses_the_second_as_expired() -> None:
    verifier = FakeVerifier(1, 8)
    client = flask_client(Guard(RULES, verifier))
    assert client.post("/login", headers=pair("one")).get_json() == {"hello": "human"}
    assert client.post("/login", headers=pair("two")).get_json()["code"] == "ticket_expired"
    assert [ticket.ticket for ticket in verifier.tickets] == ["one", "two"]


def test_fastapi_lets_nobody_in_while_tencent_is_down() -> None:
    client = fastapi_client(Guard(RULES, FakeVerifier(OutageError("down"), 1)))
    assert client.post("/login", headers=pair("one")).json()["code"] == "verifier_unavailable"
    assert client.post("/login", headers=pair("two")).json() == {"hello": "human"}
