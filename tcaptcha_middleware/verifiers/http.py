"""The default verifier: both colours over httpx, the same bytes and the same reading.

The wire stands in `tencent`; here is only how it is driven: clients, deadline, and the one
border where httpx's errors become ours.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import httpx
from anyio.lowlevel import RunVar

from tcaptcha_middleware import tencent
from tcaptcha_middleware.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.credentials import Captcha, Credentials
from tcaptcha_middleware.errors import (
    ConfigurationError,
    OutageError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.scripts import script_url
from tcaptcha_middleware.verifiers.deadline import DeadlineTransport, check_timeout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tcaptcha_middleware.actions import Action
    from tcaptcha_middleware.credentials import CredentialProvider
    from tcaptcha_middleware.models import Ticket, Verdict

_CONNECTIONS = 256


class TencentVerifier:
    """Check tickets with Tencent's DescribeCaptchaResult, blocking or awaited.

    One pooled client of each colour is opened on first use, and kept until `close` or
    `aclose`; used again, it opens again. A call is never repeated, because Tencent may have
    spent the ticket. Proxies and credentials of the environment (`HTTPS_PROXY`, `.netrc`)
    are ignored; a `client` of your own may use them.

    Args:
        app_id: CaptchaAppId, from the captcha console.
        app_secret_key: AppSecretKey, beside it.
        secret_id: SecretId of an API key that may call `captcha:DescribeCaptchaResult`.
        secret_key: SecretKey, beside it.
        site: `"cn"` or `"intl"`: which of Tencent's two separate services the captcha and the
            API key are of. Picks the API's address and the client script together.
        endpoint: Another origin for the API, such as `"http://127.0.0.1:9000"`.
        script: Another client script for pages: a whole URL, or the name of another one of
            the site's, such as `"TCaptcha.js"`.
        timeout: Seconds for a whole check, connecting included. Tencent gives up after 5.
        token: The token of a temporary API key.
        client: A client to use instead of opening one, for `verify`; yours to close, and its
            single operations, not their sum, are held to `timeout`.
        async_client: The same for `averify`.
        credentials: Anything with the official SDK's `get_credential_info`, asked at each
            check, instead of `secret_id` and `secret_key`.

    Raises:
        ConfigurationError: A value is missing, blank, a placeholder, or another one's.

    https://www.tencentcloud.com/document/product/1159/50367
    """

    action: ClassVar[Action] = WEB

    def __init__(  # noqa: PLR0913  two pairs of secrets, and where to send them
        self,
        app_id: int | str,
        app_secret_key: str,
        secret_id: str | None = None,
        secret_key: str | None = None,
        *,
        site: str = "cn",
        endpoint: str | None = None,
        script: str | None = None,
        timeout: float = 5.0,
        token: str | None = None,
        client: httpx.Client | None = None,
        async_client: httpx.AsyncClient | None = None,
        credentials: CredentialProvider | None = None,
    ) -> None:
        self._captcha = Captcha.of(app_id, app_secret_key)
        self._credentials = _credentials(secret_id, secret_key, token, credentials)
        self._origin = tencent.endpoint(site, endpoint, self.action)
        self._host = urlsplit(self._origin).netloc
        # Parsed once; httpx would do it for every check.
        self._url = httpx.URL(f"{self._origin}/")
        self._timeout = check_timeout(timeout)
        self._client = client
        self._async_client = async_client
        self._lock = threading.Lock()
        self._opened: tuple[int, httpx.Client] | None = None
        self._opened_async: RunVar[httpx.AsyncClient | None] = RunVar(
            f"client {id(self)}", None
        )
        self.site = site
        self.script = script_url(site, script)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ, **settings: Any) -> Self:
        """Make a verifier from environment variables.

        Reads `TENCENTCLOUD_SECRET_ID`, `TENCENTCLOUD_SECRET_KEY`, `TENCENTCLOUD_TOKEN`
        (optional), `TCAPTCHA_APP_ID`, `TCAPTCHA_APP_SECRET_KEY`, `TCAPTCHA_SITE` (`cn` by
        default), `TCAPTCHA_ENDPOINT` and `TCAPTCHA_SCRIPT` (optional).

        Args:
            environ: Where they are read.
            settings: Any other argument of the class; wins over the environment.

        Raises:
            ConfigurationError: One is missing or cannot work; the message names it.
        """
        found = {
            argument: environ[name]
            for name, argument in _VARIABLES.items()
            if environ.get(name)
        }
        missing = _REQUIRED - found.keys() - settings.keys()
        if "credentials" in settings:
            missing -= {"secret_id", "secret_key"}
        if missing:
            names = [name for name, argument in _VARIABLES.items() if argument in missing]
            raise ConfigurationError(f"set the environment variables {', '.join(names)}")
        return cls(**(found | settings))

    def __repr__(self) -> str:
        """Show what is no secret."""
        return f"<{type(self).__name__} app_id={self.app_id} at {self._origin}>"

    @property
    def app_id(self) -> int:
        """CaptchaAppId, which pages need and anybody may see."""
        return self._captcha.app_id

    @property
    def captcha(self) -> Captcha:
        """The captcha's pair, whose secret half no page may see."""
        return self._captcha

    def verify(self, ticket: Ticket) -> Verdict:
        """Check `ticket` with Tencent, once.

        Raises:
            VerifierError: No verdict; see its children for whose fault it is.
        """
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        with _translated():
            request = self._request(self._key(), ticket)
            answer = self._sync_client().send(request, stream=True, **_AS_IS)
            try:
                for piece in answer.iter_raw():
                    body += piece
                    _check_length(body)
                    if time.monotonic() > deadline:
                        raise OutageError("Tencent took too long")
            finally:
                answer.close()
        return tencent.read_answer(answer.status_code, bytes(body))

    async def averify(self, ticket: Ticket) -> Verdict:
        """Same as `verify`, but awaited."""
        body = bytearray()
        with _translated():
            with anyio.fail_after(self._timeout) as scope:
                request = self._request(await self._akey(), ticket)
                answer = await self._asynchronous_client().send(request, stream=True, **_AS_IS)
                try:
                    async for piece in answer.aiter_raw():
                        body += piece
                        if len(body) > tencent.MAX_ANSWER:
                            # To raise here would leave httpx's generators unfinished.
                            scope.cancel()
                finally:
                    await answer.aclose()
            _check_length(body)
        return tencent.read_answer(answer.status_code, bytes(body))

    def close(self) -> None:
        """Close the blocking client, if this verifier opened it."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].close()

    async def aclose(self) -> None:
        """Close the awaited client of the running event loop, if this verifier opened it."""
        opened = self._opened_async.get()
        self._opened_async.set(None)
        if opened is not None:
            await opened.aclose()

    def __enter__(self) -> Self:
        """Return the verifier itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return the verifier itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    def _request(self, key: tuple[str, str, str | None], ticket: Ticket) -> httpx.Request:
        body = tencent.call(self._captcha, ticket, self.action)
        headers = tencent.headers(
            key,
            host=self._host,
            body=body,
            timestamp=int(time.time()),
            action=self.action,
        )
        # Waiting for a connection ends before the whole does, so that it is told apart; so
        # does opening one, which leaves its socket open where it is cancelled.
        sooner = self._timeout * 0.9
        limits = httpx.Timeout(self._timeout, connect=sooner, pool=sooner).as_dict()
        # Not through client.build_request, which adds the client's own headers and cookies.
        return httpx.Request(
            "POST",
            self._url,
            headers=headers,
            content=body,
            extensions={"timeout": limits},
        )

    def _key(self) -> tuple[str, str, str | None]:
        try:
            return self._credentials.get_credential_info()
        except Exception as error:
            # Not Tencent's captcha, whatever it is: a missing file must not open the gate.
            raise VerifierError(f"no credentials ({type(error).__name__})") from error

    async def _akey(self) -> tuple[str, str, str | None]:
        if isinstance(self._credentials, Credentials):
            return self._credentials.get_credential_info()
        # The official SDK's credentials refresh themselves with a blocking call.
        return await anyio.to_thread.run_sync(self._key, abandon_on_cancel=True)

    def _sync_client(self) -> httpx.Client:
        if self._client is not None:
            return self._client
        with self._lock:
            # A connection that a fork shares would mix up two processes' answers.
            if self._opened is None or self._opened[0] != os.getpid():
                transport = DeadlineTransport(self._timeout, _tls(), _CONNECTIONS)
                self._opened = os.getpid(), httpx.Client(transport=transport, trust_env=False)
            return self._opened[1]

    def _asynchronous_client(self) -> httpx.AsyncClient:
        if self._async_client is not None:
            return self._async_client
        opened = self._opened_async.get()
        if opened is None:
            opened = httpx.AsyncClient(transport=_async_transport(), trust_env=False)
            self._opened_async.set(opened)
        return opened


class TencentMiniProgramVerifier(TencentVerifier):
    """Check tickets of WeChat mini-programs with Tencent's DescribeCaptchaMiniResult.

    Same as `TencentVerifier`, but its tickets have no randstr, and there is no code for a
    ticket that was used before, so that nothing but the guard's claims stops a second use. It
    exists on the domestic site alone. A ticket of a web page is no good here, nor one of a
    mini-program there.

    https://cloud.tencent.com/document/product/1302/48499
    """

    action: ClassVar[Action] = MINI_PROGRAM


_AS_IS: dict[str, Any] = {"auth": None, "follow_redirects": False}

_REQUIRED = {"app_id", "app_secret_key", "secret_id", "secret_key"}
_VARIABLES = {
    "TENCENTCLOUD_SECRET_ID": "secret_id",
    "TENCENTCLOUD_SECRET_KEY": "secret_key",
    "TENCENTCLOUD_TOKEN": "token",
    "TCAPTCHA_APP_ID": "app_id",
    "TCAPTCHA_APP_SECRET_KEY": "app_secret_key",
    "TCAPTCHA_SITE": "site",
    "TCAPTCHA_ENDPOINT": "endpoint",
    "TCAPTCHA_SCRIPT": "script",
}


def _credentials(
    secret_id: str | None,
    secret_key: str | None,
    token: str | None,
    provider: CredentialProvider | None,
) -> CredentialProvider:
    if provider is None:
        return Credentials(secret_id or "", secret_key or "", token)
    if secret_id or secret_key or token:
        raise ConfigurationError("give secret_id and secret_key, or credentials, not both")
    if not callable(getattr(provider, "get_credential_info", None)):
        raise ConfigurationError("credentials has no get_credential_info()")
    return provider


def _tls() -> Any:
    return httpx.create_ssl_context(trust_env=False)


def _async_transport() -> httpx.AsyncBaseTransport:
    """Return httpx's own transport, or the faster one of the `aiohttp` extra on asyncio."""
    limits = httpx.Limits(
        max_connections=_CONNECTIONS,
        max_keepalive_connections=_CONNECTIONS,
        keepalive_expiry=60,
    )
    if _on_asyncio() and importlib.util.find_spec("httpx_aiohttp") is not None:
        from httpx_aiohttp import AiohttpTransport

        return AiohttpTransport(verify=_tls(), trust_env=False, limits=limits)
    return httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False, limits=limits)


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _check_length(body: bytearray) -> None:
    if len(body) > tencent.MAX_ANSWER:
        raise VerifierError("Tencent's answer is too long")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn httpx's errors into ours. Nobody but Tencent, or the way there, can cause these."""
    try:
        yield
    except VerifierError:
        raise
    except httpx.PoolTimeout as error:
        # Ours, and a flood of visitors can cause it, so that it must not look like an outage.
        raise ThrottledError("too many checks at once") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise OutageError("Tencent took too long") from error
    except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError, OSError) as error:
        raise OutageError(f"Tencent is out of reach ({type(error).__name__})") from error
    except Exception as error:
        raise VerifierError(f"the call to Tencent failed ({type(error).__name__})") from error
