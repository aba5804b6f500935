"""Quart: views and a websocket that are marked, so no path is written twice.

Run it in this folder:

    hypercorn quart_marked_app:app
"""

from quart import Blueprint, Quart, request, websocket

from tcaptcha_middleware import TencentVerifier, get_decision
from tcaptcha_middleware.integrations.quart import TCaptcha

captcha = TCaptcha()
users = Blueprint("users", __name__)


@users.get("/")
async def home() -> str:
    """Answer everyone: it is not marked."""
    return "POST a user to /login, with a captcha."


@users.post("/login")
@captcha.required
async def login() -> dict[str, str | int | None]:
    """Greet the visitor, and return Tencent's code for the ticket."""
    decision = get_decision(request)
    code = decision.code if decision else None
    return {"hello": (await request.form).get("user", "stranger"), "captchaCode": code}


@users.route("/comments", methods=["GET", "POST"])
@captcha.required(methods=["POST"], mode="observe")
async def comments() -> dict[str, bool]:
    """Take a comment, with a captcha or without."""
    decision = get_decision(request)
    return {"solved": decision is not None and decision.refused is None}


@users.websocket("/chat")
@captcha.required
async def chat() -> None:
    """Answer once; the handshake needs the pair in its headers."""
    await websocket.send("hello")


def create_app() -> Quart:
    """Return the application, with the gate in front."""
    app = Quart(__name__)
    app.config["TCAPTCHA_VERIFIER"] = TencentVerifier.from_env()
    captcha.init_app(app)
    app.register_blueprint(users)
    return app


app = create_app()
