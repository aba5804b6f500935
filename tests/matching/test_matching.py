"""Which of several rules judges a request, and targets that no rule can judge."""

from __future__ import annotations

import logging

import pytest

from tcaptcha_middleware.matching.matcher import Matcher
from tcaptcha_middleware.matching.patterns import parse


def matcher(*rules, exempt=(), stricter=()):
    """Return a matcher; `stricter` lists pairs of which the first suffices for the second."""
    pairs = {*stricter, *((number, number) for number in range(len(rules)))}
    return Matcher(
        [parse(rule) for rule in rules],
        [parse(rule) for rule in exempt],
        lambda first, second: (first, second) in pairs,
    )


ODD_LOGINS = {
    "a host with parameters": "http://comments;x/login",
    "a host without a scheme": "//comments;/login",
    "dots with parameters": "/comments/..;/login",
    "escaped dots": "/comments;/%2e%2e/login",
    "a scheme without slashes": "x:comments;/../login",
    "a query that is part of the path": "/comments%3f/../login",
    "a fragment": "/comments/..%23/login",
    "dots at the end": "/login/../comments/..",
}
every_odd_login = pytest.mark.parametrize("path", ODD_LOGINS.values(), ids=ODD_LOGINS)


@every_odd_login
def test_an_odd_target_is_judged_by_the_rule_that_suffices_for_all(path):
    rules = "POST /comments", "POST /login"
    assert matcher(*rules, stricter={(1, 0)}).match("POST", path) == 1
    assert matcher(*reversed(rules), stricter={(0, 1)}).match("POST", path) == 0


@every_odd_login
def test_an_odd_target_that_no_rule_suffices_for_is_ambiguous(path):
    assert matcher("POST /comments", "POST /login").match("POST", path) == (0, 1)


@pytest.mark.parametrize(
    "path",
    ["/" * 50 + "login", "http://comments/login", "/comments/../login", "/comments//../login"],
)
def test_an_odd_target_that_touches_one_rule_is_judged_by_that(path):
    assert matcher("POST /comments", "POST /login").match("POST", path) == 1


def test_a_plain_target_is_judged_by_the_first_rule_that_matches_it():
    rules = matcher("POST /login", "/{page}", "/**")
    assert [rules.match("POST", path) for path in ("/login", "/other", "/a/b")] == [0, 1, 2]
    assert rules.match("POST", "/login/") == 0
    assert rules.match("GET", "/login") == 1


def test_the_first_of_the_strictest_rules_judges():
    equal = {(1, 0), (2, 0), (1, 2), (2, 1)}
    assert matcher("/a", "/b", "/c", stricter=equal).match("GET", "/a;/../b;/../c") == 1


VARIABLES = {
    "dots": ("/users/{id}/code", "/users/../code", b""),
    "an escaped slash": ("/users/{id}/code", "/users/a/b/code", b"/users/a%2fb/code"),
    "a slash that is escaped twice": ("/users/{id}/code", "/users/a%2fb/code", b""),
    "a backslash": ("/users/{id}/code", "/users/a\\b/code", b""),
    "nothing": ("/users/{id}/code", "/users//code", b""),
    "an invisible character": ("/sms/{to}", "/sms/\x00", b""),
    "a blank": ("/sms/{to}", "/sms/%20", b""),
    "an invisible character at the begin": ("/{tenant}/login", "/\x00/login", b""),
    "a segment with parameters": ("/{a}/login", "/x;y?z/login", b""),
}


@pytest.mark.parametrize(("rule", "path", "raw_path"), VARIABLES.values(), ids=VARIABLES)
def test_a_variable_may_be_any_segment_that_some_router_sees(rule, path, raw_path):
    assert matcher(rule).match("POST", path, raw_path) == 0


@pytest.mark.parametrize("path", ["/sms/", "//sms/", "/x/../sms/"])
def test_a_final_slash_does_not_count_as_a_segment(path):
    assert matcher("/sms/{to}").match("POST", path) is None


# -- Letter case ------


@pytest.mark.parametrize(
    "path", ["/LOGIN", "/Login", "/lOGIN/", "/login", "/log\u0131n", "/log\u0130n", "//LOGIN"]
)
def test_letter_case_does_not_matter(path):
    assert matcher("POST /login").match("POST", path) == 0
    assert matcher("POST /Login").match("POST", path) == 0


@pytest.mark.parametrize(
    "path", ["/to\u212aens", "/TO\u212aENS", "/to%E2%84%AAens", "/token\u017f", "/TOKEN%C5%BF"]
)
def test_letters_that_only_full_case_folding_makes_equal_do_not_matter(path):
    # Django's `(?i)` takes the Kelvin sign for a k, and a long s for an s.
    assert matcher("POST /tokens").match("POST", path) == 0


def test_a_rule_in_other_letter_case_does_not_take_the_place_of_the_exact_one():
    rules = "POST /Login", "POST /login"
    for path in ("/login", "/Login", "/LOGIN"):
        assert matcher(*rules, stricter={(1, 0)}).match("POST", path) == 1
        assert matcher(*rules).match("POST", path) == (0, 1)


def test_a_broader_rule_does_not_judge_because_two_others_differ_in_letter_case():
    rules = matcher("POST /Login", "POST /login", "/**", stricter={(1, 0)})
    assert [rules.match("POST", path) for path in ("/Login", "/login", "/other")] == [1, 1, 2]


def test_a_later_rule_does_not_judge_because_of_letter_case():
    rules = matcher("POST /API/upload", "/**")
    assert rules.match("POST", "/API/upload") == 0
    assert (
        matcher("POST /api/upload", "/api/**", stricter={(1, 0)}).match("POST", "/Api/upload")
        == 0
    )


# -- Extensions ------


@pytest.mark.parametrize("path", ["/users.json", "/users.json/", "/USERS.JSON", "/users.a"])
def test_a_last_extension_does_not_matter(path):
    assert matcher("POST /users").match("POST", path) == 0
    assert matcher("GET /users").match("HEAD", path) == 0
    assert matcher("UNSAFE /users").match("FOO", path) == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/login.js", "//login.js", "/x/../login.js"])
def test_a_rule_without_get_does_not_match_files_beside_a_page(method, path):
    assert matcher("/login").match(method, path) is None
    assert matcher("/login", "GET /other").match(method, path) is None
    assert matcher("/login").match("POST", path) == 0


@pytest.mark.parametrize("path", ["/users.json/x", "/users.tar.gz", "/a.git/users"])
def test_only_the_last_extension_of_a_plain_path_is_removed(path):
    assert matcher("POST /users").match("POST", path) is None


def test_a_name_that_begins_with_a_dot_does_not_count_as_an_extension():
    assert matcher("POST /").match("POST", "/.git") is None
    assert matcher("POST /.git").match("POST", "/.git") == 0


@pytest.mark.parametrize("path", ["/users.json/x/..", "//users.json", "/a/../users.json;x"])
def test_in_an_odd_target_every_extension_may_be_removed(path):
    assert matcher("POST /users").match("POST", path) == 0
    assert matcher("GET /users").match("GET", path) == 0


def test_a_rule_that_names_the_extension_and_one_that_does_not_both_judge():
    rules = "POST /users.json", "POST /users", "/**"
    assert matcher(*rules, stricter={(0, 1)}).match("POST", "/users.json") == 0
    assert matcher(*rules).match("POST", "/users.json") == (0, 1)
    assert matcher(*rules).match("POST", "/users") == 1


def test_a_rule_that_names_the_extension_stays_an_exception_from_a_broader_one():
    # `/**` matches the path as written, but comes after the rule for it.
    assert matcher("POST /search.do", "/**").match("POST", "/search.do") == 0


def test_the_log_says_that_a_rule_matched_only_without_the_extension(caplog):
    caplog.set_level(logging.DEBUG, "tcaptcha_middleware")
    rules = matcher("POST,PUT /users", "UNSAFE /admin/{x}/**")
    rules.match("POST", "/users")
    assert caplog.messages == []
    rules.match("POST", "/users.json")
    rules.match("POST", "/admin/a.json/")
    assert caplog.messages == [
        "POST,PUT /users matches '/users.json' only without its extension",
    ]


@pytest.mark.parametrize("text", ["POST,PUT /users/{}", "UNSAFE /admin/**", "/a", "/**"])
def test_a_pattern_is_printed_as_a_rule_text(text):
    assert str(parse(text.replace("{}", "{id}"))) == text


# -- UNSAFE ------


@pytest.mark.parametrize("method", ["POST", "PUT", "delete", "OPTIONS", "PROPFIND", "FOO", ""])
@pytest.mark.parametrize("path", ["/login", "//login", "/LOGIN", "/" * 300 + "login"])
def test_an_unsafe_rule_matches_every_method_but_get_and_head(method, path):
    assert matcher("UNSAFE /login").match(method, path) in (0, (0,))


@pytest.mark.parametrize("method", ["GET", "HEAD", "get"])
@pytest.mark.parametrize("path", ["/login", "//login", "/" * 300 + "login"])
def test_an_unsafe_rule_does_not_match_get_and_head(method, path):
    assert matcher("UNSAFE /login").match(method, path) is None


def test_get_and_head_are_the_methods_that_an_unsafe_rule_leaves_unmatched():
    assert matcher("UNSAFE /login").unmatched_methods == {"GET", "HEAD"}
    assert matcher("UNSAFE /login", "GET /x").unmatched_methods == set()


# -- Exemptions ------

EXEMPT = ["/health", "/public/**", "/t/{x}", "GET /feed.rss"]
NOT_EXEMPT = [
    "/Health",
    "/health.json",
    "/health.json/",
    "//health",
    "/./health",
    "/x/../health",
    "/health/..",
    "/heal\x00th",
    "/health\n",
    "/health%0a",
    "/health%20",
    "/health ",
    "\\health",
    "/health\\",
    "health",
    "x/health",
    "http://x/health",
    "//x/health",
    "/health;x",
    "/health?x",
    "/health#x",
    "/health//",
    "/h%65alth",
    "/PUBLIC/x",
    "/public/../login",
    "/public/.\x00./login",
    "/public/..;/login",
    "/public/..\\login",
    "/public/x/../y",
    "/public\\x",
    "/public;x/y",
    "//public/x",
    "/public%2f..%2flogin",
    "/public/%2e%2e%2flogin",
    "/public/%252e%252e/login",
    "/t/a;/y",
    "/t/a//",
    "/t/a%3b/y",
    "/t/a%2fb",
    "/t//",
    "/feed",
    "/feed.rss.gz",
    "/feed.rss;x",
    "/" * 300 + "health",
]


@pytest.mark.parametrize("path", NOT_EXEMPT, ids=ascii)
def test_no_other_form_of_an_exempt_path_is_exempt(path):
    rules = matcher("/**", exempt=EXEMPT)
    assert rules.match("GET", path) in (0, (0,))
    assert rules.match("GET", path, path.encode()) in (0, (0,))


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/health/",
        "/public",
        "/public/",
        "/public/a/b.json",
        "/public/x;y//z?#%25",
        "/public/http://a/b",
        "/public/" + ";" * 300,
        "/public/x%2fy",
        "/t/caf\u00e9 au lait",
        "/t/100%",
        "/feed.rss",
        "/public/" + "x" * 20_000,
        "/public/;" + "x" * 20_000,
    ],
    ids=lambda path: ascii(path[:40]),
)
def test_a_path_that_is_exempt_in_every_reading_is_exempt(path):
    assert matcher("/**", exempt=EXEMPT).match("GET", path) is None


# -- Limits ------


@pytest.mark.parametrize(
    "oddity", ["//", "/.", "/%2e", ";", "%3b", "%23", "%3f", "%25", "/ ", "/%20", "/%0a", "\\"]
)
def test_a_target_with_too_many_oddities_touches_every_rule_for_its_method(oddity):
    rules = matcher("GET /a", "POST /login", "/b", stricter={(1, 2)})
    path = "/x" + f"{oddity}x" * 10 + oddity * 400
    assert [rules.match(method, path) for method in ("post", "GET")] == [(1, 2), (0, 2)]
    assert rules.match("PROPFIND", path) == (2,)
    assert matcher("GET /a").match("POST", path) is None


def test_a_target_with_few_oddities_is_judged_by_the_rules_that_it_touches():
    rules = matcher("POST /a", "POST /login")
    assert rules.match("POST", "/" * 100 + "login") == 1
    assert rules.match("POST", "/x;" * 90 + "/../login") == 1
    assert rules.match("POST", "/x;" * 90) is None


def test_a_plain_path_of_any_length_is_judged():
    rules = matcher("POST /login", "POST /long/**")
    long = "/x" * 50_000
    assert rules.match("POST", long) is None
    assert rules.match("POST", "/long" + long) == 1
    assert rules.match("POST", "/%C3%A9" * 50_000, b"/%C3%A9" * 50_000) == (0, 1)
    assert rules.match("POST", "/\u00e9" * 50_000, b"/%C3%A9" * 50_000) is None


def test_readings_that_are_too_long_together_touch_every_rule_for_the_method():
    rules = matcher("GET /a", "POST /login")
    tail, raw_tail = "/%255c%252f%5c", b"/%25255c%25252f%255c"
    assert rules.match("POST", "/a" * 500 + tail, b"/a" * 500 + raw_tail) is None
    assert rules.match("POST", "/a" * 7500 + tail, b"/a" * 7500 + raw_tail) == (1,)


def test_an_odd_target_that_is_too_long_touches_every_rule_for_its_method():
    rules = matcher("GET /a", "POST /login")
    assert rules.match("POST", "//" + "x" * 17_000) == (1,)
    assert rules.match("POST", "//" + "x" * 15_000) is None


def test_a_query_does_not_count():
    query = b"?next=//a/../b;" + b"%2f" * 10_000
    rules = matcher("POST /comments", "POST /login")
    assert rules.match("POST", "/login", b"/login" + query) == 1
    assert rules.match("POST", "/other", b"/other" + query) is None
    assert rules.match("POST", "//login", b"//login" + query) == 1


# -- Preflights ------


def test_a_rule_that_lets_preflights_pass_does_not_suffice_for_one_that_does_not():
    rules = matcher("/a/**", "OPTIONS,POST /b", stricter={(0, 1)})
    assert rules.match("POST", "/a/../b") == 0
    assert rules.match("OPTIONS", "/a/../b") == (0, 1)
    assert matcher("/a/**", "/b", stricter={(0, 1)}).match("OPTIONS", "/a/../b") == 0


# -- Mounts ------


@pytest.mark.parametrize("rule", ["POST /login", "POST /api/login"])
@pytest.mark.parametrize("path", ["/api/login", "/login", "/api//login", "/API/login/"])
@pytest.mark.parametrize("mounts", [("/api", ""), ("", "/api"), ("/v1", "/api"), ("/api/", "")])
def test_a_rule_may_name_the_own_path_or_the_full_one_of_any_mount(rule, path, mounts):
    assert matcher(rule).match("POST", path, b"", *mounts) == 0


@pytest.mark.parametrize(
    "path", ["/a//b/login", "/A/b;x/login", "/x/../a/./b/login", "/a%2fb//login"]
)
def test_a_mount_may_be_written_in_odd_forms_too(path):
    assert matcher("POST /login").match("POST", path, b"", "/a/b") == 0


@pytest.mark.parametrize("path", ["/login;x", "//login", "/a/b/login;x"])
@pytest.mark.parametrize("rule", ["POST /a/b/login", "/a/b/**", "/a/**"])
def test_rules_for_the_full_path_apply_to_odd_targets(rule, path):
    assert matcher(rule).match("POST", path, b"", "/a/b") == 0


def test_a_mount_in_an_odd_form_may_name_other_rules():
    assert matcher("/a/**").match("POST", "/login", b"", "/a;x") == 0


@pytest.mark.parametrize("path", ["/v1/login", "/login", "/v1/api/login", "/api/v1/login"])
def test_both_mounts_count_if_server_and_application_set_one_each(path):
    assert matcher("POST /login").match("POST", path, b"", "/v1", "/api") == 0


def test_the_applications_mount_replaces_the_servers_for_exemptions():
    rules = matcher("/**", exempt=["/health"])
    assert rules.match("GET", "/api/health", b"", "/v1", "/api") is None
    assert rules.match("GET", "/health", b"", "/v1", "/api") is None
    for path in ("/v1/health", "/API/health", "/apihealth", "/api//health", "/x/api/health"):
        assert rules.match("GET", path, b"", "/v1", "/api") == 0


def test_below_a_mount_the_rules_keep_their_order():
    # `/**` matches the full path as well, but it comes behind the rule for this path.
    rules = matcher("POST /upload", "/**", stricter={(1, 0)})
    assert rules.match("POST", "/api/upload", b"", "/api") == 0
    assert rules.match("POST", "/api/other", b"", "/api") == 1


def test_a_mount_that_a_client_names_does_not_choose_the_rule():
    # Mount("/{tenant}"): the client may name its tenant like a rule's full path.
    rules = "/comments/**", "POST /login"
    assert (
        matcher(*rules, stricter={(1, 0)}).match("POST", "/comments/login", b"", "/comments")
        == 1
    )
    assert matcher(*rules).match("POST", "/comments/login", b"", "/comments") == (0, 1)
    assert matcher(*rules).match("POST", "/acme/login", b"", "/acme") == 1


@pytest.mark.parametrize("path", ["/a/b%00", "/a/b\x00", "/a/b/\x00", "/A/b%00"], ids=ascii)
def test_after_a_mount_an_invisible_character_may_be_a_segment(path):
    # Quart removes the mount without requiring a slash after it.
    assert matcher("POST /{x}").match("POST", path, b"", "/a/b") == 0


@pytest.mark.parametrize("path", ["/x/a\x00pi/login", "/a\x00pilogin"], ids=ascii)
def test_an_invisible_character_may_be_part_of_the_mount(path):
    assert matcher("POST /login").match("POST", path, b"", "/api") == 0


@pytest.mark.parametrize("mount", ["/a%2e", "/a;x", "/a//b", "a", "/a\x00", "\x00"], ids=ascii)
def test_a_mount_in_an_odd_form_touches_every_reading(mount):
    rules = matcher("POST /login", "/a/**", exempt=["/login"])
    assert rules.match("POST", mount + "/login", b"", mount) in (0, (0, 1))
    assert rules.match("POST", "/login", b"", mount) is None
