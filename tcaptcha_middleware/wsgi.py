"""The WSGI face: fetches what the walk asks for, and acts on its decision. Holds no policy.

https://peps.python.org/pep-3333/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.effects import CallHook, Claim, Pause, ReadBody
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.models import Allow, RequestInfo
from tcaptcha_middleware.responses import PlainResponse, framed
from tcaptcha_middleware.validation import check_wsgi
from tcaptcha_middleware.wsgi_body import Body, Environ

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tcaptcha_middleware.effects import Effect
    from tcaptcha_middleware.models import Decision
    from tcaptcha_middleware.rules import CompiledRule

StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

ENVIRON_KEY = "tcaptcha.decision"


class TCaptchaWSGIMiddleware:
    """Let only requests with a solved captcha through to a WSGI application.

    Args:
        app: The application to protect.
        guard: What to protect, and how.

    Raises:
        ConfigurationError: The application is one for ASGI; or a verifier, the replay store or
            a `when` has to be awaited.
    """

    def __init__(self, app: App, guard: Guard) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError(
                "write TCaptchaWSGIMiddleware(app, guard), where guard is a Guard"
            )
        check_wsgi(app)
        guard.require("sync")
        self.app = app
        self.guard = guard
        self._served = guard.served

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        raw_path = _unwrapped(environ, "PATH_INFO")
        path = raw_path.decode("utf-8", "replace")
        if path.endswith(self._served):
            answer = self.guard.serve(_request(environ))
            if answer is not None:
                return _send(answer, environ, start_response)
        coverage = self._coverage(environ, path, raw_path)
        earlier = environ.get(ENVIRON_KEY)
        if coverage is not None and not self.guard.already_allowed(coverage, earlier):
            return self._gate(coverage, environ, start_response)
        if earlier is not None and not isinstance(earlier, Allow):
            # Whoever made it up, no handler shall take it for the gate's word.
            del environ[ENVIRON_KEY]
        return self.app(environ, start_response)

    def _coverage(self, environ: Environ, path: str, raw_path: bytes) -> CompiledRule | None:
        method = environ["REQUEST_METHOD"]
        if method in self.guard.unmatched_methods:
            return None
        mount = _unwrapped(environ, "SCRIPT_NAME")
        if not mount:
            return self.guard.match(method, path, raw_path)
        root_path = mount.decode("utf-8", "replace")
        # The mount before the path, as ASGI has it: without it, whatever begins like the mount
        # would pass for what is below it. What has no slash between them is left as it is,
        # because together they would look like a plain path.
        if path.startswith("/"):
            path, raw_path = root_path + path, mount + raw_path
        return self.guard.match(method, path, raw_path, root_path)

    def _gate(
        self, coverage: CompiledRule, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        request, body = _request(environ), Body(environ)
        decision = self._drive(coverage, request, body)
        body.replay(environ)
        if isinstance(decision, Allow):
            environ[ENVIRON_KEY] = decision
            return self.app(environ, start_response)
        answer = self.guard.answer(coverage, request, decision)
        if isinstance(answer, PlainResponse):
            return body.behind(_send(answer, environ, start_response))
        return body.behind(answer(environ, start_response))

    def _drive(self, coverage: CompiledRule, request: RequestInfo, body: Body) -> Decision:
        walk = self.guard.check(coverage, request)
        try:
            step = next(walk)
            while True:
                try:
                    fetched = _fetch(step, body)
                except Exception as error:
                    step = walk.throw(error)
                else:
                    step = walk.send(fetched)
        except StopIteration as stop:
            decision: Decision = stop.value
            return decision
        finally:
            walk.close()


def _unwrapped(environ: Environ, name: str) -> bytes:
    # PEP 3333 wraps a path's bytes in latin-1; they are UTF-8 (RFC 3987, section 3.1).
    wrapped: str = environ.get(name, "")
    return wrapped.encode("latin-1", "replace")


def _request(environ: Environ) -> RequestInfo:
    return RequestInfo(
        kind="http",
        method=environ["REQUEST_METHOD"],
        path=_unwrapped(environ, "PATH_INFO").decode("utf-8", "replace"),
        query=environ.get("QUERY_STRING", "").encode("latin-1", "replace"),
        headers=list(_headers(environ)),
        peer=environ.get("REMOTE_ADDR", ""),
        root_path=_unwrapped(environ, "SCRIPT_NAME").decode("utf-8", "replace"),
    )


def _headers(environ: Environ) -> Iterator[tuple[bytes, bytes]]:
    for name, value in environ.items():
        plain = name in ("CONTENT_TYPE", "CONTENT_LENGTH") and value
        if plain or name.startswith("HTTP_"):
            yield _header(name), value.encode("latin-1", "replace")


@lru_cache(maxsize=256)
def _header(name: str) -> bytes:
    header = name.removeprefix("HTTP_").replace("_", "-").lower()
    return header.encode("latin-1", "replace")


def _fetch(step: Effect, body: Body) -> object:
    match step:
        case ReadBody():
            return body.read(step.timeout, may_disconnect=step.may_disconnect)
        case CallHook():
            return step.question(step.request)
        case Pause():
            time.sleep(step.seconds)
            return None
        case Claim():
            return step.replay_store.claim(step.key, step.seconds)
    return step.verifier.verify(step.ticket)


def _send(
    answer: PlainResponse, environ: Environ, start_response: StartResponse
) -> list[bytes]:
    headers, body = framed(answer, environ["REQUEST_METHOD"])
    start_response(answer.line, headers)
    return [body] if body else []
