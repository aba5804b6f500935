"""FastAPI: a handler that is called only with a solved captcha, and a document that says so.

Run it in this folder:

    uvicorn fastapi_app:app
"""

from typing import Annotated

from fastapi import FastAPI, Form, Request

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier, get_decision
from tcaptcha_middleware.integrations import openapi

guard = Guard(["POST /login"], TencentVerifier.from_env())

app = FastAPI()
app.add_middleware(TCaptchaMiddleware, guard=guard)
openapi.install(app, guard)


@app.get("/")
async def home() -> str:
    """Answer everyone: no rule matches."""
    return "POST a user to /login, with a captcha."


@app.post("/login")
async def login(
    request: Request, user: Annotated[str, Form()] = "stranger"
) -> dict[str, str | int | None]:
    """Greet the visitor, and return Tencent's code for the ticket."""
    decision = get_decision(request)
    code = decision.code if decision else None
    return {"hello": user, "captchaCode": code}
