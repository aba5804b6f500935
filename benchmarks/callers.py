"""All clients that can call Tencent, ours and the peers, each behind one function.

All sign each call, have a deadline and read the answer as strictly as ours, except the official
SDK, which does so in its own way, and raw sockets, which send one prepared call repeatedly.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tcaptcha_middleware import Submission, TencentVerifier
from tcaptcha_middleware.tencent import api
from tcaptcha_middleware.tencent.actions import WEB

if TYPE_CHECKING:
    import ssl
    from contextlib import AsyncExitStack, ExitStack

AsyncCall = Callable[[], Awaitable[object]]
Call = Callable[[], object]

PATIENCE = 30.0
_ID, _KEY = "AKID" + "b" * 32, "benchSecretKey0000000000000000000"
_APP = 190000000
_APP_KEY = "benchAppSecretKey0000000"
_serial = count()


def _ticket() -> Submission:
    return Submission(f"tr03{next(_serial):0128d}*", "@a1b", "203.0.113.7")


def _parameters() -> dict[str, Any]:
    ticket = _ticket()
    return {
        "CaptchaType": 9,
        "Ticket": ticket.ticket,
        "UserIp": ticket.user_ip,
        "Randstr": ticket.randstr,
        "CaptchaAppId": _APP,
        "AppSecretKey": _APP_KEY,
    }


class _Calls:
    """The calls of `TencentVerifier` for another client, with nothing prepared."""

    def __init__(self, origin: str) -> None:
        self.url = f"{origin}/"
        self._headers = {
            "Content-Type": api.CONTENT_TYPE,
            "Host": urlsplit(origin).netloc,
            "X-TC-Action": WEB.name,
        }

    def signed(self) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body of the next call."""
        body, now = json.dumps(_parameters()).encode(), int(time.time())
        proof = api.authorization(_ID, _KEY, headers=self._headers, body=body, timestamp=now)
        more = {"X-TC-Version": api.VERSION, "X-TC-Timestamp": str(now)}
        return {**self._headers, **more, "Authorization": proof}, body

    @staticmethod
    def verdict(status: int, body: bytes) -> object:
        """Read an answer."""
        return api.read_answer(status, body, WEB.codes)


def _verifier(origin: str, **settings: Any) -> TencentVerifier:
    return TencentVerifier(
        _APP, _APP_KEY, _ID, _KEY, endpoint=origin, timeout=PATIENCE, **settings
    )


async def ours(
    origin: str, stack: AsyncExitStack, tls: ssl.SSLContext | None = None
) -> AsyncCall:
    """Ours, with its defaults."""
    verifier = await stack.enter_async_context(_verifier(origin, ssl_context=tls))
    return lambda: verifier.averify(_ticket())


async def ours_over_client(origin: str, stack: AsyncExitStack) -> AsyncCall:
    """Ours, with a given client: httpx over httpx-aiohttp."""
    import httpx
    from httpx_aiohttp import AiohttpTransport

    client = httpx.AsyncClient(transport=AiohttpTransport(), timeout=PATIENCE)
    verifier = _verifier(origin, async_client=await stack.enter_async_context(client))
    return lambda: verifier.averify(_ticket())


async def httpx_plain(
    origin: str, stack: AsyncExitStack, tls: ssl.SSLContext | None = None
) -> AsyncCall:
    """`httpx.AsyncClient()` with its defaults."""
    import httpx

    client = httpx.AsyncClient(timeout=PATIENCE, verify=True if tls is None else tls)
    return await _posting(origin, stack, client)


async def httpx2_plain(origin: str, stack: AsyncExitStack) -> AsyncCall:
    """`httpx2.AsyncClient()` with its defaults."""
    import httpx2

    return await _posting(origin, stack, httpx2.AsyncClient(timeout=PATIENCE))


async def httpx_over_aiohttp(
    origin: str, stack: AsyncExitStack, tls: ssl.SSLContext | None = None
) -> AsyncCall:
    """`httpx.AsyncClient` over httpx-aiohttp."""
    import httpx
    from httpx_aiohttp import AiohttpTransport

    transport = AiohttpTransport(verify=True if tls is None else tls)
    client = httpx.AsyncClient(transport=transport, timeout=PATIENCE)
    return await _posting(origin, stack, client)


async def _posting(origin: str, stack: AsyncExitStack, client: Any) -> AsyncCall:
    await stack.enter_async_context(client)
    calls = _Calls(origin)

    async def call() -> object:
        headers, body = calls.signed()
        answer = await client.post(calls.url, content=body, headers=headers)
        return calls.verdict(answer.status_code, answer.content)

    return call


async def aiohttp_plain(
    origin: str, stack: AsyncExitStack, tls: ssl.SSLContext | None = None
) -> AsyncCall:
    """`aiohttp.ClientSession` without a limit of connections."""
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0, ssl=True if tls is None else tls)
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE)
        )
    )
    calls = _Calls(origin)

    async def call() -> object:
        headers, body = calls.signed()
        async with session.post(calls.url, data=body, headers=headers) as answer:
            return calls.verdict(answer.status, await answer.read())

    return call


async def raw_sockets(
    origin: str, stack: AsyncExitStack, tls: ssl.SSLContext | None = None
) -> AsyncCall:
    """A pool of asyncio streams with minimal HTTP: an upper bound."""
    url = urlsplit(origin)
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    body = json.dumps(_parameters()).encode()
    head = f"POST / HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    stack.callback(lambda: [writer.close() for _, writer in idle])

    async def call() -> object:
        if idle:
            reader, writer = idle.pop()
        else:
            reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=tls)
        writer.write(request)
        answered = await reader.readuntil(b"\r\n\r\n")
        length = int(answered.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        idle.append((reader, writer))
        return json.loads(body)

    return call


async def sdk_async(origin: str, stack: AsyncExitStack) -> AsyncCall:
    """The official SDK's async client."""
    from tencentcloud.captcha.v20190722.captcha_client_async import CaptchaClient

    client = await stack.enter_async_context(CaptchaClient(*_sdk(origin)))
    return lambda: client.DescribeCaptchaResult(_sdk_request())


async def sdk_in_threads(origin: str, stack: AsyncExitStack) -> AsyncCall:
    """The official SDK's sync client, in 64 threads."""
    from concurrent.futures import ThreadPoolExecutor

    from tencentcloud.captcha.v20190722.captcha_client import CaptchaClient

    client = CaptchaClient(*_sdk(origin))
    threads = stack.enter_context(ThreadPoolExecutor(64))
    loop = asyncio.get_running_loop()
    return lambda: loop.run_in_executor(
        threads, lambda: client.DescribeCaptchaResult(_sdk_request())
    )


def ours_sync(origin: str, stack: ExitStack) -> Call:
    """Ours, sync."""
    verifier = stack.enter_context(_verifier(origin))
    return lambda: verifier.verify(_ticket())


def httpx_sync(origin: str, stack: ExitStack) -> Call:
    """`httpx.Client()` with its defaults."""
    import httpx

    return _posting_sync(origin, stack, httpx.Client(timeout=PATIENCE))


def httpx2_sync(origin: str, stack: ExitStack) -> Call:
    """`httpx2.Client()` with its defaults."""
    import httpx2

    return _posting_sync(origin, stack, httpx2.Client(timeout=PATIENCE))


def _posting_sync(origin: str, stack: ExitStack, client: Any) -> Call:
    stack.enter_context(client)
    calls = _Calls(origin)

    def call() -> object:
        headers, body = calls.signed()
        answer = client.post(calls.url, content=body, headers=headers)
        return calls.verdict(answer.status_code, answer.content)

    return call


def http_client_sync(origin: str, stack: ExitStack) -> Call:
    """`http.client`, one connection per thread."""
    url, local, calls = urlsplit(origin), threading.local(), _Calls(origin)

    def call() -> object:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(
                url.hostname or "", url.port, timeout=PATIENCE
            )
            stack.callback(local.connection.close)
        headers, body = calls.signed()
        local.connection.request("POST", "/", body, headers)
        answer = local.connection.getresponse()
        return calls.verdict(answer.status, answer.read())

    return call


def sdk_sync(origin: str, _: ExitStack) -> Call:
    """The official SDK's sync client."""
    from tencentcloud.captcha.v20190722.captcha_client import CaptchaClient

    client = CaptchaClient(*_sdk(origin))
    return lambda: client.DescribeCaptchaResult(_sdk_request())


def _sdk(origin: str) -> tuple[Any, str, Any]:
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    url = urlsplit(origin)
    return (
        Credential(_ID, _KEY),
        "",
        ClientProfile(httpProfile=HttpProfile(protocol=url.scheme, endpoint=url.netloc)),
    )


def _sdk_request() -> Any:
    from tencentcloud.captcha.v20190722.models import DescribeCaptchaResultRequest

    request = DescribeCaptchaResultRequest()
    for name, value in _parameters().items():
        setattr(request, name, value)
    return request
