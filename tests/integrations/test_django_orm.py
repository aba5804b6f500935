"""Hooks that use Django's ORM and users, sync and async, with an SQLite database in a file."""

from __future__ import annotations

import asyncio
import json

import pytest
from adapters import Exchange, call_asgi, messages_of, scope_of
from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.management import call_command
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django_inside import CAPTCHA, project

from tcaptcha_middleware import Guard, TCaptchaMiddleware
from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.testing import FakeVerifier

AUTH = "django.contrib.auth"
SETTINGS = {
    "INSTALLED_APPS": [AUTH, "django.contrib.contenttypes"],
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        f"{AUTH}.middleware.AuthenticationMiddleware",
        CAPTCHA,
    ],
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
}


def forget():
    connections["default"].close()
    del connections["default"]


def in_djangos_thread(function):
    """Call a function in the thread for sync code of async stacks, which has a connection."""
    asyncio.run(sync_to_async(function)())


@pytest.fixture
def database(monkeypatch, tmp_path):
    """Let Django use an SQLite database, whichever settings came first."""
    settings = connections["default"].settings_dict | {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": tmp_path / "db",
    }
    forget()
    in_djangos_thread(forget)
    monkeypatch.setitem(connections.settings, "default", settings)
    yield
    forget()
    in_djangos_thread(forget)


@pytest.fixture
def site(database):
    """Return a function that serves a login, for which users need no captcha."""

    def serve(when, client):
        config = {"RULES": ["POST /login"], "WHEN": when, "VERIFIER": FakeVerifier()}
        with project([path("login", lambda _: HttpResponse())], config, **SETTINGS):
            from django.contrib.auth.models import User

            call_command("migrate", verbosity=0)
            ada = User.objects.create_user("ada")
            current_guard()
            if client == "sync":
                return [post(Client(), None), post(Client(), ada)]
            return asyncio.run(post_both(ada))

    def post(client, user):
        if user:
            client.force_login(user)
        return client.post("/login")

    async def post_both(user):
        client = AsyncClient()
        await client.aforce_login(user)
        return [await AsyncClient().post("/login"), await client.post("/login")]

    return serve


def sync_hook(request):
    from django.contrib.auth.models import User

    return User.objects.count() == 1 and not request.raw.user.is_authenticated


async def async_hook(request):
    from django.contrib.auth.models import User

    user = await request.raw.auser()
    return await User.objects.acount() == 1 and not user.is_authenticated


async def bridging_hook(request):
    return await sync_to_async(sync_hook)(request)


async def blocking_hook(request):
    return sync_hook(request)


@pytest.mark.parametrize(
    ("hook", "client"),
    [
        (sync_hook, "sync"),
        (sync_hook, "async"),
        (async_hook, "async"),
        (bridging_hook, "async"),
    ],
)
def test_a_when_may_use_the_orm_and_the_user(site, hook, client):
    anonymous, member = site(hook, client)
    assert (anonymous.status_code, anonymous.json()["code"]) == (403, "ticket_missing")
    assert member.status_code == 200


def test_an_async_when_that_calls_the_sync_orm_refuses_everyone(site, caplog):
    answers = site(blocking_hook, "async")
    assert [answer.json()["code"] for answer in answers] == ["misconfigured"] * 2
    assert "SynchronousOnlyOperation" in caplog.text


def plain_count(request):
    from django.contrib.auth.models import User

    return User.objects.count() == 0


async def async_count(request):
    return await sync_to_async(plain_count)(request)


@pytest.mark.parametrize(
    ("hook", "code"), [(plain_count, "misconfigured"), (async_count, "ticket_missing")]
)
@pytest.mark.usefixtures("database")
def test_around_the_asgi_application_only_an_async_when_may_use_the_orm(hook, code):
    guard = Guard(["POST /login"], FakeVerifier(), when=hook)
    with project([], None, **SETTINGS | {"MIDDLEWARE": []}):
        call_command("migrate", verbosity=0)
        app = TCaptchaMiddleware(ASGIHandler(), guard)
        sent = call_asgi(app, scope_of(Exchange()), messages_of(Exchange()))
    assert json.loads(sent[1]["body"])["code"] == code
