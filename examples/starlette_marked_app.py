"""Starlette: endpoints that are marked, so no path is written twice, and a page.

Run it in this folder, and open it in a browser:

    uvicorn starlette_marked_app:app
"""

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tcaptcha_middleware import TencentVerifier, get_decision
from tcaptcha_middleware.integrations.starlette import protect, required

HOME = """\
<!doctype html>
<html lang="en">
<title>Log in</title>
<script type="module" src="/tcaptcha/tcaptcha.js"></script>
<form data-tcaptcha action="/login" method="post">
  <noscript><p>This form has a captcha, which needs JavaScript.</p></noscript>
  <label>Name <input name="user" required></label>
  <button>Log in</button>
</form>
</html>
"""


async def home(_: Request) -> Response:
    """Show the form; `tcaptcha.js` shows the captcha."""
    return HTMLResponse(HOME)


@required
async def login(request: Request) -> Response:
    """Greet the visitor, and return Tencent's code for the ticket."""
    async with request.form() as form:
        user = str(form.get("user", "stranger"))
    decision = get_decision(request)
    code = decision.code if decision else None
    return JSONResponse({"hello": user, "captchaCode": code})


@required(methods=["POST"], mode="observe")
class Comments(HTTPEndpoint):
    """Show and take comments; the captcha of a new one is verified and logged only."""

    async def get(self, _: Request) -> Response:
        """Return the comments."""
        return JSONResponse([])

    async def post(self, request: Request) -> Response:
        """Take a comment, with a captcha or without."""
        decision = get_decision(request)
        return JSONResponse({"solved": decision is not None and decision.refused is None})


app = Starlette(
    routes=[
        Route("/", home),
        Route("/login", login, methods=["POST"]),
        Route("/comments", Comments),
    ]
)
protect(app, TencentVerifier.from_env(), page="/tcaptcha")
