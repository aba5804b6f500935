"""Properties of matching, for all rule sets and all targets."""

from __future__ import annotations

import asyncio
from urllib.parse import quote, unquote

import slow_oracle
from adapters import Exchange, environ_of, scope_of
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    Rule,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    sources,
)
from tcaptcha_middleware.matching.matcher import Matcher
from tcaptcha_middleware.matching.patterns import parse
from tcaptcha_middleware.rules import AmbiguousTarget, CompiledRule
from tcaptcha_middleware.strictness import suffices
from tcaptcha_middleware.testing import FakeVerifier

VERIFIERS = [FakeVerifier(), FakeVerifier()]


def asks(request):
    return False


WORDS = ["login", "comments", "users", "api", "a"]
SEGMENTS = st.sampled_from(WORDS)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
TEXTS = st.builds(
    "{} {}{}".format,
    st.sampled_from(["", "", "POST", "GET", "UNSAFE", "POST,PUT"]),
    st.lists(SEGMENTS | st.just("{x}"), max_size=3).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(["", "", "/**"]),
).map(lambda text: text.replace("//**", "/**").strip())
WEAK = st.sampled_from(
    [
        *({}, {}, {"mode": "observe"}, {"percent": 50}, {"when": asks}),
        *({"on_unavailable": "allow"}, {"on_unavailable": "allow", "allow_per_minute": 1}),
        *({"sources": [sources.Query()]}, {"fallback_ip": None}, {"verifier": VERIFIERS[1]}),
    ]
)
RULES = st.lists(
    st.builds(lambda text, weak: Rule(text, **weak), TEXTS, WEAK), min_size=1, max_size=4
)
METHODS = st.sampled_from(["POST", "POST", "GET", "PUT", "FOO", "OPTIONS", "HEAD"])
MOUNTS = st.sampled_from(["", "", "/api", "/a/b"])


@st.composite
def guards(draw):
    """Return a guard of rules that may overlap, with exemptions."""
    exempt = draw(st.lists(TEXTS, max_size=2))
    try:
        return Guard(draw(RULES), VERIFIERS[0], exempt=exempt, mounted_at=draw(MOUNTS))
    except ConfigurationError:  # Two rules with one name, or an exemption for everything.
        assume(False)


# -- Rewritings that some server, proxy or router undoes ------


def swapped(path):
    return path.upper()


def with_extension(path):
    return path + ".json"


def escaped(path):
    return "/" + "".join(
        f"%{ord(letter):02x}" if letter in "oi/" else letter for letter in path[1:]
    )


def escaped_twice(path):
    return path.replace("e", "%2565")


FIRST = st.lists(st.sampled_from([swapped, escaped, escaped_twice, str]), max_size=1)


def inserted(text):
    """Return a rewriting that inserts `text` before some slash."""

    def rewrite(path, place):
        parts = path.split("/")
        at = 1 + place % max(1, len(parts) - 1)
        return "/".join(parts[:at]) + text + "/" + "/".join(parts[at:])

    return rewrite


def put_behind(text):
    return lambda path, place: path + text


MIDDLE = st.lists(
    st.tuples(
        st.sampled_from(
            [
                inserted(text)
                for text in (
                    "",
                    "/",
                    "/.",
                    "/p/..",
                    "/p/%2e%2e",
                    ";x",
                    "%5c",
                    "%2f",
                    "/%0a",
                    "\\",
                )
            ]
            + [
                put_behind(text)
                for text in (
                    "/",
                    "//",
                    ";x",
                    "%3fx",
                    "%23x",
                    "%0a",
                    "\ufeff",
                    "/.",
                    "/p/..",
                    "%20",
                )
            ]
        ),
        st.integers(0, 5),
    ),
    max_size=3,
)
LAST = st.sampled_from(["", "", "http://host", "//host", "//comments;x", "http://login", "x:"])


@st.composite
def rewritings(draw):
    first, middle, last = draw(FIRST), draw(MIDDLE), draw(LAST)

    def rewrite(path):
        for change in first:
            path = change(path)
        for change, place in middle:
            path = change(path, place)
        return last + path

    return rewrite


def raw_paths(target):
    """Return the raw path that servers pass on: none, the path's own, or one with a query."""
    raw = quote(target, safe="/%?#;:\\").encode()
    return [b"", raw, raw + b"?x=" + b"y" * 3000]


def decoded(target):
    """Return the path as an ASGI server decodes it, once."""
    return unquote(target)


def is_as_strict(judge, rule):
    """Return if a request that passes `judge` need not pass `rule`."""
    return isinstance(judge, AmbiguousTarget) or (
        isinstance(judge, CompiledRule) and suffices(judge, rule)
    )


WEAK_FIRST = Guard([Rule("POST /comments", mode="observe"), "POST /login"], VERIFIERS[0])


@settings(max_examples=150)
@given(guards(), PATHS, rewritings(), METHODS, MOUNTS)
@example(WEAK_FIRST, "/login", lambda path: "//comments;x" + path, "POST", "")
@example(WEAK_FIRST, "/login", lambda path: "http://comments;x" + path, "POST", "")
def test_no_form_of_a_target_is_judged_more_weakly(guard, path, rewrite, method, root):
    rule = guard.match(method, root + path, b"", root)
    if not isinstance(rule, CompiledRule):
        return
    target = rewrite(root + path)
    for raw_path in raw_paths(target):
        judge = guard.match(method.lower(), decoded(target), raw_path, root)
        assert is_as_strict(judge, rule), (target, raw_path, rule.name, judge)


@settings(max_examples=100)
@given(guards(), PATHS, rewritings(), st.sampled_from(["POST", "PUT", "FOO"]))
def test_no_extension_weakens_the_judge(guard, path, rewrite, method):
    rule = guard.match(method, path)
    if not isinstance(rule, CompiledRule):
        return
    target = rewrite(with_extension(path))
    for raw_path in raw_paths(target):
        assert is_as_strict(guard.match(method, decoded(target), raw_path), rule)


@settings(max_examples=100)
@given(TEXTS.filter(lambda text: text.startswith("GET")), WEAK, PATHS, rewritings())
def test_a_rule_for_get_also_applies_with_an_extension(text, weak, path, rewrite):
    guard = Guard([Rule(text, **weak)], VERIFIERS[0])
    if guard.match("GET", path) is None:
        return
    target = rewrite(with_extension(path))
    for raw_path in raw_paths(target):
        assert guard.match("HEAD", decoded(target), raw_path) is not None


@settings(max_examples=150)
@given(guards(), PATHS, METHODS, st.booleans(), st.booleans())
def test_a_plain_path_that_one_rule_touches_is_judged_by_that_rule(
    guard, path, method, upper, slash
):
    mounted_at = guard.mounted_at
    alone = [
        rule
        for rule in guard.rules
        if Guard([rule], VERIFIERS[0], mounted_at=mounted_at).match(method, path) is not None
    ]
    # In other letters, a mount is not clearly the mount.
    written = path.upper() if upper and not mounted_at else path
    judge = guard.match(method, written + "/" * slash)
    if len(alone) == 1 and judge is not None:
        assert judge.name == (alone[0].name or alone[0].text)
    if not alone:
        assert judge is None


@settings(max_examples=100)
@given(guards(), PATHS, rewritings(), METHODS)
def test_a_request_refused_by_one_rule_is_refused_beside_other_rules(
    guard, path, rewrite, method
):
    target = rewrite("/x/.." + path)
    judge = guard.match(method, decoded(target), b"")
    for rule in guard.rules:
        single = Guard([rule], VERIFIERS[0], exempt=guard.exempt, mounted_at=guard.mounted_at)
        alone = single.match(method, decoded(target), b"")
        if isinstance(alone, CompiledRule):
            assert is_as_strict(judge, alone)


@settings(max_examples=150)
@given(st.lists(TEXTS, min_size=1, max_size=2), PATHS, rewritings(), METHODS, MOUNTS)
@example(["/login", "/users/{x}"], "/login", lambda path: path + ";x", "GET", "")
@example(["/login"], "/login/a", lambda path: path + ";x", "GET", "")
def test_no_rewriting_makes_a_target_exempt(texts, path, rewrite, method, root):
    patterns = [parse(text) for text in texts]
    matcher = Matcher([parse("/**")], patterns)
    if matcher.match(method, root + path, b"", root) is None:
        return
    target = rewrite(root + path)
    for raw_path in raw_paths(target):
        assert matcher.match(method, decoded(target), raw_path, root) is not None


@settings(max_examples=150)
@given(
    st.lists(TEXTS, min_size=1, max_size=3),
    st.lists(
        st.sampled_from(
            [
                *(*WORDS, "/", "/", "/", "//", "/./", "/../", "%2f", "%2e", "%252f", "%5c"),
                *("%00", "%0a", "\t", ";a=b", "?q", "#f", "http://h", "//h", "%ff", " ", "\\"),
            ]
        ),
        max_size=8,
    ).map("".join),
    st.sampled_from(["", "", "/api", "/a/b/"]),
    METHODS,
)
def test_the_matcher_touches_every_rule_that_the_slow_oracle_touches(
    texts, target, root, method
):
    patterns = [parse(text) for text in texts]
    for path in (target, decoded(target)):
        for raw_path in (b"", target.encode(), b"/elsewhere"):
            expected = slow_oracle.touched(patterns, method, path, raw_path, root)
            for number in expected:
                alone = Matcher([patterns[number]])
                assert alone.match(method, path, raw_path, root) is not None
            matcher = Matcher([parse("/**")], patterns)
            if matcher.match(method, path, raw_path, root) is None:
                assert slow_oracle.is_exempt(patterns, method, path, raw_path, root)


@settings(max_examples=60)
@given(guards(), PATHS, rewritings(), METHODS, st.sampled_from(["http", "websocket", "wsgi"]))
def test_both_adapters_match_the_same_target(guard, path, rewrite, method, kind):
    """Run a request through an adapter; a strict rule keeps it from the application."""
    target = rewrite(path)
    reached = []
    exchange = Exchange(method, "/")
    if kind == "wsgi":
        environ = environ_of(exchange) | {
            "PATH_INFO": decoded(target).encode().decode("latin-1")
        }
        gate = TCaptchaWSGIMiddleware(lambda *_: reached.append("app") or [], guard)
        gate(environ, lambda *_: None)
        judge = guard.match(method, decoded(target), decoded(target).encode())
    else:
        more = {"path": decoded(target), "raw_path": raw_paths(target)[1]}
        scope = scope_of(exchange, kind) | more
        if kind == "websocket":
            method = "GET"
            del scope["method"]

        async def app(scope, receive, send):
            reached.append("app")

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            pass

        asyncio.run(TCaptchaMiddleware(app, guard)(scope, receive, send))
        judge = guard.match(method, more["path"], more["raw_path"])
    strict = isinstance(judge, CompiledRule) and suffices(judge, STRICT)
    assert not (reached and strict)
    assert reached or judge is not None


STRICT = Guard(["/x"], VERIFIERS[0]).match("GET", "/x")
