"""`required` and `fail_open` in the settings: what a page knows before it shows a challenge."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest
from adapters import Exchange
from both_adapters import ADAPTERS, through_asgi
from outages import bring

from tcaptcha_middleware import Guard, Rule, Switch
from tcaptcha_middleware.testing import FakeVerifier

every_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)


def requirement(adapter, guard, for_="POST /login", *headers, peer="203.0.113.7"):
    target = f"/tcaptcha/settings.json?for={quote(for_)}"
    answer = adapter(guard, Exchange("GET", target, headers, peer=peer))
    assert answer.status == 200
    settings = json.loads(answer.body)
    return settings["required"], settings["fail_open"]


def guard_of(*rules, **settings):
    return Guard([*rules, "POST /login"], FakeVerifier(), page="/tcaptcha", **settings)


def off():
    switch = Switch()
    switch.off("a test")
    return switch


def fails(request):
    raise LookupError(request)


REQUIRED, NOT_REQUIRED = (True, False), (False, False)
MODES = {
    "by default": ({}, REQUIRED),
    "the kill switch is off": ({"switch": off()}, NOT_REQUIRED),
    "the rule observes": ({"mode": "observe"}, NOT_REQUIRED),
    "a share without the visitor": ({"percent": 0}, NOT_REQUIRED),
    "when is False": ({"when": lambda request: False}, NOT_REQUIRED),
    "when is True": ({"when": lambda request: True}, REQUIRED),
    "when is neither": ({"when": lambda request: None}, REQUIRED),
    "when fails": ({"when": fails}, REQUIRED),
    "allow, while the service is up": ({"on_unavailable": "allow"}, REQUIRED),
}


@every_adapter
@pytest.mark.parametrize(("settings", "expected"), MODES.values(), ids=MODES)
def test_the_settings_say_if_this_visitor_needs_a_ticket(adapter, settings, expected):
    assert requirement(adapter, guard_of(**settings)) == expected


STATES = {
    ("up", "allow"): False,
    ("suspect", "allow"): False,
    ("down", "allow"): True,
    ("down", "deny"): False,
}


@every_adapter
@pytest.mark.parametrize(("state", "setting"), STATES)
def test_only_an_established_outage_lets_forms_go_without_a_ticket(adapter, state, setting):
    guard = guard_of(on_unavailable=setting)
    bring(guard, state)
    assert requirement(adapter, guard) == (True, STATES[state, setting])


@every_adapter
def test_when_sees_the_coming_request_with_the_visitors_head(adapter):
    seen = []

    def when(request):
        seen.append(request)
        return False

    guard = guard_of(Rule("POST /orders/{id}", when=when))
    session = ("Cookie", "session=1")
    assert requirement(adapter, guard, "POST /orders/7?a=b", session) == NOT_REQUIRED
    [request] = seen
    assert (request.kind, request.method, request.path) == ("http", "POST", "/orders/7")
    assert (request.query, request.header("cookie")) == (b"a=b", ["session=1"])
    assert request.peer == "203.0.113.7"
    assert "/tcaptcha/settings.json" in str(request.raw.values())


UNKNOWN = {
    "none": "",
    "a path of no rule": "POST /elsewhere",
    "no method": "/login",
    "an unknown method": "FROB /login",
    "too long": "POST /login?" + "x" * 3000,
    "no path": "POST login",
}


@every_adapter
@pytest.mark.parametrize("for_", UNKNOWN.values(), ids=UNKNOWN)
def test_a_ticket_is_needed_if_the_rule_is_unknown(adapter, for_):
    assert requirement(adapter, guard_of(when=lambda request: False), for_) == REQUIRED


@every_adapter
def test_a_target_that_no_single_rule_can_judge_needs_a_ticket(adapter):
    guard = guard_of(Rule("UNSAFE /comments", verifier=FakeVerifier()))
    assert requirement(adapter, guard, "POST //comments;/login") == REQUIRED


def test_when_may_be_async_and_has_a_deadline():
    async def no(request):
        await asyncio.sleep(0)
        return False

    async def hangs(request):
        await asyncio.Event().wait()

    assert requirement(through_asgi, guard_of(when=no)) == NOT_REQUIRED
    assert requirement(through_asgi, guard_of(when=hangs, check_timeout=0.02)) == REQUIRED


@every_adapter
def test_when_sees_the_decoded_path_as_for_the_request_itself(adapter):
    paths = []

    def when(request):
        paths.append(request.path)
        return False

    guard = guard_of(Rule("POST /names/{name}", when=when))
    assert requirement(adapter, guard, "POST /names/J%C3%BCrgen%20A") == NOT_REQUIRED
    assert paths == ["/names/Jürgen A"]


@every_adapter
def test_a_query_is_no_part_of_the_path_that_a_rule_matches(adapter):
    guard = guard_of(when=lambda request: request.query != b"next=/home")
    assert requirement(adapter, guard, "POST /login?next=/home") == NOT_REQUIRED
    assert requirement(adapter, guard, "POST /login") == REQUIRED


@every_adapter
def test_each_rule_has_its_own_requirement(adapter):
    guard = guard_of(Rule("POST /comments", mode="observe"))
    assert requirement(adapter, guard, "POST /comments") == NOT_REQUIRED
    assert requirement(adapter, guard, "POST /login") == REQUIRED
