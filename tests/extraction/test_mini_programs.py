"""Mini-program tickets, which lack a randstr, from the request to the verdict."""

from __future__ import annotations

import json
import re
from math import inf, nan
from pathlib import Path

import anyio
import httpx
import pytest
from adapters import ALLOWED, RUNNERS, Exchange
from fastapi.testclient import TestClient
from outages import bring
from replay_stores import isolated_store
from tencents import (  # noqa: F401  fixtures
    Tencent,
    address,
    one_context,
    shared_tls,
    tencent,
)

from tcaptcha_middleware import (
    CaptchaInfo,
    ConfigurationError,
    Guard,
    MemoryReplayStore,
    OutageError,
    ReplayStoreError,
    Rule,
    Submission,
    TencentMiniProgramVerifier,
    TencentVerifier,
    Verdict,
    in_thread,
    sources,
)
from tcaptcha_middleware.extraction.pairs import Invalid, PartialPair
from tcaptcha_middleware.extraction.sources import HeadSource
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM
from tcaptcha_middleware.testing import FakeVerifier
from tcaptcha_middleware.validation import captcha_of

T, R = "tr03goodticket*", "@rand"
HEAD = ("X-Captcha-Ticket", T)
URLENCODED = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")
MULTIPART = ("Content-Type", "multipart/form-data; boundary=B")
END = b"--B--\r\n"

every_runner = pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)


def randstr(*values: str) -> tuple[tuple[str, str], ...]:
    return tuple(("X-Captcha-Randstr", value) for value in values)


def part(name: str, value: str, more: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"{more}'
    return f"--B\r\n{head}\r\n\r\n{value}\r\n".encode()


def form(body: str) -> Exchange:
    return Exchange(headers=(URLENCODED,), pieces=(body.encode(),))


def multipart(*pieces: bytes) -> Exchange:
    return Exchange(headers=(MULTIPART,), pieces=pieces)


def document(text: str, *headers: tuple[str, str]) -> Exchange:
    return Exchange(headers=(JSON, *headers), pieces=(text.encode(),))


CASES = {
    # The ticket alone is enough, in every source.
    "header": (Exchange(headers=(HEAD,)), ALLOWED),
    "header, body left alone": (document("{no", HEAD), ALLOWED),
    "form": (form(f"user=ada&ticket={T}"), ALLOWED),
    "JSON": (document(json.dumps({"ticket": T})), ALLOWED),
    "multipart form": (multipart(part("ticket", T) + END), ALLOWED),
    "multipart form in single bytes": (
        multipart(*(bytes([byte]) for byte in part("ticket", T) + END)),
        ALLOWED,
    ),
    "multipart form, huge file after": (
        multipart(part("ticket", T), part("f", "x" * 200_000, '; filename="f"') + END),
        ALLOWED,
    ),
    "multipart form, nonsense after": (multipart(part("ticket", T) + b"--B\r\n\0"), ALLOWED),
    "multipart form, another ticket after": (
        multipart(part("ticket", T) + part("ticket", "other") + END),
        ALLOWED,
    ),
    "header, another ticket in the form": (
        Exchange(headers=(HEAD, URLENCODED), pieces=(b"ticket=other",)),
        ALLOWED,
    ),
    "own query name": (Exchange(target=f"/own?t={T}"), ALLOWED),
    "own header name": (Exchange(target="/own", headers=(("T", T),)), ALLOWED),
    "own JSON path": (
        Exchange(target="/own", headers=(JSON,), pieces=(b'{"c": {"t": "%s"}}' % T.encode(),)),
        ALLOWED,
    ),
    "a function": (Exchange(target="/function", headers=(("Cookie", T),)), ALLOWED),
    "a custom source": (Exchange(target="/source"), ALLOWED),
    "a function for the body": (
        Exchange(target="/body", headers=(JSON,), pieces=(f'"{T}"'.encode(),)),
        ALLOWED,
    ),
    # A randstr makes no difference.
    "header and randstr": (Exchange(headers=(HEAD, *randstr(R))), ALLOWED),
    "two randstrs": (Exchange(headers=(HEAD, *randstr(R, "@other"))), ALLOWED),
    "a randstr with a blank": (Exchange(headers=(HEAD, *randstr("a b"))), ALLOWED),
    "a randstr of 1,025 characters": (form(f"ticket={T}&randstr={'r' * 1025}"), ALLOWED),
    "a randstr that is a number": (document(json.dumps({"ticket": T, "randstr": 1})), ALLOWED),
    "two randstrs in the form": (form(f"randstr=a&randstr=b&ticket={T}"), ALLOWED),
    "two randstrs in the multipart form": (
        multipart(part("randstr", "a") + part("randstr", "b") + part("ticket", T) + END),
        ALLOWED,
    ),
    "randstr alone": (Exchange(headers=randstr(R)), "ticket_missing"),
    # Everything else is as for web tickets.
    "nothing": (Exchange(), "ticket_missing"),
    "an empty field": (form("ticket="), "ticket_missing"),
    "two tickets in the headers": (
        Exchange(headers=(HEAD, ("X-Captcha-Ticket", "other"))),
        "ticket_ambiguous",
    ),
    "two tickets in the form": (form(f"ticket={T}&ticket=other"), "ticket_ambiguous"),
    "two tickets in the JSON": (document('{"ticket":"a","ticket":"b"}'), "ticket_ambiguous"),
    "a ticket with a blank": (form("ticket=a+b"), "ticket_malformed"),
    "a ticket that is a number": (document('{"ticket": 1}'), "ticket_malformed"),
    "trerror": (form("ticket=trerror_1001_1_1700000000"), "disaster_ticket"),
    "invalid JSON": (document('{"ticket":'), "request_malformed"),
    "form over the limit": (form(f"ticket={T}&x=".ljust(65_537, "x")), "body_too_large"),
    # Tickets for another rule have a randstr.
    "a ticket alone for a rule of web tickets": (
        Exchange(target="/web", headers=(HEAD,)),
        "ticket_missing",
    ),
}


class Own(HeadSource):
    def find(self, request):
        return PartialPair(T, Invalid.AMBIGUOUS)


def whole(request, body):
    """Take a whole body for the ticket, and a number for a randstr."""
    return body, 7


def cookie(request: object) -> tuple[str, str] | None:
    return request.header("Cookie")[0], ""  # type: ignore[attr-defined]


def guard_of(verifier: object, **settings: object) -> Guard:
    own = [
        sources.Header("T", "R"),
        sources.Query("t", "r"),
        sources.Form("t", "r"),
        sources.Json("c.t", "c.r"),
    ]
    rules = [
        "POST /login",
        Rule("/own", sources=own),
        Rule("/function", sources=[sources.Head(cookie)]),
        Rule("/source", sources=[Own()]),
        Rule("/body", sources=[sources.Body(whole)]),
        Rule("/web", verifier=FakeVerifier()),
    ]
    return Guard(rules, verifier, **{"replay_store": isolated_store()} | settings)


@every_runner
@pytest.mark.parametrize(("exchange", "code"), CASES.values(), ids=CASES)
def test_every_exchange_has_the_expected_outcome(runner, exchange, code):
    verifier = FakeVerifier(action=MINI_PROGRAM)
    outcome = runner(guard_of(verifier), exchange)
    assert outcome.code == code
    asked = [(ticket.ticket, ticket.randstr) for ticket in verifier.tickets]
    if code == ALLOWED:
        assert (asked, outcome.body_seen) == ([(T, "")], exchange.body)
    else:
        assert asked == []


@every_runner
def test_another_randstr_does_not_make_a_ticket_new(runner):
    guard = guard_of(FakeVerifier(action=MINI_PROGRAM))
    heads = [(HEAD,), (HEAD, *randstr("a")), (HEAD, *randstr("b")), (HEAD, *randstr("a", "b"))]
    codes = [runner(guard, Exchange(headers=head)).code for head in heads]
    assert codes == [ALLOWED, *["ticket_reused"] * 3]


VERDICTS = {
    1: (ALLOWED, 200),
    7: ("misconfigured", 500),
    8: ("ticket_expired", 403),
    10: ("ticket_rejected", 403),
    15: ("ticket_rejected", 403),
    16: ("misconfigured", 500),
    21: ("ticket_rejected", 403),
    25: ("ticket_rejected", 403),
    26: ("verifier_unavailable", 503),
    31: ("misconfigured", 500),
    100: ("misconfigured", 500),
    # Not in the table of this action.
    9: ("verifier_unavailable", 503),
    6: ("verifier_unavailable", 503),
    0: ("verifier_unavailable", 503),
}


@every_runner
@pytest.mark.parametrize(("verdict", "ends"), VERDICTS.items(), ids=map(str, VERDICTS))
def test_every_verdict_has_its_refusal(runner, verdict, ends):
    guard = guard_of(FakeVerifier(verdict, action=MINI_PROGRAM))
    outcome = runner(guard, Exchange(headers=(HEAD,)))
    assert (outcome.code, outcome.status) == ends


@every_runner
@pytest.mark.parametrize("code", VERDICTS)
def test_only_code_1_lets_a_visitor_in(runner, code):
    verifier = FakeVerifier(code, action=MINI_PROGRAM)
    guard = guard_of(verifier, on_unavailable="allow")
    outcome = runner(guard, Exchange(headers=(HEAD,)))
    assert (outcome.code == ALLOWED) == (code == 1)


@every_runner
def test_a_malicious_visitor_is_refused_although_mini_programs_report_no_evil_level(runner):
    guard = guard_of(FakeVerifier(Verdict(1, evil_level=100), action=MINI_PROGRAM))
    assert runner(guard, Exchange(headers=(HEAD,))).code == "risk_denied"


class Down:
    def claim(self, key, token, seconds):
        raise ReplayStoreError("down")

    async def aclaim(self, key, token, seconds):
        raise ReplayStoreError("down")

    def release(self, key, token):
        raise NotImplementedError

    async def arelease(self, key, token):
        raise NotImplementedError


@every_runner
@pytest.mark.parametrize("policy", ["verify", "deny"])
def test_while_the_replay_store_is_down_no_ticket_is_spent_twice(runner, policy, caplog):
    verifier = FakeVerifier(action=MINI_PROGRAM)
    settings = {
        "replay_store": Down(),
        "on_replay_store_error": policy,
        "on_unavailable": "allow",
    }
    guard = guard_of(verifier, **settings)
    outcome = runner(guard, Exchange(headers=(HEAD,)))
    assert (outcome.code, outcome.status) == ("verifier_unavailable", 503)
    assert verifier.tickets == []
    assert "the request is refused" in caplog.text


@every_runner
def test_while_the_replay_store_is_down_web_tickets_are_verified(runner):
    guard = guard_of(FakeVerifier(action=MINI_PROGRAM), replay_store=Down())
    exchange = Exchange(target="/web", headers=(HEAD, *randstr(R)))
    assert runner(guard, exchange).code == ALLOWED


@every_runner
def test_a_full_store_refuses_only_mini_program_tickets(runner):
    store = MemoryReplayStore(1, single_process=True)
    store.clear()
    store.claim("made up", "t", 60)
    guard = guard_of(FakeVerifier(action=MINI_PROGRAM), replay_store=store)
    assert runner(guard, Exchange(headers=(HEAD,))).status == 503
    exchange = Exchange(target="/web", headers=(HEAD, *randstr(R)))
    assert runner(guard, exchange).code == ALLOWED
    store.clear()
    assert runner(guard, Exchange(headers=(HEAD,))).code == ALLOWED
    store.clear()


def mini(ticket: str) -> Exchange:
    return Exchange(headers=(("X-Captcha-Ticket", ticket),))


def codes(guard: Guard, runner, tickets) -> list[str]:
    return [runner(guard, mini(ticket)).code for ticket in tickets]


@every_runner
def test_made_up_tickets_leave_a_used_ticket_refused(runner):
    # More than the store keeps: each is rejected, so its claim is dropped. `test_memory_store`
    # does the same with the default capacity.
    store = MemoryReplayStore(3, clock=lambda: 0.0, single_process=True)
    guard = guard_of(FakeVerifier(1, 15, action=MINI_PROGRAM), replay_store=store)
    assert codes(guard, runner, ["used"]) == [ALLOWED]
    made_up = codes(guard, runner, [f"made-up-{n}" for n in range(20)])
    assert made_up == ["ticket_rejected"] * 20
    assert codes(guard, runner, ["used", "used"]) == ["ticket_reused"] * 2


@every_runner
def test_made_up_tickets_that_may_pass_fill_the_store_and_leave_a_used_ticket_refused(runner):
    # The vendor does not answer, so each may have been accepted and stays claimed.
    store = MemoryReplayStore(3, clock=lambda: 0.0, single_process=True)
    verifier = FakeVerifier(1, OutageError("down"), OutageError("down"), 1, action=MINI_PROGRAM)
    guard = guard_of(verifier, replay_store=store)
    bring(guard, "up")  # its probes do not run
    assert codes(guard, runner, ["used"]) == [ALLOWED]
    # While the store is full, a new ticket is neither verified nor let in.
    made_up = codes(guard, runner, [f"made-up-{n}" for n in range(20)])
    assert made_up == ["verifier_unavailable"] * 20
    assert len(verifier.tickets) == 3
    assert codes(guard, runner, ["used"]) == ["ticket_reused"]


@every_runner
def test_a_store_that_evicts_refuses_only_mini_program_tickets(runner):
    store = isolated_store()
    guard = guard_of(FakeVerifier(action=MINI_PROGRAM), replay_store=store)
    store.loses_claims = True
    assert codes(guard, runner, ["new"]) == ["verifier_unavailable"]
    web = Exchange(target="/web", headers=(HEAD, *randstr(R)))
    assert runner(guard, web).code == ALLOWED
    store.loses_claims = False
    assert codes(guard, runner, ["newer", "newer"]) == [ALLOWED, "ticket_reused"]


# -- Against the emulator ------


def env_of(emulator):
    settings = emulator.settings
    return {
        "TENCENTCLOUD_SECRET_ID": settings["secret_id"],
        "TENCENTCLOUD_SECRET_KEY": settings["secret_key"],
        "TCAPTCHA_APP_ID": str(settings["app_id"]),
        "TCAPTCHA_APP_SECRET_KEY": settings["app_secret_key"],
        "TCAPTCHA_ENDPOINT": emulator.origin,
    }


@pytest.fixture
def env(tencent):  # noqa: F811  the fixture
    return env_of(tencent)


def sent(pair, target="/login", *more):
    return Exchange(
        target=target,
        headers=(("X-Captcha-Ticket", pair["ticket"]), *randstr(pair.get("randstr", R)), *more),
    )


ADAPTERS = {name: RUNNERS[name] for name in ("asgi", "wsgi")}
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)


@every_adapter
def test_the_replay_store_refuses_what_tencent_would_accept(adapter, tencent, env, shared_tls):  # noqa: F811
    store = MemoryReplayStore(single_process=True)
    store.clear()
    guard = Guard(["POST /login"], TencentMiniProgramVerifier.from_env(env), replay_store=store)
    pair = tencent.mint(kind="mini")
    assert [adapter(guard, sent(pair)).code for _ in range(2)] == [ALLOWED, "ticket_reused"]
    assert len(tencent.calls) == 1
    # Without the claim the ticket passes again, so the claim was the reason.
    store.clear()
    assert adapter(guard, sent(pair)).code == ALLOWED
    guard.close()


@every_adapter
def test_a_second_guard_in_the_process_refuses_a_ticket_that_passed_the_first(adapter):
    guards = [
        Guard(
            ["POST /login"],
            FakeVerifier(action=MINI_PROGRAM),
            replay_store=MemoryReplayStore(single_process=True),
        )
        for _ in range(2)
    ]
    guards[0].replay_store.clear()
    exchange = Exchange(headers=(HEAD,))
    assert [adapter(guard, exchange).code for guard in guards] == [ALLOWED, "ticket_reused"]


def test_a_store_in_memory_is_refused_unless_one_process_serves_the_application():
    rules = ["/a", Rule("/mini", verifier=FakeVerifier(action=MINI_PROGRAM))]
    with pytest.raises(ConfigurationError, match=r"^/mini: .*RedisReplayStore.*single_process"):
        Guard(rules, FakeVerifier())
    Guard(rules, FakeVerifier(), replay_store=MemoryReplayStore(single_process=True))


CLIENTS = {
    "web": (190000000, "emulatorAppSecretKey12345"),
    "android": (190000001, "androidAppSecretKey123456"),
    "ios": (190000002, "iosAppSecretKey1234567890"),
    "mini": (190000003, "miniAppSecretKey123456789"),
}


@pytest.fixture
def account(address):  # noqa: F811  the fixture
    """An emulator with a separate captcha for each kind of client."""
    address.app = Tencent(address.origin, captchas=dict(CLIENTS.values()))
    return address.app


def verifiers_over(account, **client):
    return {
        name: (TencentMiniProgramVerifier if name == "mini" else TencentVerifier)(
            **account.arguments(app_id=app_id, app_secret_key=secret), **client
        )
        for name, (app_id, secret) in CLIENTS.items()
    }


@pytest.fixture
def several(account, shared_tls):  # noqa: F811  the fixture
    """A guard with a separate rule for each kind of client."""
    verifiers = verifiers_over(account)
    rules = [
        Rule(f"POST /{name}/login", verifier=verifier) for name, verifier in verifiers.items()
    ]
    guard = Guard(rules, verifiers["web"], replay_store=isolated_store())
    yield guard
    guard.close()


def minted(account, client):
    kind = "mini" if client == "mini" else "web"
    return account.mint(kind=kind, app_id=CLIENTS[client][0])


@every_adapter
@pytest.mark.parametrize("at", CLIENTS)
@pytest.mark.parametrize("of", CLIENTS)
def test_a_ticket_is_valid_only_for_its_own_rule(adapter, several, account, of, at):
    outcome = adapter(several, sent(minted(account, of), f"/{at}/login"))
    assert (outcome.code == ALLOWED) == (of == at)
    assert [call["CaptchaAppId"] for call in account.calls] == [CLIENTS[at][0]]


@every_adapter
@pytest.mark.parametrize("of", ["android", "ios", "mini"])
def test_an_app_id_sent_by_a_client_does_not_select_the_captcha(adapter, several, account, of):
    app_id = str(CLIENTS[of][0])
    names = ("X-Captcha-Appid", "X-Captcha-App-Id", "CaptchaAppId", "Appid")
    more = [(name, app_id) for name in names]
    target = f"/web/login?appid={app_id}&CaptchaAppId={app_id}&app_id={app_id}"
    outcome = adapter(several, sent(minted(account, of), target, *more))
    assert outcome.code in ("misconfigured", "ticket_rejected")
    assert [call["CaptchaAppId"] for call in account.calls] == [CLIENTS["web"][0]]


def ticket_of(account, client):
    pair = {"randstr": ""} | minted(account, client)
    return Submission(**pair, user_ip="203.0.113.7")


def test_verifiers_may_share_one_pool_of_connections(account):
    with httpx.Client(verify=False) as client:  # speaks no TLS
        for name, verifier in verifiers_over(account, client=client).items():
            assert verifier.verify(ticket_of(account, name)).passed
    assert (len(account.calls), len(account.connections)) == (4, 1)


def test_verifiers_may_share_one_awaited_pool(account):
    async def main():
        async with httpx.AsyncClient(verify=False) as client:  # speaks no TLS
            for name, verifier in verifiers_over(account, async_client=client).items():
                assert (await verifier.averify(ticket_of(account, name))).passed

    anyio.run(main)
    assert (len(account.calls), len(account.connections)) == (4, 1)


# -- What cannot work ------


def test_a_mini_programs_verifier_is_made_like_any_other(env):
    verifier = TencentMiniProgramVerifier.from_env(env)
    captcha = verifier.captcha
    assert (captcha.app_id, captcha.site) == (190000000, "cn")
    assert (captcha.has_randstr, captcha.refuses_reuse) == (False, False)
    assert repr(verifier).startswith("<TencentMiniProgramVerifier app_id=190000000 at ")


def test_the_international_site_does_not_support_mini_programs(env):
    with pytest.raises(ConfigurationError, match='for DescribeCaptchaMiniResult it is "cn"'):
        TencentMiniProgramVerifier.from_env(env | {"TCAPTCHA_SITE": "intl"})


class Mine:
    def __init__(self, **more):
        vars(self).update(more)

    def verify(self, ticket):
        return Verdict(1)


def test_a_verifier_without_captcha_verifies_tickets_with_a_randstr_that_the_vendor_spends():
    captcha = captcha_of(Mine())
    assert captcha == CaptchaInfo()
    assert (captcha.has_randstr, captcha.refuses_reuse, captcha.lifetime) == (True, True, 300)


def test_in_thread_keeps_the_captcha():
    captcha = CaptchaInfo(7, has_randstr=False)
    assert captcha_of(Mine(captcha=captcha)) is captcha
    assert captcha_of(in_thread(Mine(captcha=captcha))) is captcha
    assert captcha_of(in_thread(Mine())) == CaptchaInfo()


BAD_CAPTCHAS = {
    "text": ("mini", "Mine.captcha is str: make it a CaptchaInfo"),
    "None": (None, "Mine.captcha is NoneType"),
    "the class": (CaptchaInfo, "Mine.captcha is type"),
    "unknown site": (CaptchaInfo(1, site="us"), "site of Mine.captcha is 'us': .* cn, intl"),
    "no lifetime": (CaptchaInfo(1, lifetime=0), "lifetime of Mine.captcha is 0"),
    "endless lifetime": (CaptchaInfo(1, lifetime=inf), "lifetime .* is inf: write seconds"),
    "unknown lifetime": (CaptchaInfo(1, lifetime=nan), "lifetime of Mine.captcha is nan"),
    "AppId as text": (CaptchaInfo("190000000"), "app_id of Mine.captcha is '190000000'"),
    "AppId below 0": (CaptchaInfo(-1), "app_id of Mine.captcha is -1"),
    "AppId is a switch": (CaptchaInfo(True), "app_id of Mine.captcha is True"),
}


@pytest.mark.parametrize(("captcha", "message"), BAD_CAPTCHAS.values(), ids=BAD_CAPTCHAS)
def test_a_captcha_that_is_not_valid_is_a_configuration_error(captcha, message):
    with pytest.raises(ConfigurationError, match=message):
        Guard(["/a"], Mine(captcha=captcha))


@every_runner
def test_a_ticket_alone_is_enough_for_a_vendor_without_randstr(runner):
    verifier = FakeVerifier()
    verifier.captcha = CaptchaInfo(has_randstr=False)
    assert runner(Guard(["/**"], verifier), Exchange(headers=(HEAD,))).code == ALLOWED
    [submission] = verifier.tickets
    assert (submission.randstr, submission.rule) == ("", "/**")


@every_runner
def test_a_claim_lasts_as_long_as_the_vendors_tickets(runner):
    verifier, now = FakeVerifier(), [0.0]
    verifier.captcha = CaptchaInfo(lifetime=60)
    guard = Guard(["/**"], verifier, replay_store=MemoryReplayStore(clock=lambda: now[0]))
    exchange = Exchange(headers=(HEAD, *randstr(R)))
    assert runner(guard, exchange).code == ALLOWED
    now[0] = 60.0
    assert runner(guard, exchange).code == "ticket_reused"
    now[0] = 91.0
    assert runner(guard, exchange).code == ALLOWED


# -- The documentation ------

DOC = (Path(__file__).parents[2] / "docs/mini-programs.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOC, re.DOTALL | re.MULTILINE)


@pytest.fixture
def configured(account, shared_tls, monkeypatch):  # noqa: F811  the fixture
    for name, value in env_of(account).items():
        monkeypatch.setenv(name, value)
    return account


def run(text):
    names = {"__name__": "main"}
    exec(compile(text, "mini-programs.md", "exec"), names)
    return names


@pytest.mark.parametrize("text", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_of_the_documentation_runs(configured, text):
    run(text)


def block(marker):
    (block,) = [text for text in BLOCKS if marker in text]
    return block


def heads(pair):
    names = {"ticket": "X-Captcha-Ticket", "randstr": "X-Captcha-Randstr"}
    return {names[half]: value for half, value in pair.items()}


def test_the_documented_lines_let_a_mini_program_in_once(configured):
    pair = configured.mint(kind="mini")
    with TestClient(run(block("see below"))["app"]) as client:
        codes = [client.post("/mini/login", headers=heads(pair)).status_code for _ in range(2)]
    assert codes == [200, 403]


def test_the_documented_paths_accept_only_their_own_tickets(configured):
    paths = {"web": "/login"} | {of: f"/{of}/login" for of in ("android", "ios", "mini")}
    with TestClient(run(block("android ="))["app"]) as client:
        let_in = {
            (of, at)
            for of in paths
            for at, path in paths.items()
            if client.post(path, headers=heads(minted(configured, of))).status_code == 200
        }
    assert let_in == {(client, client) for client in paths}


def test_the_documented_fake_needs_no_randstr():
    guard = run(block("FakeVerifier(1, 8"))["guard"]
    exchange = Exchange(target="/mini/login", headers=(HEAD,))
    assert RUNNERS["flow"](guard, exchange).code == ALLOWED


def test_the_documented_codes_are_those_of_the_table():
    rows = re.findall(r"^\| ([0-9, ]+) \|.*\| (\d{3}) `(\w+)`", DOC, re.MULTILINE)
    documented = {
        int(code): (reason, int(status))
        for codes, status, reason in rows
        for code in codes.split(",")
    }
    known = {*MINI_PROGRAM.codes.outcomes, *MINI_PROGRAM.codes.misconfigured, 26}
    assert documented == {code: VERDICTS[code] for code in known}
