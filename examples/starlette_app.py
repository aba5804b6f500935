"""Starlette: refusals answered by a `responder`, with a Starlette response.

Run it in this folder:

    uvicorn starlette_app:app
"""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tcaptcha_middleware import (
    Guard,
    Reason,
    Refuse,
    TCaptchaMiddleware,
    TencentVerifier,
    get_decision,
)


def refused(_: object, refuse: Refuse) -> Response:
    """Answer in the application's own format: show the captcha, or show it again."""
    show = "first" if refuse.reason is Reason.TICKET_MISSING else "again"
    answer = {"error": refuse.reason, "captcha": show}
    return JSONResponse(answer, refuse.reason.status, headers={"Cache-Control": "no-store"})


async def home(_: Request) -> Response:
    """Answer everyone: no rule matches."""
    return PlainTextResponse("POST a user to /login, with a captcha.")


async def login(request: Request) -> Response:
    """Greet the visitor, and return Tencent's code for the ticket."""
    async with request.form() as form:
        user = str(form.get("user", "stranger"))
    decision = get_decision(request)
    code = decision.code if decision else None
    return JSONResponse({"hello": user, "captchaCode": code})


guard = Guard(["POST /login"], TencentVerifier.from_env(), responder=refused)
app = Starlette(
    routes=[Route("/", home), Route("/login", login, methods=["POST"])],
    middleware=[Middleware(TCaptchaMiddleware, guard=guard)],
)
