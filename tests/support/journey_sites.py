"""One small shop in FastAPI and in Flask, behind the gate, on real sockets, with an emulator.

Only Tencent is a test double, the emulator. The same application is also mounted at `/shop`.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, asynccontextmanager, contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import fastapi
import flask
import waitress
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.routing import Mount
from waitress import wasyncore
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tcaptcha_middleware import (
    Guard,
    Page,
    Rule,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    TencentVerifier,
)
from tcaptcha_middleware.browser.page import csp_sources
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._http import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND = (190000002, "secondAppSecretKey1234567")
_NONCE = "bm9uY2U"
_OWN = {
    "script-src": ("'self'", f"'nonce-{_NONCE}'"),
    "connect-src": ("'self'",),
    "form-action": ("'self'",),
    "frame-src": ("'self'",),
}
_MODULE = f"""
<script type="module" nonce="{_NONCE}">
  import captcha, {{ TCaptcha }} from "ROOT/tcaptcha/tcaptcha.js";
  const read = async (answer) => [answer.status, await answer.text()];
  const failed = ({{ code, name }}) => (typeof code === "string" ? code : name);
  const post = (path, init) =>
    captcha.fetch(path, {{ method: "POST", ...init }}).then(read).catch(failed);
  Object.assign(window, {{ captcha, TCaptcha, read, failed, post }});
</script>
"""


class Kind(NamedTuple):
    """The settings of a site's gate and of its emulator.

    Attributes:
        script: Which of Tencent's scripts pages load.
        page: The guard's page.
        emulator: The settings of its emulator.
    """

    script: str = "TJCaptcha.js"
    page: Page = Page()
    emulator: dict[str, Any] = {}  # noqa: RUF012  never written to


_INSISTS = {"check_app_id": True, "one_time": True}
KINDS = {
    "domestic": Kind(),
    "international": Kind("TJNCaptcha-global.js"),
    "cbc": Kind(page=Page(aid="cbc"), emulator=_INSISTS),
}


class Handled(NamedTuple):
    """A request that passed the gate."""

    method: str
    path: str
    query: str
    form: dict[str, str]


class Shop:
    """The logic of both applications, and the requests that they received.

    Attributes:
        html: The body of the page at `/`, which loads the module under a strict policy.
        handled: Every request that passed the gate, except for that page.
    """

    def __init__(self, policy: str) -> None:
        self._policy = policy
        self.html = ""
        self.handled: list[Handled] = []

    def home(self, root: str) -> tuple[str, dict[str, str]]:
        body = (self.html + _MODULE).replace("ROOT", root)
        page = (
            '<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">'
        )
        return f"{page}<title>Shop</title>{body}", {"Content-Security-Policy": self._policy}

    def handle(self, came: Handled) -> tuple[str, dict[str, str]]:
        self.handled.append(came)
        headers = {"Cache-Control": "no-store"}
        if came.path == "/session":
            headers["Set-Cookie"] = "human=yes; Path=/"
        if came.path == "/report/file":
            headers["Content-Disposition"] = "attachment; filename=report.html"
        fields = {name: it for name, it in came.form.items() if "rand" not in name}
        fields.pop("ticket", None)
        return f"<!doctype html><h1>Inside</h1><p>{escape(repr(fields))}", headers


class Site:
    """A running shop.

    Attributes:
        origin: Its scheme, host and port.
        shop: The application.
        tencent: Contains the emulator, `tencent.app`, which is new for every test.
    """

    def __init__(self, kind: Kind, origin: str, shop: Shop, tencent: Behind) -> None:
        self._kind = kind
        self.origin, self.shop, self._tencent = origin, shop, tencent
        self.reset()

    def reset(self) -> None:
        self._tencent.app = emulator_of(self._kind)
        self.shop.handled.clear()
        self.shop.html = ""

    @property
    def emulator(self) -> TencentEmulator:
        return self._tencent.app


class Behind:
    """An application at a fixed address, which tests replace."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def emulator_of(kind: Kind) -> TencentEmulator:
    return TencentEmulator(captchas=dict([SECOND]), **kind.emulator)


@contextmanager
def site_of(framework: str, kind: Kind) -> Iterator[Site]:
    with ExitStack() as stack:
        tencent = Behind()
        endpoint = stack.enter_context(serving(tencent, lifespan="off"))
        first, second = _verifiers(kind, endpoint)
        guard = _guard(kind, first, second)
        shop = Shop(_policy(first))
        app = _FRAMEWORKS[framework](shop, guard)
        yield Site(kind, stack.enter_context(app), shop, tencent)


def _verifiers(kind: Kind, endpoint: str) -> list[TencentVerifier]:
    own = emulator_of(kind).settings
    more = {
        "endpoint": endpoint,
        "script": f"{endpoint}/{kind.script}",
        "site": "intl" if "global" in kind.script else "cn",
    }
    other = {"app_id": SECOND[0], "app_secret_key": SECOND[1]}
    return [TencentVerifier(**(own | settings | more)) for settings in ({}, other)]


def _guard(kind: Kind, first: TencentVerifier, second: TencentVerifier) -> Guard:
    def once(request: Any) -> bool:
        return "human=yes" not in "".join(request.header("Cookie"))

    rules = [
        Rule("POST /session", when=once),
        Rule("POST /vip", verifier=second),
        Rule("GET /vip/**", verifier=second),
        "POST /**",
        "GET /report/**",
    ]
    return Guard(rules, first, page=kind.page)


def _policy(verifier: TencentVerifier) -> str:
    needed = csp_sources(verifier)
    names = dict.fromkeys([*needed, *_OWN])
    directives = {name: (*_OWN.get(name, ()), *needed.get(name, ())) for name in names}
    directives |= {"default-src": ("'none'",), "base-uri": ("'none'",)}
    return "; ".join(f"{name} {' '.join(values)}" for name, values in directives.items())


@contextmanager
def _fastapi(shop: Shop, guard: Guard) -> Iterator[str]:
    inner = fastapi.FastAPI(openapi_url=None)

    @inner.get("/")
    async def home(request: fastapi.Request) -> fastapi.Response:
        text, headers = shop.home(request.scope.get("root_path", ""))
        return fastapi.responses.HTMLResponse(text, headers=headers)

    @inner.api_route("/{rest:path}", methods=["GET", "POST"])
    async def handle(request: fastapi.Request) -> fastapi.Response:
        root = request.scope.get("root_path", "")
        path = request.scope["path"].removeprefix(root)
        form = {}
        if request.method == "POST":
            async with request.form() as fields:
                for name, it in fields.items():
                    form[name] = it if isinstance(it, str) else f"{it.size} bytes"
        came = Handled(request.method, path, request.url.query, form)
        text, headers = await run_in_threadpool(shop.handle, came)
        return fastapi.responses.HTMLResponse(text, headers=headers)

    @asynccontextmanager
    async def life(_: Any):
        yield
        await guard.aclose()

    gated = TCaptchaMiddleware(inner, guard)
    app = Starlette(routes=[Mount("/shop", gated), Mount("/", gated)], lifespan=life)
    with serving(app) as origin:
        yield origin


@contextmanager
def _flask(shop: Shop, guard: Guard) -> Iterator[str]:
    app = flask.Flask("shop", static_folder=None)

    @app.get("/")
    def home() -> Any:
        return shop.home(flask.request.script_root)

    @app.route("/<path:rest>", methods=["GET", "POST"])
    def handle(rest: str) -> Any:
        request = flask.request
        form = dict(request.form)
        for name, file in request.files.items():
            form[name] = f"{len(file.read())} bytes"
        query = request.query_string.decode()
        return shop.handle(Handled(request.method, request.path, query, form))

    gated = TCaptchaWSGIMiddleware(app.wsgi_app, guard)
    try:
        with _waitress(DispatcherMiddleware(gated, {"/shop": gated})) as origin:
            yield origin
    finally:
        guard.close()


@contextmanager
def _waitress(app: Any) -> Iterator[str]:
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=12)
    stopped = threading.Event()

    def run() -> None:
        while not stopped.is_set():
            wasyncore.loop(timeout=1, map=server._map, count=1)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        stopped.set()
        server.pull_trigger()
        thread.join()
        server.task_dispatcher.shutdown()
        server.close()
        wasyncore.close_all(server._map, ignore_all=True)


_FRAMEWORKS = {"fastapi": _fastapi, "flask": _flask}
FRAMEWORKS = tuple(_FRAMEWORKS)
