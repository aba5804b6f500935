"""A Django site for ASGI and WSGI, used by `gated_asgi` and `gated_wsgi`."""

from __future__ import annotations

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATA_UPLOAD_MAX_MEMORY_SIZE=None,
        ROOT_URLCONF=__name__,
        SECRET_KEY="x",
    )
    django.setup()

from django.http import HttpResponse, HttpResponseNotAllowed
from django.urls import include, path, re_path
from gated_apps import answer_of


def _view(name, *methods):
    def view(request, **_):
        if request.method not in methods:
            return HttpResponseNotAllowed(methods)
        body, headers = answer_of(name, request.method, request.path, request.body)
        return HttpResponse(body, headers=headers | {"Content-Length": len(body)})

    return view


urlpatterns = [
    # Older projects write regular expressions, and `$` allows for a line's end.
    re_path(r"^login/?$", _view("login", "POST")),
    path("page", _view("page", "GET", "HEAD")),
    path("free", _view("free", "POST")),
    path("admin/health", _view("health", "POST")),
    path("admin/secret", _view("admin", "GET", "HEAD", "POST")),
    path("mount/", include([path("login", _view("mounted", "POST"))])),
    path("users/<id>/code", _view("code", "POST")),
    path("sms/<phone>", _view("sms", "POST")),
    path("été/1", _view("other", "POST")),
    path("every", _view("every", "DELETE", "OPTIONS", "PATCH", "POST", "PUT")),
]
