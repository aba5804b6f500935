"""A ticket passes once, with many processes, one Redis and one Tencent."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle
from threading import Barrier
from typing import TYPE_CHECKING, NamedTuple

import pytest
from redis_server import redis_server  # noqa: F401  a fixture
from served import serving
from wire_client import PATIENCE, Wire

from tcaptcha_middleware.testing import TencentEmulator

if TYPE_CHECKING:
    from pathlib import Path

COPIES, COPIES_EACH, MANY = 64, 3, 1000
pytestmark = pytest.mark.outside

ADAPTERS = {"asgi": ["uvicorn with httptools"] * 4, "wsgi": ["gunicorn of four, forked late"]}


class Tencent(TencentEmulator):
    """The emulator, which also knows which calls wait for an answer."""

    def __init__(self):
        super().__init__()
        self.arrived = 0

    async def __call__(self, scope, receive, send):
        self.arrived += 1
        await super().__call__(scope, receive, send)

    def checks_of(self, pair):
        return [call for call in self.calls if call["Ticket"] == pair["ticket"]]


class Site(NamedTuple):
    """One application's processes, and the file with the tickets that reached its handler."""

    ports: list[int]
    notes: Path
    logs: list[Path]

    def runs(self):
        return self.notes.read_text().splitlines() if self.notes.exists() else []


def spend(port, pair):
    with Wire(port) as wire:
        begin(wire, pair)
        return wire.answer().code


def begin(wire, pair):
    headers = f"X-Captcha-Ticket: {pair['ticket']}", f"X-Captcha-Randstr: {pair['randstr']}"
    wire.head("/spend", *headers, "Content-Length: 0")


@pytest.fixture(scope="module")
def tencent():
    return Tencent()


@pytest.fixture(scope="module")
def environ(tencent, redis_server):  # noqa: F811
    settings = tencent.settings
    with tencent.serve() as endpoint:
        yield {
            "REDIS": redis_server.url,
            "TENCENTCLOUD_SECRET_ID": settings["secret_id"],
            "TENCENTCLOUD_SECRET_KEY": settings["secret_key"],
            "TCAPTCHA_APP_ID": str(settings["app_id"]),
            "TCAPTCHA_APP_SECRET_KEY": settings["app_secret_key"],
            "TCAPTCHA_ENDPOINT": endpoint,
        }


@pytest.fixture
def start(environ, tmp_path):
    """Start an application's processes; none may log a traceback."""
    logs = []

    def started(servers, module="spent_apps", **more):
        variables = environ | {"RAN": str(tmp_path / "ran")} | more
        logs.extend(tmp_path / f"log{n}" for n in range(len(servers)))
        running = [
            stack.enter_context(serving(server, module, log, **variables))
            for server, log in zip(servers, logs, strict=True)
        ]
        return Site([server.port for server in running], tmp_path / "ran", logs)

    with ExitStack() as stack:
        yield started
    assert [text for log in logs if "Traceback" in (text := log.read_text())] == []


every_adapter = pytest.mark.parametrize("servers", ADAPTERS.values(), ids=ADAPTERS)


@every_adapter
def test_only_one_of_many_replays_over_four_processes_passes(start, servers, tencent):
    site = start(servers)
    pair, together = tencent.mint(), Barrier(COPIES)
    tencent.script({"latency": 0.2})

    def copy(port):
        together.wait(PATIENCE)
        return spend(port, pair)

    with ThreadPoolExecutor(COPIES) as threads:
        ports = [site.ports[n % len(site.ports)] for n in range(COPIES)]
        codes = sorted(threads.map(copy, ports))
    assert codes == ["allowed"] + ["ticket_reused"] * (COPIES - 1)
    assert site.runs().count(pair["ticket"]) == 1
    assert len(tencent.checks_of(pair)) == 1


def trouble(redis):
    """Kill a Redis twice, and bring it back each time."""
    for away in (0.6, 0.2):
        time.sleep(0.5)
        redis.kill()
        time.sleep(away)
        redis.start()
    time.sleep(0.5)


@every_adapter
def test_a_redis_that_crashes_and_restarts_costs_no_visitor_a_ticket(
    start,
    servers,
    tencent,
    redis_server,  # noqa: F811
):
    site = start(servers)
    ports, answers = cycle(site.ports), []
    with ThreadPoolExecutor(12) as threads:
        dying = threads.submit(trouble, redis_server)
        while not dying.done() and len(answers) < MANY:
            pairs = [tencent.mint() for _ in range(4)]
            copies = [threads.submit(spend, next(ports), pair) for pair in pairs * COPIES_EACH]
            codes = [copy.result() for copy in copies]
            answers += [sorted(codes[n :: len(pairs)]) for n in range(len(pairs))]
        dying.result()
    once = ["allowed"] + ["ticket_reused"] * (COPIES_EACH - 1)
    assert {tuple(codes) for codes in answers} == {tuple(once)}
    spent = site.runs()
    assert len(spent) == len(set(spent))
    assert any("the replay store failed" in log.read_text() for log in site.logs)


def slow_check(wire, tencent, pair):
    """Send a ticket, and return when Tencent has received it and not answered."""
    before = tencent.arrived
    tencent.script({"latency": 2})
    begin(wire, pair)
    deadline = time.monotonic() + PATIENCE
    while tencent.arrived == before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_there_is_room(port, pair):
    deadline = time.monotonic() + PATIENCE
    while (code := spend(port, pair)) == "overloaded" and time.monotonic() < deadline:
        pass
    return code


def test_a_cancelled_request_frees_its_slot_at_once(start, tencent):
    site = start(["uvicorn with h11"], "cancelling_app", MAX_CHECKS="1")
    first, second = tencent.mint(), tencent.mint()
    with Wire(site.ports[0]) as wire:
        slow_check(wire, tencent, first)
        wire.reset()
    assert until_there_is_room(site.ports[0], second) == "allowed"
    assert tencent.checks_of(first) == []  # the emulator is still answering it
    assert site.runs() == [second["ticket"]]


@pytest.mark.parametrize("server", ["uvicorn with h11", "gunicorn with threads"])
def test_a_disconnected_client_keeps_its_slot_only_until_its_verification_ends(
    start, tencent, server
):
    site = start([server], MAX_CHECKS="1")
    first, second = tencent.mint(), tencent.mint()
    with Wire(site.ports[0]) as wire:
        slow_check(wire, tencent, first)
        wire.reset()
    assert spend(site.ports[0], second) == "overloaded"
    # A request that was refused as overloaded has not used its ticket.
    assert until_there_is_room(site.ports[0], second) == "allowed"
