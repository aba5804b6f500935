"""A stand-in for captcha.tencentcloudapi.com, as strict as the real thing, as an ASGI app.

Here is how it is spoken to; how calls are read stands in `wire`, how tickets are answered in
`ledger`.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

from tcaptcha_middleware.credentials import Captcha, Credentials
from tcaptcha_middleware.testing.ledger import Ledger
from tcaptcha_middleware.testing.serving import serving
from tcaptcha_middleware.testing.wire import ApiError, read_call

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tcaptcha_middleware.asgi import Message, Receive, Scope, Send

_STEPS = {"latency", "error", "code", "status", "drop", "content_type"}
_MINTED = {"code", "evil_level", "score", "age", "app_id"}


class TencentEmulator:
    """Check tickets as Tencent does, without an account and without the internet.

    Serve it with any ASGI server, with `serve()`, or hand it to `httpx.ASGITransport`. It
    recomputes every signature, refuses whatever Tencent would refuse, answers API failures
    with HTTP 200, and plays each ticket once. Over HTTP, `POST /__emulator__/tickets` does what
    `mint` does, and `POST /__emulator__/script` what `script` does; both take JSON.

    Args:
        app_id: CaptchaAppId of its one captcha.
        app_secret_key: AppSecretKey of it.
        secret_id: SecretId of the one API key that may call.
        secret_key: SecretKey of it.
        token: The token that has to come with the key, where it is a temporary one.
        rate: How many calls it answers in one second, before `RequestLimitExceeded`.
        clock: Tells the time in Unix seconds.

    Attributes:
        latency: Seconds that it waits before each answer.
        calls: The parameters of every authentic call, in order, without the secret.
    """

    def __init__(  # noqa: PLR0913  an account of Tencent's is made of these
        self,
        *,
        app_id: int = 190000000,
        app_secret_key: str = "emulatorAppSecretKey12345",  # noqa: S107  opens nothing
        secret_id: str = "AKIDemulator00000000000000000000",  # noqa: S107  likewise
        secret_key: str = "emulatorSecretKey000000000000000",  # noqa: S107  opens nothing
        token: str | None = None,
        rate: int = 1000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._captcha = Captcha(app_id, app_secret_key)
        self._credentials = Credentials(secret_id, secret_key, token)
        self._ledger = Ledger(self._captcha.app_id, app_secret_key)
        self._rate = rate
        self._clock = clock
        self._second = (0, 0)
        self._steps: deque[dict[str, Any]] = deque()
        self.latency: float = 0.0
        self.calls: list[dict[str, Any]] = []

    @property
    def settings(self) -> dict[str, Any]:
        """What a `TencentVerifier` needs, beside its `endpoint`, to be answered here."""
        secret_id, secret_key, token = self._credentials.get_credential_info()
        captcha = {
            "app_id": self._captcha.app_id,
            "app_secret_key": self._captcha.app_secret_key,
        }
        return captcha | {"secret_id": secret_id, "secret_key": secret_key, "token": token}

    def mint(self, **told: Any) -> dict[str, str]:
        """Return a fresh `{"ticket": …, "randstr": …}`, as a solved captcha gives the page.

        Args:
            told: What is to be said of it: `code` (1), `evil_level` (0), `score` (none), `age`
                in seconds (0; it expires after 300), `app_id` of another captcha.

        Raises:
            TypeError: Another word than these.
        """
        _check_words(told, _MINTED)
        return self._ledger.mint(self._clock(), **told)

    def script(self, *steps: dict[str, Any]) -> None:
        """Say how the next calls go, a step each; after the last it is its own self again.

        Args:
            steps: Any of `latency` (seconds), `error` (an API error's code, answered with HTTP
                200), `code` (a CaptchaCode), `status` (an HTTP status, with an HTML body),
                `content_type` (the answer's), and `drop` (true: break off in the middle).

        Raises:
            TypeError: Another word than these.
        """
        for step in steps:
            _check_words(step, _STEPS)
        self._steps.extend(steps)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> AbstractContextManager[str]:
        """Serve it from a thread, for as long as the context lasts; gives its origin.

        Args:
            host: The address to listen on.
            port: The port to listen on; 0 picks a free one.
        """
        return serving(self, host, port, lifespan="off")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            msg = f"the emulator serves HTTP, not {scope['type']}"
            raise NotImplementedError(msg)
        body = await _body(receive)
        if scope["path"] == "/__emulator__/tickets":
            await self._tell(send, self.mint, body)
        elif scope["path"] == "/__emulator__/script":
            await self._tell(send, lambda **step: self.script(step), body)
        else:
            await self._answer(scope, body, send)

    async def _tell(self, send: Send, does: Callable[..., Any], body: bytes) -> None:
        try:
            answer = does(**json.loads(body or b"{}"))
        except (ValueError, TypeError) as error:
            await _send(send, 400, json.dumps({"error": str(error)}).encode())
        else:
            await _send(send, 200, json.dumps(answer).encode())

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        step = self._steps.popleft() if self._steps else {}
        await anyio.sleep(step.get("latency", self.latency))
        content_type = step.get("content_type", "application/json")
        if "status" in step:
            await _send(send, step["status"], b"<html>", "text/html")
            return
        answer = json.dumps(self._envelope(scope, body, step)).encode()
        if step.get("drop"):
            await _send(send, 200, answer, content_type, promised=len(answer) * 2)
            raise ConnectionResetError("broken off, as scripted")
        await _send(send, 200, answer, content_type)

    def _envelope(self, scope: Scope, body: bytes, step: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._call(scope, body, step)
        except ApiError as error:
            answer = {"Error": {"Code": error.code, "Message": error.message}}
        # The two siblings say nothing about the ticket. They stand in Tencent's own sample,
        # and whoever takes them for the verdict lets everyone in.
        request_id = {"RequestId": str(uuid.uuid4())}
        return {"Response": answer | request_id, "retcode": 0, "retmsg": "success"}

    def _call(self, scope: Scope, body: bytes, step: dict[str, Any]) -> dict[str, Any]:
        if scope["method"] != "POST" or scope["path"] != "/":
            raise ApiError("InvalidRequest", "Calls are POSTed to /.")
        now = self._clock()
        asked = read_call(_headers(scope), body, self._credentials, now)
        self.calls.append({k: v for k, v in asked.items() if k != "AppSecretKey"})
        self._count(now)
        if "error" in step:
            raise ApiError(step["error"], "As scripted.")
        return self._ledger.play(asked, now, step.get("code"))

    def _count(self, now: float) -> None:
        second, calls = self._second
        self._second = (int(now), calls + 1 if second == int(now) else 1)
        if self._second[1] > self._rate:
            raise ApiError("RequestLimitExceeded", f"Over {self._rate} calls in one second.")


def _check_words(told: dict[str, Any], known: set[str]) -> None:
    unknown = ", ".join(sorted(told.keys() - known))
    if unknown:
        raise TypeError(f"{unknown} is unknown here: use {', '.join(sorted(known))}")


def _headers(scope: Scope) -> dict[str, str]:
    return {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}


async def _body(receive: Receive) -> bytes:
    pieces = []
    more = True
    while more:
        message: Message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)


async def _send(
    send: Send,
    status: int,
    body: bytes,
    content_type: str = "application/json",
    promised: int | None = None,
) -> None:
    length = len(body) if promised is None else promised
    headers = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(length).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    more = promised is not None
    await send({"type": "http.response.body", "body": body, "more_body": more})
