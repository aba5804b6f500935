"""Guards in a part of a Starlette application, to which its lifespan is not reported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.testclient import TestClient

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier
from tcaptcha_middleware.testing import FakeVerifier

PAGE = (Path(__file__).parents[2] / "docs/rules.md").read_text()
(RECIPE,) = [
    text
    for text in re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    if "aclose" in text
]


class Verifier(FakeVerifier):
    """Reports that it was closed."""

    closed = False

    async def aclose(self):
        self.closed = True


def login(middleware=()):
    endpoint = lambda _: Response()  # noqa: E731
    return Route("/login", endpoint, methods=["POST"], middleware=middleware)


SHAPES = {
    "application": lambda gate: Starlette(
        routes=[Mount("/shop", routes=[login()])], middleware=gate
    ),
    "mount": lambda gate: Starlette(routes=[Mount("/shop", routes=[login()], middleware=gate)]),
    "mounted application": lambda gate: Starlette(
        routes=[Mount("/shop", Starlette(routes=[login()], middleware=gate))]
    ),
    "router": lambda gate: Starlette(
        routes=[Mount("/shop", Router(routes=[login()], middleware=gate))]
    ),
    "route": lambda gate: Starlette(routes=[Mount("/shop", routes=[login(gate)])]),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_only_a_guard_around_the_whole_application_is_closed_by_its_lifespan(shape):
    verifier = Verifier()
    guard = Guard(["POST /shop/login"], verifier)
    with TestClient(SHAPES[shape]([Middleware(TCaptchaMiddleware, guard=guard)])) as client:
        assert client.post("/shop/login").status_code == 403
    assert verifier.closed is (shape == "application")


def test_the_documented_lifespan_closes_a_mounted_guard(monkeypatch):
    verifier = Verifier()
    monkeypatch.setattr(TencentVerifier, "from_env", lambda: verifier)
    names = {}
    exec(RECIPE, names)
    with TestClient(names["app"]) as client:
        assert client.post("/shop/login").status_code == 403
        assert not verifier.closed
    assert verifier.closed
