"""FakeVerifier returns scripted outcomes and records tickets."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from tcaptcha_middleware import OutageError, Submission, Verdict
from tcaptcha_middleware.testing import FakeVerifier

TICKET = Submission("tr03", "@r", "203.0.113.7")
OTHER = Submission("tr03other", "@o", "203.0.113.8")


def test_without_outcomes_every_ticket_passes():
    fake = FakeVerifier()
    assert all(fake.verify(TICKET).passed for _ in range(3))


def test_outcomes_come_in_order_and_the_last_one_repeats():
    fake = FakeVerifier(1, Verdict(1, evil_level=100), 9)
    verdicts = [fake.verify(TICKET) for _ in range(4)]
    assert [verdict.code for verdict in verdicts] == [1, 1, 9, 9]
    assert [verdict.passed for verdict in verdicts] == [True, False, False, False]


def test_an_exception_is_raised_for_every_further_call():
    fake = FakeVerifier(1, OutageError("down"))
    assert fake.verify(TICKET).passed
    for _ in range(3):
        with pytest.raises(OutageError, match="down"):
            fake.verify(TICKET)


def test_the_traceback_of_an_exception_does_not_grow():
    fake = FakeVerifier(OutageError("down"))
    depths = []
    for _ in range(3):
        with pytest.raises(OutageError) as caught:
            fake.verify(TICKET)
        depths.append(len(caught.traceback))
    assert depths[0] == depths[-1]


def test_sync_and_async_share_outcomes_and_tickets():
    fake = FakeVerifier(1, 9, OutageError("down"))
    assert fake.verify(TICKET).code == 1
    assert asyncio.run(fake.averify(OTHER)).code == 9
    with pytest.raises(OutageError):
        asyncio.run(fake.averify(TICKET))
    assert fake.tickets == [TICKET, OTHER, TICKET]


def test_a_fake_that_is_down_answers_neither_verifications_nor_probes():
    fake = FakeVerifier(1, 9)
    fake.probe(2.0)
    fake.is_up = False
    for call in (lambda: fake.verify(TICKET), lambda: fake.probe(2.0)):
        with pytest.raises(OutageError, match="down"):
            call()
    with pytest.raises(OutageError):
        asyncio.run(fake.averify(TICKET))
    fake.is_up = True
    assert [fake.verify(TICKET).code for _ in range(2)] == [1, 9]
    assert len(fake.tickets) == 4


def test_each_outcome_is_returned_once_to_concurrent_threads():
    fake = FakeVerifier(*range(500), -1)
    with ThreadPoolExecutor(16) as threads:
        codes = [verdict.code for verdict in threads.map(fake.verify, [TICKET] * 600)]
    assert sorted(codes) == [-1] * 100 + list(range(500))
    assert len(fake.tickets) == 600


@pytest.mark.parametrize(
    "outcome", [True, "1", 1.0, None, OutageError, KeyboardInterrupt(), [1]], ids=repr
)
def test_an_invalid_outcome_is_refused_at_construction(outcome):
    with pytest.raises(
        TypeError, match="an outcome must be a Verdict, a CaptchaCode or an exception"
    ):
        FakeVerifier(1, outcome)
