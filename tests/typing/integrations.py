"""How users write integrations; read by type checkers, never run."""

from __future__ import annotations

from typing import Annotated, Any, assert_type

from fastapi import Depends, FastAPI
from flask import Flask
from litestar import Litestar, post
from quart import Quart
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from tcaptcha_middleware import Allow, Guard, Rule, Switch
from tcaptcha_middleware.integrations import openapi
from tcaptcha_middleware.integrations.fastapi import Solved, protect, solved
from tcaptcha_middleware.integrations.flask import TCaptcha
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin
from tcaptcha_middleware.integrations.quart import TCaptcha as QuartTCaptcha
from tcaptcha_middleware.integrations.starlette import protect as protect_starlette
from tcaptcha_middleware.integrations.starlette import required
from tcaptcha_middleware.testing import FakeVerifier, override

Observed = Annotated[Allow, Depends(solved(mode="observe", verifier=FakeVerifier()))]

fastapi = FastAPI(dependencies=[Depends(solved())])
guard = protect(
    fastapi,
    FakeVerifier(),
    ["POST /a", Rule("/b", name="b")],
    exempt=["GET /b"],
    page="/tcaptcha",
    switch=Switch(),
    max_score=70,
)
guard.public_settings("POST /a")
openapi.install(fastapi, guard)
assert_type(openapi.describe({}, guard), dict[str, Any])
with override(guard, FakeVerifier()):
    pass


@fastapi.post("/login")
async def login(captcha: Solved, observed: Observed) -> str:
    assert_type(captcha, Allow)
    assert_type(observed, Allow)
    return captcha.rule


@required
async def endpoint(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.method)


@required(methods=["POST"], percent=50)
def sync_endpoint(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.method)


assert_type(sync_endpoint(Request({})), PlainTextResponse)
protect_starlette(Starlette(), FakeVerifier())

captcha = TCaptcha(verifier=FakeVerifier(), page="/tcaptcha")
flask = Flask("app")
captcha.init_app(flask)


@flask.post("/login")
@captcha.required
def view(number: int) -> str:
    return f"in {number}"


assert_type(view(1), str)


@flask.post("/signup")
@captcha.required(methods=["POST"], mode="observe")
async def awaited() -> str:
    return "in"


quart = Quart("app")
quart_captcha = QuartTCaptcha(quart, FakeVerifier(), ["POST /a"])


@quart.websocket("/socket")
@quart_captcha.required
async def socket() -> None:
    return None


@post("/login", opt={"tcaptcha": {"mode": "observe"}})
async def litestar_login() -> str:
    return "in"


plugin = TCaptchaPlugin(verifier=FakeVerifier(), rules=["POST /a"], page="/tcaptcha")
litestar = Litestar([litestar_login], plugins=[plugin])
plugin.guard.public_settings("POST /a")
with override(plugin.guard, FakeVerifier()):
    pass
TCaptchaPlugin(Guard(["POST /a"], FakeVerifier()))
