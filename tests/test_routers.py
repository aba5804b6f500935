"""Targets that routers accept beyond their routes' text need a ticket too, on real servers.

Each is first sent without the gate, to see if the router accepts it.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
from gated_sites import pair, pool, serve, site
from target_forms import Form, forms

pytestmark = pytest.mark.outside

MODULES = {
    "uvicorn with h11": "router_asgi",
    "waitress": "router_wsgi",
    "uvicorn with httptools": "mounted_django",
    "granian for WSGI": "mounted_django",
}
ASGI, WSGI, MOUNTED_ASGI, MOUNTED_WSGI = MODULES


class Route(NamedTuple):
    """A handler's plain request, and other targets that its router accepts for it."""

    handler: str
    plain: Form
    targets: list[bytes]

    @property
    def forms(self):
        return [self.plain, *(self.plain._replace(target=target) for target in self.targets)]


def escaped(path):
    """Percent-encode all that is not ASCII."""
    return b"".join(b"%%%02X" % b if b > 127 else bytes([b]) for b in path.encode())


LENGTH = b"Content-Length: 0"  # CherryPy rejects a POST without it
LOGIN = Form(b"POST", b"/login", headers=(LENGTH,))
EXTENDED = [
    b"/login.json", b"/login.json/", b"//login.json", b"/login.json?x=1", b"/login%2ejson",
    b"/l%6fgin.JSON", b"/login.", b"/login.x", b"/login.%20", b"/login.json%0a",
    b"/login.json;x=1", b"/login.json%3bx", b"/login.json%3fx", b"/login.%25",
    b"/login.json%e2%80%8b", b"/login.json%5c",
]  # fmt: skip
ROUTES = {
    "blacksheep": [Route("login", LOGIN, [b"/LOGIN", b"/LogIn", b"/LOGIN/", b"/LOGIN?x=1"])],
    "cherrypy": [Route("login", LOGIN, [b"/login/", b"//login", b"/l%6fgin"])],
    "django": [
        # A viewset of Django REST framework, with the suffixes of its default router.
        Route(
            "users",
            Form(b"POST", b"/users/"),
            [b"/users.json", b"/users.json/", b"/users%2ejson", b"/users.jso%6e?x=1"],
        ),
        Route(
            "user",
            Form(b"DELETE", b"/users/1/"),
            [b"/users/1.json", b"/users/1.json/", b"/users/%31%2ejson"],
        ),
        # Patterns that ignore case: what Python takes for k, s, i and others.
        Route("login", Form(b"POST", b"/login"), [b"/LOGIN", escaped("/log\u0131n")]),
        Route(
            "kiosk",
            Form(b"POST", b"/kiosk/sign-in"),
            [
                b"/KIOSK/SIGN-IN",
                escaped("/\u212aiosk/sign-in"),
                escaped("/kios\u212a/sign-in/"),
                escaped("/kiosk/\u017fign-in"),
                escaped("/KIO\u017fK/sign-\u0130n"),
                escaped("/k\u0131osk/s\u0131gn-\u0131n"),
                escaped("/k\u0130osk/sign-in"),
                escaped("/\u212a\u0131o\u017fk/\u017f\u0130gn-in"),
            ],
        ),
        Route(
            "measure",
            Form(b"POST", escaped("/ma\u00df-\u00b5\u03c2")),
            [
                escaped("/MA\u1e9e-\u03bc\u03c3"),
                escaped("/ma\u00df-\u039c\u03a3"),
                escaped("/Ma\u1e9e-\u00b5\u03a3"),
            ],
        ),
    ],
    "fastapi": [
        Route(
            "login",
            LOGIN,
            [b"/api/login", b"/a%70i/login", b"/api%2flogin", b"/api/login%0a"],
        )
    ],
    "turbogears": [Route("login", LOGIN, EXTENDED)],
}
PAIRS = [(ASGI, framework) for framework in ("blacksheep", "django", "fastapi")]
PAIRS += [(WSGI, framework) for framework in ("cherrypy", "django", "turbogears")]
every_pair = pytest.mark.parametrize(("server", "framework"), PAIRS)


def handlers(answers):
    return [(str(form), answer.handler) for form, answer in answers]


@every_pair
def test_every_target_that_a_router_accepts_needs_a_ticket(site):
    for route in ROUTES[site.framework]:
        reached = [(str(form), route.handler) for form in route.forms]
        assert handlers(site.send_all(route.forms, "ungated")) == reached
        refused = [(answer.status, answer.handler) for _, answer in site.send_all(route.forms)]
        assert refused == [(403, "")] * len(route.forms)
        assert handlers(site.send_all(route.forms, headers=pair)) == reached


@every_pair
def test_no_form_of_a_target_that_a_router_accepts_bypasses_the_gate(site):
    plain = [form for route in ROUTES[site.framework] for form in route.forms[:2]]
    corpus = [f for method, target, *_ in plain for f in forms(method, target)[:: len(plain)]]
    covered = [f for f in corpus if f.method.strip().upper() not in (b"GET", b"HEAD")]
    answers = site.pool.map(lambda form: (form, site.send(form, LENGTH)), covered)
    assert {str(form): answer.handler for form, answer in answers if answer.handler} == {}


UNSAFE = [b"DELETE", b"FOO", b"OPTIONS", b"PATCH", b"POST", b"PROPFIND", b"PUT", b"TRACE"]
ANY_METHOD = [(ASGI, "django"), (WSGI, "django"), (WSGI, "bottle"), (WSGI, "cherrypy")]
ANY_METHOD += [(WSGI, "pyramid"), (WSGI, "turbogears")]
any_method = pytest.mark.parametrize(("server", "framework"), ANY_METHOD)


@any_method
def test_an_unsafe_rule_protects_every_unsafe_method_of_a_view(site):
    corpus = [Form(method, b"/any", headers=(LENGTH,)) for method in UNSAFE]
    reached = [(str(form), "any") for form in corpus]
    assert handlers(site.send_all(corpus, "ungated")) == reached
    refused = [answer[:2] for _, answer in site.send_all(corpus)]
    assert refused == [(403, "")] * len(corpus)
    assert handlers(site.send_all(corpus, headers=pair)) == reached


@any_method
def test_an_unsafe_rule_leaves_safe_methods_and_preflights_open(site):
    asked = (b"Origin: https://a.example", b"Access-Control-Request-Method: PUT")
    safe = [
        Form(b"GET", b"/any"),
        Form(b"HEAD", b"/any"),
        Form(b"OPTIONS", b"/any", headers=asked),
    ]
    assert [handler for _, handler in handlers(site.send_all(safe))] == ["any"] * 3


@pytest.mark.parametrize(("server", "framework"), [(ASGI, "fastapi")])
def test_a_rule_with_fastapis_root_path_also_matches_the_path_without_it(site):
    (route,) = ROUTES["fastapi"]
    refused = [answer[:2] for _, answer in site.send_all(route.forms, "full")]
    assert refused == [(403, "")] * len(route.forms)
    reached = [(str(form), "login") for form in route.forms]
    assert handlers(site.send_all(route.forms, "full", pair)) == reached


@pytest.mark.parametrize(
    ("server", "targets"),
    [
        (MOUNTED_ASGI, [b"/login", b"/shop/login", b"/sh%6fp/login"]),
        (MOUNTED_WSGI, [b"/login"]),
    ],
)
@pytest.mark.parametrize("framework", ["django"])
@pytest.mark.parametrize("gate", ["", "full"])
def test_a_rule_with_or_without_djangos_forced_mount_matches_both_paths(site, targets, gate):
    corpus = [Form(b"POST", target) for target in targets]
    reached = [(str(form), "login") for form in corpus]
    assert handlers(site.send_all(corpus, "ungated")) == reached
    refused = [answer[:2] for _, answer in site.send_all(corpus, gate)]
    assert refused == [(403, "")] * len(corpus)
    assert handlers(site.send_all(corpus, gate, pair)) == reached


@pytest.mark.parametrize(("server", "framework"), [(ASGI, "falcon"), (WSGI, "falcon")])
def test_a_router_without_suffixes_does_not_accept_an_extension(site):
    unknown = [Form(b"GET", b"/login.js"), Form(b"POST", b"/other.json")]
    assert [answer.status for _, answer in site.send_all(unknown)] == [404, 404]
    extended = Form(b"POST", b"/login.json")
    assert site.send(extended).status == 403
    assert site.send(extended, *pair()).status == 404


# What no gate can know: other spellings of a name, and routes that are not anchored.
UNSEEN = {
    "cherrypy": [b"/sign-in", b"/sign.in", b"/sign%2bin", b"/sign_in/x"],
    "django": [b"/xsign_in", b"/x/sign_in", b"/sign_in/x"],
    "falcon": [b"/sign_inx", b"/sign_in/x"],
    "pyramid": [b"/@@sign_in", b"/sign_in/x"],
    "turbogears": [b"/sign-in", b"/sign%2bin", b"/sign_in/x"],
}
LOCKED = [(ASGI, "django"), (ASGI, "falcon"), *((WSGI, framework) for framework in UNSEEN)]


@pytest.mark.parametrize(("server", "framework"), LOCKED)
def test_a_handler_that_requires_a_captcha_refuses_what_the_gate_cannot_see(site):
    plain = Form(b"POST", b"/sign_in", headers=(LENGTH,))
    unseen = [plain._replace(target=target) for target in UNSEEN[site.framework]]
    assert {answer[:2] for _, answer in site.send_all(unseen)} == {(500, "")}
    assert {answer[:2] for _, answer in site.send_all(unseen, headers=pair)} == {(500, "")}
    assert site.send(plain, gate="ungated").status == 500
    assert site.send(plain).status == 403
    answer = site.send(plain, *pair())
    assert (answer.status, answer.handler) == (200, "sign_in")
