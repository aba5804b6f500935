"""Flask: a rule with other settings, here for uploads.

Run it in this folder:

    gunicorn flask_app:app
    waitress-serve flask_app:app
"""

from flask import Flask, request

from tcaptcha_middleware import (
    Guard,
    Rule,
    TCaptchaWSGIMiddleware,
    TencentVerifier,
    get_decision,
    sources,
)

guard = Guard(
    [
        "POST /login",
        # Only the headers are read, so uploads are not buffered.
        Rule("POST /avatar", name="avatar", sources=[sources.Header()]),
    ],
    TencentVerifier.from_env(),
)

app = Flask(__name__)
app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, guard)  # type: ignore[method-assign]


@app.get("/")
def home() -> str:
    """Answer everyone: no rule matches."""
    return "POST a user to /login, with a captcha."


@app.post("/login")
def login() -> dict[str, str | int | None]:
    """Greet the visitor, and return Tencent's code for the ticket."""
    decision = get_decision(request)
    code = decision.code if decision else None
    return {"hello": request.form.get("user", "stranger"), "captchaCode": code}


@app.post("/avatar")
def avatar() -> dict[str, int]:
    """Take a picture."""
    return {"bytes": len(request.get_data())}
