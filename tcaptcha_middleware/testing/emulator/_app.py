"""A stand-in for captcha.tencentcloudapi.com, as strict as the real thing, as an ASGI app.

Here is what its user sees of it, and which part answers what. What may be said to it stands in
`words` and `orders`, how calls are read in `wire`, how tickets are kept in `ledger` and
answered in `answers`, the browser's half in `script`, `challenges` and `aid`, and how answers
are sent in `exchange`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio

from tcaptcha_middleware.tencent.credentials import Captcha, Credentials
from tcaptcha_middleware.testing.emulator._browser import PATHS, AidCheck, Pages
from tcaptcha_middleware.testing.emulator._calls import MAX_CALL, ApiError, envelope, read_call
from tcaptcha_middleware.testing.emulator._control import PREFIX, check_step, check_ticket, obey
from tcaptcha_middleware.testing.emulator._http import (
    Answer,
    body_of,
    headers_of,
    in_json,
    live,
    respond,
    serving,
    turn_away,
)
from tcaptcha_middleware.testing.emulator._tickets import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from tcaptcha_middleware.asgi import Receive, Scope, Send

_REMEMBERED = 10_000


class TencentEmulator(Pages):
    """Show captchas and check tickets as Tencent does, without an account or the internet.

    Serve it with any ASGI server, with `serve()`, or hand it to `httpx.ASGITransport`. It
    recomputes every signature, refuses whatever Tencent would refuse, answers API failures
    with HTTP 200, and plays each ticket once. To browsers it serves a stand-in for Tencent's
    script, as `/TJCaptcha.js` and under the three other names.

    Over HTTP, `POST /__emulator__/tickets` does what `mint` does, `/__emulator__/script` what
    `script` does, `/__emulator__/challenges` what `challenge` does, and `/__emulator__/loads`
    what `load` does; they take a JSON object, all but the first a list of them, too.

    Args:
        app_id: CaptchaAppId of its captcha, which has tickets for web pages and mini-programs.
        app_secret_key: AppSecretKey of it.
        captchas: Further captchas: AppSecretKey by CaptchaAppId.
        secret_id: SecretId of the one API key that may call.
        secret_key: SecretKey of it.
        token: The token that has to come with the key, where it is a temporary one.
        rate: How many calls it answers in one second, before `RequestLimitExceeded`.
        check_app_id: Whether a challenge needs a good `aidEncrypted`, as with the console's
            forced verification of the CaptchaAppId.
        one_time: Whether each `aidEncrypted` is good for one challenge; goes with the former.
        clock: Tells the time in Unix seconds.

    Attributes:
        latency: Seconds that it waits before each answer to a call.
        calls: The parameters of the last 10,000 authentic calls, in order, without the secret.
        challenges: What the last 10,000 pages said that asked for a challenge; see `Pages`.

    Raises:
        ModuleNotFoundError: `check_app_id` needs cryptography; it comes with the extra `aid`.
        ValueError: `one_time` without `check_app_id`, which alone would check nothing.
    """

    def __init__(  # noqa: PLR0913  an account of Tencent's is made of these
        self,
        *,
        app_id: int = 190000000,
        app_secret_key: str = "emulatorAppSecretKey12345",  # noqa: S107  opens nothing
        captchas: Mapping[int, str] | None = None,
        secret_id: str = "AKIDemulator00000000000000000000",  # noqa: S107  likewise
        secret_key: str = "emulatorSecretKey000000000000000",  # noqa: S107  opens nothing
        token: str | None = None,
        rate: int = 1000,
        check_app_id: bool = False,
        one_time: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if one_time and not check_app_id:
            raise ValueError("one_time checks nothing by itself: set check_app_id=True, too")
        self._captcha = Captcha(app_id, app_secret_key)
        every = [self._captcha, *(Captcha(*pair) for pair in (captchas or {}).items())]
        checks = {
            captcha.app_id: AidCheck(captcha, once=one_time) if check_app_id else None
            for captcha in every
        }
        super().__init__(checks=checks, mint=self.mint, clock=clock)
        self._credentials = Credentials(secret_id, secret_key, token)
        self._ledger = Ledger(*every)
        self._rate = rate
        self._second = (0, 0)
        # One for all that is counted or spent: tests mint while a server's thread answers.
        self._lock = threading.Lock()
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

        A mini-program gets no randstr, and its ticket is played as often as it is asked about,
        because Tencent documents no code for a second use.

        Args:
            told: What is to be said of it: `kind` (`"web"`, or `"mini"` for a mini-program's),
                `code` (1), `evil_level` (0), `score` (none), `age` in seconds (0; it expires
                after 300), `app_id` of another captcha.

        Raises:
            TypeError: Another word than these.
            ValueError: A value that does not fit its word or its kind.
        """
        return self._mint(told)

    def script(self, *steps: dict[str, Any]) -> None:
        """Say how the next calls go, a step each; after the last it is its own self again.

        Args:
            steps: One of `error` (an API error's code, answered with HTTP 200), `code` (a
                CaptchaCode; the ticket is not spent) and `status` (an HTTP status, with an HTML
                body; the call is not read); and any of `latency` (seconds), `content_type` (the
                answer's) and `drop` (true: break off in the middle of the answer).

        Raises:
            TypeError: No dict, or another word than these.
            ValueError: A value that does not fit its word, or two answers to one call.
        """
        self._steps.extend([check_step(step) for step in steps])

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> AbstractContextManager[str]:
        """Serve it from a thread, for as long as the context lasts; gives its origin.

        Args:
            host: The address to listen on.
            port: The port to listen on; 0 picks a free one.

        Raises:
            ModuleNotFoundError: uvicorn is not installed; it comes with the extra `demo`.
            OSError: The port is in use, or the address is not this machine's.
        """
        return serving(self, host, port, lifespan="off")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or follow the server's life; websockets are turned away."""
        if scope["type"] == "lifespan":
            await live(receive, send)
        elif scope["type"] == "websocket":
            await turn_away(receive, send)
        elif (body := await body_of(receive, MAX_CALL)) is not None:
            await respond(send, await self._answer(scope, body))

    async def _answer(self, scope: Scope, body: bytes) -> Answer:
        if scope["path"].startswith(PREFIX):
            return obey(self._orders(), scope["method"], scope["path"], body)
        if scope["path"] in PATHS:
            return self._answer_load(scope["method"])
        step = self._next_step()
        await anyio.sleep(step.get("latency", self.latency))
        if "status" in step:
            answer = Answer(step["status"], b"<html>", "text/html")
        else:
            answer = in_json(200, envelope(self._play(scope, body, step)))
        content_type = step.get("content_type", answer.content_type)
        return answer._replace(content_type=content_type, dropped=step.get("drop", False))

    def _orders(self) -> dict[str, Callable[[object], Answer]]:
        return {
            f"{PREFIX}tickets": lambda told: in_json(200, self._mint(told)),
            f"{PREFIX}script": lambda told: _said(self.script, told),
            f"{PREFIX}challenges": lambda told: _said(self.challenge, told),
            f"{PREFIX}loads": lambda told: _said(self.load, told),
            f"{PREFIX}challenge": self._answer_challenge,
        }

    def _mint(self, told: object) -> dict[str, str]:
        checked = check_ticket(told)
        with self._lock:
            return self._ledger.mint(self._clock(), **checked)

    def _next_step(self) -> dict[str, Any]:
        try:
            return self._steps.popleft()
        except IndexError:
            return {}

    def _play(self, scope: Scope, body: bytes, step: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._call(scope, body, step)
        except ApiError as error:
            return error.answer

    def _call(self, scope: Scope, body: bytes, step: dict[str, Any]) -> dict[str, Any]:
        # A POST is signed as one without a query, so that a query would not be authentic.
        if scope["method"] != "POST" or scope["path"] != "/" or scope.get("query_string"):
            raise ApiError("InvalidRequest", "Calls are POSTed to /, without a query.")
        now = self._clock()
        call = read_call(headers_of(scope), body, self._credentials, now)
        with self._lock:
            self._note(call.asked, now)
            if "error" in step:
                raise ApiError(step["error"], "As scripted.")
            return self._ledger.play(call, now, step.get("code"))

    def _note(self, asked: dict[str, Any], now: float) -> None:
        self.calls.append({k: v for k, v in asked.items() if k != "AppSecretKey"})
        del self.calls[:-_REMEMBERED]
        second, calls = self._second
        self._second = (int(now), calls + 1 if second == int(now) else 1)
        if self._second[1] > self._rate:
            raise ApiError("RequestLimitExceeded", f"Over {self._rate} calls in one second.")


def _said(order: Callable[..., None], told: object) -> Answer:
    order(*(told if isinstance(told, list) else [told]))
    return in_json(200, None)
