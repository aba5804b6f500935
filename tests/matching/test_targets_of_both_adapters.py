"""What both adapters pass to the matcher: raw paths, mounts, and broken environs."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from adapters import Exchange, environ_of
from raw_requests import through_asgi, through_wsgi

from tcaptcha_middleware import Guard, Rule, TCaptchaWSGIMiddleware
from tcaptcha_middleware.testing import FakeVerifier

PAIR = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
LOGIN = Guard(["POST /login"], FakeVerifier())


def asgi(guard, path, raw_path=None, root_path=""):
    """Send a request under ASGI, its path with the mount before it; returns if it is gated."""
    raw_path = path.encode() if raw_path is None else raw_path
    more = {"path": path, "raw_path": raw_path, "root_path": root_path}
    return through_asgi(guard, Exchange(), more=more).code != "reached"


def wsgi(guard, path_info, script_name=""):
    """Send a request under WSGI; returns if it is gated."""
    more = {"PATH_INFO": path_info, "SCRIPT_NAME": script_name}
    return through_wsgi(guard, Exchange(), more=more).code != "reached"


def send(guard, environ):
    """Send a WSGI request; returns its status."""
    statuses = []

    def app(environ, start_response):
        statuses.append(200)
        return []

    def start_response(line, headers):
        statuses.append(int(line[:3]))

    TCaptchaWSGIMiddleware(app, guard)(environ, start_response)
    return statuses[0]


# -- The raw path ------


@pytest.mark.parametrize(
    "raw_path", [b"/login", b"/%6cogin", b"/x/../login", b"//h/login", b"/login?x", b"\\login"]
)
def test_a_rule_is_compared_with_the_raw_path_too(raw_path):
    assert asgi(LOGIN, "/free", raw_path)
    assert not asgi(LOGIN, "/free", b"/free")
    assert asgi(LOGIN, "/login", b"/free")


def test_no_raw_path_is_like_an_empty_one():
    for raw_path in (None, b""):
        more = {"path": "/login", "raw_path": raw_path}
        assert through_asgi(LOGIN, Exchange(), more=more).code == "ticket_missing"
        more = {"path": "/free", "raw_path": raw_path}
        assert through_asgi(LOGIN, Exchange(), more=more).code == "reached"


def test_a_wsgi_path_is_decoded_as_often_as_a_raw_one():
    # A server has decoded it once, and behind it a proxy and an application may do so twice.
    # Only the raw path is decoded three times.
    assert asgi(LOGIN, "/free", b"/%25256cogin")
    assert wsgi(LOGIN, "/%25256cogin")
    assert not wsgi(LOGIN, "/%2525256cogin")


EXEMPT = Guard(["/**"], FakeVerifier(), exempt=["/health", "/static/**"])


@pytest.mark.parametrize("mount", ["", "/api", "/été"])
@pytest.mark.parametrize("path", ["/health", "/static/a.css", "/static/a/b"])
def test_an_exempt_path_passes_below_each_mount(mount, path):
    for final_slash in ("", "/"):
        assert not asgi(EXEMPT, mount + path, root_path=mount + final_slash)
        assert not wsgi(EXEMPT, path, mount.encode().decode("latin-1") + final_slash)
    assert asgi(EXEMPT, mount + "/login", root_path=mount)
    assert wsgi(EXEMPT, "/login", mount.encode().decode("latin-1"))


@pytest.mark.parametrize("mount", ["/api", "/api/"])
def test_a_mount_is_removed_once(mount):
    # Below the mount, this is a path of the application that begins like the mount.
    assert asgi(EXEMPT, "/api/api/health", root_path=mount)
    assert wsgi(EXEMPT, "/api/health", mount)


# An exempt path, and additions that turn it into a protected one in some reading.
BACKSLASH = ["/health\\", "\\health", "/static\\..\\login", "/static/..\\login", "/static/a\\b"]
UNDECODED = ["/he%61lth", "/health%2f", "/static/%2e%2e/login", "/static/..%2flogin"]
UNDECODED += ["/static/..%5clogin", "/static/a%2fb/../../login", "/health%00", "/health%3f"]
UNDECODED += ["/static/%252e%252e/login", "/health%0a", "/static/a%3bb/../../login"]
DOTTED = ["/health/../login", "/static/../login", "/static/./../login", "/health/.", "//health"]
DOTTED += ["/health//", "/health;x", "/HEALTH", "/health.json", "/static//../../login"]
ODD = [*BACKSLASH, *UNDECODED, *DOTTED]
MOUNTS = [
    "",
    "/api",
    "/api/",
    "/%61pi",
    "api",
    "/static",
    "/health",
    "//api",
    "\\api",
    "/a/../b",
]


every_mount = pytest.mark.parametrize("mount", MOUNTS)


@every_mount
def test_no_odd_form_of_an_exempt_path_is_exempt_below_any_mount(mount):
    for path in ODD:
        assert asgi(EXEMPT, mount + path, root_path=mount), path
        assert asgi(EXEMPT, mount.rstrip("/") + path, root_path=mount), path
        assert wsgi(EXEMPT, path, mount), path


@pytest.mark.parametrize("mount", ["", "/api"])
@pytest.mark.parametrize("exempt", ["/health", "/static/a"])
def test_no_odd_raw_path_makes_its_request_exempt(mount, exempt):
    for path in set(ODD) - {"/he%61lth"}:  # a raw path is decoded
        assert asgi(EXEMPT, mount + exempt, (mount + path).encode(), mount), path


@pytest.mark.parametrize("mount", ["", "/api"])
def test_an_equivalent_raw_path_stays_exempt(mount):
    for raw_path in ("/health", "/he%61lth", "/%68ealth"):
        assert not asgi(EXEMPT, mount + "/health", (mount + raw_path).encode(), mount)


LOGINS = ["/login", "//login", "\\login", "/%6cogin", "/x/..\\login", "/login%0a", "/LOGIN"]


@every_mount
def test_every_form_of_a_protected_path_is_protected_below_any_mount(mount):
    for path in LOGINS:
        assert asgi(LOGIN, mount + path, root_path=mount), path
        assert asgi(LOGIN, "/free", (quote(mount) + path).encode(), mount), path
        assert wsgi(LOGIN, path, mount), path


WEAK = Guard(["POST /login", Rule("/**", mode="observe")], FakeVerifier(), exempt=["/health"])


@pytest.mark.parametrize("mount", ["", "/api"])
@pytest.mark.parametrize("path", ["/health\\..\\login", "//health;/login"])
def test_neither_an_exemption_nor_a_weak_rule_judges_what_may_be_a_login(mount, path):
    assert asgi(WEAK, mount + path, root_path=mount)
    assert asgi(WEAK, mount + "/health", (mount + path).encode(), mount)
    assert wsgi(WEAK, path, mount)


# -- Environs that are incomplete or broken ------


def test_a_request_without_an_address_is_verified_with_the_fallback():
    for more in ({}, {"REMOTE_ADDR": ""}, {"REMOTE_ADDR": None}):
        guard = Guard(["/login"], FakeVerifier())
        exchange = Exchange(headers=PAIR)
        environ = environ_of(exchange)
        del environ["REMOTE_ADDR"]
        environ |= more
        assert send(guard, environ) == 200
        assert guard.verifier.tickets[0].user_ip == "127.0.0.1"


SCRIPT_NAMES = {
    "none": None,
    "empty": "",
    "a slash": "/",
    "slashes": "///",
    "without a slash": "shop",
    "with a final slash": "/shop/",
    "beyond latin-1": "/\u767b\u9678",
    "a euro": "/\u20ac/",
    "a lone surrogate": "/\udc80",
    "invalid UTF-8": "/\xff\xfe",
    "a NUL": "/\0",
    "a line break": "/shop\r\n",
    "dots": "/..",
    "an escape": "/%2e%2e",
    "a backslash": "\\shop",
    "a query": "/shop?x",
    "the path itself": "/login",
    "long": "/" + "x" * 20_000,
}


@pytest.mark.parametrize("script_name", SCRIPT_NAMES.values(), ids=SCRIPT_NAMES)
def test_no_script_name_bypasses_a_rule_or_raises(script_name):
    for path in ("/login", "login", "//login", "/%6cogin"):
        assert wsgi(LOGIN, path, script_name), path
        assert wsgi(EXEMPT, path, script_name), path


def test_a_mount_and_a_path_without_a_slash_between_them_are_not_one_path():
    assert wsgi(LOGIN, "..login", ".")
    assert wsgi(LOGIN, "loginlogin", "login")


@pytest.mark.parametrize("script_name", SCRIPT_NAMES.values(), ids=SCRIPT_NAMES)
def test_an_unprotected_path_passes_with_any_usual_script_name(script_name):
    gated = wsgi(LOGIN, "/free", script_name)
    assert not gated or script_name == SCRIPT_NAMES["long"]


def test_a_wsgi_environ_without_path_keys_is_accepted():
    environ = environ_of(Exchange(target="/"))
    del environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"]
    assert send(Guard(["/**"], FakeVerifier()), environ) == 403
    assert send(LOGIN, environ) == 200
