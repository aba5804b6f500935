"""Quart: a JSON API whose clients send ticket and randstr inside an object.

Run it in this folder:

    hypercorn quart_app:app
"""

from quart import Quart, request

from tcaptcha_middleware import (
    Guard,
    TCaptchaMiddleware,
    TencentVerifier,
    get_decision,
    sources,
)

guard = Guard(
    ["POST /login"],
    TencentVerifier.from_env(),
    sources=[sources.Header(), sources.Json("captcha.ticket", "captcha.randstr")],
)

app = Quart(__name__)
app.asgi_app = TCaptchaMiddleware(app.asgi_app, guard)  # type: ignore[assignment,method-assign]


@app.get("/")
async def home() -> str:
    """Answer everyone: no rule matches."""
    return "POST a user to /login, with a captcha."


@app.post("/login")
async def login() -> dict[str, str | int | None]:
    """Greet the visitor, and return Tencent's code for the ticket."""
    sent = await request.get_json()
    decision = get_decision(request)
    code = decision.code if decision else None
    return {"hello": sent.get("user", "stranger"), "captchaCode": code}
