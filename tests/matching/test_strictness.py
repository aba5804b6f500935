"""Strictness: if the settings of one rule suffice for another rule."""

from __future__ import annotations

from dataclasses import fields
from itertools import product

import pytest

from tcaptcha_middleware import Guard, PlainResponse, Rule, TrustedProxies, sources
from tcaptcha_middleware.rules import DeferringRule
from tcaptcha_middleware.settings import Settings
from tcaptcha_middleware.strictness import ORDER, suffices
from tcaptcha_middleware.testing import FakeVerifier


def asks(request):
    return True


def asks_others(request):
    return True


def responder(request, refuse):
    return PlainResponse(403)


def compiled(*settings):
    """Return the compiled rules for `/0`, `/1`, … with these settings."""
    rules = [
        DeferringRule(f"/{number}", **more)
        if more.get("mode") == "defer"
        else Rule(f"/{number}", **more)
        for number, more in enumerate(settings)
    ]
    guard = Guard(rules, FakeVerifier())
    return [guard.match("POST", rule.text) for rule in rules]


def test_every_setting_has_a_row_in_the_order():
    settings = {field.name for field in fields(Settings)}
    assert ORDER.keys() == settings | {"text", "name", "verifier"}


OTHER = FakeVerifier()
QUERY = {"sources": [sources.Query()]}
OPEN = {"on_unavailable": "allow"}
# If the first rule suffices for the second, and the second for the first.
PAIRS = {
    "verifier": ({}, {"verifier": OTHER}, False, False),
    "sources": ({}, QUERY, False, False),
    "equal sources": (QUERY, {"sources": [sources.Query()]}, True, True),
    "client_ip": ({}, {"client_ip": TrustedProxies(["10.0.0.0/8"])}, False, False),
    "fallback_ip": ({"fallback_ip": "10.0.0.1"}, {"fallback_ip": "10.0.0.2"}, False, False),
    "mode": ({}, {"mode": "observe"}, True, False),
    "percent": ({"percent": 60}, {"percent": 50}, True, False),
    "no percent": ({}, {"percent": 0}, True, False),
    "mode and percent": ({"percent": 1}, {"mode": "observe", "percent": 100}, True, False),
    "a mode that defers": ({}, {"mode": "defer"}, True, False),
    "a mode that defers beside one that observes": (
        {"mode": "defer"},
        {"mode": "observe"},
        True,
        False,
    ),
    "a smaller share that defers": ({"mode": "defer", "percent": 50}, {}, False, True),
    "a larger share that defers": ({"mode": "defer"}, {"percent": 50}, False, False),
    "when": ({}, {"when": asks}, True, False),
    "the same when": ({"when": asks}, {"when": asks}, True, True),
    "another when": ({"when": asks}, {"when": asks_others}, False, False),
    "on_unavailable": ({}, OPEN, True, False),
    "disaster_tickets": ({}, {"disaster_tickets": "allow"}, True, False),
    "allow_per_minute": (
        OPEN | {"allow_per_minute": 10},
        OPEN | {"allow_per_minute": 11},
        True,
        False,
    ),
    "a lower score": ({"max_score": 50}, {"max_score": 60}, True, False),
    "any score": ({}, {"max_score": 100}, True, True),
    "an unused budget": ({"allow_per_minute": 99}, {"allow_per_minute": 1}, True, True),
    "a budget beside a closed rule": ({}, OPEN | {"allow_per_minute": 1}, True, False),
    "responder": ({}, {"responder": responder}, True, True),
    "body_limit": ({}, {"body_limit": 1}, True, True),
    "body_timeout": ({}, {"body_timeout": 1}, True, True),
    "check_timeout": ({}, {"check_timeout": 1}, True, True),
    "name": ({}, {"name": "another"}, True, True),
    "two orders at once": ({"mode": "observe"}, OPEN, False, True),
    "opposite orders": ({"percent": 50}, OPEN, False, False),
    "any settings of a rule that refuses nothing": (
        {"percent": 1, "verifier": OTHER, "sources": [sources.Query()], "when": asks},
        {"mode": "observe"},
        True,
        False,
    ),
}


@pytest.mark.parametrize(
    ("first", "second", "forwards", "backwards"), PAIRS.values(), ids=PAIRS
)
def test_a_rule_suffices_for_another_if_no_setting_is_weaker(
    first, second, forwards, backwards
):
    rules = compiled(first, second)
    assert (suffices(*rules), suffices(*reversed(rules))) == (forwards, backwards)


def test_every_setting_that_weakens_is_tried():
    names = {name for first, second, *_ in PAIRS.values() for name in (*first, *second)}
    assert names | {"text"} == ORDER.keys()


def test_a_rule_that_refuses_without_an_address_suffices_for_one_that_does_not():
    own, shared = Guard(["/a"], OTHER, fallback_ip=None), Guard(["/a"], OTHER)
    rules = own.match("GET", "/a"), shared.match("GET", "/a")
    assert (suffices(*rules), suffices(*reversed(rules))) == (True, False)


def test_the_order_is_transitive_and_every_rule_suffices_for_itself():
    settings = [more for first, second, *_ in PAIRS.values() for more in (first, second)]
    rules = compiled(*settings)
    numbers = range(len(rules))
    enough = {(a, b) for a, b in product(numbers, repeat=2) if suffices(rules[a], rules[b])}
    assert {(n, n) for n in numbers} <= enough
    assert {(a, d) for a, b in enough for c, d in enough if b == c} == enough
