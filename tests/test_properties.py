"""Properties of all exchanges, through the flow alone and through both adapters."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import pairwise
from urllib.parse import parse_qsl, quote, unquote, urlencode

import pytest
from adapters import (
    ALLOWED,
    RUNNERS,
    UNCOVERED,
    Exchange,
    Outcome,
    call_asgi,
    call_wsgi,
    environ_of,
    messages_of,
    scope_of,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from replay_stores import isolated_store

from tcaptcha_middleware import (
    CaptchaInfo,
    Guard,
    MisconfiguredError,
    OutageError,
    RequestInfo,
    Rule,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    ThrottledError,
    TrustedProxies,
    Unchecked,
    Verdict,
    VerifierError,
    sources,
)
from tcaptcha_middleware.browser.challenge import NavigationCookie
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM
from tcaptcha_middleware.testing import FakeVerifier

T, R = "tr03goodticket*", "@rand"
URLENCODED = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=B"


class Scripted:
    """Returns any value, a Verdict or not, and records its calls."""

    def __init__(self, said, **captcha):
        self.said = said
        self.captcha = CaptchaInfo(**captcha)
        self.asked = []

    def verify(self, ticket):
        self.asked.append((ticket.ticket, ticket.randstr))
        if isinstance(self.said, Exception):
            raise self.said
        return self.said

    async def averify(self, ticket):
        return self.verify(ticket)

    def probe(self, limit):
        """Return, as a service that is up does."""


def asks(request):
    return bool(request.header("X-Ask"))


RULES = [
    "POST /login",
    "/any/**",
    Rule("/observed", mode="observe"),
    Rule("/half", percent=50),
    Rule("/opened", on_unavailable="allow"),
    Rule("/asked", when=asks),
    Rule(
        "/own",
        sources=[
            sources.Query(),
            sources.Header("T", "R"),
            sources.Json("c.ticket", "c.randstr"),
        ],
    ),
    Rule("/small", body_limit=48),
    Rule("/cookie", sources=[NavigationCookie()]),
]
PATHS = {"/observed", "/half", "/opened", "/asked", "/own", "/small", "/mini", "/cookie"}


class Watched:
    """A guard, the calls of its verifier, and its events."""

    def __init__(self, said):
        self.verifier, self.events = Scripted(said), []
        mini = Scripted(said, has_randstr=False, refuses_reuse=False, codes=MINI_PROGRAM.codes)
        mini.asked = self.verifier.asked
        rules = [*RULES, Rule("/mini", verifier=mini)]
        self.guard = Guard(
            rules,
            self.verifier,
            replay_store=isolated_store(),
            on_event=self.note,
        )

    def note(self, event):
        if event.decision is not None:  # otherwise a change of the service's health
            self.events.append(event)


# -- Exchanges ------


def multipart(fields):
    parts = [
        f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    return "".join([*parts, "--B--\r\n"]).encode()


def document(fields):
    return json.dumps({**dict(fields), "c": dict(fields)}).encode()


WRITERS = {
    URLENCODED: lambda fields: urlencode(fields).encode(),
    JSON: document,
    MULTIPART: multipart,
    "application/vnd.api+json": document,
    "text/csv": lambda fields: repr(fields).encode(),
}


def mostly(usual, other):
    return st.sampled_from([usual] * 4 + [other]).flatmap(lambda chosen: chosen)


GOOD = st.sampled_from([T, "t", "~" * 60])
BAD = ["", "a b", "a,b", "é", "a\0", "trerror_1001_1_1700000000", "terror_1", "x" * 1025]
HALVES = mostly(GOOD, st.sampled_from(BAD))
VISIBLE = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12)
MORE_HEADERS = {
    "Origin": VISIBLE,
    "Access-Control-Request-Method": VISIBLE,
    "Content-Encoding": st.sampled_from(["", "", "identity", "identity", "gzip", "IDENTITY"]),
    "Cookie": VISIBLE | st.deferred(lambda: COOKIES),
    "Accept": st.just("text/html"),
    "X-Ask": VISIBLE,
}
WRITTEN = "/.%2fFeE0aAlLoOgGiInN;\\ +~"
COVERED = st.sampled_from(["/login", "/any", *sorted(PATHS)])
DISGUISED = st.sampled_from(
    [
        *("//login", "/login/", "/%6cogin", "/%256cogin", "/login%0a", "/x//../login"),
        *("/any/thing", "/any%2fthing", "/logins", "/", "/login/x", "/%ff"),
    ]
)
TARGETS = mostly(COVERED, DISGUISED | st.text(WRITTEN, max_size=12).map("/{}".format))
METHODS = st.sampled_from(["POST"] * 12 + ["GET", "OPTIONS", "post", "PUT", "M-SEARCH"])


@st.composite
def fields(draw, halves=HALVES):
    pairs = [("ticket", draw(halves)), ("randstr", draw(halves))]
    more = st.tuples(st.sampled_from(["ticket", "randstr", "user"]), halves)
    more = mostly(st.just([]), st.lists(more, max_size=2))
    return draw(st.permutations([*pairs, *draw(more)]))


@st.composite
def bodies(draw):
    """A body that resembles one of its kind, and its kind."""
    kind = draw(st.sampled_from([*WRITERS, ""]))
    written = WRITERS.get(kind, WRITERS[JSON])(draw(fields()))
    for place, length, more in draw(MUTATIONS):
        start = place % (len(written) + 1)
        written = written[:start] + more + written[start + length :]
    return kind, draw(st.sampled_from([written] * 9 + [b"", b"{", b"--B--", b"\0\xff"]))


SCRAPS = [b"", b"\r\n", b"--B", b"--B--", b'"', b"{", b"}", b"&ticket=x", b"%", b"\xff", b"\0"]
MUTATIONS = mostly(
    st.just([]),
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 6), st.sampled_from(SCRAPS)), max_size=3
    ),
)


@st.composite
def pieces(draw, body):
    if not body:
        # Only ASGI has empty pieces before the end, and then more may follow: no preflight.
        return (body,)
    places = draw(st.lists(st.integers(0, len(body)), max_size=6).map(sorted))
    return tuple(body[start:end] for start, end in pairwise([0, *places, len(body)]))


@st.composite
def exchanges(draw):
    kind, body = draw(bodies())
    headers = [("Content-Type", kind)] if kind else []
    names = {"ticket": ("X-Captcha-Ticket", "T"), "randstr": ("X-Captcha-Randstr", "R")}
    if draw(st.booleans()):
        pair = [
            (name, value)
            for name, value in draw(fields(mostly(HALVES, VISIBLE)))
            if name in names
        ]
        headers += [(name, value) for key, value in pair for name in names[key]]
    headers += draw(st.fixed_dictionaries({}, optional=MORE_HEADERS)).items()
    query = draw(st.just("") | fields().map(urlencode) | st.text("&=%+a;", max_size=8))
    return Exchange(
        method=draw(METHODS),
        target=draw(TARGETS) + (f"?{query}" if query else ""),
        headers=tuple(headers),
        pieces=draw(pieces(body)),
        broken_off=bool(body) and draw(st.sampled_from([False] * 5 + [True])),
    )


COOKIES = fields(mostly(HALVES, VISIBLE)).map(
    lambda found: "; ".join(f"tcaptcha_{name}={value}" for name, value in found)
) | fields().map(
    lambda found: ";".join(f"tcaptcha_{name}={quote(value)}" for name, value in found)
)


# -- Verdicts ------

ODD = st.sampled_from([True, False, None, "1", 1.0, float("nan"), [1], 10**400, -1, 1, 0, 100])
CODES = st.sampled_from([1] * 4 + [0, 6, 7, 8, 9, 15, 16, 21, 25, 26, 31, 100]) | st.integers()
ERRORS = st.sampled_from(
    [
        *(OutageError, ThrottledError, MisconfiguredError, VerifierError, TimeoutError),
        *(ZeroDivisionError, StopIteration, StopAsyncIteration, RecursionError, KeyError),
    ]
)
SAID = (
    st.just(Verdict(1))
    | st.builds(Verdict, CODES)
    | st.builds(Verdict, CODES | ODD, evil_level=st.integers(98, 102) | ODD)
    | ERRORS.map(lambda kind: kind("said"))
    | ODD
)


def passes(said):
    """Return if a result is positive proof, independently of the package."""
    if type(said) is not Verdict:
        return False
    kinds = type(said.code), type(said.evil_level)
    return kinds == (int, int) and said.code == 1 and said.evil_level < 100


# -- The content of an exchange, as the standard library reads it ------


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    return (
        [leaf for item in value for leaf in leaves(item)]
        if isinstance(value, list)
        else [value]
    )


def document_texts(body):
    try:
        read = json.loads(body, object_pairs_hook=lambda pairs: [value for _, value in pairs])
    except ValueError:
        return []
    return leaves(read)


def occurs_in(text, exchange):
    body = exchange.body
    heads = [part.strip() for _, value in exchange.headers for part in value.split(",")]
    cookies = [part for head in heads for part in head.split(";")]
    heads += [unquote(part.partition("=")[2].strip()) for part in cookies]
    every = parse_qsl(exchange.query) + parse_qsl(body.decode("utf-8", "replace"))
    texts = [*heads, *(value for _, value in every), *document_texts(body)]
    return text in texts or f"\r\n\r\n{text}\r\n".encode() in body


def named(exchange):
    """Return the path that the target names, in its plain form."""
    parts = unquote(exchange.target.partition("?")[0]).split("/")
    return "/" + "/".join(part for part in parts if part)


# -- The properties ------


def check_allowed(exchange, outcome, watched):
    (event,) = watched.events
    said = watched.verifier.said
    if outcome.unchecked is None:
        ((ticket, randstr),) = watched.verifier.asked
        assert passes(said)
        assert occurs_in(ticket, exchange)
        assert randstr == "" if event.rule == "/mini" else occurs_in(randstr, exchange)
        return
    held = {name.lower() for name, _ in exchange.headers}
    assert {
        Unchecked.PREFLIGHT: exchange.method == "OPTIONS"
        and held >= {"origin", "access-control-request-method"}
        and not held & {"cookie", "authorization"}
        and exchange.body == b"",
        Unchecked.NOT_ASKED: event.rule == "/asked" and not asks_by(held),
        Unchecked.OBSERVED: event.rule in ("/observed", "/half"),
        # The gate has established no outage, and no client and no answer can.
        Unchecked.UNAVAILABLE: False,
    }[outcome.unchecked]


def asks_by(names):
    return "x-ask" in names


def check(exchange, outcome, watched):
    if outcome.code in (ALLOWED, UNCOVERED):
        assert outcome.body_seen == exchange.body
    if outcome.code == ALLOWED:
        check_allowed(exchange, outcome, watched)
    elif outcome.code == UNCOVERED:
        assert watched.verifier.asked == watched.events == []
        assert named(exchange) not in PATHS
        assert (exchange.method.upper(), named(exchange)) != ("POST", "/login")
    else:
        assert (outcome.status, outcome.body_seen) >= (400, b"")
        assert [event.outcome for event in watched.events] == ["refused"]
    assert len(watched.verifier.asked) <= 1


def run(runner, exchange, said):
    watched = Watched(said)
    outcome = runner(watched.guard, exchange)
    if outcome.code == "unanswered":
        # The client has disconnected; only the adapters have a client.
        assert exchange.broken_off
        outcome = Outcome("request_malformed", 400)
    check(exchange, outcome, watched)
    return outcome, watched.verifier.asked


@settings(max_examples=200)
@given(exchanges(), SAID)
@example(Exchange(headers=(("X-Captcha-Ticket", T), ("X-Captcha-Randstr", R))), Verdict(1))
@example(Exchange(method="OPTIONS", target="/login"), Verdict(1))
def test_only_a_passed_verdict_lets_a_request_through_in_flow_asgi_and_wsgi(exchange, said):
    outcomes = {name: run(runner, exchange, said) for name, runner in RUNNERS.items()}
    assert outcomes["asgi"] == outcomes["flow"]
    assert outcomes["wsgi"] == outcomes["flow"]


HEAD = (("X-Captcha-Ticket", T), ("X-Captcha-Randstr", R), ("T", T), ("R", R))


@settings(max_examples=150)
@given(COOKIES | VISIBLE, st.sampled_from(["GET", "HEAD", "POST"]))
@example(f"tcaptcha_ticket={T}; tcaptcha_randstr={R}", "GET")
def test_cookies_let_only_safe_methods_through_in_flow_asgi_and_wsgi(value, method):
    headers = (("Accept", "text/html"), ("Cookie", value))
    exchange = Exchange(method, "/cookie", headers)
    if method == "HEAD":
        outcomes = [run(RUNNERS["flow"], exchange, Verdict(1))]
    else:
        outcomes = [run(runner, exchange, Verdict(1)) for runner in RUNNERS.values()]
    assert outcomes.count(outcomes[0]) == len(outcomes)
    assert method != "POST" or outcomes[0][0].code == "ticket_missing"


@settings(max_examples=150)
@given(COVERED, SAID)
def test_for_any_verifier_only_a_passed_verdict_lets_a_request_through(target, said):
    exchange = Exchange(target=target, headers=(*HEAD, ("X-Ask", "1")), pieces=(b"a", b"b"))
    outcomes = [run(runner, exchange, said) for runner in RUNNERS.values()]
    assert outcomes == outcomes[:1] * len(RUNNERS)


@settings(max_examples=100)
@given(exchanges(), SAID, st.lists(VISIBLE, max_size=3))
def test_no_randstr_changes_the_outcome_of_a_mini_program_ticket(exchange, said, randstrs):
    exchange = replace(exchange, target="/mini", method="POST")
    more = tuple(("X-Captcha-Randstr", randstr) for randstr in randstrs)
    other = replace(exchange, headers=(*exchange.headers, *more))
    for runner in RUNNERS.values():
        assert run(runner, other, said) == run(runner, exchange, said)


KINDS = {URLENCODED: "urlencoded", JSON: "json", MULTIPART: "multipart"}
FILL = st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=2000)


@pytest.mark.parametrize("kind", KINDS, ids=KINDS.values())
@settings(max_examples=40)
@given(data=st.data(), ticket=GOOD, randstr=GOOD, fill=FILL)
def test_a_valid_pair_passes_and_its_body_is_unchanged(kind, data, ticket, randstr, fill):
    body = WRITERS[kind]([("user", fill), ("ticket", ticket), ("randstr", randstr)])
    exchange = Exchange(headers=(("Content-Type", kind),), pieces=data.draw(pieces(body)))
    for runner in RUNNERS.values():
        outcome, asked = run(runner, exchange, Verdict(1))
        assert (outcome.code, asked) == (ALLOWED, [(ticket, randstr)])
        outcome, asked = run(runner, replace(exchange, target="/mini"), Verdict(1))
        assert (outcome.code, asked) == (ALLOWED, [(ticket, "")])


@pytest.mark.parametrize("kind", KINDS, ids=KINDS.values())
@settings(max_examples=30)
@given(data=st.data(), limit=st.integers(1, 400))
def test_a_limit_applies_at_the_same_byte_in_chunks_of_any_size(kind, data, limit):
    body = WRITERS[kind]([("ticket", T), ("randstr", R), ("user", "x" * 100)])
    whole = Exchange(target="/x", headers=(("Content-Type", kind),), pieces=(body,))
    expected = RUNNERS["flow"](limited(limit), whole)
    for runner in RUNNERS.values():
        outcome = runner(limited(limit), replace(whole, pieces=data.draw(pieces(body))))
        assert outcome == expected


def limited(limit):
    return Guard([Rule("/x", body_limit=limit)], FakeVerifier())


async def asgi_app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def wsgi_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b""]


ACCEPTED = st.text("*/;q=.,019 texhmlapiconj+", max_size=40) | st.sampled_from(
    ["text/html", "text/plain;q=0.9, */*;q=0.1", "application/json", "*/*"]
)


@settings(max_examples=120)
@given(exchanges(), SAID, ACCEPTED, st.sampled_from(["HEAD", "POST", "GET"]))
def test_both_adapters_send_the_same_response_in_every_media_type(
    exchange, said, accept, method
):
    exchange = replace(
        exchange,
        method=method,
        headers=(*exchange.headers, ("Accept", accept)),
        broken_off=False,
    )
    adapter = TCaptchaMiddleware(asgi_app, Watched(said).guard)
    start, end = call_asgi(adapter, scope_of(exchange), messages_of(exchange))
    adapter = TCaptchaWSGIMiddleware(wsgi_app, Watched(said).guard)
    status, headers, body = call_wsgi(adapter, environ_of(exchange))
    assert (status, body) == (start["status"], end["body"])
    if status != 200:
        sent = {name.decode(): value.decode() for name, value in start["headers"]}
        received = {name.lower(): value for name, value in headers.items()}
        # It depends on how far the probe of each guard is.
        assert ("retry-after" in sent) == ("retry-after" in received)
        assert received | {"retry-after": "2"} == sent | {"retry-after": "2"}


RAW_PATHS = st.binary(max_size=20) | st.sampled_from(
    [b"*", b"http://h/login", b"//h/login", b"login", b"", b"/login?x", b"\\login", b"/l%6fgin"]
)


@settings(max_examples=100)
@given(RAW_PATHS, st.text(max_size=12), METHODS, st.text("/loginé", max_size=8))
def test_no_target_of_any_form_makes_asgi_raise(raw_path, path, method, root):
    watched = Watched(Verdict(1))
    scope = scope_of(Exchange(method=method)) | {
        "path": path,
        "raw_path": raw_path,
        "root_path": root,
    }
    sent = call_asgi(
        TCaptchaMiddleware(asgi_app, watched.guard), scope, messages_of(Exchange())
    )
    assert sent[0]["status"] in (200, 403, 400)


# -- Former failures ------


def no_address(request):
    return request.header("X-Real-Ip")[0]


FAILING = {
    "raises": no_address,
    "returns None": lambda _: None,
    "returns bytes": lambda _: b"::1",
}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("client_ip", FAILING.values(), ids=FAILING)
@pytest.mark.parametrize("percent", [1, 99, 100])
def test_a_client_ip_that_fails_refuses_and_never_raises(runner, client_ip, percent):
    guard = Guard(["POST /login"], FakeVerifier(), client_ip=client_ip, percent=percent)
    assert runner(guard, Exchange()).code == "ticket_missing"
    pair = (("X-Captcha-Ticket", T), ("X-Captcha-Randstr", R))
    assert runner(guard, Exchange(headers=pair)).code == "misconfigured"


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_in_observe_mode_a_client_ip_that_fails_refuses_no_request(runner):
    guard = Guard(["POST /login"], FakeVerifier(), client_ip=no_address, percent=0)
    assert runner(guard, Exchange()).unchecked is Unchecked.OBSERVED


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_an_address_of_invalid_unicode_is_hashed_for_percent_too(runner):
    guard = Guard(["POST /login"], FakeVerifier(), percent=99)
    assert runner(guard, Exchange(peer="\udc80")).code == "ticket_missing"


MERGED = ["/x//../login", "/x%2f/../login", "/5^%2f/%2e%2e/l%6fgin", "/a/b///..//../../login"]


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("target", MERGED)
def test_dots_are_resolved_with_and_without_empty_segments(runner, target):
    # In RFC 3986 the dots remove the empty segment; posixpath merges slashes first.
    assert runner(Guard(["POST /login"], FakeVerifier()), Exchange(target=target)).code == (
        "ticket_missing"
    )


def forwarded(*values, peer="10.0.0.1"):
    headers = [(b"forwarded", value.encode("latin-1")) for value in values]
    return TrustedProxies(["10.0.0.0/8"], "Forwarded")(
        RequestInfo("http", "POST", "/", b"", headers, peer)
    )


OPEN = {
    "a quote left open": 'for=6.6.6.6;x="',
    "one after a closed one": 'for=6.6.6.6;x="a";y="',
    "an escaped one": 'for=6.6.6.6;x="\\"',
    "an escape left open": 'for=6.6.6.6;x="\\',
    "nothing but a quote": '"',
    "quotes everywhere": '","for="6.6.6.6",";"',
}
PROXIES = ['for="198.51.100.9:4711"', "for=198.51.100.9", 'for=198.51.100.9;host="a,b"']


@pytest.mark.parametrize("client", OPEN.values(), ids=OPEN)
@pytest.mark.parametrize("proxy", PROXIES)
def test_no_quote_from_a_client_hides_the_entry_of_a_proxy(client, proxy):
    assert forwarded(f"{client}, {proxy}") == "198.51.100.9"
    assert forwarded(client, proxy) == "198.51.100.9"
    assert forwarded(client, proxy, 'for="10.0.0.2"') == "198.51.100.9"


def test_an_escaped_quote_from_a_proxy_ends_parsing():
    assert forwarded('for=6.6.6.6;x="', 'for=198.51.100.9;host="a\\"b"') == "10.0.0.1"


SLOW = {
    "open quotes": '"' + '\\"' * 30_000,
    "blanks before a quote": "for=" + " " * 60_000 + '""x',
    "quotes": '"' * 60_001,
    "pairs": 'for="";' * 9_000,
}


@pytest.mark.parametrize("header", SLOW.values(), ids=SLOW)
def test_parsing_a_header_takes_linear_time(header):
    # With quadratic parsing, these took tens of seconds.
    began = time.process_time()
    forwarded(header)
    assert time.process_time() - began < 2
