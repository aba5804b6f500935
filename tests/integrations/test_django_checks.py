"""What `manage.py check` reports, and what templates print."""

from __future__ import annotations

import json
import re
import sys

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.template import Context, engines
from django.test import Client, RequestFactory, override_settings
from django.urls import include, path
from django_inside import CAPTCHA, project

from tcaptcha_middleware import Guard, Rule, TencentVerifier, in_thread
from tcaptcha_middleware.integrations.django import captcha_required, checks
from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.integrations.routes import command
from tcaptcha_middleware.integrations.routes import django as django_reader
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.languages import NOSCRIPT
from tcaptcha_middleware.tencent.credentials import ACCOUNT
from tcaptcha_middleware.testing import FakeVerifier, TencentEmulator

APP = "tcaptcha_middleware.integrations.django"
CONFIG = {"VERIFIER": "tcaptcha_middleware.testing.FakeVerifier", "PAGE": "/tcaptcha"}
HEADERS = {"X-Captcha-Ticket": "tr03good", "X-Captcha-Randstr": "@r"}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


def view(request):
    return HttpResponse("hello")


@captcha_required
def marked(request):
    return HttpResponse("hello")


def tencent(**more):
    return TencentVerifier(**TencentEmulator().settings, **more)


def report(urls, config, *, deploy=False, **more):
    """Return the ids and texts of what our checks find."""
    with project(urls, config, INSTALLED_APPS=[APP, *more.pop("apps", ())], **more):
        found = run_checks(tags=["security"], include_deployment_checks=deploy)
    return {each.id: f"{each.msg} | {each.hint}" for each in found if "tcaptcha" in each.id}


# -- settings and rules ------


def test_a_project_without_mistakes_has_no_messages():
    assert report([path("login", view)], CONFIG | {"RULES": ["UNSAFE /login"]}) == {}
    assert report([path("login", marked)], CONFIG) == {}
    assert report([path("login", marked)], CONFIG, FORCE_SCRIPT_NAME="/shop") == {}


@pytest.mark.parametrize("config", [None, {"RULES": []}, {"RULE": ["POST /a"]}])
def test_settings_that_are_not_valid_are_an_error(config):
    found = report([path("login", view)], config, deploy=True)
    assert found.keys() == {"tcaptcha.E001"}
    assert "TCAPTCHA" in found["tcaptcha.E001"]


def test_a_rule_that_matches_no_route_is_a_warning():
    found = report([path("login", view)], CONFIG | {"RULES": ["POST /login", "POST /signin"]})
    message = "the rule 'POST /signin' protects nothing | did you mean \"POST /login\"?"
    assert found == {"tcaptcha.W001": message}


def test_rules_of_a_project_without_urls_are_warnings():
    found = report([], CONFIG | {"RULES": ["POST /login"]})
    message = "the rule 'POST /login' protects nothing | the application has no routes"
    assert found == {"tcaptcha.W001": message}


def test_the_error_about_a_missing_account_names_the_emulator_once(monkeypatch):
    for name in ACCOUNT:
        monkeypatch.delenv(name, raising=False)
    urls = [path("login", view)]
    found = report(urls, {"RULES": ["POST /login"]})
    assert found["tcaptcha.E001"].count("without an account: tcaptcha emulator -- ") == 1
    assert found["tcaptcha.E001"].lower().count("emulator") == 1
    assert "emulator" not in report(urls, CONFIG | {"RULE": []})["tcaptcha.E001"]


def test_the_urls_are_read_once_for_the_checks(monkeypatch):
    read, calls = django_reader.read, []
    monkeypatch.setattr(django_reader, "read", lambda app: calls.append(1) or list(read(app)))
    with project([path("login", marked)], CONFIG, INSTALLED_APPS=[APP]):
        current_guard()
        calls.clear()
        assert list(checks.check_settings()) == []
    assert len(calls) == 1


# -- the middleware ------


@pytest.mark.parametrize("middleware", ["django_inside.SyncOnly", "no_such_module.Middleware"])
def test_rules_without_the_middleware_are_an_error(middleware):
    config = CONFIG | {"RULES": ["UNSAFE /login"]}
    found = report([path("login", view)], config, MIDDLEWARE=[middleware])
    assert found.keys() == {"tcaptcha.E002"}
    assert found["tcaptcha.E002"] == (
        "CaptchaMiddleware is not in MIDDLEWARE, so the rules of TCAPTCHA protect nothing, and "
        f'marked views answer 500 | Add "{CAPTCHA}".'
    )


def test_a_guard_without_the_middleware_is_a_warning_because_it_may_be_around_django():
    config = {"GUARD": Guard(["POST /login"], FakeVerifier())}
    found = report([path("login", marked)], config, MIDDLEWARE=[])
    assert found.keys() == {"tcaptcha.W003"}
    assert 'add "tcaptcha.W003" to SILENCED_SYSTEM_CHECKS' in found["tcaptcha.W003"]


def test_the_middleware_is_found_behind_one_that_cannot_be_imported():
    config = CONFIG | {"RULES": ["UNSAFE /login"]}
    middleware = ["no_such_module.Middleware", CAPTCHA]
    assert report([path("login", view)], config, MIDDLEWARE=middleware) == {}


# -- marked views ------


def test_a_marked_view_without_the_middleware_is_an_error():
    found = report([path("login", marked)], CONFIG, MIDDLEWARE=["django_inside.SyncOnly"])
    assert found.keys() == {"tcaptcha.E002"}


def test_a_subclass_of_the_middleware_counts():
    assert report([path("login", marked)], CONFIG, MIDDLEWARE=["django_inside.Subclass"]) == {}


@pytest.mark.parametrize("root", ["", "/shop"])
@pytest.mark.parametrize(
    "guard",
    [
        Guard(["POST /other", "POST /login/{x}"], FakeVerifier()),
        Guard(["POST /login/**", "POST /other"], FakeVerifier(), exempt=["POST /login/7"]),
    ],
    ids=["no rule", "an exemption"],
)
def test_a_marked_view_that_the_guard_does_not_cover_is_an_error(guard, root):
    urls = [path("login/<path:x>", marked), path("other", view)]
    found = report(urls, {"GUARD": guard}, FORCE_SCRIPT_NAME=root or None)
    expected = "the view of /login/{x:path} needs a captcha, but no rule covers it"
    assert found["tcaptcha.E003"].startswith(expected)


# -- deployment ------


def test_a_verifier_for_tests_is_an_error_in_production():
    urls, config = [path("login", view)], CONFIG | {"RULES": ["POST /login"]}
    assert report(urls, config) == {}
    found = report(urls, config, deploy=True)
    assert found.keys() == {"tcaptcha.E004"}
    assert found["tcaptcha.E004"].startswith(
        "the verifier is a FakeVerifier, which is for tests"
    )


@pytest.mark.parametrize(
    "wrap", [lambda verifier: verifier, in_thread], ids=["plain", "in thread"]
)
def test_another_endpoint_is_an_error_in_production(wrap):
    foreign = wrap(tencent(endpoint="http://127.0.0.1:9000"))
    rules = ["POST /login", Rule("POST /other", verifier=foreign)]
    config = {"RULES": rules, "VERIFIER": tencent()}
    found = report([path("login", view), path("other", view)], config, deploy=True)
    assert found.keys() == {"tcaptcha.E005"}
    assert "are sent to http://127.0.0.1:9000, which is not Tencent's" in found["tcaptcha.E005"]


def test_tencents_verifier_and_other_vendors_have_no_message():
    class Other:
        def verify(self, ticket):
            raise AssertionError

    urls, config = [path("login", view)], {"RULES": ["POST /login"]}
    assert report(urls, config | {"VERIFIER": tencent()}, deploy=True) == {}
    assert report(urls, config | {"VERIFIER": Other}, deploy=True) == {}


ADMIN = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
]


def admin_urls():
    from django.contrib import admin

    site = admin.AdminSite()
    site.login_template = "tcaptcha/admin_login.html"
    return [path("admin/", site.urls)]


@pytest.mark.parametrize(
    ("rules", "ids"),
    [
        (["POST /admin/login"], set()),
        (["UNSAFE /admin/**"], set()),
        (["POST /admin/{app}/add/"], {"tcaptcha.W002"}),
    ],
)
@pytest.mark.parametrize("mount", ["/", "/shop/"])
def test_an_admin_login_without_a_rule_is_a_warning_in_production(rules, ids, mount):
    config = {"VERIFIER": tencent(), "RULES": rules}
    with override_settings(INSTALLED_APPS=ADMIN):
        urls = admin_urls()
    found = report(urls, config, deploy=True, apps=ADMIN, TEMPLATES=TEMPLATES, mount=mount)
    assert found.keys() - {"tcaptcha.W001"} == ids
    for text in map(found.get, ids):
        assert f'Add "UNSAFE {mount}admin/login/" to RULES' in text


# -- templates ------


def rendered(text, request=None, config=CONFIG, mount="/", **context):
    config = config | {"RULES": ["POST /login"]}
    with project([], config, mount=mount, INSTALLED_APPS=[APP], TEMPLATES=TEMPLATES):
        template = engines["django"].from_string("{% load tcaptcha %}" + text)
        return template.template.render(Context({"request": request} | context))


SCRIPT = '<script type="module" src="/tcaptcha/tcaptcha.js"></script>'
WITH_NONCE = SCRIPT.replace("></", ' nonce="r4nd&quot;m"></')


class Nonce:
    """A nonce that is false until it is used, as Django's is."""

    def __bool__(self):
        return False

    def __str__(self):
        return 'r4nd"m'


def test_the_script_is_loaded_from_the_guards_page():
    assert rendered("{% tcaptcha_script %}") == SCRIPT
    assert "/a/b/tcaptcha.js" in rendered(
        "{% tcaptcha_script %}", config=CONFIG | {"PAGE": "/a/b"}
    )


def test_below_a_mount_the_scripts_address_has_it():
    script = rendered("{% tcaptcha_script %}", mount='/"shop/')
    assert 'src="/%22shop/tcaptcha/tcaptcha.js"' in script


@pytest.mark.parametrize("name", ["csp_nonce", "_csp_nonce"])
def test_the_script_has_the_nonce_of_the_request(name):
    request = RequestFactory().get("/")
    setattr(request, name, Nonce())
    assert rendered("{% tcaptcha_script %}", request) == WITH_NONCE


def test_the_script_has_the_nonce_of_the_context():
    assert rendered("{% tcaptcha_script %}", csp_nonce=Nonce()) == WITH_NONCE


def test_without_a_page_the_tag_says_what_to_set():
    with pytest.raises(ImproperlyConfigured, match='add "PAGE": "/tcaptcha" to TCAPTCHA'):
        rendered("{% tcaptcha_script %}", config={"VERIFIER": FakeVerifier()})


def noscript(language="en"):
    return f'<noscript><p lang="{language}">{NOSCRIPT[language]}</p></noscript>'


def test_a_form_of_another_app_gets_the_captcha():
    text = "{% tcaptcha_form %}{{ x }}<form id='a'></form><form></form>{% endtcaptcha_form %}"
    form = "<form data-tcaptcha id='a'></form><form></form>"
    assert rendered(text, x="<") == f"&lt;{noscript()}{form}"


@pytest.mark.parametrize(
    ("page", "browser", "language"),
    [(None, "", "en"), (None, "zh-TW", "zh-tw"), ("zh-hans", "en", "zh-cn"), ("de", "", "en")],
)
def test_above_the_form_a_sentence_for_browsers_without_scripts(page, browser, language):
    request = RequestFactory().get("/", headers={"Accept-Language": browser})
    if page:
        request.LANGUAGE_CODE = page
    text = "{% tcaptcha_form %}<form></form>{% endtcaptcha_form %}"
    assert rendered(text, request) == f"{noscript(language)}<form data-tcaptcha></form>"


def test_a_variable_of_the_template_may_be_called_request():
    text = "{% tcaptcha_form %}<form></form>{% endtcaptcha_form %}{% tcaptcha_script %}"
    expected = f"{noscript()}<form data-tcaptcha></form>{SCRIPT}"
    assert rendered(text, request="a request for leave", config=CONFIG) == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("<FORM id='a'>", "<FORM data-tcaptcha id='a'>"),
        (
            "<form-wizard></form-wizard><form>",
            "<form-wizard></form-wizard><form data-tcaptcha>",
        ),
        ("<formula><form\n>", "<formula><form data-tcaptcha\n>"),
        ("<p>no form", "<p>no form"),
    ],
)
def test_only_the_first_element_that_is_a_form_gets_the_captcha(form, expected):
    text = rendered("{% tcaptcha_form %}" + form + "{% endtcaptcha_form %}")
    assert text.replace(noscript(), "") == expected


# -- the admin ------


@pytest.fixture
def admin():
    middleware = ["django.contrib.sessions.middleware.SessionMiddleware"]
    middleware += [f"{APP}.CaptchaMiddleware", "django.middleware.csrf.CsrfViewMiddleware"]
    middleware += ["django.contrib.auth.middleware.AuthenticationMiddleware"]
    middleware += ["django.contrib.messages.middleware.MessageMiddleware"]
    settings = {
        "AUTHENTICATION_BACKENDS": ["django_admin_backend.Backend"],
        "INSTALLED_APPS": [APP, *ADMIN],
        "MIDDLEWARE": middleware,
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
        "STATIC_URL": "/static/",
        "TEMPLATES": TEMPLATES,
    }
    with override_settings(INSTALLED_APPS=ADMIN):
        urls = admin_urls()
    with project(urls, CONFIG | {"RULES": ["POST /admin/login"]}, **settings):
        yield Client(enforce_csrf_checks=True)


def test_the_login_of_the_admin_shows_the_captcha_and_needs_it(admin):
    page = admin.get("/admin/login/").content.decode()
    assert SCRIPT in page
    assert re.search(r'<form data-tcaptcha action="/admin/login/" method="post"', page)
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    form = {"username": "ada", "password": "secret", "csrfmiddlewaretoken": token}
    assert admin.post("/admin/login/", form).status_code == 403
    pair = {"ticket": "tr03one", "randstr": "@r"}
    wrong = admin.post("/admin/login/", form | pair | {"password": "guess"})
    assert "Please enter the correct username" in wrong.content.decode()
    assert admin.post("/admin/login/", form | pair).json()["code"] == "ticket_reused"
    answer = admin.post("/admin/login/", form | pair | {"ticket": "tr03two"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/accounts/profile/")


def test_only_the_login_of_the_admin_needs_attention(admin):
    from django.contrib import admin as admin_module
    from django.contrib.auth.models import User

    site = admin_module.AdminSite()
    site.register(User, admin_module.site.get_model_admin(User).__class__)
    own = path("own/", include(([path("password_change/", view)], "admin")))
    with project([path("admin/", site.urls), own], CONFIG | {"RULES": ["POST /else"]}):
        findings = {f.path: f for f in check(WSGIHandler())}
    assert findings["/admin/login/"].status == "open"
    assert findings["/own/password_change/"].status == "open"
    for target in ("/admin/password_change/", "/admin/auth/user/{id}/password/"):
        assert findings[target].status == "uncovered"
        assert findings[target].detail == "behind the login of the admin"


@pytest.mark.parametrize("prefix", ["", "staff/admin/"])
def test_the_pages_of_the_admin_have_one_row_of_the_table(prefix, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(**options):
        target = "django.core.wsgi:get_wsgi_application()"
        return command.report(target, factory=False, strict=False, **options).text

    with override_settings(INSTALLED_APPS=ADMIN):
        (admin,) = admin_urls()
    urls = [path("pay", view), path(prefix, (admin.url_patterns, "admin", "admin"))]
    with project(urls, CONFIG | {"RULES": ["UNSAFE /pay"]}):
        table, objects = run(as_json=False).splitlines(), json.loads(run(as_json=True))
    below, number = f"/{prefix}".rstrip("/"), len(objects) - 2
    assert number > 5
    assert [re.split(r" {2,}", row) for row in table[1:-2]] == [
        ["covered", "every", "/pay", "UNSAFE /pay"],
        ["open", "every", f"{below}/login/", "-"],
        [
            "uncovered",
            "every",
            f"{below}/**",
            "-",
            f"{number} routes behind the login of the admin",
        ],
    ]
