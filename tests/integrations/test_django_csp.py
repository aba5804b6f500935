"""Pages below the Content-Security-Policy of Django 6 or of django-csp, with a nonce."""

from __future__ import annotations

import asyncio
import re

import django
import pytest
from csp.constants import NONCE
from django.http import HttpResponse
from django.template import engines
from django.test import AsyncClient, Client
from django.urls import path
from django_inside import CAPTCHA, project

from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.testing import FakeVerifier

APP = "tcaptcha_middleware.integrations.django"
PAGE = "{% load tcaptcha %}{% tcaptcha_script %}"
CONFIG = {"RULES": ["/secret"], "VERIFIER": FakeVerifier(), "PAGE": "/tcaptcha"}
NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
# What django.utils.csp.CSP.NONCE stands for.
DJANGO_6 = {"SECURE_CSP": {"script-src": ["<CSP_NONCE_SENTINEL>"]}}
DJANGO_CSP = {
    "CONTENT_SECURITY_POLICY": {"DIRECTIVES": {"default-src": None, "script-src": [NONCE]}}
}
REQUEST = "django.template.context_processors.request"
# The middleware, its settings, and the context processors.
POLICIES = [
    pytest.param("csp.middleware.CSPMiddleware", DJANGO_CSP, [REQUEST], id="django-csp"),
    pytest.param(
        "csp.middleware.CSPMiddleware",
        DJANGO_CSP,
        ["csp.context_processors.nonce"],
        id="django-csp with its context processor only",
    ),
]
if django.VERSION >= (6,):
    POLICIES += [
        pytest.param(
            "django.middleware.csp.ContentSecurityPolicyMiddleware",
            DJANGO_6,
            [REQUEST, "django.template.context_processors.csp"],
            id="Django with its context processor",
        ),
        pytest.param(
            "django.middleware.csp.ContentSecurityPolicyMiddleware",
            DJANGO_6,
            [REQUEST],
            id="Django without it",
        ),
    ]


def view(request):
    template = engines["django"].from_string(PAGE)
    return HttpResponse(template.render(request=request))


def policy(response):
    return response.headers["Content-Security-Policy"]


@pytest.fixture(params=["sync", "async"])
def get(request):
    if request.param == "sync":
        return lambda path: Client().get(path, headers=NAVIGATION)
    return lambda path: asyncio.run(AsyncClient().get(path, headers=NAVIGATION))


@pytest.fixture
def site(middleware, settings, processors):
    backend = "django.template.backends.django.DjangoTemplates"
    templates = [{"BACKEND": backend, "OPTIONS": {"context_processors": processors}}]
    with project(
        [path("", view), path("secret", view)],
        CONFIG,
        MIDDLEWARE=[middleware, CAPTCHA],
        INSTALLED_APPS=[APP],
        TEMPLATES=templates,
        **settings,
    ):
        current_guard()  # reads files, as servers do before they start the event loop
        yield


@pytest.mark.parametrize(("middleware", "settings", "processors"), POLICIES)
@pytest.mark.usefixtures("site")
def test_the_script_has_the_nonce_of_the_responses_policy(get):
    nonces = set()
    for response in (get("/"), get("/")):
        (nonce,) = re.findall(r'<script [^>]* nonce="([^"]+)">', response.content.decode())
        assert policy(response) == f"script-src 'nonce-{nonce}'"
        nonces.add(nonce)
    assert len(nonces) == 2


@pytest.mark.parametrize(("middleware", "settings", "processors"), POLICIES)
@pytest.mark.usefixtures("site")
def test_the_challenge_keeps_its_own_policy(get):
    response = get("/secret")
    assert response.status_code == 403
    assert "tcaptcha.js" in response.content.decode()
    assert policy(response).startswith("default-src 'none'")
