"""The WSGI adapter: performs what the decision flow asks for, and acts on its decision.

The guard finds the rule and the flow judges the ticket; here is what the protocol demands.
`asgi.py` is its twin, with the same steps under the same names.
https://peps.python.org/pep-3333/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from tcaptcha_middleware.effects import CallHook, Claim, ReadBody, Release, Verify
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.flow import decide
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.matching.paths import forced_script_name, mount_of
from tcaptcha_middleware.models import Allow, EnvironHeaders, RequestInfo
from tcaptcha_middleware.operations.startup import report_dead_rules
from tcaptcha_middleware.responses import PlainResponse, framed
from tcaptcha_middleware.validation import validate_wsgi
from tcaptcha_middleware.wsgi_body import Body, Environ

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tcaptcha_middleware.effects import Effect, Flow
    from tcaptcha_middleware.models import Refuse
    from tcaptcha_middleware.rules import MatchedRule

StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

ENVIRON_KEY = "tcaptcha.decision"

T = TypeVar("T")


class TCaptchaWSGIMiddleware:
    """Let only requests with a solved captcha through to a WSGI application.

    Args:
        app: The application to protect.
        guard: What to protect, and how.

    Raises:
        ConfigurationError: If the application is an ASGI application, or a verifier, the
            replay store or a `when` has to be awaited.
    """

    def __init__(self, app: App, guard: Guard) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError(
                "write TCaptchaWSGIMiddleware(app, guard), where guard is a Guard"
            )
        validate_wsgi(app)
        guard.require("sync")
        self.app = app
        self.guard = guard
        self._mount = mount_of(app, guard.mounted_at)
        self._script_name = forced_script_name(app).encode()
        self.rules_reported: bool = False

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        own_path, root_path = _path_bytes(environ, "PATH_INFO"), ""
        raw_path, prefix = own_path, self._script_name
        if environ.get("SCRIPT_NAME"):
            script_name = _path_bytes(environ, "SCRIPT_NAME").rstrip(b"/")
            root_path = script_name.decode("utf-8", "replace")
            prefix = prefix or script_name
        # The server has decoded the path once already; matching reads its bytes in every form.
        # The mount comes before it, as ASGI has it; not if no slash separates them, because
        # together they would look like a plain path.
        if prefix and raw_path.startswith(b"/"):
            raw_path = prefix + raw_path
        path = raw_path.decode("utf-8", "replace")
        if not self.rules_reported:
            # Not on construction, when Flask has no routes yet.
            self.rules_reported = True
            report_dead_rules(self.app, self.guard, root_path)
        guard, method = self.guard, environ["REQUEST_METHOD"]
        if method == "OPTIONS" and guard.preflight_headers:
            start_response = _adding(guard.preflight_headers, start_response)
        # What `route` would return for most requests, without a call.
        if (
            method in guard.unmatched_methods
            and ENVIRON_KEY not in environ
            and not path.endswith(guard.page_paths)
        ):
            return self.app(environ, start_response)
        target = method, path, raw_path, root_path, self._mount
        route = guard.route(target, environ, ENVIRON_KEY)
        if route is None:
            return self.app(environ, start_response)
        request, body = _request(environ, own_path, self._mount), Body(environ)
        if callable(route):
            return _send(run(route(request), body), environ, start_response)
        decision = run(decide(route, request), body)
        if body.kept:
            body.replay(environ)
        if isinstance(decision, Allow):
            guard.record(decision, route, target, environ, ENVIRON_KEY)
            return self.app(environ, start_response)
        return self._refuse(decision, route, request, body, start_response)

    def _refuse(
        self,
        refuse: Refuse,
        rule: MatchedRule,
        request: RequestInfo,
        body: Body,
        start_response: StartResponse,
    ) -> Iterable[bytes]:
        environ: Environ = request.raw
        answer, added = self.guard.answer(rule, request, refuse)
        start_response = _adding(added, start_response)
        if isinstance(answer, PlainResponse):
            return body.behind(_send(answer, environ, start_response))
        return body.behind(answer(environ, start_response))


def _request(environ: Environ, path: bytes, mount: str) -> RequestInfo:
    if not mount and environ.get("SCRIPT_NAME"):
        mount = _path_bytes(environ, "SCRIPT_NAME").decode("utf-8", "replace")
    return RequestInfo(
        "http",
        environ["REQUEST_METHOD"],
        path.decode("utf-8", "replace"),
        environ.get("QUERY_STRING", "").encode("latin-1", "replace"),
        EnvironHeaders(environ),
        environ.get("REMOTE_ADDR") or "",
        mount,
        environ,
    )


def run(flow: Flow[T], body: Body) -> T:
    """Run a flow: perform each of its effects, and send it the result."""
    try:
        effect = next(flow)
        while True:
            try:
                result = perform(effect, body)
            except Exception as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        flow.close()


def perform(effect: Effect, body: Body) -> object:
    """Perform one effect, and return its result."""
    # A blocking call cannot be interrupted: verifiers and stores have timeouts of their own.
    match effect:
        case Verify():
            return effect.verifier.verify(effect.submission)
        case ReadBody():
            return body.read(effect.timeout, may_disconnect=effect.may_disconnect)
        case Claim():
            return effect.store.claim(effect.key, effect.token, effect.seconds)
        case CallHook():
            return effect.hook(effect.request)
        case Release():
            return effect.store.release(effect.key, effect.token)
    # What is left is `WaitForSlot`.
    return effect.slots.wait(effect.timeout)


def _adding(added: Sequence[tuple[str, str]], start_response: StartResponse) -> StartResponse:
    def adding(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        return start_response(status, [*headers, *added], *more)

    return adding


def _send(
    answer: PlainResponse, environ: Environ, start_response: StartResponse
) -> list[bytes]:
    headers, body = framed(answer, environ["REQUEST_METHOD"])
    start_response(answer.line, headers)
    return [body] if body else []


def _path_bytes(environ: Environ, name: str) -> bytes:
    # PEP 3333 wraps a path's bytes in latin-1; they are UTF-8 (RFC 3987, section 3.1).
    wrapped: str = environ.get(name) or ""
    return wrapped.encode("latin-1", "replace")
