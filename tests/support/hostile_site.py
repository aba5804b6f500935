"""A protected application in front of a scripted upstream, and its visitors.

Times are those of `time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tempfile
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from redis_server import RedisServer
from served import FOLDER, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

APP_ID = 190000000
SERVERS = {
    "asyncio": "uvicorn with httptools",
    "trio": "hypercorn on trio",
    "threads": "gunicorn with 64 threads",
}
PATIENCE = 20.0
_NUMBERS = count(1)

measured: list[tuple[str, str, str]] = []
"""Rows of the summary: the scenario, the measured value, and its limit."""


class Upstream:
    """The control connection to a scripted upstream.

    Attributes:
        origin: Its scheme, address and port.
        refusals: How often it began to refuse connections, and reset those that it had.
    """

    def __init__(self, origin: str, reader, writer) -> None:
        self.origin = origin
        self._reader, self._writer = reader, writer
        self._lock = asyncio.Lock()
        self.refusals = 0

    async def _command(self, name: str, **arguments: object) -> Any:
        async with self._lock:
            self._writer.write(json.dumps([name, arguments]).encode() + b"\n")
            return json.loads(await self._reader.readline())

    async def behave(self, fault: str = "", **arguments: object) -> float:
        """See `scripted_upstream.Upstream.behave`; return when it began."""
        self.refusals += fault == "refused"
        return await self._command("behave", fault=fault, **arguments)

    async def tune(self, **arguments: float) -> float:
        return await self._command("tune", **arguments)

    async def drop(self, *, silently: bool = False) -> int:
        return await self._command("drop", silently=silently)

    async def connections(self) -> int:
        return (await self._command("report"))[1]

    async def received(self, number: int) -> None:
        """Wait until so many verifications were read."""
        while len(await self.calls()) < number:  # noqa: ASYNC110  of another process
            await asyncio.sleep(0.02)

    async def calls(self, fault: str | None = None) -> list[tuple[float, str]]:
        """Return the time and the ticket of each verification that was read, without probes."""
        calls = (await self._command("report"))[0]
        return [
            (at, ticket)
            for at, ticket, kind in calls
            if not ticket.startswith("trerror") and fault in (None, kind)
        ]


@asynccontextmanager
async def upstream(certificate: Path | None = None) -> AsyncIterator[Upstream]:
    """Run a scripted upstream, with TLS if there is a certificate."""
    script = FOLDER / "scripted_upstream.py"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, script, *filter(None, [certificate])),
        stdout=asyncio.subprocess.PIPE,
        limit=2**26,
    )
    try:
        port, control = map(int, (await process.stdout.readline()).split())
        reader, writer = await asyncio.open_connection("127.0.0.1", control, limit=2**26)
        scheme = "http" if certificate is None else "https"
        try:
            yield Upstream(f"{scheme}://127.0.0.1:{port}", reader, writer)
        finally:
            writer.close()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


class Visit(NamedTuple):
    """One visitor's request, and its outcome.

    Attributes:
        began: When it was sent.
        ended: When the response was there.
        ticket: The ticket.
        randstr: Its second half.
        outcome: `"passed"`, `"unchecked"`, the code of a refusal, or `"no response"`.
        retry_after: The header, or None.
    """

    began: float
    ended: float
    ticket: str
    randstr: str
    outcome: str
    retry_after: int | None = None

    @property
    def key(self) -> str:
        return hashlib.sha256(f"{self.ticket}\n{self.randstr}".encode()).hexdigest()


class Visits(list[Visit]):
    """Visits in the order in which they ended."""

    def count(self, *outcomes: str, begin: float = -inf, end: float = inf) -> int:
        return len(self.of(*outcomes, begin=begin, end=end))

    def of(self, *outcomes: str, begin: float = -inf, end: float = inf) -> Visits:
        """Return the visits with an outcome, or all, that began in a window."""
        return Visits(
            visit
            for visit in self
            if begin <= visit.began < end and (not outcomes or visit.outcome in outcomes)
        )

    @property
    def refused(self) -> Visits:
        return Visits(visit for visit in self if visit.outcome not in ("passed", "unchecked"))

    @property
    def outcomes(self) -> dict[str, int]:
        names = [visit.outcome for visit in self]
        return {name: names.count(name) for name in sorted(set(names))}

    @property
    def median_seconds(self) -> float:
        return median(visit.ended - visit.began for visit in self)


def good_ticket() -> str:
    return f"tr03good{next(_NUMBERS)}"


def made_up_ticket() -> str:
    return f"tr03madeup{next(_NUMBERS)}"


def disaster_ticket() -> str:
    return f"trerror_1001_{APP_ID}_{int(time.time())}"


@cache
def shared_redis() -> RedisServer:
    """Return the Redis that scenarios share, until the run ends."""
    return RedisServer()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False)
class Site:
    """A running application.

    Attributes:
        name: The scenario, for the summary.
        port: Its port.
        parent: The server's first process.
        pid: The process that serves.
        visits: All visits, in the order in which they ended.
    """

    name: str
    port: int
    parent: int
    log: Path
    states_file: Path
    visits: Visits
    pid: int = 0

    async def connect(self) -> Connection:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def visit(
        self,
        make: Callable[[], str] = good_ticket,
        *,
        connection: Connection | None = None,
        patience: float = PATIENCE,
    ) -> Visit:
        """Send a protected request, over a new connection unless there is one."""
        number = next(_NUMBERS)
        ticket, randstr, began = make(), f"@{number}", time.monotonic()
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        fields = {
            "X-Captcha-Ticket": ticket,
            "X-Captcha-Randstr": randstr,
            "X-Forwarded-For": address,
            "Content-Length": "0",
        }
        status, headers, body = await self.request(
            "POST", "/login", fields, connection=connection, patience=patience
        )
        if status == 200:
            outcome = "unchecked" if json.loads(body)["unchecked"] else "passed"
        elif status == 0:
            outcome = "no response"
        else:
            outcome = json.loads(body)["code"]
        retry_after = int(headers["retry-after"]) if "retry-after" in headers else None
        visit = Visit(began, time.monotonic(), ticket, randstr, outcome, retry_after)
        self.visits.append(visit)
        return visit

    async def request(
        self,
        method: str,
        target: str,
        fields: dict[str, str] | None = None,
        *,
        connection: Connection | None = None,
        patience: float = PATIENCE,
    ) -> tuple[int, dict[str, str], bytes]:
        """Send a request; the status is 0 if nothing is received."""
        ends = {} if connection else {"Connection": "close"}
        lines = [
            f"{name}: {value}"
            for name, value in ({"Host": "a"} | ends | (fields or {})).items()
        ]
        request = "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode()
        writer = None
        try:
            async with asyncio.timeout(patience):
                reader, writer = connection or await self.connect()
                writer.write(request)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                status_line, *rest = head.strip().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in rest)
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                return int(status_line.split()[1]), headers, body
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return 0, {}, b""
        finally:
            if connection is None and writer is not None:
                writer.close()

    async def act(self, target: str) -> bytes:
        """Send a request that is not protected, and return the body."""
        return (await self.request("GET", target))[2]

    async def stream(
        self, rate: float, seconds: float, make: Callable[[], str] = good_ticket
    ) -> Visits:
        """Send visitors at an even rate, and wait until all have a response."""
        began, coming = time.monotonic(), []
        for number in range(round(rate * seconds)):
            await asyncio.sleep(began + number / rate - time.monotonic())
            coming.append(asyncio.create_task(self.visit(make)))
        return Visits(await asyncio.gather(*coming))

    async def together(
        self, number: int, make: Callable[[], str] = good_ticket, **options: Any
    ) -> Visits:
        """Send so many visitors at once."""
        return Visits(
            await asyncio.gather(*(self.visit(make, **options) for _ in range(number)))
        )

    def states(self) -> list[tuple[float, str]]:
        """Return the changes of the verifier's health."""
        if not self.states_file.exists():
            return []
        return [tuple(json.loads(line)) for line in self.states_file.read_text().splitlines()]

    def when(self, state: str) -> list[float]:
        return [at for at, each in self.states() if each == state]

    def measure(self, what: str, bound: str) -> None:
        """Add a row to the summary at the end of the run."""
        measured.append((self.name, what, bound))


@asynccontextmanager
async def site(
    name: str,
    adapter: str,
    *,
    redis: RedisServer | None = None,
    certificate: Path | None = None,
    host: str = "127.0.0.1",
    server: str | None = None,
    has_tracebacks: bool = False,
    knows_what_is_sent: bool = True,
    **settings: str,
) -> AsyncIterator[tuple[Site, Upstream]]:
    """Serve the gated application in front of an upstream; then compare claims with calls."""
    redis = redis or shared_redis()
    prefix = f"{next(_NUMBERS)}:"
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        up = await stack.enter_async_context(upstream(certificate))
        environ = {
            "ENDPOINT": up.origin.replace("127.0.0.1", host),
            "REDIS": redis.url,
            "PREFIX": prefix,
            "STATES": str(folder / "states"),
        }
        environ |= {key.upper(): value for key, value in settings.items()}
        started = serving(server or SERVERS[adapter], "hostile_apps", folder / "log", **environ)
        server_stack = ExitStack()
        running = await asyncio.to_thread(server_stack.enter_context, started)
        stack.push_async_callback(asyncio.to_thread, server_stack.close)
        gated = Site(
            f"{name}, {adapter}",
            running.port,
            running.pid,
            running.log,
            folder / "states",
            Visits(),
        )
        gated.pid = int(await gated.act("/pid"))
        yield gated, up
        if knows_what_is_sent:
            await check_claims(gated, up, redis, prefix)
        if not has_tracebacks:
            assert "Traceback" not in gated.log.read_text()


async def check_claims(gated: Site, up: Upstream, redis: RedisServer, prefix: str) -> None:
    """Fail if a ticket is claimed that was never sent to the upstream."""
    keys = await asyncio.to_thread(redis.command, "--scan", "--pattern", f"{prefix}*")
    spent = {key.removeprefix(prefix) for key in keys.splitlines()}
    received = {ticket for _, ticket in await up.calls()}
    lost = [
        visit for visit in gated.visits if visit.key in spent and visit.ticket not in received
    ]
    # A reset discards a call that has arrived and was not read yet.
    assert len(lost) <= 2 * up.refusals, (
        f"{len(lost)} tickets are lost:\n{gated.log.read_text()[-4000:]}"
    )
