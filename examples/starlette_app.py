"""Starlette: refusals answered in your own way, with a Starlette response.

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
    """Tell the page's script whether to show the captcha, for the first time or again."""
    show = "first" if refuse.reason is Reason.TICKET_MISSING else "again"
    answer = {"error": refuse.reason, "captcha": show}
    return JSONResponse(answer, refuse.reason.status, headers={"Cache-Control": "no-store"})


async def home(_: Request) -> Response:
    """Stay open: no rule covers it."""
    return PlainTextResponse("POST a user to /login, with a captcha.")


async def login(request: Request) -> Response:
    """Greet the visitor, and tell what Tencent said of the ticket."""
    async with request.form() as form:
        user = str(form.get("user", "stranger"))
    found = get_decision(request)
    code = found.code if found else None
    return JSONResponse({"hello": user, "captchaCode": code})


guard = Guard(["POST /login"], TencentVerifier.from_env(), responder=refused)
app = Starlette(
    routes=[Route("/", home), Route("/login", login, methods=["POST"])],
    middleware=[Middleware(TCaptchaMiddleware, guard=guard)],
)
