"""`TencentEmulator`: an ASGI app that behaves like captcha.tencentcloudapi.com.

This is the public interface. Each private module of this folder has one part: `_calls` reads
API calls, `_tickets` answers them, `_browser` serves pages, `_control` is the control API, and
`_http` sends responses.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import anyio

from tcaptcha_middleware.tencent.credentials import Captcha, Credentials
from tcaptcha_middleware.testing.emulator._browser import (
    SCRIPTS,
    Challenges,
    ClientScript,
)
from tcaptcha_middleware.testing.emulator._calls import (
    MAX_CALL,
    ApiError,
    envelope,
    read_call,
)
from tcaptcha_middleware.testing.emulator._control import (
    PREFIX,
    Steps,
    dispatch,
    validate_call,
    validate_ticket,
)
from tcaptcha_middleware.testing.emulator._http import (
    Response,
    json_response,
    read_body,
    read_headers,
    run_lifespan,
    send_response,
    serving,
)
from tcaptcha_middleware.testing.emulator._tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from tcaptcha_middleware.asgi import Receive, Scope, Send

_REMEMBERED = 10_000


class TencentEmulator:
    """Shows captchas and verifies tickets like Tencent, without an account or internet.

    Serve it with any ASGI server or with `serve()`, mount it in an application, or pass it to
    `httpx.ASGITransport`. It verifies every signature, rejects what Tencent rejects, answers
    API failures with HTTP 200, and accepts each ticket once. To browsers it serves a substitute
    for Tencent's script, as `/TJCaptcha.js` and under the three other names.

    The same methods exist over HTTP: `POST /__emulator__/tickets` for `mint`,
    `/__emulator__/script` for `script`, `/__emulator__/challenges` for `challenge`, and
    `/__emulator__/loads` for `load`. The body is a JSON object; all but the first also accept
    a list of them.

    Args:
        app_id: CaptchaAppId of its captcha, for web pages and mini-programs.
        app_secret_key: AppSecretKey of its captcha.
        captchas: Further captchas: AppSecretKey by CaptchaAppId.
        secret_id: SecretId of the only API key that may call.
        secret_key: SecretKey of that API key.
        token: The token that calls must send, if the API key is a temporary one.
        rate: Calls per second, above which it answers `RequestLimitExceeded`.
        check_app_id: If a challenge needs a valid `aidEncrypted`, as with the console's forced
            verification of the CaptchaAppId.
        one_time: If each `aidEncrypted` is valid for one challenge; needs `check_app_id`.
        clock: Returns Unix seconds.

    Attributes:
        latency: Seconds to wait before each answer to a call.
        is_up: False answers each call with HTTP 503, probes of the gate too. Steps remain.
        calls: The parameters of the last 10,000 authentic calls, in order, without the
            AppSecretKey.
        challenges: The last 10,000 requests of pages for a challenge, in order, with `script`
            (the file name), `appId` and `options`.

    Raises:
        ModuleNotFoundError: If `check_app_id` is set and cryptography is not installed; the
            extra `aid` installs it.
        ValueError: If `one_time` is set without `check_app_id`, which would check nothing.
    """

    def __init__(  # noqa: PLR0913  the parts of a Tencent account
        self,
        *,
        app_id: int = 190000000,
        app_secret_key: str = "emulatorAppSecretKey12345",  # noqa: S107  protects nothing
        captchas: Mapping[int, str] | None = None,
        secret_id: str = "AKIDemulator00000000000000000000",  # noqa: S107  protects nothing
        secret_key: str = "emulatorSecretKey000000000000000",  # noqa: S107  protects nothing
        token: str | None = None,
        rate: int = 1000,
        check_app_id: bool = False,
        one_time: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if one_time and not check_app_id:
            raise ValueError("one_time checks nothing alone: set check_app_id=True too")
        self._captcha = Captcha(app_id, app_secret_key)
        self._credentials = Credentials(secret_id, secret_key, token)
        self._clock = clock
        # Tests mint tickets while the server's thread answers calls.
        self._lock = threading.Lock()
        all_captchas = [self._captcha, *(Captcha(*pair) for pair in (captchas or {}).items())]
        self._tickets = Tickets(*all_captchas)
        self._rate = rate
        self._second = (0, 0)
        self._steps = Steps(validate_call)
        self._script = ClientScript()
        self._challenges = Challenges(
            all_captchas, self._mint, check_app_id=check_app_id, one_time=one_time
        )
        self.latency: float = 0.0
        self.is_up: bool = True
        self.calls: list[dict[str, Any]] = []
        self.challenges: list[dict[str, Any]] = self._challenges.requests

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that a `TencentVerifier` needs, except `endpoint`."""
        secret_id, secret_key, token = self._credentials.get_credential_info()
        captcha = {
            "app_id": self._captcha.app_id,
            "app_secret_key": self._captcha.app_secret_key,
        }
        return captcha | {"secret_id": secret_id, "secret_key": secret_key, "token": token}

    def mint(self, **properties: Any) -> dict[str, str]:
        """Return a new `{"ticket": …, "randstr": …}`, as a solved captcha gives the page.

        For a mini-program, `randstr` is missing, and the ticket is never reported as reused,
        because Tencent documents no code for a second use.

        Args:
            properties: `kind` (`"web"`, or `"mini"` for a mini-program), `code` (1),
                `evil_level` (0), `score` (none), `age` in seconds (0; a ticket expires after
                300), `app_id` of another captcha.

        Raises:
            TypeError: If a keyword is unknown.
            ValueError: If a value is not valid, or does not apply to this kind of ticket.
        """
        return self._mint(properties)

    def script(self, *steps: dict[str, Any]) -> None:
        """Set how the next calls are answered, one step for each call.

        Args:
            steps: One of `error` (an API error's code, answered with HTTP 200), `code` (a
                CaptchaCode; the ticket is not spent) and `status` (an HTTP status with an HTML
                body; the call is not read); and any of `latency` (seconds), `content_type` (of
                the response) and `drop` (true: close the connection within the response).

        Raises:
            TypeError: If a step is not a dict, or has an unknown key.
            ValueError: If a value is not valid, or a step has two answers.
        """
        self._steps.add(*steps)

    def challenge(self, *steps: dict[str, Any]) -> None:
        """Set how the next challenges end in browsers, one step each; later ones are solvable.

        Args:
            steps: One of `ticket` (a dict of `mint`'s arguments, for the ticket of a solved
                challenge), `close` (true: as if the visitor closed it), `error` (1001 to 1013:
                it fails, with a disaster ticket) and `hang` (true: it never ends); and any of
                `skip` (true: it is solved without being shown) and `latency` (seconds before
                it goes on).

        Raises:
            TypeError: If a step is not a dict, or has an unknown key.
            ValueError: If a value is not valid, or a challenge ends in two ways.
        """
        self._challenges.steps.add(*steps)

    def load(self, *steps: dict[str, Any]) -> None:
        """Set how the next loads of the script go, one step each; later loads succeed.

        Args:
            steps: One of `status` (an HTTP status with an HTML body), `broken` (true: half of
                the script) and `throw` ("constructor" or "show": its first call throws); and
                `latency` (seconds before the response).

        Raises:
            TypeError: If a step is not a dict, or has an unknown key.
            ValueError: If a value is not valid, or a load fails in two ways.
        """
        self._script.steps.add(*steps)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> AbstractContextManager[str]:
        """Serve the emulator in a thread while the context lasts; the context is its origin.

        Args:
            host: The address to listen on.
            port: The port to listen on; 0 picks a free one.

        Raises:
            ModuleNotFoundError: If uvicorn is not installed; the extra `demo` installs it.
            OSError: If the port is in use, or the address belongs to another machine.
        """
        return serving(self, host, port, lifespan="off")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or the lifespan; reject websockets with HTTP 403."""
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close"})
        elif (body := await read_body(receive, MAX_CALL)) is not None:
            await send_response(send, await self._answer(scope, body))

    async def _answer(self, scope: Scope, body: bytes) -> Response:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(PREFIX):
            return dispatch(self._endpoints(), scope["method"], path, body)
        if path in SCRIPTS:
            return self._script.answer(scope["method"])
        down: dict[str, Any] = {"status": 503}
        step = self._steps.take() if self.is_up else down
        await anyio.sleep(step.get("latency", self.latency))
        if "status" in step:
            response = Response(step["status"], b"<html>", "text/html")
        else:
            response = json_response(200, envelope(self._answer_call(scope, body, step)))
        content_type = step.get("content_type", response.content_type)
        return response._replace(content_type=content_type, dropped=step.get("drop", False))

    def _endpoints(self) -> dict[str, Callable[[object], Response]]:
        def add_to(steps: Steps) -> Callable[[object], Response]:
            def add(value: object) -> Response:
                steps.add(*(value if isinstance(value, list) else [value]))
                return json_response(200, None)

            return add

        return {
            f"{PREFIX}tickets": lambda value: json_response(200, self._mint(value)),
            f"{PREFIX}script": add_to(self._steps),
            f"{PREFIX}challenges": add_to(self._challenges.steps),
            f"{PREFIX}loads": add_to(self._script.steps),
            f"{PREFIX}challenge": lambda value: self._challenges.answer(value, self._clock()),
        }

    def _mint(self, properties: object) -> dict[str, str]:
        checked = validate_ticket(properties)
        with self._lock:
            return self._tickets.mint(self._clock(), **checked)

    def _answer_call(self, scope: Scope, body: bytes, step: dict[str, Any]) -> dict[str, Any]:
        now = self._clock()
        try:
            # The canonical request of a signature is POST / without a query.
            if scope["method"] != "POST" or scope["path"] != "/" or scope.get("query_string"):
                raise ApiError("InvalidRequest", "A call is a POST to / without a query.")
            call = read_call(read_headers(scope), body, self._credentials, now)
            with self._lock:
                self.calls.append(
                    {k: v for k, v in call.parameters.items() if k != "AppSecretKey"}
                )
                del self.calls[:-_REMEMBERED]
                second, count = self._second
                self._second = (int(now), count + 1 if second == int(now) else 1)
                if self._second[1] > self._rate:
                    message = f"Over {self._rate} calls in one second."
                    raise ApiError("RequestLimitExceeded", message)
                if "error" in step:
                    raise ApiError(step["error"], "As scripted.")
                return self._tickets.answer(call, now, step.get("code"))
        except ApiError as error:
            return error.answer
