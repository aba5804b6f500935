"""FastAPI with both halves: a login form that shows the captcha, and a page behind one.

Run it in this folder, and open it in a browser:

    uvicorn page_app:app
"""

from typing import Annotated

from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier, get_decision

# `page` serves tcaptcha.js, and shows the challenge to whoever opens /report.
guard = Guard(["POST /login", "GET /report"], TencentVerifier.from_env(), page="/tcaptcha")

app = FastAPI()
app.add_middleware(TCaptchaMiddleware, guard=guard)

HOME = """\
<!doctype html>
<html lang="en">
<title>Log in</title>
<script type="module" src="/tcaptcha/tcaptcha.js"></script>
<form data-tcaptcha action="/login" method="post">
  <label>Name <input name="user" required></label>
  <button>Log in</button>
</form>
<a href="/report">The report</a>
</html>
"""


@app.get("/", response_class=HTMLResponse)
async def home() -> str:
    """Show the form; the module does the rest."""
    return HOME


@app.post("/login")
async def login(
    request: Request, user: Annotated[str, Form()] = "stranger"
) -> dict[str, str | int | None]:
    """Greet the visitor, and tell what Tencent said of the ticket."""
    found = get_decision(request)
    code = found.code if found else None
    return {"hello": user, "captchaCode": code}


@app.get("/report")
async def report() -> dict[str, int]:
    """Be costly to make, and so only for those who solved a captcha."""
    return {"visitors": 7}
