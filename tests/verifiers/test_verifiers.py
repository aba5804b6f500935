"""Tests for every verifier, sync and async, over real sockets."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
import forking_threads
import httpx
import pytest
from tencentcloud.captcha.v20190722.captcha_client import CaptchaClient
from tencentcloud.captcha.v20190722.captcha_client_async import (
    CaptchaClient as AsyncCaptchaClient,
)
from tencentcloud.common.credential import Credential
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencents import (  # noqa: F401
    address,
    answering,
    hangs_up,
    http,
    nowhere,
    one_context,
    says,
    shared_tls,
    tencent,
)

from tcaptcha_middleware import (
    MisconfiguredError,
    OutageError,
    Submission,
    TencentMiniProgramVerifier,
    TencentVerifier,
    ThrottledError,
    Verdict,
    VerifierError,
    in_thread,
)
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB, refusal
from tcaptcha_middleware.testing import FakeVerifier
from tcaptcha_middleware.verifiers.sdk import TencentSDKVerifier

if TYPE_CHECKING:
    from collections.abc import Callable

# The official client calls datetime.utcfromtimestamp at each verification.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")


def in_threads(opened, tickets, *, together):
    with opened as verifier, ThreadPoolExecutor(len(tickets) if together else 1) as pool:
        return list(pool.map(partial(outcome, verifier), tickets))


def outcome(verifier, ticket):
    try:
        return verifier.verify(ticket)
    except VerifierError as error:
        return error


def on(backend):
    def run(opened, tickets, *, together):
        return anyio.run(awaited, opened, tickets, together, backend=backend)

    return run


async def awaited(opened, tickets, together):
    results = [None] * len(tickets)

    async def check(number):
        try:
            results[number] = await verifier.averify(tickets[number])
        except VerifierError as error:
            results[number] = error

    async with opened as verifier, anyio.create_task_group() as tasks:
        for number in range(len(tickets)):
            if together:
                tasks.start_soon(check, number)
            else:
                await check(number)
    return results


@asynccontextmanager
async def over_own_client(**settings):
    async with httpx.AsyncClient(verify=False) as client:  # speaks no TLS
        yield TencentVerifier(**settings, async_client=client)


@asynccontextmanager
async def threaded(**settings):
    verifier = in_thread(TencentVerifier(**settings))
    yield verifier
    await verifier.aclose()


@contextmanager
def over_sdk(*, app_id, app_secret_key, timeout, **settings):
    client = CaptchaClient(*configured(**settings))
    yield TencentSDKVerifier(client, app_id, app_secret_key, timeout=timeout)
    client.request.conn._session.close()


@asynccontextmanager
async def over_async_sdk(*, app_id, app_secret_key, **settings):
    limit = settings.pop("timeout")
    async with AsyncCaptchaClient(*configured(**settings)) as client:
        yield TencentSDKVerifier(client, app_id, app_secret_key, timeout=limit)


def configured(*, secret_id, secret_key, token, endpoint):
    scheme, _, host = endpoint.partition("://")
    # It speaks no TLS, and a certificate store takes longer to load than a test.
    over = HttpProfile(protocol=scheme, endpoint=host, certification=False)
    return Credential(secret_id, secret_key, token), "", ClientProfile(httpProfile=over)


WEB_STYLES = {
    "verify": (TencentVerifier, in_threads),
    "averify on asyncio": (TencentVerifier, on("asyncio")),
    "averify over a given client": (over_own_client, on("asyncio")),
    "averify on trio": (TencentVerifier, on("trio")),
    "in_thread": (threaded, on("asyncio")),
    "the official client": (over_sdk, in_threads),
    "the official async client": (over_async_sdk, on("asyncio")),
}
MINI = {
    "mini-programs, verify": (TencentMiniProgramVerifier, in_threads),
    "mini-programs, averify on asyncio": (TencentMiniProgramVerifier, on("asyncio")),
    "mini-programs, averify on trio": (TencentMiniProgramVerifier, on("trio")),
}
EVERY = WEB_STYLES | MINI
SDK = {"the official client", "the official async client"}


@dataclass
class Bench:
    """A sync or async verifier with a separate emulator."""

    tencent: object
    style: str

    def check(self, *tickets, together=False, **settings):
        make, run = EVERY[self.style]
        arguments = {"timeout": 5.0} | self.tencent.arguments(**settings)
        return run(make(**arguments), tickets, together=together)


@pytest.fixture(params=EVERY)
def bench(request, tencent, shared_tls):  # noqa: F811  the fixture
    tencent.kind = "mini" if request.param in MINI else "web"
    return Bench(tencent, request.param)


# Tests for web tickets only, and for mini-program tickets only.
for_web = pytest.mark.parametrize("bench", WEB_STYLES, indirect=True)
for_mini = pytest.mark.parametrize("bench", MINI, indirect=True)


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.DEBUG)
    return caplog


@for_web
def test_a_fresh_ticket_passes_once_and_a_replay_is_reused(bench):
    ticket = bench.tencent.ticket()
    first, second = bench.check(ticket, ticket)
    assert (first.passed, first.code) == (True, 1)
    assert (second.passed, second.code) == (False, 9)
    assert len(bench.tencent.calls) == 2


@for_mini
def test_a_fresh_ticket_of_a_mini_program_passes(bench):
    [verdict] = bench.check(bench.tencent.ticket())
    assert (verdict.passed, verdict.code, verdict.message) == (True, 1, "OK")
    assert (verdict.evil_level, verdict.score, verdict.fetched_at) == (0, None, 0)
    assert verdict.request_id


@for_web
def test_the_verdict_has_every_field(bench):
    [verdict] = bench.check(bench.tencent.ticket(score=42, age=60))
    assert (verdict.score, verdict.message) == (42, "OK")
    assert verdict.request_id
    assert 0 < verdict.fetched_at <= verdict.submitted_at


@for_web
def test_tencent_is_sent_only_the_documented_parameters(bench):
    ticket = bench.tencent.ticket(user_ip="2001:db8::7")
    bench.check(ticket)
    assert bench.tencent.calls == [
        {
            "CaptchaType": 9,
            "Ticket": ticket.ticket,
            "Randstr": ticket.randstr,
            "UserIp": "2001:db8::7",
            "CaptchaAppId": 190000000,
            "NeedGetCaptchaTime": 1,
        }
    ]
    assert bench.tencent.heads[0]["x-tc-action"] == "DescribeCaptchaResult"


@for_mini
def test_tencent_is_sent_no_randstr_of_a_mini_program(bench):
    ticket = bench.tencent.ticket(randstr="@sent-all-the-same")
    bench.check(ticket)
    assert bench.tencent.calls == [
        {
            "CaptchaType": 9,
            "Ticket": ticket.ticket,
            "UserIp": ticket.user_ip,
            "CaptchaAppId": 190000000,
        }
    ]
    (head,) = bench.tencent.heads
    assert head["x-tc-action"] == "DescribeCaptchaMiniResult"
    assert "SignedHeaders=content-type;host;x-tc-action," in head["authorization"]


def test_a_ticket_of_the_other_action_does_not_pass(bench):
    kind = {"web": "mini", "mini": "web"}[bench.tencent.kind]
    pair = {"randstr": "@r"} | bench.tencent.mint(kind=kind)
    [verdict] = bench.check(Submission(**pair, user_ip="203.0.113.7"))
    assert (verdict.passed, verdict.code) == (False, 15)


DISASTER = Submission("trerror_1001_190000000_1700000000", "@r", "203.0.113.7")
REFUSED = {
    "7, another ticket's randstr": (lambda at: at.ticket(randstr="@no"), 7, "ticket_rejected"),
    "8, after five minutes": (lambda at: at.ticket(age=301), 8, "ticket_expired"),
    "15, made up": (lambda _: Submission("tr03no", "@r", "203.0.113.7"), 15, "ticket_rejected"),
    "15, no address": (lambda at: at.ticket(user_ip="unknown"), 15, "ticket_rejected"),
    "21, disaster ticket": (lambda _: DISASTER, 21, "risk_denied"),
    "21, risk engine": (lambda at: at.ticket(code=21), 21, "risk_denied"),
    "1, malicious": (lambda at: at.ticket(evil_level=100), 1, "risk_denied"),
}


MINI_REFUSED = {
    "8, after five minutes": (lambda at: at.ticket(age=301), 8, "ticket_expired"),
    "10, no ticket at all": (
        lambda _: Submission("~", "", "203.0.113.7"),
        10,
        "ticket_rejected",
    ),
    "15, made up": (lambda _: Submission("tr03no", "", "203.0.113.7"), 15, "ticket_rejected"),
    "21, disaster ticket": (lambda _: DISASTER, 21, "ticket_rejected"),
    "21, ticket error": (lambda at: at.ticket(code=21), 21, "ticket_rejected"),
    "25, invalid": (lambda at: at.ticket(code=25), 25, "ticket_rejected"),
}


@for_web
@pytest.mark.parametrize(("make", "code", "reason"), REFUSED.values(), ids=REFUSED)
def test_an_invalid_ticket_does_not_pass(bench, make, code, reason):
    [verdict] = bench.check(make(bench.tencent))
    assert (verdict.passed, verdict.code) == (False, code)
    assert refusal(verdict, WEB.codes) == reason


@for_mini
@pytest.mark.parametrize(("make", "code", "reason"), MINI_REFUSED.values(), ids=MINI_REFUSED)
def test_an_invalid_mini_program_ticket_does_not_pass(bench, make, code, reason):
    [verdict] = bench.check(make(bench.tencent))
    assert (verdict.passed, verdict.code) == (False, code)
    assert refusal(verdict, MINI_PROGRAM.codes) == reason


NO_VERDICT = {
    "16, another captcha's ticket": ({"app_id": 190000001}, {}, 16, MisconfiguredError),
    "100, wrong AppSecretKey": ({}, {"app_secret_key": "wrong"}, 100, MisconfiguredError),
    "26, Tencent's own failure": ({"code": 26}, {}, 26, OutageError),
    "0, not documented": ({"code": 0}, {}, 0, VerifierError),
}


MINI_NO_VERDICT = {
    "7, another captcha's ticket": ({"app_id": 190000001}, {}, 7, MisconfiguredError),
    "16, no such captcha": ({}, {"app_id": 190000001}, 16, MisconfiguredError),
    "31, arrears": ({"code": 31}, {}, 31, MisconfiguredError),
    "100, wrong AppSecretKey": ({}, {"app_secret_key": "wrong"}, 100, MisconfiguredError),
    "26, Tencent's own failure": ({"code": 26}, {}, 26, OutageError),
    "9, not documented": ({"code": 9}, {}, 9, VerifierError),
    "0, not documented": ({"code": 0}, {}, 0, VerifierError),
}


def has_no_outcome(bench, row, codes):
    ticket, settings, code, kind = row
    [verdict] = bench.check(bench.tencent.ticket(**ticket), **settings)
    assert (verdict.passed, verdict.code, verdict.outcome) == (False, code, None)
    with pytest.raises(kind) as caught:
        refusal(verdict, codes)
    assert caught.type is kind


@for_web
@pytest.mark.parametrize("row", NO_VERDICT.values(), ids=NO_VERDICT)
def test_a_code_that_is_not_about_the_ticket_has_no_outcome(bench, row):
    has_no_outcome(bench, row, WEB.codes)


@for_mini
@pytest.mark.parametrize("row", MINI_NO_VERDICT.values(), ids=MINI_NO_VERDICT)
def test_a_code_that_is_not_about_a_mini_programs_ticket_has_no_outcome(bench, row):
    has_no_outcome(bench, row, MINI_PROGRAM.codes)


API_ERRORS = {
    "InternalError": OutageError,
    "RequestLimitExceeded": ThrottledError,
    "RequestLimitExceeded.UinLimitExceeded": ThrottledError,
    "LimitExceeded": ThrottledError,
    "AuthFailure": MisconfiguredError,
    "AuthFailure.TokenFailure": MisconfiguredError,
    "UnauthorizedOperation.ErrAuth": MisconfiguredError,
    "UnauthorizedOperation.Unauthorized": MisconfiguredError,
    "InvalidParameter": MisconfiguredError,
    "MissingParameter": MisconfiguredError,
    "ServiceUnavailable": VerifierError,
    "SomethingNew": VerifierError,
}


@pytest.mark.parametrize(("code", "kind"), API_ERRORS.items(), ids=API_ERRORS)
def test_every_api_error_raises_its_class(bench, code, kind):
    bench.tencent.script({"error": code})
    [error] = bench.check(bench.tencent.ticket())
    assert type(error) is kind
    assert code in str(error)
    assert error.request_id
    assert len(bench.tencent.calls) == 1


@pytest.mark.parametrize("code", ["InternalError", "RequestLimitExceeded", "AuthFailure"])
def test_an_api_error_with_another_content_type_is_still_one(bench, code):
    bench.tencent.script({"error": code, "content_type": "application/json; charset=utf-8"})
    [error] = bench.check(bench.tencent.ticket())
    assert type(error) is API_ERRORS[code]


WRONG_KEYS = {
    "secret_key": ({"secret_key": "anotherSecretKey0000000000000000"}, "SignatureFailure"),
    "secret_id": ({"secret_id": "AKIDother00000000000000000000000"}, "SecretIdNotFound"),
    "token": ({"token": "of-another-key"}, "TokenFailure"),
}


@pytest.mark.parametrize(("settings", "code"), WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_a_wrong_api_key_is_misconfigured(bench, settings, code):
    [error] = bench.check(bench.tencent.ticket(), **settings)
    assert type(error) is MisconfiguredError
    assert f"AuthFailure.{code}" in str(error)


STATUSES = {500: OutageError, 502: OutageError, 429: ThrottledError, 404: VerifierError}


@pytest.mark.parametrize(("status", "kind"), STATUSES.items())
def test_an_http_error_is_not_a_verdict(bench, status, kind):
    bench.tencent.script({"status": status})
    [error] = bench.check(bench.tencent.ticket())
    # The official client hides the status, so the error proves no outage.
    assert type(error) is (VerifierError if bench.style in SDK else kind)
    assert len(bench.tencent.heads) == 1


def test_html_is_not_a_verdict(bench):
    bench.tencent.script({"status": 200})
    [error] = bench.check(bench.tencent.ticket())
    assert type(error) is VerifierError


ANSWERS = {
    "an empty body": b"",
    "half an answer": b'{"Response":{"CaptchaCode":1',
    "a list": b"[1]",
    "no Response": b'{"retcode":0,"retmsg":"success"}',
    "no CaptchaCode": b'{"Response":{"RequestId":"r"}}',
    "a CaptchaCode in quotes": b'{"Response":{"CaptchaCode":"1","RequestId":"r"}}',
    "a CaptchaCode that is true": b'{"Response":{"CaptchaCode":true,"RequestId":"r"}}',
    "an Error without a Code": b'{"Response":{"Error":{},"CaptchaCode":1,"RequestId":"r"}}',
    "bytes of invalid UTF-8": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("body", ANSWERS.values(), ids=ANSWERS)
def test_a_malformed_answer_is_not_a_verdict(bench, body):
    answer = http(body, "200 OK", "Content-Type: application/json", "Connection: close")
    with answering(says(answer)) as origin:
        [error] = bench.check(bench.tencent.ticket(), endpoint=origin)
    assert type(error) is VerifierError


def test_an_answer_that_breaks_off_is_unclear(bench):
    bench.tencent.script({"drop": True})
    [error] = bench.check(bench.tencent.ticket())
    assert type(error) is VerifierError
    assert (error.answered, error.sent) == (False, True)
    assert len(bench.tencent.calls) == 1


def test_a_connection_that_is_closed_without_an_answer_is_an_outage(bench):
    calls = []

    def speak(connection):
        calls.append(1)
        hangs_up(connection)

    with answering(speak) as origin:
        [error] = bench.check(bench.tencent.ticket(), endpoint=origin)
    assert type(error) is OutageError
    assert len(calls) == 1


def test_an_answer_in_another_protocol_is_not_a_verdict(bench):
    with answering(says(b"SSH-2.0-OpenSSH_9.9\r\n")) as origin:
        [error] = bench.check(bench.tencent.ticket(), endpoint=origin, timeout=0.2)
    assert isinstance(error, VerifierError)


def test_a_refused_connection_is_an_outage(bench):
    [error] = bench.check(bench.tencent.ticket(), endpoint=nowhere())
    assert type(error) is OutageError


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limit there")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_running_out_of_files_is_not_an_outage(bench, host):
    # A client can cause this by opening enough connections to the site.
    from files import Short

    make, run = EVERY[bench.style]
    origin = bench.tencent.origin.replace("127.0.0.1", host)
    arguments = {"timeout": 5.0} | bench.tencent.arguments(endpoint=origin)
    [error] = run(Short(make(**arguments)), [bench.tencent.ticket()], together=False)
    assert type(error) is ThrottledError
    assert "the limit of open files" in str(error)


def test_an_answer_after_the_deadline_is_an_outage(bench):
    bench.tencent.script({"latency": 10.0})
    [error] = bench.check(bench.tencent.ticket(), timeout=0.2)
    assert type(error) is OutageError
    assert len(bench.tencent.heads) == 1


def test_after_an_outage_a_verifier_verifies_again(bench):
    bench.tencent.script({"drop": True}, {"status": 502}, {"error": "InternalError"})
    *down, up = bench.check(*(bench.tencent.ticket() for _ in range(4)))
    assert all(isinstance(error, VerifierError) for error in down)
    assert up.passed


def test_twenty_concurrent_verifications_each_get_their_own_verdict(bench):
    codes = [1, 21, 7, 15] * 5
    tickets = [bench.tencent.ticket(code=code) for code in codes]
    bench.tencent.latency = 0.02
    verdicts = bench.check(*tickets, together=True)
    assert [verdict.code for verdict in verdicts] == codes
    assert len(bench.tencent.calls) == 20


RESPONSES: dict[str, Callable] = {
    "a verdict": lambda at: at.script({}),
    "code 9": lambda at: at.script({"code": 9}),
    "an API error": lambda at: at.script({"error": "AuthFailure.SignatureFailure"}),
    "an HTTP error": lambda at: at.script({"status": 500}),
    "HTML": lambda at: at.script({"status": 200}),
    "an answer that breaks off": lambda at: at.script({"drop": True}),
    "no answer in time": lambda at: at.script({"latency": 10.0}),
    "no server": lambda at: setattr(at, "origin", nowhere()),
}


@pytest.mark.parametrize("play", RESPONSES.values(), ids=RESPONSES)
def test_no_secret_and_no_ticket_is_logged_or_raised(bench, play, log):
    ticket, settings = bench.tencent.ticket(), bench.tencent.settings
    play(bench.tencent)
    [result] = bench.check(ticket, timeout=0.2)
    raised = traceback.format_exception(result) if isinstance(result, Exception) else []
    text = "".join([log.text, repr(result), str(result), *raised])
    secrets = {settings["app_secret_key"], settings["secret_key"], ticket.ticket}
    assert [secret for secret in secrets if secret in text] == []
    assert "Authorization" not in text


FAKE_OUTCOMES = {
    "passed": (Verdict(1), Verdict(1)),
    "malicious": (Verdict(1, evil_level=100), Verdict(1, evil_level=100)),
    "a bare code": (9, Verdict(9)),
}


@pytest.mark.parametrize(
    "run", [in_threads, on("asyncio"), on("trio")], ids=["sync", "asyncio", "trio"]
)
@pytest.mark.parametrize(("outcome", "verdict"), FAKE_OUTCOMES.values(), ids=FAKE_OUTCOMES)
def test_a_fake_returns_its_outcome_in_sync_and_async(run, outcome, verdict):
    fake, ticket = FakeVerifier(outcome), Submission("tr03", "@r", "203.0.113.7")
    assert run(nullcontext(fake), [ticket], together=False) == [verdict]
    assert fake.tickets == [ticket]


def test_the_threads_of_a_sync_verifier_end_when_it_is_closed():
    workers = []

    class Blocking:
        def verify(self, ticket):
            workers.append(threading.current_thread())
            return Verdict(1)

    async def main():
        verifier = in_thread(Blocking())
        for _ in range(2):  # a closed verifier may be used again
            assert (await verifier.averify(Submission("tr03", "@r", "203.0.113.7"))).passed
            await verifier.aclose()

    anyio.run(main)
    for worker in workers:
        worker.join(10)
    assert len({*workers}) == 2
    assert not [worker for worker in workers if worker.is_alive()]


def test_a_verifier_without_close_may_be_run_in_threads():
    async def main():
        verifier = in_thread(FakeVerifier())
        verdict = await verifier.averify(Submission("tr03", "@r", "203.0.113.7"))
        await verifier.aclose()
        return verdict

    assert anyio.run(main).passed


@pytest.mark.parametrize("kind", ["bridged", "official"])
def test_a_fork_has_its_own_threads(kind):
    run = subprocess.run(
        [sys.executable, "-W", "ignore", forking_threads.__file__, kind],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.splitlines() == ["[1, 1]", "[1, 1]"]
