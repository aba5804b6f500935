"""Litestar: the plugin, whose OpenAPI document at /schema describes the captcha.

Run it in this folder:

    uvicorn litestar_app:app
"""

from typing import Any

from litestar import Litestar, Request, get, post

from tcaptcha_middleware import Guard, TencentVerifier, get_decision
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin

guard = Guard(["POST /login"], TencentVerifier.from_env(), page="/tcaptcha")


@get("/")
async def home() -> str:
    """Answer everyone: no rule matches."""
    return "POST a user to /login, with a captcha."


@post("/login", status_code=200)
async def login(request: Request[Any, Any, Any]) -> dict[str, str | int | None]:
    """Greet the visitor, and return Tencent's code for the ticket."""
    form = await request.form()
    decision = get_decision(request)
    code = decision.code if decision else None
    return {"hello": str(form.get("user", "stranger")), "captchaCode": code}


app = Litestar([home, login], plugins=[TCaptchaPlugin(guard)])
