"""No form of the target reaches a marked handler without a ticket, on real servers."""

from __future__ import annotations

import pytest
from gated_sites import gated_answers, pair, pool, reached, serve, site
from target_forms import CORPUS, HANDSHAKES, LOGIN, PROTECTED, Form, touching

pytestmark = pytest.mark.outside

MODULES = {
    "uvicorn with h11": "marked_asgi",
    "hypercorn": "marked_asgi",
    "granian for ASGI": "marked_asgi",
    "gunicorn": "marked_wsgi",
    "waitress": "marked_wsgi",
}
PAIRS = [(s, f) for s in [*MODULES][:3] for f in ("fastapi", "litestar", "quart", "starlette")]
PAIRS += [(s, "flask") for s in [*MODULES][3:]]
every_pair = pytest.mark.parametrize(("server", "framework"), PAIRS)
every_socket = pytest.mark.parametrize(("server", "framework"), PAIRS[:8])

# Forms of /login that may be read as a path whose rule only observes.
BESIDE_WEAK = [
    *touching(b"POST", b"/login", b"comments"),
    *touching(b"POST", b"/login", b"weak")[::4],
]


@every_pair
def test_no_form_of_the_target_reaches_a_marked_handler(site, gated_answers):
    assert reached(gated_answers(site)) == {}


@every_pair
@pytest.mark.parametrize("gate", ["", "ungated"])
def test_no_rule_that_observes_opens_a_marked_handler(site, gate):
    assert reached(site.send_all(BESIDE_WEAK, gate)) == {}


@every_pair
def test_the_gate_answers_before_the_second_lock_has_to(site, gated_answers):
    # What some frameworks answer by themselves.
    broken = [form for form, answer in gated_answers(site) if answer.status == 500]
    unmarked = [answer.status for _, answer in site.send_all(broken, "unmarked")]
    assert unmarked == [500] * len(broken)


@every_pair
def test_without_the_gate_the_second_lock_holds_for_every_form(site):
    assert len(reached(site.send_all(LOGIN, "unmarked"))) > 10
    assert reached(site.send_all(CORPUS, "ungated")) == {}


@every_pair
@pytest.mark.parametrize("name", PROTECTED)
def test_a_pair_opens_every_marked_handler(site, name):
    answer = site.send(PROTECTED[name], *pair())
    assert (answer.status, answer.handler) == (200, name)


@every_pair
def test_handlers_without_a_mark_and_those_that_only_observe_run_without_a_pair(site):
    paths = {b"/free": "free", b"/admin/health": "health", b"/comments": "comments"}
    answers = {path: site.send(Form(b"POST", path)).handler for path in paths}
    assert answers == paths
    assert site.send(Form(b"POST", b"/weak/1")).handler == "weak"


@every_socket
def test_no_handshake_reaches_a_marked_websocket(site):
    assert site.shake(HANDSHAKES[0]) == 403
    assert site.shake_all(HANDSHAKES) == []
    assert site.shake_all(HANDSHAKES, "ungated") == []
    assert len(site.shake_all(HANDSHAKES, "unmarked")) > 5
