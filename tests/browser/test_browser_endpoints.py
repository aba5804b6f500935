"""The endpoints for browsers, the module and its settings, through both adapters."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import quote

import pytest
from adapters import Exchange, call_asgi, messages_of, scope_of
from both_adapters import ADAPTERS, APPLICATION
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_stores import isolated_store
from served import serving

from tcaptcha_middleware import Guard, Page, Rule, TCaptchaMiddleware, TencentVerifier
from tcaptcha_middleware.browser import module_path
from tcaptcha_middleware.languages import MESSAGES
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM
from tcaptcha_middleware.testing import FakeVerifier, TencentEmulator

MODULE, SETTINGS = "/tcaptcha/tcaptcha.js", "/tcaptcha/settings.json"
SECRETS = TencentEmulator().settings | {"token": "a-token-nobody-may-see"}
BROWSER = ("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
every_root = pytest.mark.parametrize("root", ["", "/mount", "/a/b/"])


def guard(*rules, **more):
    every = [*(rules or ["/**"]), Rule("/mini", verifier=FakeVerifier(action=MINI_PROGRAM))]
    settings = {"page": "/tcaptcha", "replay_store": isolated_store()} | more
    return Guard(every, TencentVerifier(**SECRETS), **settings)


def get(target, *headers, method="GET"):
    return Exchange(method, target, headers)


@every_root
@every_adapter
def test_the_module_is_served_if_every_path_is_protected(adapter, root):
    answer = adapter(guard(), get(MODULE), root)
    assert (answer.status, answer.body) == (200, module_path().read_bytes())
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"].startswith("public, max-age=3600")
    assert answer.headers["content-length"] == str(len(answer.body))


@every_root
@every_adapter
def test_the_settings_are_served_if_every_path_is_protected(adapter, root):
    gate = guard()
    answer = adapter(gate, get(SETTINGS), root)
    settings = gate.public_settings() | {"required": True, "fail_open": False}
    assert (answer.status, json.loads(answer.body)) == (200, settings)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


# The query, `Page.language`, `Accept-Language`; the captcha's language, and that of the texts.
LANGUAGES = {
    "nothing": ("", None, "", None, "en"),
    "the visitor's": ("", None, "zh-TW", None, "zh-tw"),
    "the page's": ("lang=zh-CN", None, "en", "zh-cn", "zh-cn"),
    "in Tencent's spelling": ("lang=ZH-hant-HK", None, "en", "zh-hk", "zh-tw"),
    "Macau": ("lang=zh-MO", None, "en", "zh-hk", "zh-tw"),
    "Simplified Chinese in Hong Kong": ("lang=zh-Hans-HK", None, "en", "zh-cn", "zh-cn"),
    "with an underscore": ("lang=zh_tw", None, "en", "zh-tw", "zh-tw"),
    "without texts": ("lang=pt-BR", None, "zh", "pt", "zh-cn"),
    "that Tencent does not document": ("lang=sr-Latn-RS", None, "", "sr-latn-rs", "en"),
    "the settings' before the page's": ("lang=zh", "zh_TW", "en", "zh-tw", "zh-tw"),
    "an option before both": ("language=en-GB&lang=zh", "zh-TW", "zh", "en", "en"),
    "the first of several": ("lang=ja&lang=zh", None, "en", "ja", "en"),
    "an option without texts": ("language=ja&lang=zh-TW", None, "en", "ja", "zh-tw"),
    "the settings' without texts": ("language=ja&lang=zh", "pt", "en", "ja", "zh-cn"),
    "an option that is not valid": ("language=%3Cb%3E", "zh-TW", "en", "zh-tw", "zh-tw"),
    "one that is not valid": ("lang=%3Cb%3E", None, "zh", None, "zh-cn"),
    "one that is too long": ("lang=zh-" + "a" * 40, None, "en", None, "en"),
}


@every_adapter
@pytest.mark.parametrize(
    ("query", "own", "accepted", "spoken"),
    [(query, own, accepted, spoken) for query, own, accepted, *spoken in LANGUAGES.values()],
    ids=LANGUAGES,
)
def test_settings_have_the_texts_and_the_captcha_in_the_pages_language(
    adapter, query, own, accepted, spoken
):
    gate = guard(page=Page(language=own))
    answer = adapter(gate, get(f"{SETTINGS}?{query}", ("Accept-Language", accepted)))
    settings = json.loads(answer.body)
    tencent, texts = spoken
    assert settings.get("language") == tencent
    assert settings["messages"] == {"lang": texts, **MESSAGES[texts]}


TAGS = {
    "the tag": ("{}", 304),
    "weakened by a proxy": ("W/{}", 304),
    "among others": ('"x", {}, W/"y"', 304),
    "any": ("*", 304),
    "another": ('"x"', 200),
    "without quotes": ("x", 200),
    "within another": ('"x{}"', 200),
    "blank": ("", 200),
}


@every_adapter
@pytest.mark.parametrize(("tags", "status"), TAGS.values(), ids=TAGS)
def test_a_client_with_the_current_module_gets_304(adapter, tags, status):
    tag = adapter(guard(), get(MODULE)).headers["etag"]
    answer = adapter(guard(), get(MODULE, ("If-None-Match", tags.replace("{}", tag))))
    assert answer.status == status
    assert answer.headers["etag"] == tag
    if status == 304:
        assert answer.body == b""
        assert not {"content-length", "content-type"} & answer.headers.keys()


@every_adapter
@pytest.mark.parametrize("target", [MODULE, SETTINGS])
def test_a_head_request_gets_the_headers_of_a_get(adapter, target):
    gate = guard()
    head, full = adapter(gate, get(target, method="HEAD")), adapter(gate, get(target))
    assert (head.status, head.headers, head.body) == (200, full.headers, b"")


@every_adapter
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get"])
@pytest.mark.parametrize("target", [MODULE, SETTINGS])
def test_another_method_gets_405_with_the_allowed_methods(adapter, target, method):
    answer = adapter(guard(), get(target, method=method))
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(answer.body)["status"] == 405


@every_adapter
@pytest.mark.parametrize(
    "target",
    [
        *("/tcaptcha", "/tcaptcha/", "/tcaptcha/tcaptcha.d.ts", "/tcaptcha/challenge.html"),
        *("/x/tcaptcha/tcaptcha.js", "//tcaptcha/tcaptcha.js", "/tcaptcha/settings.json/"),
        *("/tcaptcha/../tcaptcha/module.py", "/other/tcaptcha/settings.json"),
    ],
)
def test_nothing_else_is_served(adapter, target):
    assert adapter(guard(), get(target)).status == 403
    assert adapter(guard("/login"), get(target))[::2] == APPLICATION


@every_adapter
def test_without_a_page_both_paths_reach_the_application(adapter):
    for target in (MODULE, SETTINGS):
        assert adapter(guard("/login", page=None), get(target))[::2] == APPLICATION


@every_adapter
def test_another_path_may_be_chosen(adapter):
    gate = guard(page=Page("/a/captcha"))
    assert adapter(gate, get("/a/captcha/tcaptcha.js"), "/mount").status == 200
    assert adapter(gate, get(MODULE)).status == 403


@every_adapter
@pytest.mark.parametrize(("of", "app_id"), [("POST /login", "190000005"), ("x", "190000000")])
def test_the_settings_are_those_of_the_rule_for_the_next_request(adapter, of, app_id):
    other = TencentVerifier(**SECRETS | {"app_id": 190000005})
    gate = guard("/**", Rule("POST /login", verifier=other))
    # The first matching rule applies.
    first = guard(Rule("POST /login", verifier=other), "/**")
    target = f"{SETTINGS}?for={quote(of)}"
    assert json.loads(adapter(gate, get(target)).body)["appId"] == "190000000"
    assert json.loads(adapter(first, get(target), "/mount").body)["appId"] == app_id


@every_adapter
def test_a_captcha_that_no_browser_can_show_is_not_found(adapter):
    answer = adapter(guard("/login"), get(f"{SETTINGS}?for=GET%20/mini"))
    problem = json.loads(answer.body)
    assert (answer.status, problem["status"], problem["title"]) == (404, 404, "Not Found")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"


@every_adapter
@pytest.mark.parametrize("kind", [None, "cbc"])
def test_no_response_contains_a_secret(adapter, kind):
    gate = guard(page=Page(aid=kind))
    targets = [MODULE, SETTINGS, f"{SETTINGS}?for=GET%20/mini", "/any", f"{SETTINGS}?for=%00"]
    hidden = [SECRETS[n] for n in ("app_secret_key", "secret_id", "secret_key", "token")]
    for target in targets:
        text = repr(adapter(gate, get(target, BROWSER)))
        assert [secret for secret in hidden if secret in text] == []


@every_adapter
@settings(max_examples=150)
@given(query=st.text(max_size=60) | st.text("for=&%20/POSTlogin+", max_size=40))
def test_no_query_raises(adapter, query):
    query = quote(query.encode("utf-8", "replace").decode(), safe="&=%+/")
    answer = adapter(guard("/login"), get(f"{SETTINGS}?{query}"))
    assert answer.status in (200, 404)
    assert json.loads(answer.body)


def test_a_websocket_at_the_pages_path_is_gated_like_any_other():
    async def app(scope, receive, send):
        raise AssertionError

    scope = scope_of(get(MODULE), kind="websocket")
    del scope["method"]
    sent = call_asgi(TCaptchaMiddleware(app, guard()), scope, messages_of(get(MODULE)))
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]


@pytest.mark.parametrize(
    "server",
    ["uvicorn with h11", "uvicorn with httptools", "hypercorn", "gunicorn", "waitress"],
)
def test_real_servers_serve_the_page_over_one_keep_alive_connection(server, tmp_path):
    with (
        serving(server, "page_apps", tmp_path / "log") as served,
        closing(HTTPConnection("127.0.0.1", served.port, timeout=20)) as connection,
    ):

        def ask(method, target, **headers):
            connection.request(method, target, headers=headers)
            answer = connection.getresponse()
            return answer, answer.read()

        answer, body = ask("GET", MODULE)
        tag = answer.headers["ETag"]
        assert body == module_path().read_bytes()
        answer, body = ask("GET", MODULE, **{"If-None-Match": tag})
        assert (answer.status, body) == (304, b"")
        answer, body = ask("HEAD", MODULE)
        assert (answer.status, answer.headers["ETag"], body) == (200, tag, b"")
        answer, body = ask("GET", f"{SETTINGS}?for=GET%20/x")
        assert json.loads(body)["appId"] == "190000000"
        assert ask("DELETE", SETTINGS)[0].status == 405
        assert ask("GET", "/any")[0].status == 403
        answer, body = ask("GET", "/any", Accept="text/html")
        assert b"/tcaptcha/tcaptcha.js" in body
        cookies = "tcaptcha_ticket=tr03a%2A; tcaptcha_randstr=%40b"
        assert ask("GET", "/any", Accept="text/html", Cookie=cookies)[1] == b"inside"


@every_adapter
def test_aid_encrypted_is_fresh_each_time_and_never_logged(adapter, caplog):
    caplog.set_level(0)
    gate = guard(page=Page("/tcaptcha", aid="cbc"))
    opened = ("Accept", "text/html")
    values = []
    for _ in range(3):
        answer = adapter(gate, get(SETTINGS))
        assert answer.headers["cache-control"] == "no-store"
        values.append(json.loads(answer.body)["aidEncrypted"])
        adapter(gate, get("/covered", opened))
    assert len(set(values)) == 3
    everything = caplog.text + repr(gate) + repr(gate.page)
    assert not [value for value in (*values, SECRETS["app_secret_key"]) if value in everything]
