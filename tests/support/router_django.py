"""A Django site whose routes answer to more than their text, for `router_asgi` and `_wsgi`."""

from __future__ import annotations

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        REST_FRAMEWORK={
            "DEFAULT_AUTHENTICATION_CLASSES": [],
            "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
            "UNAUTHENTICATED_USER": None,
        },
        ROOT_URLCONF=__name__,
        SECRET_KEY="x",
    )
    django.setup()

from django.http import HttpResponse
from django.urls import path, re_path
from gated_apps import answer_of
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter
from rest_framework.viewsets import ViewSet
from router_apps import require


def _answer(name, request, response=HttpResponse):
    body, headers = answer_of(name, request.method, request.path, b"")
    return response(body, headers=headers)


def _view(name):
    # A function view answers every method.
    return lambda request, **_: _answer(name, request)


def _locked(request):
    require(request)
    return _answer("sign_in", request)


class Users(ViewSet):
    def list(self, request, **_):
        return _answer("open", request, Response)

    def create(self, request, **_):
        return _answer("users", request, Response)

    def destroy(self, request, **_):
        return _answer("user", request, Response)


router = DefaultRouter()
router.register("users", Users, basename="user")
urlpatterns = [
    path("any", _view("any")),
    re_path(r"(?i)^kiosk/sign-in/?$", _view("kiosk")),
    re_path("(?i)^ma\u00df-\u00b5\u03c2$", _view("measure")),
    re_path(r"(?i)^login$", _view("login")),
    re_path("sign_in", _locked),
    *router.urls,
]
