"""One request without sockets: the cost that a middleware adds to a bare application.

Measured in processor time, which other processes disturb least.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import time
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from apps import Anyhow, ByHand, Instant, NoOp, bare, wsgi_bare
from measure import Budget, Figures, Row, interleaved
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TCaptchaWSGIMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request
    from starlette.responses import Response

ROUNDS = 9
_SPELL = 0.02
_MICRO = 1e6
_HEADERS = [
    (b"host", b"shop.example"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-GB,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"origin", b"https://shop.example"),
    (b"referer", b"https://shop.example/login"),
    (b"cookie", b"session=0123456789abcdef0123456789abcdef"),
]
_JSON = (b"content-type", b"application/json")
_LONG = 1000
_serial = count()


def rows() -> Iterator[Row]:
    """Measure all."""
    with asyncio.Runner() as runner:
        yield from _asgi(runner)
        yield from _both(runner)
    yield from _wsgi()
    yield _made()


@dataclass(frozen=True, slots=True)
class Asked:
    """One kind of request.

    Attributes:
        method: Its method.
        path: Its path; a number is put into it.
        headers: Makes its own headers, beside a browser's.
        body: Makes its body.
        most: How many are made at a time.
    """

    method: str = "GET"
    path: str = "/items/42"
    headers: Callable[[], list[tuple[bytes, bytes]]] = list
    body: Callable[[], bytes] = bytes
    most: int = 20_000

    def scope(self) -> dict[str, Any]:
        """Return a fresh scope."""
        path = self.path.format(next(_serial))
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "https",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [*_HEADERS, *self.headers()],
            "client": ("203.0.113.7", 40000),
            "server": ("shop.example", 443),
        }

    def receive(self) -> Any:
        """Return a fresh `receive`, with the body in one message."""
        message = {"type": "http.request", "body": self.body(), "more_body": False}

        async def receive() -> dict[str, Any]:
            return message

        return receive

    def environ(self) -> dict[str, Any]:
        """Return a fresh environ."""
        body = self.body()
        environ = {
            "REQUEST_METHOD": self.method,
            "PATH_INFO": self.path.format(next(_serial)),
            "QUERY_STRING": "",
            "SCRIPT_NAME": "",
            "REMOTE_ADDR": "203.0.113.7",
            "CONTENT_LENGTH": str(len(body)) if body else "",
            "wsgi.input": io.BytesIO(body),
        }
        for name, value in [*_HEADERS, *self.headers()]:
            key = name.decode().upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value.decode()
        return environ


def _pair() -> tuple[str, str]:
    return f"tr03{next(_serial):0110d}*", "@a1b"


def _in_headers(pair: Callable[[], tuple[str, str]] = _pair) -> list[tuple[bytes, bytes]]:
    ticket, randstr = pair()
    return [(b"x-captcha-ticket", ticket.encode()), (b"x-captcha-randstr", randstr.encode())]


def _in_json(length: int = 200) -> bytes:
    ticket, randstr = _pair()
    order: list[dict[str, Any]] = []
    document = {"ticket": ticket, "randstr": randstr, "username": "ada", "password": ""}
    if length > _LONG:
        item = {"id": 12345, "name": "Ada Lovelace", "tags": ["a", "b"], "price": 12.5}
        order = [item] * (length // len(json.dumps(item)) - 1)
    document |= {"order": order} if order else {}
    document["password"] = "x" * (length - len(json.dumps(document)))
    return json.dumps(document).encode()


OPEN = Asked()
NEW_PATHS = Asked(path="/items/{}")
COVERED = Asked("POST", "/login", _in_headers)
BODY = Asked("POST", "/login", lambda: [_JSON], _in_json)
LONG_BODY = Asked("POST", "/login", lambda: [_JSON], lambda: _in_json(60_000), most=500)
REPLAYED = Asked("POST", "/login", partial(_in_headers, lambda: ("tr03replayed*", "@a1b")))
GARBAGE = Asked("POST", "/login", partial(_in_headers, lambda: ("no ticket at all", "@a1b")))
MISSING = Asked("POST", "/login")


async def _through(request: Request, call_next: Any) -> Response:
    return await call_next(request)


async def _reading(request: Request, call_next: Any) -> Response:
    await request.body()
    return await call_next(request)


async def _refusing(_: Request, __: Any) -> Response:
    return PlainTextResponse("no", 403)


def _starlette_csrf(app: Any) -> Any:
    from starlette_csrf import CSRFMiddleware

    return CSRFMiddleware(app, secret="a secret")


def _asgi_csrf(app: Any) -> Any:
    from asgi_csrf import asgi_csrf

    return asgi_csrf(app, signing_secret="a secret")


def _guard(number: int = 1, method: str = "", **settings: Any) -> Guard:
    """Return a guard with so many rules, for every method or for one."""
    paths = [f"/area{n}/login" for n in range(number - 1)] + ["/login"]
    return Guard([f"{method} {path}".strip() for path in paths], Instant(), **settings)


def _ours(number: int = 1, method: str = "", **settings: Any) -> Any:
    return TCaptchaMiddleware(bare, _guard(number, method, **settings))


def _asgi(runner: asyncio.Runner) -> Iterator[Row]:
    def added(takes: dict[str, tuple[Any, Asked]]) -> dict[str, Figures]:
        return _added({name: _Take(runner, *take) for name, take in takes.items()})

    uncovered = added(
        {
            "bare": (bare, OPEN),
            "no-op middleware": (NoOp(bare), OPEN),
            "TrustedHostMiddleware": (TrustedHostMiddleware(bare, ["shop.example"]), OPEN),
            "CORSMiddleware": (CORSMiddleware(bare, ["https://shop.example"]), OPEN),
            "BaseHTTPMiddleware": (BaseHTTPMiddleware(bare, _through), OPEN),
            "starlette-csrf": (_Late(_starlette_csrf), OPEN),
            "asgi-csrf": (_Late(_asgi_csrf), OPEN),
            "ours, 1 rule": (_ours(), OPEN),
            "ours, 100 rules": (_ours(100), OPEN),
            "ours, 1,000 rules": (_ours(1000), OPEN),
            "ours, 10,000 rules": (_ours(10_000), OPEN),
            "ours, 1,000 rules, every path new": (_ours(1000), NEW_PATHS),
            "ours, 1,000 rules of another method": (_ours(1000, "POST"), OPEN),
        }
    )
    budget = Budget(1, 5.0, uncovered["CORSMiddleware"], "CORSMiddleware")
    yield Row("uncovered, ASGI, added", "us", uncovered, "ours, 1 rule", budget)
    covered = added(
        {
            "bare": (bare, COVERED),
            "CORSMiddleware": (CORSMiddleware(bare, ["https://shop.example"]), COVERED),
            "BaseHTTPMiddleware alone": (BaseHTTPMiddleware(bare, _through), COVERED),
            "a check by hand": (ByHand(bare), COVERED),
            "ours": (_ours(), COVERED),
            "ours, 1,000 rules": (_ours(1000), COVERED),
            "ours, claims for nothing": (_ours(replay_store=Anyhow()), COVERED),
        }
    )
    alone = covered["BaseHTTPMiddleware alone"]
    budget = Budget(2.0, 1, covered["CORSMiddleware"], "CORSMiddleware")
    yield Row("covered, pair in headers, ASGI, added", "us", covered, "ours", budget)
    body = added(
        {
            "bare": (bare, BODY),
            "CORSMiddleware": (CORSMiddleware(bare, ["https://shop.example"]), BODY),
            "BaseHTTPMiddleware reading": (BaseHTTPMiddleware(bare, _reading), BODY),
            "a check by hand": (ByHand(bare), BODY),
            "ours": (_ours(), BODY),
        }
    )
    budget = Budget(3.6, 1, body["CORSMiddleware"], "CORSMiddleware")
    yield Row("covered, JSON of 200 bytes, ASGI, added", "us", body, "ours", budget)
    long_body = added(
        {
            "bare": (bare, LONG_BODY),
            "json.loads": (_decoding, LONG_BODY),
            "ours, JSON of 200 bytes": (_ours(), BODY),
            "ours": (_ours(), LONG_BODY),
        }
    )
    plain = zip(
        long_body["json.loads"].values,
        long_body["ours, JSON of 200 bytes"].values,
        strict=True,
    )
    bound = Figures(tuple(1.3 * loads + gate for loads, gate in plain))
    budget = Budget(1, 1, bound, "1.3 times json.loads and the gate")
    yield Row("covered, JSON of 60 kB, ASGI, added", "us", long_body, "ours", budget)
    refused = {
        "BaseHTTPMiddleware refusing": (BaseHTTPMiddleware(bare, _refusing), MISSING),
        "ours, replayed": (_ours(), REPLAYED),
        "ours, garbage": (_ours(), GARBAGE),
        "ours, missing": (_ours(), MISSING),
    }
    rates = _rates({name: _Take(runner, *take) for name, take in refused.items()})
    # The peer's 77 us as a rate: no refusing peer was measured when the budget was set.
    passing = Figures(tuple(_MICRO / value for value in alone.values))
    budget = Budget(30_000, _MICRO / 77, passing, "BaseHTTPMiddleware alone", more=True)
    yield Row("refused, ASGI", "a second", rates, "ours, replayed", budget)


async def _decoding(_: Any, receive: Any, __: Any) -> None:
    json.loads((await receive())["body"])


def _both(runner: asyncio.Runner) -> Iterator[Row]:
    """Compare the adapters in the same rounds."""
    for what, asked, most in (("pair in headers", COVERED, 1.0), ("JSON", BODY, 1.05)):
        takes = {
            "bare": _Take(runner, bare, asked),
            "ASGI": _Take(runner, _ours(), asked),
            "bare, WSGI": _WSGITake(wsgi_bare, asked),
            "WSGI": _WSGITake(TCaptchaWSGIMiddleware(wsgi_bare, _guard()), asked),
        }
        figures = {
            name: Figures(tuple(_MICRO * value for value in values))
            for name, values in interleaved(takes, ROUNDS).items()
        }
        added = {
            "ours, ASGI": figures["ASGI"].minus(figures["bare"]),
            "ours, WSGI": figures["WSGI"].minus(figures["bare, WSGI"]),
        }
        budget = Budget(most, 1, added["ours, ASGI"], "ASGI")
        yield Row(f"covered, {what}, by adapter, added", "us", added, "ours, WSGI", budget)


def _made() -> Row:
    """Measure the construction of a guard."""

    def take(number: int) -> float:
        began = time.process_time()
        _guard(number)
        return time.process_time() - began

    takes = {f"ours, {number:,} rules": partial(take, number) for number in (1000, 10_000)}
    figures = {name: Figures(values) for name, values in interleaved(takes, 5).items()}
    return Row("construction of a guard", "s", figures, "ours, 10,000 rules")


def _wsgi() -> Iterator[Row]:
    def ours(number: int = 1, method: str = "") -> Any:
        return TCaptchaWSGIMiddleware(wsgi_bare, _guard(number, method))

    def no_op(environ: Any, start_response: Any) -> Any:
        return wsgi_bare(environ, start_response)

    uncovered = _added(
        {
            "bare": _WSGITake(wsgi_bare, OPEN),
            "no-op middleware": _WSGITake(no_op, OPEN),
            "ours, 1 rule": _WSGITake(ours(), OPEN),
            "ours, 100 rules": _WSGITake(ours(100), OPEN),
            "ours, 1,000 rules": _WSGITake(ours(1000), OPEN),
            "ours, 1,000 rules of another method": _WSGITake(ours(1000, "POST"), OPEN),
        }
    )
    yield Row("uncovered, WSGI, added", "us", uncovered, "ours, 1 rule")
    covered = _added(
        {"bare": _WSGITake(wsgi_bare, COVERED), "ours": _WSGITake(ours(), COVERED)}
    )
    yield Row("covered, pair in headers, WSGI, added", "us", covered, "ours")
    body = _added({"bare": _WSGITake(wsgi_bare, BODY), "ours": _WSGITake(ours(), BODY)})
    yield Row("covered, JSON of 200 bytes, WSGI, added", "us", body, "ours")
    rates = _rates(
        {
            "ours, replayed": _WSGITake(ours(), REPLAYED),
            "ours, garbage": _WSGITake(ours(), GARBAGE),
        }
    )
    yield Row("refused, WSGI", "a second", rates, "ours, replayed")


class _Late:
    """A peer that is created on first use, so a missing one fails during its measurement."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make
        self._made: Any = None

    def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
        self._made = self._made or self._make(bare)
        return self._made(scope, receive, send)


class _Take:
    """Seconds for one request through an ASGI application."""

    def __init__(self, runner: asyncio.Runner, app: Any, asked: Asked) -> None:
        self._runner = runner
        self._app = app
        self._asked = asked
        self._number = 50

    def __call__(self) -> float:
        requests = [(self._asked.scope(), self._asked.receive()) for _ in range(self._number)]
        seconds = _quietly(lambda: self._runner.run(_drive(self._app, requests)))
        self._number = max(20, min(self._asked.most, int(_SPELL / seconds)))
        return seconds


class _WSGITake:
    """Seconds for one request through a WSGI application."""

    def __init__(self, app: Any, asked: Asked) -> None:
        self._app = app
        self._asked = asked
        self._number = 50

    def __call__(self) -> float:
        environs = [self._asked.environ() for _ in range(self._number)]
        seconds = _quietly(lambda: _drive_wsgi(self._app, environs))
        self._number = max(20, min(self._asked.most, int(_SPELL / seconds)))
        return seconds


def _quietly(take: Callable[[], float]) -> float:
    gc.disable()
    try:
        return take()
    finally:
        gc.enable()


async def _drive(app: Any, requests: list[tuple[Any, Any]]) -> float:
    began = time.process_time()
    for scope, receive in requests:
        await app(scope, receive, _send)
    return (time.process_time() - began) / len(requests)


def _drive_wsgi(app: Any, environs: list[dict[str, Any]]) -> float:
    began = time.process_time()
    for environ in environs:
        app(environ, _start_response)
    return (time.process_time() - began) / len(environs)


async def _send(_: object) -> None:
    pass


def _start_response(*_: object) -> None:
    pass


def _added(takes: dict[str, Any]) -> dict[str, Figures]:
    rounds = interleaved(takes, ROUNDS)
    figures = {n: Figures(tuple(_MICRO * v for v in values)) for n, values in rounds.items()}
    base = figures.pop("bare")
    return {name: each.minus(base) for name, each in figures.items()}


def _rates(takes: dict[str, Any]) -> dict[str, Figures]:
    rounds = interleaved(takes, ROUNDS)
    return {name: Figures(tuple(1 / v for v in values)) for name, values in rounds.items()}
