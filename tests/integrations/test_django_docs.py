"""What `docs/django.md` says is true, and its code runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from django.http import HttpResponse
from django.shortcuts import render
from django.test import Client
from django.urls import path
from django_inside import project

from tcaptcha_middleware import Guard
from tcaptcha_middleware.integrations.django import checks
from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.testing import FakeVerifier, override

PAGE = (Path(__file__).parents[2] / "docs/django.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
HEADERS = {"X-Captcha-Ticket": "tr03good", "X-Captcha-Randstr": "@r"}


def run(marker):
    """Return what the block with `marker` defines."""
    (text,) = [text for text in BLOCKS if marker in text]
    names = {"__name__": "main"}
    exec(compile(text, "docs/django.md", "exec"), names)
    return names


def view(request):
    return HttpResponse("hello")


URLS = [path("login", view), path("api/comments/webhook", view), path("api/comments/new", view)]


def test_the_settings_protect_the_project():
    names = run("INSTALLED_APPS")
    config = names["TCAPTCHA"] | {"VERIFIER": FakeVerifier()}
    more = {name: names[name] for name in ("INSTALLED_APPS", "MIDDLEWARE")}
    more["SESSION_ENGINE"] = "django.contrib.sessions.backends.signed_cookies"
    with project(URLS, config, **more):
        client = Client(enforce_csrf_checks=True)
        assert client.post("/login").json()["code"] == "ticket_missing"
        assert client.post("/api/comments/new").status_code == 403
        # Behind the gate, Django's protection from forged requests refuses.
        assert client.post("/login", headers=HEADERS).headers["Content-Type"].startswith("text")
        assert client.get("/tcaptcha/settings.json").status_code == 200
        assert list(checks.check_settings()) == []


def test_the_marked_views_have_rules():
    names = run("class SignUp(")
    urls = [path("a", names["login"]), path("b", names["comment"])]
    urls.append(path("c", names["SignUp"].as_view()))
    with project(urls, {"VERIFIER": FakeVerifier()}):
        rules = [rule.text for rule in current_guard().rules]
        assert rules == ["UNSAFE /a", "UNSAFE /b", "UNSAFE /c"]
        assert current_guard().rules[1].settings == {"max_score": 70}
        assert Client().post("/a", headers=HEADERS).content == b"UNSAFE /a"


def templates_of(**files):
    files = {f"{name}.html": text for name, text in files.items()}
    loaders = [("django.template.loaders.locmem.Loader", files)]
    backend = "django.template.backends.django.DjangoTemplates"
    libraries = {"tcaptcha": "tcaptcha_middleware.integrations.django.templatetags.tcaptcha"}
    return [{"BACKEND": backend, "OPTIONS": {"loaders": loaders, "libraries": libraries}}]


def test_the_form_shows_its_error_and_the_permission_refuses():
    names, comments = run("class SignUpForm"), run("class Comments")["Comments"]
    urls = [path("signup", names["sign_up"]), path("class", names["SignUpView"].as_view())]
    urls.append(path("comments", comments.as_view()))
    rest = {"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []}
    more = {"TEMPLATES": templates_of(sign_up="{{ form }}"), "REST_FRAMEWORK": rest}
    with project(urls, {"VERIFIER": FakeVerifier()}, **more):
        for number, address in enumerate(("/signup", "/class")):
            answer = Client().post(address, {"email": "ada@example.com"}).content.decode()
            assert "ada@example.com" in answer
            assert "Solve the captcha" in answer
            pair = HEADERS | {"X-Captcha-Ticket": f"tr03{number}"}
            answer = Client().post(address, {"email": "ada@example.com"}, headers=pair)
            assert answer.headers["Location"] == "/welcome"
        assert Client().post("/comments").json()["detail"].startswith("Solve the captcha")


def test_the_test_of_the_page_passes():
    def login(request):
        return render(request, "login.html")

    names = run("def test_a_login_needs_a_captcha")
    page = templates_of(login="{% load tcaptcha %}{% tcaptcha_script %}")
    config = {"RULES": ["UNSAFE /login"], "PAGE": "/tcaptcha"}
    # Without a verifier, as in an environment without an account.
    with project([path("login", login)], config, TEMPLATES=page):
        names["test_a_login_needs_a_captcha"]()


def test_a_guard_in_the_settings_can_have_another_verifier_in_tests():
    guard = Guard(["UNSAFE /login"], FakeVerifier(15))
    with project(URLS, {"GUARD": guard}), override(guard, FakeVerifier()):
        assert Client().post("/login", headers=HEADERS).content == b"hello"


def test_the_responder_renders_a_template():
    names = run("def responder")
    templates = templates_of(refused="no: {{ code }}")
    config = {"RULES": ["POST /login"], "RESPONDER": names["responder"]}
    with project(URLS, config | {"VERIFIER": FakeVerifier()}, TEMPLATES=templates):
        response = Client().post("/login")
    assert (response.status_code, response.content) == (403, b"no: ticket_missing")


def test_every_check_is_listed():
    source = Path(checks.__file__).read_text()
    ids = set(re.findall(r"tcaptcha\.[EW]\d+", source))
    assert set(re.findall(r"^\| `(tcaptcha\.\w+)` ", PAGE, re.MULTILINE)) == ids


def test_every_block_of_the_page_is_python():
    assert [ast.parse(text) for text in BLOCKS]
