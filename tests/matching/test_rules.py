"""Which requests a rule matches, in every form of their target."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import ConfigurationError
from tcaptcha_middleware.matching.matcher import MatchCache, Matcher
from tcaptcha_middleware.matching.paths import segments
from tcaptcha_middleware.matching.patterns import METHODS, parse


def covers(rule: str, method: str, path: str, **more: object) -> bool:
    return Matcher([parse(rule)]).match(method, path, **more) is not None  # type: ignore[arg-type]


COVERED = [
    ("POST /login", "POST", "/login"),
    ("/login", "DELETE", "/login"),
    ("POST,PUT /login", "PUT", "/login"),
    ("GET /report", "HEAD", "/report"),
    ("GET /report", "head", "/report"),
    ("/admin/**", "GET", "/ADMIN/x"),
    ("POST /login", "POST", "/login/"),
    ("/users/{id}/email", "PUT", "/users/7/email"),
    ("/users/{id}/email", "PUT", "/users/a%2fb/email"),
    ("/users/{id}", "GET", "/users/{id}"),
    ("/admin/**", "GET", "/admin"),
    ("/admin/**", "GET", "/admin/"),
    ("/admin/**", "GET", "/admin/a/b/c"),
    ("/**", "GET", "/"),
    ("/**", "GET", "/a/b"),
    ("/**", "GET", ""),
    ("/", "GET", "/"),
    ("/login/", "GET", "/login"),
    ("/登录", "GET", "/登录"),
    ("  POST   /login ", "POST", "/login"),
]
NOT_COVERED = [
    ("POST /login", "GET", "/login"),
    ("HEAD /report", "GET", "/report"),
    ("/login", "GET", "/logins"),
    ("/login", "GET", "/login/x"),
    ("/login", "GET", "/"),
    ("/login", "GET", "/x/login"),
    ("/admin/**", "GET", "/administrator"),
    ("/users/{id}/email", "GET", "/users/email"),
    ("/users/{id}/email", "GET", "/users/1/2/email"),
    ("/", "GET", "/a"),
    ("/", "GET", "/a//b"),
]


@pytest.mark.parametrize(("rule", "method", "path"), COVERED)
def test_a_rule_matches_every_form_of_its_target(rule, method, path):
    assert covers(rule, method, path)


@pytest.mark.parametrize(("rule", "method", "path"), NOT_COVERED)
def test_a_rule_does_not_match_other_targets(rule, method, path):
    assert not covers(rule, method, path)


# Some pair of server and framework routes each of these to /login.
WAYS_TO_LOGIN = [
    "//login",
    "///login",
    "/login/",
    "/login//",
    "/%6cogin",
    "/%256cogin",
    "/%2flogin",
    "/%2Flogin",
    "/login%2f",
    "/login%0a",
    "/login\n",
    "/login\r\n",
    "/login%00",
    "/login%20",
    "/login ",
    " /login",
    "/lo\tgin",
    "/login%c0%af",
    "/login\ufffd",
    "/login%ff",
    "login",
    "http://evil/login",
    "HTTP://evil:80/login",
    "//evil/login",
    "/./login",
    "/a/../login",
    "/a/%2e%2e/login",
    "/../login",
    "/login;a=b",
    "/login?",
    "/login%3Fx",
    "/login#x",
    "\\login",
    "/\\login",
    "http:\\\\evil\\login",
    "/\u2028login",
    "/%E2%80%A8login",
    "x:/login",
    "x:login",
    "http:/login",
    "http:login",
    "x%3a/login",
    "x/login",
    "x.evil:80/login",
    "*/login",
    "@x//login",
    ".http:////login",
    "htt%20p:////login",
]


@pytest.mark.parametrize("target", WAYS_TO_LOGIN, ids=ascii)
def test_no_form_of_the_target_bypasses_a_rule(target):
    assert covers("POST /login", "POST", target)


@pytest.mark.parametrize("target", WAYS_TO_LOGIN, ids=ascii)
def test_no_raw_path_bypasses_a_rule(target):
    raw = target.encode("utf-8", "surrogateescape")
    assert covers("POST /login", "POST", "/elsewhere", raw_path=raw)


@pytest.mark.parametrize("target", WAYS_TO_LOGIN, ids=ascii)
def test_an_exemption_for_one_path_does_not_help_another(target):
    matcher = Matcher([parse("/**")], [parse("/public/**")])
    assert matcher.match("GET", target) == 0
    assert matcher.match("GET", f"/public/../{target}") == 0
    assert matcher.match("GET", "/public/page") is None


@pytest.mark.parametrize(
    "path",
    [
        "/public/../login",
        "/public/%2e%2e/login",
        "/public/..%2flogin",
        "/public/.%252e/login",
        "/public/..%0a/login",
        "/public/..\\login",
        "/public/.. /login",
        "http://evil/public/../login",
    ],
)
def test_no_dot_segment_extends_an_exemption(path):
    assert Matcher([parse("/**")], [parse("/public/**")]).match("GET", path) == 0


def test_an_exemption_applies_to_its_methods_only():
    matcher = Matcher([parse("/**")], [parse("GET /health")])
    assert matcher.match("GET", "/health") is None
    assert matcher.match("HEAD", "/health") is None
    assert matcher.match("POST", "/health") == 0


@pytest.mark.parametrize("path", ["/café", "/.well-known/x", "/a/b/", "/t/x y"])
def test_an_unusual_but_valid_exempt_path_passes(path):
    rules = ["/café", "/.well-known/x", "/a/b", "/t/{x}"]
    matcher = Matcher([parse("/**")], [parse(rule) for rule in rules])
    assert matcher.match("GET", path) is None
    assert matcher.match("GET", path, quote(path).encode()) is None


def test_the_first_matching_rule_applies():
    matcher = Matcher([parse("GET /a/{x}"), parse("/a/b"), parse("/a/**")])
    assert [matcher.match(m, "/a/b") for m in ("GET", "POST")] == [0, 1]
    assert matcher.match("POST", "/a/c") == 2


@pytest.mark.parametrize("rule", ["/login", "/api/login"])
@pytest.mark.parametrize("path", ["/api/login", "/login", "/api//login", "/api/login%0a"])
def test_rules_for_a_mounted_application_match_its_own_paths_and_full_paths(rule, path):
    assert covers(rule, "POST", path, root_path="/api")


# Litestar removes the first occurrence of the mount; Quart requires no boundary after it.
@pytest.mark.parametrize("path", ["/x/api/login", "/apilogin", "/api/login/api", "//api/login"])
def test_no_form_of_the_mount_bypasses_a_rule(path):
    assert covers("/login/**", "POST", path, root_path="/api")


def test_an_exemption_in_a_mount_counts_on_a_segment_boundary():
    matcher = Matcher([parse("/**")], [parse("/health")])
    for path in ("/apihealth", "/x/api/health", "/health/../api/health"):
        assert matcher.match("GET", path, root_path="/api") == 0


def test_a_mount_elsewhere_changes_nothing():
    assert not covers("/login", "POST", "/v1/x/login", root_path="/v2")


@pytest.mark.parametrize("path", ["/users//code", "//users//code", "/users/%2fcode", "/sms//"])
def test_a_variable_may_be_empty_inside_a_path(path):
    # Falcon runs the handler, with nothing for the variable.
    matcher = Matcher([parse("/users/{id}/code"), parse("/sms/{phone}")])
    assert matcher.match("POST", path) is not None


def test_a_trailing_slash_does_not_count_as_a_variable():
    assert not covers("/reports/{id}", "GET", "/reports/")


def test_an_exemption_does_not_match_a_path_with_doubled_slashes():
    matcher = Matcher([parse("/**")], [parse("/public/page")])
    assert matcher.match("GET", "/public//page") == 0
    assert matcher.match("GET", "/public/page/") is None


def test_an_exemption_in_a_mount_is_written_as_the_applications_own_path():
    matcher = Matcher([parse("/**")], [parse("/health")])
    assert matcher.match("GET", "/api/health", root_path="/api") is None
    assert matcher.match("GET", "/health", root_path="/api/") is None
    assert matcher.match("GET", "/api/other", root_path="/api") == 0


def test_a_mount_named_by_the_client_bypasses_no_rule():
    # Mount("/{tenant}") lets the client choose the part before the application's path.
    matcher = Matcher([parse("/**")], [parse("/public/**")])
    assert matcher.match("GET", "/public/login", root_path="/public") == 0


BAD_RULES = {
    "": "POST /login",
    "   ": "POST /login",
    "login": "slash",
    "POST login": "slash",
    "POST": "slash",
    "POST /a /b": "POST /login",
    "POST, PUT /a": '"POST,PUT /login"',
    "/login POST": "comes last",
    "https://example.com/login": "slash",
    "post /login": 'write "POST /login"',
    "Post,put /login": 'write "POST,PUT /login"',
    "post,fetch /login": "'post,fetch' is not an HTTP method",
    "WS /ws": "a websocket's handshake is a GET",
    "ANY /x": '"/x" alone includes every method',
    "* /x": '"/x" alone includes every method',
    "FETCH /login": "not an HTTP method",
    "POST,, /login": "not an HTTP method",
    "unsafe /login": 'write "UNSAFE /login"',
    "UNSAFE,GET /login": "UNSAFE alone",
    "/log\ufeffin": "decoded path",
    "/login?x=1": "decoded path",
    "/login#x": "decoded path",
    "/lo%67in": "decoded path",
    "/login;x": "decoded path",
    "\\login": "slash",
    "/a\\b": "decoded path",
    "/a/*": "/**",
    "/a/**/b": "/**",
    "/admin**": '"/**" at the end for all below',
    "UNSAFE /a/x**": '"/**" at the end for all below',
    "/**x": '"/**" at the end for all below',
    "/a/***": '"/**" at the end for all below',
    "/a/**/": '"/**" at the end for all below',
    "/a/x{id}": "{name}",
    "/a/{}": "{name}",
    "/a/{1}": "{name}",
    "/a/{x:int}": 'write "{x}"',
    "/a/{x:path}": '"/**" at the end for all below',
    "/a/{1:int}": "{name}",
    "/a/<x>": 'write "{x}"',
    "/a/<int:x>": 'write "{x}"',
    "/a/<path:x>": '"/**" at the end for all below',
    "/a/<int(min=1):x>": "{name}",
    "/a/<x:int>": "{name}",
    "/a/:x": 'write "{x}"',
    "/a/../b": "segment",
    "/./b": "segment",
}


@pytest.mark.parametrize(("text", "fix"), BAD_RULES.items(), ids=BAD_RULES)
def test_an_invalid_rule_is_refused_with_a_fix(text, fix):
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    assert fix in str(caught.value)


PATHS = st.text(
    st.one_of(
        st.sampled_from("/%.;?#\\\n\t \x00abc2fFeE\ufffd\ud800:@"),
        st.characters(),
    ),
    max_size=40,
)


@given(PATHS, st.binary(max_size=40), PATHS)
def test_no_target_raises(path, raw, root):
    matcher = Matcher([parse("/login")], [parse("/free/**")])
    matcher.match(path, path, raw, root)
    matcher.match("GET", path, raw, "", root)


@given(PATHS, st.binary(max_size=20))
def test_the_rule_for_every_path_matches_everything(path, raw):
    assert covers("/**", "POST", path, raw_path=raw)


REWRITES = [
    lambda p: "/" + p,
    lambda p: p + "/",
    lambda p: p + "%0a",
    lambda p: p.replace("o", "%6f"),
    lambda p: "/x/.." + p,
    lambda p: p + ";x=1",
    lambda p: p + "?x",
    lambda p: "/%2e" + p,
    lambda p: p.replace("g", "%c0%afg"),
    lambda p: p.replace("n", "\x01n"),
]


@given(st.lists(st.sampled_from(REWRITES), max_size=3), st.sampled_from(["", "http://evil"]))
def test_rewritings_may_be_combined(rewrites, origin):
    path = "/login"
    for rewrite in rewrites:
        path = rewrite(path)
    assert covers("POST /login", "POST", origin + path)


@given(st.lists(st.sampled_from(sorted(METHODS)), min_size=1), PATHS, st.binary(max_size=20))
def test_no_rule_matches_a_method_that_no_rule_names(named, path, raw):
    matcher = Matcher([parse(f"{method} /**") for method in named])
    assert [
        method
        for method in matcher.unmatched_methods
        if matcher.match(method, path, raw) is not None
    ] == []


@pytest.mark.parametrize(
    ("rules", "unmatched_methods"),
    [
        (["POST /login"], METHODS - {"POST"}),
        (["POST /login", "GET /admin/**"], METHODS - {"POST", "GET", "HEAD"}),
        (["POST /login", "/admin"], set()),
    ],
)
def test_unmatched_methods_exclude_every_method_that_a_rule_may_match(rules, unmatched_methods):
    assert Matcher([parse(rule) for rule in rules]).unmatched_methods == unmatched_methods


@given(st.lists(st.sampled_from(["a", "b", "login", "users"]), max_size=5))
def test_a_plain_path_is_matched_only_by_a_rule_for_it(parts):
    assert covers("/login", "GET", "/" + "/".join(parts)) == (parts == ["login"])


def test_empty_segments_are_removed():
    assert segments("//a/b/") == ("a", "b")


def test_the_match_for_a_target_is_cached():
    asked = []

    def match(*target):
        asked.append(target)
        return len(asked)

    covered = MatchCache(match)
    target, other = ("POST", "/login", b"/login", "", "/api"), ("GET", "/", b"", "", "")
    assert [covered[target], covered[target], covered[other]] == [1, 1, 2]
    assert asked == [target, other]


@pytest.mark.parametrize("place", range(5))
def test_a_long_target_is_not_cached(place):
    covered = MatchCache(lambda *target: None)
    target = ["GET", "/", b"", "", ""]
    target[place] = b"x" * 600 if place == 2 else "x" * 600
    assert covered[tuple(target)] is None
    assert len(covered) == 0


def test_the_number_of_cached_targets_is_limited():
    covered = MatchCache(lambda *target: target[1])
    assert all(covered["GET", path, b"", "", ""] == path for path in map(str, range(10_000)))
    assert 0 < len(covered) <= 2048
