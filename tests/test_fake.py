"""The scripted verifier says what a test wants, and remembers what it was asked."""

from __future__ import annotations

import asyncio

import pytest

from tcaptcha_middleware import OutageError, Ticket, Verdict
from tcaptcha_middleware.testing import FakeVerifier

TICKET = Ticket("tr03", "@r", "203.0.113.7")


def test_without_a_script_every_ticket_passes():
    fake = FakeVerifier()
    assert all(fake.verify(TICKET).passed for _ in range(3))


def test_outcomes_come_in_order_and_the_last_one_stays():
    fake = FakeVerifier(1, Verdict(1, evil_level=100), 9)
    said = [fake.verify(TICKET) for _ in range(4)]
    assert [verdict.code for verdict in said] == [1, 1, 9, 9]
    assert [verdict.passed for verdict in said] == [True, False, False, False]


def test_an_exception_is_raised():
    with pytest.raises(OutageError, match="down"):
        FakeVerifier(OutageError("down")).verify(TICKET)


def test_both_colours_share_script_and_memory():
    fake = FakeVerifier(1, 9)
    assert fake.verify(TICKET).code == 1
    assert asyncio.run(fake.averify(TICKET)).code == 9
    assert fake.tickets == [TICKET, TICKET]


@pytest.mark.parametrize("outcome", [True, "1", None, OutageError], ids=repr)
def test_what_is_no_outcome_is_refused(outcome):
    with pytest.raises(TypeError, match="outcome"):
        FakeVerifier(outcome)
