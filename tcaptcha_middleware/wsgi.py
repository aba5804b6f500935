"""The WSGI face: fetches what the walk asks for, and acts on its decision. Holds no policy.

https://peps.python.org/pep-3333/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from tcaptcha_middleware.errors import ConfigurationError, RequestBodyError
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.models import Allow, Request
from tcaptcha_middleware.responses import Response, framed
from tcaptcha_middleware.steps import Ask, Claim, Pause, ReadBody

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tcaptcha_middleware.matching.coverage import Coverage
    from tcaptcha_middleware.models import Decision
    from tcaptcha_middleware.steps import Step

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

ENVIRON_KEY = "tcaptcha.decision"

# Most inputs wait until they have as much as was asked for, so that little is asked for: a
# form whose ticket stands first is not waited for to its end, and the deadline is looked at
# between the pieces. gunicorn reads no less at once; a pair is shorter.
_PIECE = 1024
# Of a length that can be meant; int() raises where there are thousands.
_DIGITS = 18


class TCaptchaWSGIMiddleware:
    """Let only requests with a solved captcha through to a WSGI application.

    Args:
        app: The application to protect.
        guard: What to protect, and how.

    Raises:
        ConfigurationError: A verifier of the guard has no `verify`.
    """

    def __init__(self, app: App, guard: Guard) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError(
                "write TCaptchaWSGIMiddleware(app, guard), where guard is a Guard"
            )
        guard.require("sync")
        self.app = app
        self.guard = guard
        self._served = guard.served

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if environ.get("PATH_INFO", "").endswith(self._served):
            answer = self.guard.serve(_request(environ))
            if answer is not None:
                return _send(answer, environ, start_response)
        raw_path = _unwrapped(environ, "PATH_INFO")
        coverage = self.guard.match(
            environ["REQUEST_METHOD"],
            raw_path.decode("utf-8", "replace"),
            raw_path,
            _unwrapped(environ, "SCRIPT_NAME").decode("utf-8", "replace"),
        )
        earlier = environ.get(ENVIRON_KEY)
        if coverage is None or self.guard.settled(coverage, earlier):
            if earlier is not None and not isinstance(earlier, Allow):
                # Whoever made it up, no handler shall take it for the gate's word.
                del environ[ENVIRON_KEY]
            return self.app(environ, start_response)
        return self._gate(coverage, environ, start_response)

    def _gate(
        self, coverage: Coverage, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        request, body = _request(environ), _Body(environ)
        decision = self._drive(coverage, request, body)
        body.replay(environ)
        if isinstance(decision, Allow):
            environ[ENVIRON_KEY] = decision
            return self.app(environ, start_response)
        answer = self.guard.answer(coverage, request, decision)
        if isinstance(answer, Response):
            return _send(answer, environ, start_response)
        return cast("Iterable[bytes]", answer(environ, start_response))

    def _drive(self, coverage: Coverage, request: Request, body: _Body) -> Decision:
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
            return cast("Decision", stop.value)
        finally:
            walk.close()


class _Body:
    """A request's body: read in search of the pair, then put back before the rest."""

    def __init__(self, environ: Environ) -> None:
        self._input = environ["wsgi.input"]
        # Returns what is there, where a server's input knows how.
        self._read = getattr(self._input, "read1", self._input.read)
        self._kept: list[bytes] = []
        self._left = _length(environ)

    def read(self) -> tuple[bytes, bool]:
        """Return the next piece, and whether there is more.

        Raises:
            RequestBodyError: The body broke off, or is shorter than it was said to be.
        """
        if self._left == 0:
            return b"", False
        size = _PIECE if self._left is None else min(_PIECE, self._left)
        try:
            piece: bytes = self._read(size)
        except Exception as error:
            # Whatever it is, the client made it: servers parse chunks and trailers here, and
            # have errors of their own for what is wrong with them.
            raise RequestBodyError("the client went away, or broke the framing") from error
        self._kept.append(piece)
        if self._left is None:
            self._left = None if piece else 0
            return piece, bool(piece)
        if not piece:
            raise RequestBodyError("the body is shorter than its Content-Length")
        self._left -= len(piece)
        return piece, self._left > 0

    def replay(self, environ: Environ) -> None:
        """Give the application an input that begins with what was read."""
        if self._kept:
            rest = BytesIO() if self._left == 0 else self._input
            environ["wsgi.input"] = _Input(BytesIO(b"".join(self._kept)), rest)


class _Input:
    """A `wsgi.input` in two parts, read as one (PEP 3333, "Input and Error Streams")."""

    def __init__(self, head: BytesIO, rest: Any) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        head = self._head.read(size)
        if size < 0:
            return head + cast("bytes", self._rest.read())
        return head if len(head) == size else head + self._rest.read(size - len(head))

    def readline(self, size: int = -1) -> bytes:
        head = self._head.readline(size)
        if head.endswith(b"\n") or len(head) == size:
            return head
        if size < 0:
            return head + cast("bytes", self._rest.readline())
        return head + cast("bytes", self._rest.readline(size - len(head)))

    def readlines(self, hint: int = -1) -> list[bytes]:
        return self._some_lines(hint) if hint > 0 else list(self)

    def _some_lines(self, hint: int) -> list[bytes]:
        lines: list[bytes] = []
        for line in self:
            lines.append(line)
            hint -= len(line)
            if hint <= 0:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


def _unwrapped(environ: Environ, name: str) -> bytes:
    # PEP 3333 wraps a path's bytes in latin-1; they are UTF-8 (RFC 3987, section 3.1).
    wrapped: str = environ.get(name, "")
    return wrapped.encode("latin-1", "replace")


def _length(environ: Environ) -> int | None:
    """Return the body's length in bytes, or None where only its end tells."""
    text = environ.get("CONTENT_LENGTH") or ""
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
        return int(text)
    # Without a length a server may block for ever at the body's end, unless it says not to:
    # https://gist.github.com/mitsuhiko/5721547
    return None if environ.get("wsgi.input_terminated") and not text else 0


def _request(environ: Environ) -> Request:
    return Request(
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


def _fetch(step: Step, body: _Body) -> object:
    match step:
        case ReadBody():
            return body.read()
        case Ask(question, request, _):
            return question(request)
        case Pause(seconds):
            time.sleep(seconds)
            return None
        case Claim(claims, key, seconds, _):
            return claims.claim(key, seconds)
    return step.verifier.verify(step.ticket)


def _send(answer: Response, environ: Environ, start_response: StartResponse) -> list[bytes]:
    headers, body = framed(answer, environ["REQUEST_METHOD"])
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
    return [body] if body else []
