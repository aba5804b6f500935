"""WSGI frameworks whose routers answer to more than their routes' text; see `router_apps`."""

from __future__ import annotations

import bottle
import cherrypy
import falcon
import router_django  # noqa: F401  configures Django
import tg
from django.core.wsgi import get_wsgi_application
from gated_apps import answer_of
from pyramid.config import Configurator
from pyramid.response import Response
from router_apps import gates, require

from tcaptcha_middleware import TCaptchaWSGIMiddleware


def cherrypy_answer(name):
    request = cherrypy.request
    body, headers = answer_of(name, request.method, request.path_info, b"")
    cherrypy.response.headers.update(headers)
    return body


class CherryPyRoot:
    @cherrypy.expose
    def login(self, **_):
        return cherrypy_answer("login")

    @cherrypy.expose
    def any(self, **_):
        return cherrypy_answer("any")

    @cherrypy.expose
    def sign_in(self, *_, **__):
        require(cherrypy.request.wsgi_environ)
        return cherrypy_answer("sign_in")


def turbogears_answer(name):
    body, headers = answer_of(name, tg.request.method, tg.request.path, b"")
    tg.response.headers.update(headers)
    return body


class TurboGearsRoot(tg.TGController):
    @tg.expose()
    def login(self, **_):
        return turbogears_answer("login")

    @tg.expose()
    def any(self, **_):
        return turbogears_answer("any")

    @tg.expose()
    def sign_in(self, *_, **__):
        require(tg.request)
        return turbogears_answer("sign_in")


class Login:
    def on_post(self, req, resp):
        resp.data, headers = answer_of("login", req.method, req.path, b"")
        resp.set_headers(headers)


def cherrypy_app():
    cherrypy.config.update({"environment": "embedded"})
    return cherrypy.Application(CherryPyRoot(), "", {"/": {}})


def turbogears_app():
    configurator = tg.MinimalApplicationConfigurator()
    configurator.update_blueprint({"root_controller": TurboGearsRoot()})
    return configurator.make_wsgi_app()


def sink(req, resp):
    require(req)
    resp.data, headers = answer_of("sign_in", req.method, req.path, b"")
    resp.set_headers(headers)


def falcon_app():
    app = falcon.App()
    app.add_sink(sink, "/sign_in")
    app.add_route("/login", Login())
    return app


def pyramid_app():
    def answer(name, request):
        body, headers = answer_of(name, request.method, request.path_info, b"")
        return Response(body, headerlist=list(headers.items()))

    def locked(request):
        require(request)
        return answer("sign_in", request)

    with Configurator() as config:
        config.add_route("any", "/any")
        config.add_view(lambda request: answer("any", request), route_name="any")
        config.add_view(locked, name="sign_in")
        return config.make_wsgi_app()


def bottle_app():
    def any_view():
        request = bottle.request
        body, headers = answer_of("any", request.method, request.path, b"")
        return bottle.HTTPResponse(body, headers=headers)

    app = bottle.Bottle()
    app.route("/any", "ANY", any_view)
    return app


APPS = gates(
    TCaptchaWSGIMiddleware,
    {
        "bottle": bottle_app(),
        "cherrypy": cherrypy_app(),
        "django": get_wsgi_application(),
        "falcon": falcon_app(),
        "pyramid": pyramid_app(),
        "turbogears": turbogears_app(),
    },
)


def wsgi(environ, start_response):
    name, _, gate = environ.get("HTTP_X_APP", "bottle").partition(" ")
    return APPS[name, gate](environ, start_response)
