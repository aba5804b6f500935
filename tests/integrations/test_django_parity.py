"""The table of exchanges that all adapters pass, held against the middleware inside Django."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import pytest
from adapters import ALLOWED, UNCOVERED
from django_inside import BEHIND, through_django

from tcaptcha_middleware import Guard
from tcaptcha_middleware.testing import FakeVerifier

_FILE = Path(__file__).parents[1] / "test_parity.py"
_spec = importlib.util.spec_from_file_location("parity", _FILE)
parity = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(parity)

guard = parity.guard
RUNNERS = {kind: partial(through_django, kind) for kind in BEHIND}
every_stack = pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)


@every_stack
@pytest.mark.parametrize(("exchange", "code"), parity.CASES.values(), ids=parity.CASES)
def test_every_exchange_ends_as_with_the_adapters(guard, runner, exchange, code):
    outcome = runner(guard, exchange)
    # Django drops a request of which ASGI has not received the whole body.
    assert outcome.code == code or (exchange.broken_off and outcome.code == "unanswered")
    if code in (ALLOWED, UNCOVERED):
        assert outcome.body_seen == exchange.body


@every_stack
@pytest.mark.parametrize(
    ("said", "code", "status"), parity.VERDICTS.values(), ids=parity.VERDICTS
)
def test_every_verdict_has_its_answer(runner, said, code, status):
    guard = Guard(["POST /login"], FakeVerifier(said))
    outcome = runner(guard, parity.Exchange(headers=parity.HEAD))
    assert (outcome.code, outcome.status) == (code, status)


@every_stack
def test_the_verifier_gets_the_pair_and_the_address(runner):
    verifier = FakeVerifier(9)
    runner(Guard(["POST /login"], verifier), parity.Exchange(headers=parity.HEAD))
    (submission,) = verifier.tickets
    assert (submission.ticket, submission.randstr) == (parity.T, parity.R)
    assert submission.user_ip == "203.0.113.7"
