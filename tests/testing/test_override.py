"""`override` replaces the verifier of a guard while a test runs."""

from __future__ import annotations

import pytest
from adapters import ALLOWED, RUNNERS, Exchange

from tcaptcha_middleware import ConfigurationError, Guard, Rule
from tcaptcha_middleware.testing import FakeVerifier, as_headers, fresh_pair, override


class Real:
    """Fails the test if it is called."""

    def verify(self, ticket):
        pytest.fail("the real service was called")

    async def averify(self, ticket):
        self.verify(ticket)

    def probe(self, limit):
        self.verify(None)


def code(run, guard, target="/login"):
    return run(guard, Exchange(target=target, headers=tuple(as_headers(fresh_pair()).items())))


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_the_other_verifier_is_called_for_every_rule(run):
    fake = FakeVerifier(1, 8)
    guard = Guard(["POST /login", Rule("POST /pay", verifier=Real())], Real())
    with override(guard, fake):
        assert code(run, guard).code == ALLOWED
        assert code(run, guard, "/pay").code == "ticket_expired"
    assert [ticket.rule for ticket in fake.tickets] == ["POST /login", "POST /pay"]


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_the_guard_is_as_before_afterwards(run):
    own = FakeVerifier()
    guard = Guard(["POST /login"], own)
    attributes = vars(guard).copy()
    with pytest.raises(AssertionError), override(guard, FakeVerifier(8)):
        assert code(run, guard).code == ALLOWED
    assert vars(guard) == attributes
    assert code(run, guard).code == ALLOWED
    assert len(own.tickets) == 1


def test_settings_of_rules_and_of_the_guard_stay():
    rule = Rule("POST /pay", name="pay", mode="observe")
    guard = Guard(
        [rule, "/admin/**"], FakeVerifier(), exempt=["/admin/login"], page="/tcaptcha"
    )
    with override(guard, FakeVerifier(8)):
        outcome = code(RUNNERS["asgi"], guard, "/pay")
        assert (outcome.code, outcome.unchecked) == (ALLOWED, "observed")
        assert guard.match("POST", "/pay").name == "pay"
        assert guard.match("POST", "/admin/login") is None
        assert guard.public_settings()["appId"] == "190000000"


def test_an_outage_during_the_test_is_forgotten():
    guard = Guard(["POST /login"], FakeVerifier())
    fake = FakeVerifier()
    with override(guard, fake):
        fake.is_up = False
        assert code(RUNNERS["wsgi"], guard).code == "verifier_unavailable"
        assert guard.health == {"POST /login": "suspect"}
        fake.is_up = True
    assert guard.health == {"POST /login": "up"}


def test_a_verifier_that_cannot_probe_is_rejected_if_the_gate_may_open():
    class Unprobed:
        verify = Real.verify

    guard = Guard(["POST /login"], Real(), on_unavailable="allow")
    with pytest.raises(ConfigurationError, match="needs a verifier that can probe"):
        override(guard, Unprobed()).__enter__()
    assert guard.match("POST", "/login").verifier is guard.verifier
