"""Flask with marked views, as in `marked_asgi`."""

from __future__ import annotations

import flask
from gated_apps import MOUNTED, ROUTES, answer_of
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tcaptcha_middleware.integrations.flask import TCaptcha
from tcaptcha_middleware.testing import FakeVerifier

# The settings of the marks, by the handler's name. Those of `WEAK` let everyone pass, so no
# target may be judged by their rules that leads to one of the others.
SETTINGS = {
    "comments": {"mode": "observe"},
    "weak": {"when": lambda _: False},
    **{name: {} for name in ("login", "page", "admin", "mounted", "code", "sms", "every")},
}
WEAK = [("comments", "/comments", ["GET", "POST"]), ("weak", "/weak/{}", ["POST"])]


# Which handlers are marked, and whether the gate is there, by what `X-App` says.
VARIANTS = {"": (SETTINGS, True), "ungated": (SETTINGS, False), "unmarked": ({}, False)}


def flask_app(captcha, settings, routes):
    app = flask.Flask("marked")
    app.url_map.strict_slashes = False
    add_views(app, captcha, settings, routes)
    return app


def add_views(app, captcha, settings, routes):
    def view(name):
        def handler(**_):
            request = flask.request
            return answer_of(name, request.method, request.path, request.get_data())

        return captcha.required(**settings[name])(handler) if name in settings else handler

    for name, path, methods in routes:
        app.add_url_rule(path.format("<x>"), name, view(name), methods=methods)


def flask_mounts(settings, *, gated, begin=lambda _: None):
    captcha = TCaptcha(verifier=FakeVerifier())
    app = flask_app(captcha, settings, WEAK)
    mounts = {"/mount": flask_app(captcha, settings, MOUNTED)}
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, mounts)
    if gated:
        captcha.init_app(app)
    begin(app)
    app._got_first_request = False  # after which Flask itself adds no view
    add_views(app, captcha, settings, ROUTES)
    return app


APPS = {
    name: flask_mounts(settings, gated=gated) for name, (settings, gated) in VARIANTS.items()
}


def wsgi(environ, start_response):
    _, _, variant = environ.get("HTTP_X_APP", "flask").partition(" ")
    environ["SCRIPT_NAME"] = environ.get("HTTP_X_ROOT", environ["SCRIPT_NAME"])
    return APPS[variant](environ, start_response)
