"""The setting `TCAPTCHA`: what it may say, what is wrong with it, and when it takes effect."""

from __future__ import annotations

import re

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path
from django_inside import GUARD, VERIFIER, is_required, make_guard, project

from tcaptcha_middleware import MemoryReplayStore, Rule, TencentVerifier
from tcaptcha_middleware.integrations.django.configuration import current_guard, guard_for
from tcaptcha_middleware.operations import Switch
from tcaptcha_middleware.testing import FakeVerifier, TencentEmulator

FAKE = "tcaptcha_middleware.testing.FakeVerifier"


class NeedsArguments:
    def __init__(self, app_id):
        raise AssertionError

    def verify(self, ticket):
        raise AssertionError


class SyncVerifier:
    def verify(self, ticket):
        raise AssertionError


def guard_of(**config):
    with override_settings(TCAPTCHA={"RULES": ["POST /login"], "VERIFIER": FAKE} | config):
        return current_guard()


# -- what it may say ------


def test_every_setting_of_a_guard_can_be_set_in_upper_case():
    switch, store = Switch(), MemoryReplayStore()
    guard = guard_of(
        RULES=["POST /login", Rule("POST /comments", percent=7)],
        PAGE="/captcha",
        EXEMPT=("GET /login/health",),
        BODY_LIMIT=1000,
        SWITCH=switch,
        REPLAY_STORE=store,
    )
    assert [str(getattr(rule, "text", rule)) for rule in guard.rules] == [
        "POST /login",
        "POST /comments",
    ]
    assert guard.page.path == "/captcha"
    assert (guard.exempt, guard.body_limit) == (("GET /login/health",), 1000)
    assert (guard.switch, guard.replay_store) == (switch, store)


@pytest.mark.parametrize(
    "verifier",
    [VERIFIER, FakeVerifier, FAKE, "django_inside.VERIFIER", lambda: VERIFIER],
    ids=["object", "class", "dotted path of a class", "dotted path", "factory"],
)
def test_a_verifier_is_an_object_a_dotted_path_or_a_factory(verifier):
    assert isinstance(guard_of(VERIFIER=verifier).verifier, FakeVerifier)


def test_without_a_verifier_tencents_is_read_from_the_environment(monkeypatch):
    values = TencentEmulator().settings
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", values["secret_id"])
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", values["secret_key"])
    monkeypatch.setenv("TCAPTCHA_APP_ID", str(values["app_id"]))
    monkeypatch.setenv("TCAPTCHA_APP_SECRET_KEY", values["app_secret_key"])
    with override_settings(TCAPTCHA={"RULES": ["POST /login"]}):
        assert isinstance(current_guard().verifier, TencentVerifier)


def test_a_hook_is_a_function_or_its_dotted_path():
    assert guard_of(WHEN=is_required).when is is_required
    assert guard_of(WHEN="django_inside.is_required").when is is_required


@pytest.mark.parametrize(
    "value",
    [GUARD, make_guard, "django_inside.GUARD", "django_inside.make_guard"],
    ids=["object", "factory", "dotted path", "dotted path of a factory"],
)
def test_a_whole_guard_is_an_object_a_dotted_path_or_a_factory(value):
    with override_settings(TCAPTCHA={"GUARD": value}):
        assert current_guard() is GUARD


# -- what is wrong ------

EXAMPLE = re.escape('write TCAPTCHA = {"RULES": ["UNSAFE /login"]}')
WRONG = {
    "nothing": (None, f"^the setting TCAPTCHA is missing: {EXAMPLE}$"),
    "a list": (["POST /login"], rf"TCAPTCHA is \['POST /login'\], not a dictionary: {EXAMPLE}"),
    "no rules": (
        {"VERIFIER": FAKE},
        (
            "TCAPTCHA: no view is marked, and RULES is empty, so nothing is protected: mark a "
            r'view with captcha_required, or add "RULES": \["UNSAFE /login"\]$'
        ),
    ),
    "no list of rules": (
        {"RULES": None, "VERIFIER": FAKE},
        r'TCAPTCHA: RULES has to be a list, such as \["UNSAFE /login"\]',
    ),
    "a text as rules": (
        {"RULES": "POST /login", "VERIFIER": FAKE},
        r"TCAPTCHA: RULES has to be a list: write \['POST /login'\]",
    ),
    "a rule that cannot work": (
        {"RULES": ["POST login"], "VERIFIER": FAKE},
        "TCAPTCHA: rule 'POST login' cannot work",
    ),
    "both": (
        {"GUARD": GUARD, "RULES": ["POST /a"], "PAGE": "/t"},
        "TCAPTCHA: GUARD and .*PAGE.* are set: set these in the guard",
    ),
    "a wrong guard": (
        {"GUARD": lambda: None},
        "TCAPTCHA: GUARD is None: name a Guard, or what returns one",
    ),
    "an unknown key": (
        {"RULE": ["POST /a"]},
        "the setting 'RULE' is unknown: did you mean RULES?",
    ),
    "a key in lower case": ({"rules": ["POST /a"]}, "'rules' is unknown: did you mean RULES?"),
    "another unknown key": ({"Q": 1}, f"the setting 'Q' is unknown: {EXAMPLE}"),
    "no text as a key": ({7: 1}, f"the setting 7 is unknown: {EXAMPLE}"),
    "an unknown module": (
        {"RULES": ["POST /a"], "VERIFIER": "no_such_module.verifier"},
        r"'no_such_module.verifier', which cannot be imported \(.*\): write the whole path",
    ),
    "an unknown name": (
        {"RULES": ["POST /a"], "VERIFIER": "tcaptcha_middleware.Verify"},
        "VERIFIER is 'tcaptcha_middleware.Verify', which cannot be imported",
    ),
    "no dotted path": ({"GUARD": "my guard"}, "GUARD is 'my guard', which cannot be imported"),
    "a class with arguments": (
        {"RULES": ["POST /a"], "VERIFIER": NeedsArguments},
        "NeedsArguments.*, which cannot be called without arguments .*: name an object, or",
    ),
    "a setting that is not valid": (
        {"RULES": ["POST /a"], "VERIFIER": FAKE, "BODY_LIMIT": 0},
        "TCAPTCHA: BODY_LIMIT is 0",
    ),
}


@pytest.mark.parametrize(("config", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_ends_the_start_with_what_is_wrong_and_the_fix(config, message):
    with project([], config), pytest.raises(ImproperlyConfigured, match=message):
        WSGIHandler()


def test_a_setting_that_is_missing_is_named():
    with project([], None):
        from django.conf import settings

        del settings.TCAPTCHA
        with pytest.raises(ImproperlyConfigured, match="TCAPTCHA is missing"):
            WSGIHandler()


def test_a_verifier_has_to_suit_how_the_middleware_runs():
    with override_settings(TCAPTCHA={"RULES": ["POST /login"], "VERIFIER": SyncVerifier}):
        assert guard_for("sync") is current_guard()
        with pytest.raises(ImproperlyConfigured, match=r"TCAPTCHA: POST /login: .*in_thread"):
            guard_for("async")


class Inner:
    class Verifier(FakeVerifier):
        pass

    value = 7


def fails_inside():
    return FakeVerifier(*object())


BROKEN = {
    "a module that cannot import another one": (
        "broken_settings.imports.verifier",
        ModuleNotFoundError,
        "no_such_package",
    ),
    "a module that lacks a name of another one": (
        "broken_settings.names.verifier",
        ImportError,
        "no_such_name",
    ),
    "a module that raises": ("broken_settings.raises.verifier", AttributeError, "own error"),
    "a factory that raises": (fails_inside, TypeError, "after \\* must be an iterable"),
}


@pytest.mark.parametrize(("verifier", "error", "message"), BROKEN.values(), ids=BROKEN)
def test_an_error_inside_what_a_setting_names_is_raised_as_it_is(verifier, error, message):
    with pytest.raises(error, match=message):
        guard_of(VERIFIER=verifier)


def test_a_path_may_name_what_is_inside_a_class():
    assert isinstance(guard_of(VERIFIER=f"{__name__}.Inner.Verifier").verifier, FakeVerifier)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "..",
        ".verifier",
        "no_such",
        f"{__name__}.Inner.x",
        "a-b.c",
        f"{__name__}.Inner.value.x",
    ],
)
def test_a_path_that_names_nothing_is_an_error(text):
    with pytest.raises(ImproperlyConfigured, match="VERIFIER"):
        guard_of(VERIFIER=text)


def test_a_callable_without_a_signature_is_called():
    with pytest.raises(ImproperlyConfigured, match="VERIFIER is dict"):
        guard_of(VERIFIER=dict)


# -- when it takes effect ------


def view(request):
    return HttpResponse("hello")


def test_a_test_can_override_the_setting_between_two_requests_of_a_client():
    client, other = Client(), {"RULES": ["POST /other"], "VERIFIER": FAKE}
    config = {"RULES": ["POST /login"], "VERIFIER": FAKE}
    with project([path("login", view)], config):
        assert client.post("/login").json()["code"] == "ticket_missing"
        with override_settings(TCAPTCHA=other):
            assert client.post("/login").content == b"hello"
        assert client.post("/login").status_code == 403


def test_the_guard_is_the_same_until_the_setting_changes():
    with override_settings(TCAPTCHA={"RULES": ["POST /login"], "VERIFIER": FAKE}):
        first = current_guard()
        with override_settings(DEBUG=True):
            assert current_guard() is first
        with override_settings(ROOT_URLCONF=(path("a", view),)):
            assert current_guard() is not first
