"""Names are looked up, and the first address that answers is taken."""

from __future__ import annotations

import socket
import time

import anyio
import anyio.lowlevel
import pytest

from tcaptcha_middleware.verifiers.dialing import adial, dial

BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Connected:
    @staticmethod
    def meanwhile():
        pass

    def __init__(self, address):
        self.address = address
        self.closed = False

    async def aclose(self):
        self.closed = True
        self.meanwhile()
        await anyio.lowlevel.checkpoint()


class Network:
    """Addresses that refuse, answer after some seconds, or never."""

    def __init__(self, monkeypatch, **after):
        self.after = after
        self.tried, self.streams = [], []
        found = [(0, 0, 0, "", (address, 443)) for address in after]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
        monkeypatch.setattr("anyio.connect_tcp", self.connect)

    async def connect(self, address, port):
        self.tried.append(address)
        seconds = self.after[address]
        if seconds is None:
            raise ConnectionRefusedError(address)
        # Whatever connects in the moment in which it is cancelled has connected.
        with anyio.CancelScope(shield=seconds == SAME_MOMENT):
            await anyio.sleep(seconds)
        self.streams.append(Connected(address))
        return self.streams[-1]


SAME_MOMENT = 0.35
NEVER = 3600
RACES = {
    "the first answers": ({"a": 0, "b": 0}, "a", ["a"]),
    "the first refuses": ({"a": None, "b": 0}, "b", ["a", "b"]),
    "the first is silent": ({"a": NEVER, "b": 0, "c": 0}, "b", ["a", "b"]),
    "the first is slow, and the second silent": ({"a": 1, "b": NEVER}, "a", ["a", "b"]),
    "the last is slow": ({"a": None, "b": 0.3}, "b", ["a", "b"]),
}


@BOTH
@pytest.mark.parametrize(("after", "taken", "tried"), RACES.values(), ids=RACES)
def test_the_first_address_that_answers_is_taken(backend, after, taken, tried, monkeypatch):
    network = Network(monkeypatch, **after)
    stream = anyio.run(adial, "captcha.example", 443, backend=backend)
    assert (stream.address, stream.closed, network.tried) == (taken, False, tried)


@BOTH
def test_of_several_that_answer_at_once_one_is_kept_open(backend, monkeypatch):
    network = Network(monkeypatch, a=SAME_MOMENT, b=SAME_MOMENT, c=0)
    taken = anyio.run(adial, "captcha.example", 443, backend=backend)
    assert [one for one in network.streams if not one.closed] == [taken]
    assert len(network.streams) > 1


@BOTH
def test_whoever_gives_up_while_the_others_are_closed_gets_the_one_that_is_left(
    backend, monkeypatch
):
    network = Network(monkeypatch, a=SAME_MOMENT, b=SAME_MOMENT, c=0)
    taken = []

    async def main():
        with anyio.CancelScope() as giving_up:
            monkeypatch.setattr(Connected, "meanwhile", staticmethod(giving_up.cancel))
            taken.append(await adial("captcha.example", 443))

    anyio.run(main, backend=backend)
    assert [one for one in network.streams if not one.closed] == taken


@BOTH
@pytest.mark.parametrize("after", [{}, {"a": None}, {"a": None, "b": None}], ids=len)
def test_where_no_address_answers_it_fails(backend, after, monkeypatch):
    Network(monkeypatch, **after)
    with pytest.raises(OSError, match=list(after)[-1] if after else "no address"):
        anyio.run(adial, "captcha.example", 443, backend=backend)


@BOTH
def test_whoever_gives_up_waiting_leaves_nothing_open(backend, monkeypatch):
    network = Network(monkeypatch, a=SAME_MOMENT)

    async def main():
        with anyio.move_on_after(SAME_MOMENT / 2):
            await adial("captcha.example", 443)

    anyio.run(main, backend=backend)
    assert [one.closed for one in network.streams] == [True]


def slowly(*_, **__):
    time.sleep(1)
    raise socket.gaierror(socket.EAI_NONAME, "no such name")


@BOTH
def test_a_name_that_is_not_found_in_time_keeps_nobody(backend, monkeypatch):
    async def main():
        began = anyio.current_time()
        with anyio.move_on_after(0.05):
            await adial("captcha.example", 443)
        return anyio.current_time() - began

    monkeypatch.setattr("socket.getaddrinfo", slowly)
    # The thread goes on by itself, and ends.
    assert anyio.run(main, backend=backend) < 0.9


def test_a_name_that_is_not_found_in_time_keeps_no_blocking_caller(monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", slowly)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        dial("captcha.example", 443, began + 0.05)
    assert time.monotonic() - began < 0.9


def nowhere(*_, **__):
    raise socket.gaierror(socket.EAI_NONAME, "no such name")


@BOTH
def test_a_name_that_does_not_exist_is_told_as_such(backend, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", nowhere)
    with pytest.raises(socket.gaierror):
        anyio.run(adial, "captcha.example", 443, backend=backend)


def test_a_name_that_does_not_exist_is_told_to_a_blocking_caller(monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", nowhere)
    with pytest.raises(socket.gaierror):
        dial("captcha.example", 443, time.monotonic() + 5)
