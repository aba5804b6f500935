"""One table of exchanges for the flow without an adapter, the ASGI and the WSGI adapter."""

from __future__ import annotations

import json

import pytest
from adapters import ALLOWED, RUNNERS, UNCOVERED, Exchange

from tcaptcha_middleware import (
    Guard,
    MisconfiguredError,
    OutageError,
    Rule,
    ThrottledError,
    Verdict,
    VerifierError,
    sources,
)
from tcaptcha_middleware.browser.challenge import NavigationCookie
from tcaptcha_middleware.testing import FakeVerifier

T, R = "tr03goodticket*", "@rand"
HEAD = (("X-Captcha-Ticket", T), ("X-Captcha-Randstr", R))
URLENCODED = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")
MULTIPART = ("Content-Type", "multipart/form-data; boundary=B")


def part(name: str, value: str, more: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"{more}'
    return f"--B\r\n{head}\r\n\r\n{value}\r\n".encode()


PAIR_PARTS = part("ticket", T) + part("randstr", R)
END = b"--B--\r\n"


def form(body: bytes | str, *pieces: bytes) -> Exchange:
    first = body.encode() if isinstance(body, str) else body
    return Exchange(headers=(URLENCODED,), pieces=(first, *pieces))


def multipart(*pieces: bytes, broken_off: bool = False) -> Exchange:
    return Exchange(headers=(MULTIPART,), pieces=pieces, broken_off=broken_off)


def document(value: object, *, raw: bytes | None = None) -> Exchange:
    return Exchange(headers=(JSON,), pieces=(raw or json.dumps(value).encode(),))


def cookies(
    *values: str, method: str = "GET", more: tuple[tuple[str, str], ...] = ()
) -> Exchange:
    headers = (("Accept", "text/html"), *more, *(("Cookie", value) for value in values))
    return Exchange(method=method, target="/cookie", headers=headers)


GOOD_COOKIES = "tcaptcha_ticket=tr03goodticket%2A; tcaptcha_randstr=%40rand"
PAIR = {"ticket": T, "randstr": R}
FORM_PAIR = f"ticket={T}&randstr={R}"

CASES = {
    # The pair in each source.
    "headers": (Exchange(headers=HEAD), ALLOWED),
    "headers, body left alone": (Exchange(headers=(*HEAD, JSON), pieces=(b"{no",)), ALLOWED),
    "headers of any case": (
        Exchange(headers=tuple((k.upper(), v) for k, v in HEAD)),
        ALLOWED,
    ),
    "urlencoded form": (form(f"user=ada&{FORM_PAIR}"), ALLOWED),
    "urlencoded form, percent-encoded": (form("ticket=%74r03&randstr=%40rand"), ALLOWED),
    "urlencoded form in pieces": (form(b"ticket=tr", b"03&rand", b"str=%40r"), ALLOWED),
    "multipart form": (multipart(PAIR_PARTS + END), ALLOWED),
    "multipart form in single bytes": (
        multipart(*(bytes([byte]) for byte in PAIR_PARTS + END)),
        ALLOWED,
    ),
    "multipart form, file first": (
        multipart(part("f", "x" * 9000, '; filename="f.txt"'), PAIR_PARTS + END),
        ALLOWED,
    ),
    "multipart form, huge file after": (
        multipart(PAIR_PARTS, part("f", "x" * 200_000, '; filename="f"') + END),
        ALLOWED,
    ),
    "multipart form, nonsense after": (multipart(PAIR_PARTS + part("x", "y"), b"\0"), ALLOWED),
    "multipart form, other part headers": (
        multipart(PAIR_PARTS.replace(b"\r\nContent-D", b"\r\nX-A: b\r\ncontent-d") + END),
        ALLOWED,
    ),
    "multipart form, quoted boundary": (
        Exchange(
            headers=(("Content-Type", 'multipart/form-data; boundary="B"'),),
            pieces=(PAIR_PARTS + END,),
        ),
        ALLOWED,
    ),
    "JSON object": (document(PAIR), ALLOWED),
    "JSON with a charset": (
        Exchange(
            headers=(("Content-Type", "application/json; charset=utf-8"),),
            pieces=(json.dumps(PAIR).encode(),),
        ),
        ALLOWED,
    ),
    "JSON by suffix": (
        Exchange(
            headers=(("Content-Type", "application/vnd.api+json"),),
            pieces=(json.dumps(PAIR).encode(),),
        ),
        ALLOWED,
    ),
    "JSON with a byte order mark": (
        document(None, raw=b"\xef\xbb\xbf" + json.dumps(PAIR).encode()),
        ALLOWED,
    ),
    "JSON with a number of 5,000 digits": (document(PAIR | {"n": 10**4000}), ALLOWED),
    "JSON with NaN": (document(PAIR | {"n": float("nan")}), ALLOWED),
    "JSON with the same ticket twice": (
        document(None, raw=f'{{"ticket":"{T}","ticket":"{T}","randstr":"{R}"}}'.encode()),
        ALLOWED,
    ),
    "ticket in the header, pair in the form": (
        Exchange(headers=(HEAD[0], URLENCODED), pieces=(FORM_PAIR.encode(),)),
        ALLOWED,
    ),
    "the same header twice": (Exchange(headers=(*HEAD, *HEAD)), ALLOWED),
    "an empty field beside the filled one": (form(f"ticket=&{FORM_PAIR}"), ALLOWED),
    # Missing values.
    "nothing": (Exchange(), "ticket_missing"),
    "no randstr": (Exchange(headers=HEAD[:1]), "ticket_missing"),
    "ticket and randstr from two sources": (
        Exchange(headers=(HEAD[0], URLENCODED), pieces=(f"randstr={R}".encode(),)),
        "ticket_missing",
    ),
    "pair in the query, not asked for": (
        Exchange(target=f"/login?{FORM_PAIR}"),
        "ticket_missing",
    ),
    "empty fields": (form("ticket=&randstr="), "ticket_missing"),
    "JSON null": (document({"ticket": None, "randstr": R}), "ticket_missing"),
    "JSON array": (document([PAIR]), "ticket_missing"),
    "JSON, nested elsewhere": (document({"captcha": PAIR}), "ticket_missing"),
    "unknown media type": (
        Exchange(headers=(("Content-Type", "text/csv"),), pieces=(b"ticket,randstr",)),
        "ticket_missing",
    ),
    "no media type": (Exchange(pieces=(json.dumps(PAIR).encode(),)), "ticket_missing"),
    "multipart form without the fields": (multipart(part("a", "b") + END), "ticket_missing"),
    "multipart file called ticket": (
        multipart(part("ticket", T, '; filename="t"') + part("randstr", R) + END),
        "ticket_missing",
    ),
    "multipart name*= is ignored": (
        multipart(
            part("ticket", T).replace(b"name=", b"name*=UTF-8''") + part("randstr", R) + END
        ),
        "ticket_missing",
    ),
    # Ambiguous values.
    "two tickets in the headers": (
        Exchange(headers=(*HEAD, ("X-Captcha-Ticket", "tr03other"))),
        "ticket_ambiguous",
    ),
    "two tickets in the form": (form(f"{FORM_PAIR}&ticket=other"), "ticket_ambiguous"),
    "two randstrs in the multipart form": (
        multipart(part("randstr", "@a") + part("randstr", "@b") + part("ticket", T) + END),
        "ticket_ambiguous",
    ),
    "two tickets in the JSON": (
        document(None, raw=b'{"ticket":"a","ticket":"b","randstr":"c"}'),
        "ticket_ambiguous",
    ),
    "one ticket in the header, another in the form": (
        Exchange(headers=(HEAD[0], URLENCODED), pieces=(b"ticket=other&randstr=r",)),
        "ticket_ambiguous",
    ),
    # Malformed tickets.
    "a ticket with a blank": (form("ticket=a+b&randstr=r"), "ticket_malformed"),
    "a ticket with a line break": (form("ticket=a%0D%0Ab&randstr=r"), "ticket_malformed"),
    "a ticket with a NUL": (document({"ticket": "a\0", "randstr": R}), "ticket_malformed"),
    "a ticket beyond ASCII": (document({"ticket": "é", "randstr": R}), "ticket_malformed"),
    "a lone surrogate": (
        document(None, raw=b'{"ticket":"\\ud800","randstr":"r"}'),
        "ticket_malformed",
    ),
    "a ticket of 8,193 characters": (
        form("ticket=" + "a" * 8193 + "&randstr=r"),
        "ticket_malformed",
    ),
    "a randstr of 1,025 characters": (
        form(f"ticket={T}&randstr=" + "a" * 1025),
        "ticket_malformed",
    ),
    "a ticket that is a number": (document({"ticket": 1, "randstr": R}), "ticket_malformed"),
    "a ticket that is a list": (document({"ticket": [T], "randstr": R}), "ticket_malformed"),
    "bytes of invalid UTF-8": (form(b"ticket=%ff&randstr=r"), "ticket_malformed"),
    # Disaster tickets, in every spelling.
    "trerror": (form("ticket=trerror_1001_1_1700000000&randstr=r"), "disaster_ticket"),
    "terror": (form("ticket=terror_1001_1_1700000000&randstr=r"), "disaster_ticket"),
    "terror, underscore lost": (
        form("ticket=terror_1001_11700000000&randstr=r"),
        "disaster_ticket",
    ),
    "TRERROR": (form("ticket=TRERROR_1001_1_1&randstr=r"), "disaster_ticket"),
    "trerror after a blank": (form("ticket=+trerror_1001_1_1&randstr=r"), "ticket_malformed"),
    # Malformed bodies.
    "invalid JSON": (document(None, raw=b'{"ticket":'), "request_malformed"),
    "JSON in UTF-16": (
        document(None, raw=json.dumps(PAIR).encode("utf-16")),
        "request_malformed",
    ),
    "JSON 20,000 deep": (document(None, raw=b"[" * 20_000), "request_malformed"),
    "multipart form without a boundary": (
        Exchange(headers=(("Content-Type", "multipart/form-data"),), pieces=(PAIR_PARTS,)),
        "request_malformed",
    ),
    "JSON with a tail": (
        document(None, raw=json.dumps(PAIR).encode() + b"x"),
        "request_malformed",
    ),
    "JSON with another document behind it": (
        document(None, raw=json.dumps(PAIR).encode() + b"\n{}"),
        "request_malformed",
    ),
    "JSON with a NUL behind it": (
        document(None, raw=json.dumps(PAIR).encode() + b"\0"),
        "request_malformed",
    ),
    "JSON with blanks around it": (
        document(None, raw=b" \t\r\n" + json.dumps(PAIR).encode() + b" \t\r\n"),
        ALLOWED,
    ),
    "multipart boundary of 200 characters": (
        Exchange(
            headers=(("Content-Type", "multipart/form-data; boundary=" + "b" * 200),),
            pieces=((PAIR_PARTS + END).replace(b"--B", b"--" + b"b" * 200),),
        ),
        ALLOWED,
    ),
    "multipart boundary of 201 characters": (
        Exchange(
            headers=(("Content-Type", "multipart/form-data; boundary=" + "b" * 201),),
            pieces=((PAIR_PARTS + END).replace(b"--B", b"--" + b"b" * 201),),
        ),
        "request_malformed",
    ),
    "body that is not a multipart form": (multipart(b"ticket=1"), "request_malformed"),
    "multipart form cut short": (multipart(part("ticket", T)), "request_malformed"),
    "multipart header flood": (
        multipart(b"--B\r\n" + b"a: b\r\n" * 500 + b"\r\n"),
        "request_malformed",
    ),
    "compressed body": (
        Exchange(headers=(JSON, ("Content-Encoding", "gzip")), pieces=(b"\x1f\x8b",)),
        "request_malformed",
    ),
    # Bodies that are too large.
    "form of the whole limit": (form(f"{FORM_PAIR}&x=".ljust(65_536, "x")), ALLOWED),
    "form over the limit": (form(f"{FORM_PAIR}&x=".ljust(65_537, "x")), "body_too_large"),
    "file before the pair": (
        multipart(part("f", "x" * 70_000, '; filename="f"') + PAIR_PARTS + END),
        "body_too_large",
    ),
    "a million parts": (
        multipart(part("a", "") * 2000 + PAIR_PARTS + END),
        "request_malformed",
    ),
    # Which requests a rule matches.
    "another path": (Exchange(target="/logins", pieces=(b"x",)), UNCOVERED),
    "another method": (Exchange(method="GET"), UNCOVERED),
    "doubled slash": (Exchange(target="//login"), "ticket_missing"),
    "trailing line break": (Exchange(target="/login%0a"), "ticket_missing"),
    "lower-case method": (Exchange(method="post"), "ticket_missing"),
    "preflight": (
        Exchange(
            method="OPTIONS",
            target="/any",
            headers=(("Origin", "https://a"), ("Access-Control-Request-Method", "POST")),
        ),
        ALLOWED,
    ),
    "OPTIONS without preflight headers": (
        Exchange(method="OPTIONS", target="/any"),
        "ticket_missing",
    ),
    "preflight with a method override": (
        Exchange(
            method="OPTIONS",
            target="/any",
            headers=(
                ("Origin", "https://a"),
                ("Access-Control-Request-Method", "POST"),
                ("X-HTTP-Method-Override", "POST"),
            ),
        ),
        "ticket_missing",
    ),
    "preflight where OPTIONS is named": (
        Exchange(
            method="OPTIONS",
            target="/options",
            headers=(("Origin", "https://a"), ("Access-Control-Request-Method", "POST")),
        ),
        "ticket_missing",
    ),
    # Sources of a rule.
    "own header names": (
        Exchange(target="/own", headers=(("T", T), ("R", R))),
        ALLOWED,
    ),
    "own query names": (Exchange(target=f"/own?t={T}&r={R}"), ALLOWED),
    "two tickets in the query": (Exchange(target=f"/own?t={T}&r={R}&t=x"), "ticket_ambiguous"),
    "own form names": (
        Exchange(target="/own", headers=(URLENCODED,), pieces=(f"t={T}&r={R}".encode(),)),
        ALLOWED,
    ),
    "own JSON path": (
        Exchange(
            target="/own",
            headers=(JSON,),
            pieces=(json.dumps({"c": {"t": T, "r": R}}).encode(),),
        ),
        ALLOWED,
    ),
    "default names are not read": (
        Exchange(target="/own", headers=HEAD),
        "ticket_missing",
    ),
    "a function": (Exchange(target="/function", headers=(("Cookie", f"{T} {R}"),)), ALLOWED),
    "a function that finds nothing": (Exchange(target="/function"), "ticket_missing"),
    "a function that fails": (
        Exchange(target="/function", headers=(("Cookie", "one"),)),
        "misconfigured",
    ),
    "cookies of a GET": (cookies(GOOD_COOKIES), ALLOWED),
    "cookies of a HEAD": (cookies(GOOD_COOKIES, method="HEAD"), ALLOWED),
    "cookies of a POST": (cookies(GOOD_COOKIES, method="POST"), "ticket_missing"),
    "cookies of another method": (cookies(GOOD_COOKIES, method="PUT"), "ticket_missing"),
    "cookies among others": (cookies(f"a=b; {GOOD_COOKIES}; c"), ALLOWED),
    "cookies in two headers": (cookies(*GOOD_COOKIES.split("; ")), ALLOWED),
    "cookies without blanks": (cookies(GOOD_COOKIES.replace("; ", ";")), ALLOWED),
    "a cookie as it is": (cookies(f"tcaptcha_ticket={T}; tcaptcha_randstr={R}"), ALLOWED),
    "a cookie of a like name": (cookies(f"x{GOOD_COOKIES}"), "ticket_missing"),
    "a cookie in another case": (cookies(GOOD_COOKIES.upper()), "ticket_missing"),
    "a cookie and no other": (cookies("tcaptcha_ticket=a"), "ticket_missing"),
    "empty cookies": (cookies("tcaptcha_ticket=; tcaptcha_randstr="), "ticket_missing"),
    "two cookies with the same name": (
        cookies(f"{GOOD_COOKIES}; tcaptcha_ticket=tr03other"),
        "ticket_ambiguous",
    ),
    "one cookie twice": (cookies(f"{GOOD_COOKIES}; {GOOD_COOKIES}"), ALLOWED),
    "ticket and randstr from header and cookie": (
        cookies("tcaptcha_randstr=%40rand", more=HEAD[:1]),
        "ticket_missing",
    ),
    "one ticket in the header, another in the cookies": (
        cookies(GOOD_COOKIES, more=(("X-Captcha-Ticket", "other"),)),
        "ticket_ambiguous",
    ),
    "a pair in the headers, another in the cookies": (
        cookies("tcaptcha_ticket=other; tcaptcha_randstr=other", more=HEAD),
        ALLOWED,
    ),
    "a cookie of invalid UTF-8": (
        cookies("tcaptcha_ticket=%ff; tcaptcha_randstr=a"),
        "ticket_malformed",
    ),
    "a cookie with a broken escape": (
        cookies("tcaptcha_ticket=%zz%4; tcaptcha_randstr=a"),
        ALLOWED,
    ),
    "cookies by default": (Exchange(headers=(("Cookie", GOOD_COOKIES),)), "ticket_missing"),
    "a smaller limit": (
        Exchange(target="/small", headers=(JSON,), pieces=(b" " * 11,)),
        "body_too_large",
    ),
}


def cookie(request: object) -> tuple[str, str] | None:
    values = request.header("Cookie")  # type: ignore[attr-defined]
    if not values:
        return None
    ticket, randstr = values[0].split()
    return ticket, randstr


@pytest.fixture
def guard() -> Guard:
    own = [
        sources.Header("T", "R"),
        sources.Query("t", "r"),
        sources.Form("t", "r"),
        sources.Json("c.t", "c.r"),
    ]
    rules = [
        "POST /login",
        "/any",
        "OPTIONS /options",
        Rule("POST /own", sources=own),
        Rule("POST /function", sources=[sources.Head(cookie)]),
        Rule("POST /small", body_limit=10),
        Rule("/cookie", sources=[sources.Header(), NavigationCookie()]),
    ]
    return Guard(rules, FakeVerifier())


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(("exchange", "code"), CASES.values(), ids=CASES)
def test_every_exchange_has_the_expected_outcome(guard, runner, exchange, code):
    outcome = runner(guard, exchange)
    assert outcome.code == code
    if code in (ALLOWED, UNCOVERED):
        assert outcome.body_seen == exchange.body


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(
    "kind", [JSON, MULTIPART, URLENCODED], ids=["json", "multipart", "form"]
)
def test_a_body_that_breaks_off_is_never_let_through(guard, runner, kind):
    exchange = Exchange(headers=(kind,), pieces=(b"{",), broken_off=True)
    assert runner(guard, exchange).code in ("request_malformed", "unanswered")


VERDICTS = {
    "1": (1, ALLOWED, 200),
    "1, EvilLevel 99": (Verdict(1, evil_level=99), ALLOWED, 200),
    "1, EvilLevel 100": (Verdict(1, evil_level=100), "risk_denied", 403),
    "1, EvilLevel 101": (Verdict(1, evil_level=101), "risk_denied", 403),
    "7": (7, "ticket_rejected", 403),
    "8": (8, "ticket_expired", 403),
    "9": (9, "ticket_reused", 403),
    "15": (15, "ticket_rejected", 403),
    "16": (16, "misconfigured", 500),
    "21": (21, "risk_denied", 403),
    "25": (25, "risk_denied", 403),
    "26": (26, "verifier_unavailable", 503),
    "31": (31, "misconfigured", 500),
    "100": (100, "misconfigured", 500),
    "0, in no table": (0, "verifier_unavailable", 503),
    "-1, in no table": (-1, "verifier_unavailable", 503),
    "outage": (OutageError("down"), "verifier_unavailable", 503),
    "throttled": (ThrottledError("slow down"), "overloaded", 503),
    "misconfigured": (MisconfiguredError("keys"), "misconfigured", 500),
    "no verdict": (VerifierError("what?"), "verifier_unavailable", 503),
    "a bug": (ZeroDivisionError("oops"), "misconfigured", 500),
}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(("outcome", "code", "status"), VERDICTS.values(), ids=VERDICTS)
def test_every_verdict_has_its_refusal(runner, outcome, code, status):
    guard = Guard(["POST /login"], FakeVerifier(outcome))
    outcome = runner(guard, Exchange(headers=HEAD))
    assert (outcome.code, outcome.status) == (code, status)


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_verifier_is_called_once_with_the_ticket_as_sent(runner):
    verifier = FakeVerifier(9)
    runner(Guard(["POST /login"], verifier), Exchange(headers=HEAD))
    (ticket,) = verifier.tickets
    assert (ticket.ticket, ticket.randstr, ticket.user_ip) == (T, R, "203.0.113.7")


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("case", [c for c in CASES if CASES[c][1] not in (ALLOWED, UNCOVERED)])
def test_a_request_refused_before_verification_costs_no_call(guard, runner, case):
    exchange, code, *_ = CASES[case]
    assert runner(guard, exchange).code == code
    assert guard.verifier.tickets == []


class Lying:
    """A verifier that returns something else than a Verdict."""

    def __init__(self, result):
        self.result = result

    def verify(self, ticket):
        return self.result

    async def averify(self, ticket):
        return self.result


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("result", [True, 1, None, "1", {"code": 1}], ids=repr)
def test_only_a_verdict_can_let_a_request_through(runner, result):
    outcome = runner(Guard(["POST /login"], Lying(result)), Exchange(headers=HEAD))
    assert outcome.code == "misconfigured"


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(
    "verdict", [Verdict(True), Verdict("1"), Verdict(1.0), Verdict(1, evil_level="0")], ids=repr
)
def test_a_verdict_with_wrong_types_never_passes(runner, verdict):
    outcome = runner(Guard(["POST /login"], FakeVerifier(verdict)), Exchange(headers=HEAD))
    assert outcome.code != ALLOWED
