"""FastAPI: handlers that are marked, so no path is written twice.

Run it in this folder:

    uvicorn fastapi_marked_app:app
"""

from typing import Annotated

from fastapi import Depends, FastAPI, Form

from tcaptcha_middleware import Allow, TencentVerifier
from tcaptcha_middleware.integrations.fastapi import Solved, protect, solved

app = FastAPI()
protect(app, TencentVerifier.from_env())

# Verified and logged, but not refused.
Observed = Annotated[Allow, Depends(solved(mode="observe"))]


@app.get("/")
async def home() -> str:
    """Answer everyone: it is not marked."""
    return "POST a user to /login, with a captcha."


@app.post("/login")
async def login(
    captcha: Solved, user: Annotated[str, Form()] = "stranger"
) -> dict[str, str | int | None]:
    """Greet the visitor, and return Tencent's code for the ticket."""
    return {"hello": user, "captchaCode": captcha.code}


@app.post("/comments")
async def comment(captcha: Observed) -> dict[str, bool]:
    """Take a comment, with a captcha or without."""
    return {"solved": captcha.refused is None}
