"""Invalid settings are refused at construction, with an error that says how to fix them."""

from __future__ import annotations

import dataclasses
from functools import partial, wraps
from unittest.mock import AsyncMock

import bottle
import falcon
import falcon.asgi
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar
from pyramid.config import Configurator
from quart import Quart
from redis import Redis
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    Rule,
    Settings,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    TencentVerifier,
    TrustedProxies,
    in_thread,
    sources,
)
from tcaptcha_middleware.replay.redis import RedisReplayStore
from tcaptcha_middleware.settings import RuleSettings
from tcaptcha_middleware.testing import FakeVerifier


class SyncOnly:
    def verify(self, ticket):
        raise NotImplementedError


class AsyncOnly:
    async def averify(self, ticket):
        raise NotImplementedError


class AsyncVerify:
    async def verify(self, ticket):
        raise NotImplementedError


class AsyncCall:
    async def __call__(self, request):
        raise NotImplementedError


async def async_hook(request):
    raise NotImplementedError


V = FakeVerifier()
BAD_GUARDS = {
    "no rules": (lambda: Guard([], V), "rules is empty"),
    "rules as a string": (lambda: Guard("POST /login", V), "rules has to be a list"),
    "rules as one rule": (lambda: Guard(Rule("/login"), V), "rules has to be a list"),
    "rules as None": (lambda: Guard(None, V), "rules has to be a list"),
    "a rule that is a number": (lambda: Guard([1], V), "is not a rule"),
    "a rule of a number": (lambda: Guard([Rule(1)], V), "1 is not the text of a rule"),
    "an exemption that is a rule": (
        lambda: Guard(["/a"], V, exempt=[Rule("/b")]),
        "not the text",
    ),
    "an exemption of everything": (lambda: Guard(["/a"], V, exempt=["/**"]), "name less"),
    "one bad rule of two": (lambda: Guard(["/a", Rule("/b", percent=101)], V), "/b: percent"),
    "an invalid method": (lambda: Guard(["WS /a"], V), "a websocket's handshake is a GET"),
    "exempt as a string": (
        lambda: Guard(["/a"], V, exempt="/b"),
        "exempt has to be a list: write ['/b']",
    ),
    "exempt as None": (lambda: Guard(["/a"], V, exempt=None), "exempt has to be a list, such"),
    "a bad exemption": (
        lambda: Guard(["/a"], V, exempt=["b"]),
        "exempt: rule 'b' cannot work: its path comes last and begins with a slash",
    ),
    "the same rule twice": (lambda: Guard(["/a", "/a"], V), "/a: listed twice"),
    "the same rule in another notation": (
        lambda: Guard(["POST,PUT /a", Rule("PUT,POST /a/", name="again")], V),
        "again: listed twice: the second rule could never apply",
    ),
    "two rules with the same name": (
        lambda: Guard([Rule("/a", name="x"), Rule("/b", name="x")], V),
        "two rules are called 'x': give one another name=",
    ),
    "no verifier": (lambda: Guard(["/a"], None), "neither verify nor averify"),
    "a function that creates a verifier": (
        lambda: Guard(["/a"], TencentVerifier.from_env),
        "such as TencentVerifier.from_env(), parentheses included",
    ),
    "a replay store as a URL": (
        lambda: Guard(["/a"], V, replay_store="redis://h"),
        "such as RedisReplayStore(",
    ),
    "a replay store as a client": (
        lambda: RedisReplayStore(Redis()),
        "client= for a redis.Redis",
    ),
    "a replay store with a URL of bytes": (
        lambda: RedisReplayStore(b"redis://:secret@h"),
        "the URL is of type bytes: pass",
    ),
    "a replay store with a timeout of 0": (
        lambda: RedisReplayStore("redis://h", timeout=0),
        "above 0",
    ),
    "a replay store with a timeout in milliseconds": (
        lambda: RedisReplayStore("redis://h", timeout=500),
        "in seconds",
    ),
    "a verifier's class": (lambda: Guard(["/a"], FakeVerifier), "instance"),
    "a rule's bad verifier": (
        lambda: Guard([Rule("/a", verifier=object())], V),
        "/a: verifier is object, which has neither verify nor averify",
    ),
    "no sources": (lambda: Guard(["/a"], V, sources=[]), "sources is empty"),
    "a source's class": (lambda: Guard(["/a"], V, sources=[sources.Header]), "is not a source"),
    "sources as None": (lambda: Guard(["/a"], V, sources=None), "is not a source"),
    "a source that is a string": (
        lambda: Guard(["/a"], V, sources=["header"]),
        "is not a source",
    ),
    "client_ip as a text": (lambda: Guard(["/a"], V, client_ip="peer"), "client_ip"),
    "a client_ip's class": (
        lambda: Guard(["/a"], V, client_ip=TrustedProxies),
        "client_ip is the class TrustedProxies: pass an instance of it, TrustedProxies(…)",
    ),
    "an object with an async call": (
        lambda: Guard(["/a"], V, client_ip=AsyncCall()),
        "client_ip is async: make it a plain function",
    ),
    "a when with an async call under WSGI": (
        lambda: TCaptchaWSGIMiddleware(print, Guard(["/a"], V, when=AsyncCall())),
        "/a: when is async",
    ),
    "an async client_ip": (lambda: Guard(["/a"], V, client_ip=async_hook), "plain function"),
    "responder as a string": (lambda: Guard(["/a"], V, responder="no"), "responder"),
    "an async responder": (lambda: Guard(["/a"], V, responder=async_hook), "plain function"),
    "body_limit 0": (lambda: Guard(["/a"], V, body_limit=0), "body_limit"),
    "body_limit as a string": (lambda: Guard(["/a"], V, body_limit="1"), "body_limit"),
    "body_limit that is not whole": (lambda: Guard(["/a"], V, body_limit=64e3), "whole number"),
    "no body_limit": (lambda: Guard(["/a"], V, body_limit=float("inf")), "whole number"),
    "check_timeout 0": (lambda: Guard(["/a"], V, check_timeout=0), "check_timeout"),
    "check_timeout in milliseconds": (
        lambda: Guard(["/a"], V, check_timeout=10_000),
        "check_timeout is 10000: it is in seconds",
    ),
    "body_timeout below 0": (lambda: Guard(["/a"], V, body_timeout=-1), "body_timeout"),
    "body_timeout True": (lambda: Guard(["/a"], V, body_timeout=True), "body_timeout"),
    "body_timeout NaN": (lambda: Guard(["/a"], V, body_timeout=float("nan")), "body_timeout"),
    "one name for ticket and randstr": (lambda: sources.Form("x", "x"), "two different names"),
    "header names that differ in case": (
        lambda: sources.Header("X", "x"),
        "two different names",
    ),
    "a blank name": (lambda: sources.Json("", "r"), "two different names"),
    "a blank query name": (lambda: sources.Query("t", ""), "two different names"),
    "a header name with an underscore": (lambda: sources.Header("X_T", "X-R"), "header's name"),
    "a header name with a blank": (lambda: sources.Header("X T", "X-R"), "header's name"),
    "a guard of another type": (lambda: TCaptchaMiddleware(print, V), "guard is a Guard"),
    "the arguments swapped": (
        lambda: TCaptchaWSGIMiddleware(Guard(["/a"], V), print),
        "guard is a Guard",
    ),
    "a sync verifier under ASGI": (
        lambda: TCaptchaMiddleware(print, Guard(["/a"], SyncOnly())),
        "no averify, which TCaptchaMiddleware calls: wrap it in in_thread",
    ),
    "an async verifier under WSGI": (
        lambda: TCaptchaWSGIMiddleware(print, Guard(["/a"], AsyncOnly())),
        "which TCaptchaWSGIMiddleware and in_thread call: use a synchronous",
    ),
    "a rule's async verifier under WSGI": (
        lambda: TCaptchaWSGIMiddleware(
            print, Guard(["/a", Rule("/b", name="b", verifier=AsyncOnly())], V)
        ),
        "b: AsyncOnly has no verify",
    ),
    "an async verify": (
        lambda: TCaptchaWSGIMiddleware(print, Guard(["/a"], AsyncVerify())),
        "call it averify",
    ),
    "in_thread of a class": (lambda: in_thread(SyncOnly), "verifier is the class SyncOnly"),
    "in_thread of an async verifier": (lambda: in_thread(AsyncOnly()), "verify"),
}


@pytest.mark.parametrize(("make", "fix"), BAD_GUARDS.values(), ids=BAD_GUARDS)
def test_invalid_settings_are_refused_with_a_fix(make, fix):
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert fix in str(caught.value)


def test_a_rule_takes_every_setting_of_a_guard_in_the_same_order():
    assert list(RuleSettings.__annotations__) == [
        field.name for field in dataclasses.fields(Settings)
    ]


def test_a_rule_rejects_an_unknown_setting_and_suggests_the_nearest():
    with pytest.raises(TypeError, match="a setting 'mod': did you mean mode"):
        Rule("/a", mod="observe")
    with pytest.raises(TypeError, match=r"a setting 'zzz'$"):
        Rule("/a", zzz=1)


def test_a_rule_setting_of_none_inherits_the_guards():
    guard = Guard([Rule("/a", when=None, percent=None)], V, when=bool, percent=7)
    settings = guard.match("GET", "/a").settings
    assert (settings.when, settings.percent) == (bool, 7)


def test_rules_are_values():
    rule = Rule("/a", name="a", mode="observe")
    assert rule == Rule("/a", name="a", mode="observe")
    assert rule != Rule("/a", name="a")
    assert "observe" in repr(rule)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.text = "/b"


def test_rules_without_settings_share_the_guards():
    guard = Guard(["/a", "/b", Rule("/c", percent=1)], V)
    first, second, third = (guard.match("GET", path).settings for path in ("/a", "/b", "/c"))
    assert first is second is not third


WSGI = {
    "flask": lambda: Flask("a"),
    "bottle": bottle.Bottle,
    "falcon": falcon.App,
    "pyramid": lambda: Configurator().make_wsgi_app(),
    "django": lambda: object.__new__(WSGIHandler),  # which would want settings
    "a method": lambda: Flask("a").wsgi_app,
    "a function": lambda: lambda environ, start_response: [],
    "a partial": lambda: partial(lambda x, environ, start_response: [], 1),
}


@pytest.mark.parametrize("make", WSGI.values(), ids=WSGI)
def test_the_asgi_adapter_rejects_a_wsgi_application(make):
    with pytest.raises(ConfigurationError, match="use TCaptchaWSGIMiddleware"):
        TCaptchaMiddleware(make(), Guard(["/a"], V))


def test_the_asgi_adapter_rejects_an_application_that_takes_no_scope():
    class AsgiTwo:
        def __init__(self, scope):
            raise NotImplementedError

    with pytest.raises(ConfigurationError, match="cannot be called with scope, receive and"):
        TCaptchaMiddleware(AsgiTwo, Guard(["/a"], V))


class Signless:
    __signature__ = "none"

    async def __call__(self, scope, receive, send):
        raise NotImplementedError


class Unresolved:
    @property
    def __signature__(self):
        raise NameError("only type checkers know this name")

    async def __call__(self, scope, receive, send):
        raise NotImplementedError


def around_wsgi():
    @wraps(lambda environ, start_response: [])
    async def asgi(scope, receive, send):
        raise NotImplementedError

    return asgi


ASGI = {
    "fastapi": FastAPI,
    "starlette": Starlette,
    "quart": lambda: Quart("a"),
    "falcon": falcon.asgi.App,
    "litestar": Litestar,
    "django": lambda: object.__new__(ASGIHandler),
    "a function": lambda: lambda scope, receive, send: None,
    "a partial": lambda: partial(lambda x, scope, receive, send: None, 1),
    "a mock": AsyncMock,
    "with any arguments": lambda: lambda *arguments: None,
    "a function around another": around_wsgi,
    "starlette's endpoint": lambda: HTTPEndpoint,
    "without a signature": Signless,
    "with unavailable types": Unresolved,
}


@pytest.mark.parametrize("make", ASGI.values(), ids=ASGI)
def test_the_asgi_adapter_accepts_every_application_that_takes_a_scope(make):
    TCaptchaMiddleware(make(), Guard(["/a"], V))


def test_a_sync_verifier_serves_asgi_through_in_thread():
    TCaptchaMiddleware(print, Guard(["/a"], in_thread(SyncOnly())))


def test_a_rule_overrides_the_guard_and_leaves_the_rest():
    own = FakeVerifier(9)
    other = Rule("/b", name="b", verifier=own, body_limit=1, fallback_ip="192.0.2.1")
    guard = Guard(["/a", other], V, body_timeout=3)
    a, b = guard.match("GET", "/a"), guard.match("GET", "/b")
    assert (a.name, a.verifier, a.settings.body_limit) == ("/a", V, 65_536)
    assert (b.name, b.verifier, b.settings.body_limit) == ("b", own, 1)
    assert (a.settings.fallback_ip, b.settings.fallback_ip) == ("127.0.0.1", "192.0.2.1")
    assert a.settings.body_timeout == b.settings.body_timeout == 3


def test_a_class_may_be_the_responder():
    class Answer:
        def __init__(self, request, refuse):
            raise NotImplementedError

        async def __call__(self, scope, receive, send):
            raise NotImplementedError

    guard = Guard([Rule("/a", responder=Answer)], V, responder=print)
    assert guard.match("GET", "/a").settings.responder is Answer


def test_a_function_may_replace_the_list_of_sources():
    def find(request):
        return None

    guard = Guard([Rule("/a", sources=find)], V)
    assert guard.match("GET", "/a").settings.sources == (sources.Head(find),)


def test_a_guard_cannot_be_changed():
    rules = ["/a"]
    guard = Guard(rules, V)
    rules.append("/b")
    assert guard.match("GET", "/b") is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        guard.rules = []


def test_one_verifier_for_many_rules_is_closed_once():
    class Closing(FakeVerifier):
        closed = 0

        def close(self):
            self.closed += 1

    verifier = Closing()
    Guard(["/a", "/b", Rule("/c", verifier=FakeVerifier())], verifier).close()
    assert verifier.closed == 1


def test_guards_are_compared_by_identity():
    first, second = Guard(["/a"], V), Guard(["/b"], V)
    assert first != second
    assert first == first  # noqa: PLR0124  what is tested
    assert len({first, second}) == 2
