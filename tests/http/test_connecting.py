"""Name resolution, and Happy Eyeballs: the first address that accepts is used."""

from __future__ import annotations

import errno
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from tcaptcha_middleware._http import connection
from tcaptcha_middleware._http.connection import Resolver, race
from tcaptcha_middleware.waiting import DeadlineError, arun, run

REFUSES, ACCEPTS, SILENT, UNROUTABLE = "refuses", "accepts", "silent", "unroutable"


def on(backend):
    async def main(steps, seconds):
        return await arun(steps, time.monotonic() + seconds)

    return lambda steps, seconds: anyio.run(main, steps, seconds, backend=backend)


def blocking(steps, seconds):
    return run(steps, time.monotonic() + seconds)


every_kind = pytest.mark.parametrize(
    "drive", [blocking, on("asyncio"), on("trio")], ids=["sync", "asyncio", "trio"]
)


class Network:
    """Addresses on this machine that accept, refuse, or never answer."""

    def __init__(self):
        self.sockets = []
        self.tried = []

    def address(self, kind):
        if kind == UNROUTABLE:
            return (socket.AF_INET, ("255.255.255.255", 9))
        listener = socket.socket()
        self.sockets.append(listener)
        listener.bind(("127.0.0.1", 0))
        if kind != REFUSES:
            listener.listen(0)
        where = listener.getsockname()
        if kind == SILENT:
            # A full queue: the kernel answers no further attempt.
            for _ in range(2):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(where)
                self.sockets.append(filler)
        return (socket.AF_INET, where)

    def close(self):
        for each in self.sockets:
            each.close()


@pytest.fixture
def network():
    network = Network()
    yield network
    network.close()


@pytest.fixture(autouse=True)
def head_start(monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware._http.connection.HEAD_START", 0.05)


RACES = {
    "the first accepts": ([ACCEPTS, ACCEPTS], 0),
    "the first refuses": ([REFUSES, ACCEPTS], 1),
    "the first cannot be reached": ([UNROUTABLE, ACCEPTS], 1),
    "the first is silent": ([SILENT, ACCEPTS, ACCEPTS], 1),
    "two are silent": ([SILENT, SILENT, ACCEPTS], 2),
    "one is silent, one refuses": ([SILENT, REFUSES, ACCEPTS], 2),
}


@every_kind
@pytest.mark.parametrize(("kinds", "winner"), RACES.values(), ids=RACES)
def test_the_first_address_that_accepts_is_used(drive, network, kinds, winner):
    addresses = [network.address(kind) for kind in kinds]
    with drive(race(addresses), 5) as sock:
        assert sock.getpeername() == addresses[winner][1]
        assert not sock.getblocking()


@every_kind
@pytest.mark.parametrize("kind", [SILENT, REFUSES, UNROUTABLE])
def test_an_address_that_is_slow_may_still_win(drive, network, kind, monkeypatch):
    class Slow(socket.socket):
        asked = 0

        def getpeername(self):
            self.asked += 1
            if self.asked < 3:
                raise OSError
            return super().getpeername()

    slow, other = network.address(ACCEPTS), network.address(kind)
    monkeypatch.setattr("tcaptcha_middleware._http.connection.socket.socket", Slow)
    with drive(race([slow, other]), 5) as sock:
        assert sock.getpeername() == slow[1]


@every_kind
@pytest.mark.parametrize(
    "kinds", [[REFUSES], [REFUSES, REFUSES], [UNROUTABLE, REFUSES]], ids=str
)
def test_if_no_address_accepts_the_last_error_is_raised(drive, network, kinds):
    with pytest.raises(ConnectionRefusedError, match="refused"):
        drive(race([network.address(kind) for kind in kinds]), 5)


@every_kind
def test_a_refusal_is_raised_even_if_this_machine_cannot_try_the_next_address(
    drive, network, monkeypatch
):
    begin, addresses = connection._begin, [network.address(REFUSES) for _ in range(2)]

    def lacks_ipv6(family, address):
        if address == addresses[1][1]:
            raise OSError(errno.EADDRNOTAVAIL, "no such family here")
        return begin(family, address)

    monkeypatch.setattr(connection, "_begin", lacks_ipv6)
    with pytest.raises(ConnectionRefusedError):
        drive(race(addresses), 5)


@every_kind
def test_a_name_without_an_address_is_an_error(drive):
    with pytest.raises(OSError, match="resolves to nothing"):
        drive(race([]), 5)


@every_kind
def test_an_abandoned_connection_race_leaves_nothing_open(drive, network, monkeypatch):
    made = []

    class Noted(socket.socket):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    addresses = [network.address(SILENT), network.address(SILENT)]
    monkeypatch.setattr("tcaptcha_middleware._http.connection.socket.socket", Noted)
    with pytest.raises(DeadlineError):
        drive(race(addresses), 0.2)
    assert len(made) >= 2
    assert {sock.fileno() for sock in made} == {-1}


# Names.


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Names:
    """A resolver of the system that does as it is asked."""

    def __init__(self, monkeypatch):
        self.lookups = 0
        self.answer = [(socket.AF_INET, "192.0.2.1")]
        self.blocked = threading.Event()
        self.blocked.set()
        monkeypatch.setattr("socket.getaddrinfo", self)

    def __call__(self, host, port, *, type):  # noqa: A002  as the system's
        self.lookups += 1
        self.thread = threading.current_thread()
        self.blocked.wait(20)
        if isinstance(self.answer, Exception):
            raise self.answer
        return [(family, type, 0, "", (address, port)) for family, address in self.answer]


UNKNOWN = socket.gaierror(socket.EAI_NONAME, "no such name")


@pytest.fixture
def names(monkeypatch):
    names = Names(monkeypatch)
    yield names
    names.blocked.set()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def resolver(clock):
    return Resolver("captcha.example", 443, clock)


def hosts(addresses):
    return [target[0] for _, target in addresses]


@every_kind
def test_a_name_is_resolved_once_a_minute(drive, names, clock, resolver):
    for _ in range(3):
        assert hosts(drive(resolver.addresses(), 5)) == ["192.0.2.1"]
    assert names.lookups == 1
    clock.now += 61
    names.answer = [(socket.AF_INET, "192.0.2.2")]
    assert hosts(drive(resolver.addresses(), 5)) == ["192.0.2.2"]
    assert names.lookups == 2


@every_kind
def test_a_name_that_does_not_exist_is_an_error_each_time(drive, names, resolver):
    names.answer = UNKNOWN
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            drive(resolver.addresses(), 5)
    assert names.lookups == 2


@every_kind
def test_a_name_that_cannot_be_resolved_any_more_keeps_its_addresses(
    drive, names, clock, resolver
):
    drive(resolver.addresses(), 5)
    names.answer = UNKNOWN
    clock.now += 61
    for _ in range(3):
        assert hosts(drive(resolver.addresses(), 5)) == ["192.0.2.1"]
    assert names.lookups == 2
    clock.now += 6
    names.answer = [(socket.AF_INET, "192.0.2.2")]
    assert hosts(drive(resolver.addresses(), 5)) == ["192.0.2.2"]


@every_kind
def test_a_lookup_that_hangs_leaves_the_last_known_addresses(
    drive, names, clock, resolver, monkeypatch
):
    monkeypatch.setattr("tcaptcha_middleware._http.connection.STALE", 0.05)
    drive(resolver.addresses(), 5)
    clock.now += 61
    names.blocked.clear()
    assert hosts(drive(resolver.addresses(), 5)) == ["192.0.2.1"]


@every_kind
def test_a_lookup_that_hangs_ends_at_the_deadline(drive, names, resolver):
    names.blocked.clear()
    began = time.monotonic()
    with pytest.raises(DeadlineError):
        drive(resolver.addresses(), 0.05)
    assert time.monotonic() - began < 5


def test_many_visitors_who_wait_for_a_name_share_one_thread(names, resolver):
    names.blocked.clear()

    def resolve(_):
        return hosts(blocking(resolver.addresses(), 20))

    with ThreadPoolExecutor(8) as threads:
        results = threads.map(resolve, range(8))
        while not names.lookups:
            pass
        names.blocked.set()
        assert list(results) == [["192.0.2.1"]] * 8
    assert (names.lookups, names.thread.daemon) == (1, True)


def test_a_lookup_requested_while_another_one_ends_is_not_made(names, resolver):
    blocking(resolver.addresses(), 5)
    resolver._look_up.start().result(5)
    assert names.lookups == 1


def test_address_families_alternate(names, resolver):
    six, four = socket.AF_INET6, socket.AF_INET
    names.answer = [(six, "::1"), (six, "::2"), (six, "::3"), (four, "192.0.2.1")]
    assert hosts(blocking(resolver.addresses(), 5)) == ["::1", "192.0.2.1", "::2", "::3"]
