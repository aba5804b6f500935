"""WSGI frameworks behind the gate, all in one application; see `gated_apps`."""

from __future__ import annotations

import bottle
import falcon
import flask
import gated_django  # noqa: F401  configures Django
from django.core.wsgi import get_wsgi_application
from gated_apps import MOUNTED, ROUTES, answer_of, gates, override
from pyramid.config import Configurator
from pyramid.response import Response
from pyramid.wsgi import wsgiapp2
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tcaptcha_middleware import TCaptchaWSGIMiddleware


def flask_app(routes=ROUTES):
    def view(name):
        def handler(**_):
            request = flask.request
            return answer_of(name, request.method, request.path, request.get_data())

        return handler

    app = flask.Flask("gated")
    app.url_map.strict_slashes = False
    for name, path, methods in routes:
        app.add_url_rule(path.format("<x>"), name, view(name), methods=methods)
    return app


def flask_mounts():
    app = flask_app()
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/mount": flask_app(MOUNTED)})
    return app


class FalconResource:
    def __init__(self, name, methods):
        self.name = name
        for method in methods:
            setattr(self, f"on_{method.lower()}", self.answer)
        if "GET" in methods:
            self.on_head = self.answer

    def answer(self, req, resp, **_):
        body = req.bounded_stream.read()
        resp.data, headers = answer_of(self.name, req.method, req.path, body)
        resp.set_headers(headers)


def falcon_app():
    app = falcon.App()
    app.req_options.strip_url_path_trailing_slash = True
    for name, path, methods in [*ROUTES, ("mounted", "/mount/login", ["POST"])]:
        app.add_route(path.format("{x}"), FalconResource(name, methods))
    return app


def pyramid_app(routes=ROUTES):
    def view(name):
        def handler(request):
            body, headers = answer_of(name, request.method, request.path_info, request.body)
            return Response(body, headerlist=list(headers.items()))

        return handler

    with Configurator() as config:
        for name, path, methods in routes:
            config.add_route(name, path.format("{x}"))
            config.add_view(view(name), route_name=name, request_method=tuple(methods))
        if routes is ROUTES:
            config.add_route("mount", "/mount/*subpath")
            config.add_view(wsgiapp2(pyramid_app(MOUNTED)), route_name="mount")
        return config.make_wsgi_app()


def bottle_app(routes=ROUTES):
    def view(name):
        def handler(**_):
            request = bottle.request
            body, headers = answer_of(name, request.method, request.path, request.body.read())
            return bottle.HTTPResponse(body, headers=headers)

        return handler

    app = bottle.Bottle()
    for name, path, methods in routes:
        app.route(path.format("<x>"), methods, view(name))
    if routes is ROUTES:
        app.mount("/mount/", bottle_app(MOUNTED))
    return app


UNGATED = {
    "bottle": bottle_app(),
    "django": get_wsgi_application(),
    "falcon": falcon_app(),
    "flask": flask_mounts(),
    "pyramid": pyramid_app(),
}


def overriding(app):
    def overridden(environ, start_response):
        header, query = environ.get("HTTP_X_VERB", ""), environ["QUERY_STRING"]
        environ["REQUEST_METHOD"] = override(environ["REQUEST_METHOD"], query, header)
        return app(environ, start_response)

    return overridden


APPS = {
    (name, gate): wrap(app)
    for gate, wrap in gates(TCaptchaWSGIMiddleware, overriding).items()
    for name, app in UNGATED.items()
}


def wsgi(environ, start_response):
    name, _, gate = environ.get("HTTP_X_APP", "flask").partition(" ")
    environ["SCRIPT_NAME"] = environ.get("HTTP_X_ROOT", environ["SCRIPT_NAME"])
    return APPS[name, gate](environ, start_response)
