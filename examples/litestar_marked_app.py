"""Litestar: handlers that are marked in `opt`, so no path is written twice.

Run it in this folder:

    uvicorn litestar_marked_app:app
"""

from typing import Any

from litestar import Litestar, Request, get, post

from tcaptcha_middleware import TencentVerifier, get_decision
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin


@get("/")
async def home() -> str:
    """Answer everyone: it is not marked."""
    return "POST a user to /login, with a captcha."


@post("/login", status_code=200, opt={"tcaptcha": True})
async def login(request: Request[Any, Any, Any]) -> dict[str, str | int | None]:
    """Greet the visitor, and return Tencent's code for the ticket."""
    form = await request.form()
    decision = get_decision(request)
    code = decision.code if decision else None
    return {"hello": str(form.get("user", "stranger")), "captchaCode": code}


# Verified and logged, but not refused.
@post("/comments", status_code=200, opt={"tcaptcha": {"mode": "observe"}})
async def comment(request: Request[Any, Any, Any]) -> dict[str, bool]:
    """Take a comment, with a captcha or without."""
    decision = get_decision(request)
    return {"solved": decision is not None and decision.refused is None}


plugin = TCaptchaPlugin(verifier=TencentVerifier.from_env())
app = Litestar([home, login, comment], plugins=[plugin])
