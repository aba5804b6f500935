"""The public API as users write it; read by type checkers, never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from tcaptcha_middleware import (
    Allow,
    Guard,
    MemoryReplayStore,
    OutageError,
    Page,
    PlainResponse,
    Reason,
    Refuse,
    RequestInfo,
    Rule,
    Submission,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    TencentMiniProgramVerifier,
    TencentVerifier,
    Verdict,
    csp_sources,
    get_decision,
    in_thread,
    require_captcha,
    sources,
)
from tcaptcha_middleware.browser import module_path
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM
from tcaptcha_middleware.testing import FakeVerifier, TencentEmulator
from tcaptcha_middleware.verifiers.sdk import TencentSDKVerifier

if TYPE_CHECKING:
    from starlette.requests import Request as StarletteRequest


class Mine:
    def verify(self, ticket: Submission) -> Verdict:
        return Verdict(1 if ticket.ticket else 7)


class MineAwaited:
    async def averify(self, ticket: Submission) -> Verdict:
        return Verdict(1 if ticket.ticket else 7)


def refuse_with_starlette(request: RequestInfo, refuse: Refuse) -> PlainTextResponse:
    return PlainTextResponse(refuse.reason, refuse.reason.status)


def refuse_plainly(request: RequestInfo, refuse: Refuse) -> PlainResponse:
    return PlainResponse(refuse.reason.status, [("Content-Type", "text/plain")], b"no")


guard = Guard(
    [
        "POST /login",
        Rule("/admin/**", name="admin", sources=[sources.Header(), sources.Query()]),
    ],
    TencentVerifier.from_env(timeout=2),
    exempt=["GET /admin/health"],
    client_ip=lambda request: request.peer,
    responder=refuse_with_starlette,
)
page = Page("/captcha", language="en", aid="cbc")
with_page = Guard(["/a"], TencentVerifier.from_env(script="TCaptcha.js"), page=page)
assert_type(with_page.public_settings("POST /login"), dict[str, Any])
assert_type(csp_sources(with_page.verifier), dict[str, tuple[str, ...]])
assert_type(module_path(), Path)
Guard([Rule("/a", sources=[sources.Query()])], Mine(), page="/tcaptcha")
Guard(["/a"], Mine(), responder=refuse_plainly)
Guard(["/a"], MineAwaited())
Guard(["/a"], in_thread(Mine()))
Guard(["/a"], FakeVerifier(1, Verdict(1, evil_level=100), OutageError("down")))
store = MemoryReplayStore(single_process=True)
mini = TencentMiniProgramVerifier.from_env(app_id=1, app_secret_key="secret")
Guard(["/a"], mini, replay_store=store)
Guard(["/a"], FakeVerifier(1, action=MINI_PROGRAM), replay_store=store)
Guard(["/a"], TencentSDKVerifier(object(), 1, "secret"))
TencentVerifier(**TencentEmulator().settings, endpoint="http://127.0.0.1:9000")

FastAPI().add_middleware(TCaptchaMiddleware, guard=guard)
Starlette().add_middleware(TCaptchaMiddleware, guard=guard)
flask_app = Flask(__name__)
flask_app.wsgi_app = TCaptchaWSGIMiddleware(flask_app.wsgi_app, guard)  # type: ignore[method-assign]


def handler(request: StarletteRequest) -> None:
    decision = get_decision(request)
    assert_type(decision, Allow | None)
    if decision is not None and decision.verdict is not None:
        assert_type(decision.rule, str)
        assert_type(decision.verdict.passed, bool)
        assert_type(decision.verdict.score, int | None)
    assert_type(Reason.TICKET_MISSING.status, int)
    assert_type(require_captcha(request, "login", strict=True), Allow)


def a_verdict_is_not_a_bool(verdict: Verdict) -> None:
    if verdict:
        print("never")  # type: ignore[unreachable]


def values_are_frozen(decision: Allow, submission: Submission, verdict: Verdict) -> None:
    decision.unchecked = None  # type: ignore[misc]
    submission.ticket = ""  # type: ignore[misc]
    verdict.outcome = "passed"  # type: ignore[misc]
