"""FastAPI with `page=`: a login form that shows the captcha, and a protected page.

Run it in this folder, and open it in a browser:

    uvicorn page_app:app
"""

from typing import Annotated

from fastapi import FastAPI, Form, Request
from fastapi.responses import HTMLResponse

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier, get_decision

# `page` serves tcaptcha.js, and shows the challenge to visitors of /report.
guard = Guard(["POST /login", "GET /report"], TencentVerifier.from_env(), page="/tcaptcha")

app = FastAPI()
app.add_middleware(TCaptchaMiddleware, guard=guard)

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
<a href="/report">The report</a>
</html>
"""


@app.get("/", response_class=HTMLResponse)
async def home() -> str:
    """Show the form; `tcaptcha.js` shows the captcha."""
    return HOME


@app.post("/login")
async def login(
    request: Request, user: Annotated[str, Form()] = "stranger"
) -> dict[str, str | int | None]:
    """Greet the visitor, and return Tencent's code for the ticket."""
    decision = get_decision(request)
    code = decision.code if decision else None
    return {"hello": user, "captchaCode": code}


@app.get("/report")
async def report() -> dict[str, int]:
    """Return a report, which is expensive to make."""
    return {"visitors": 7}
