"""Made-up pairs for tests."""

from __future__ import annotations

from tcaptcha_middleware.testing import TencentEmulator, as_headers, fresh_pair


def test_each_pair_differs_from_the_one_before():
    pairs = [fresh_pair() for _ in range(100)]
    assert len({pair["ticket"] for pair in pairs}) == 100
    assert {tuple(pair) for pair in pairs} == {("ticket", "randstr")}


def test_a_pair_is_sent_in_the_default_headers():
    pair = {"ticket": "tr03", "randstr": "@x"}
    assert as_headers(pair) == {"X-Captcha-Ticket": "tr03", "X-Captcha-Randstr": "@x"}


def test_a_ticket_of_a_mini_program_needs_one_header():
    pair = TencentEmulator().mint(kind="mini")
    assert as_headers(pair) == {"X-Captcha-Ticket": pair["ticket"]}
