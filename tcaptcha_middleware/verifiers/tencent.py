"""The default verifier: both colours, the same bytes and the same reading.

The wire stands in `tencent.wire`, the connections in `pools`; here is only how they are driven:
settings, keys, the deadline, and the border where others' errors become ours.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

import anyio
import httpcore

from tcaptcha_middleware.errors import OutageError, VerifierError
from tcaptcha_middleware.scoped import PerLoop, PerProcess
from tcaptcha_middleware.tencent import api
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.tencent.credentials import Captcha, check_apart
from tcaptcha_middleware.tencent.environment import settings_in
from tcaptcha_middleware.tencent.scripts import script_url
from tcaptcha_middleware.validation import check_timeout
from tcaptcha_middleware.verifiers.api_key import akey, key, provider
from tcaptcha_middleware.verifiers.pools import AsyncPool, Pool
from tcaptcha_middleware.verifiers.shortage import unreached

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import httpx

    from tcaptcha_middleware.models import Submission, Verdict
    from tcaptcha_middleware.tencent.actions import Action
    from tcaptcha_middleware.tencent.credentials import CredentialProvider, Key
    from tcaptcha_middleware.verifiers.clients import AsyncClient, Client


class TencentVerifier:
    """Check tickets with Tencent's DescribeCaptchaResult, blocking or awaited.

    Connections are opened when they are needed, as many as there are checks at once, and kept
    until `close` or `aclose`; used again, it opens again. A call is never repeated, because
    Tencent may have spent the ticket. Proxies and credentials of the environment
    (`HTTPS_PROXY`, `.netrc`) are ignored; a `client` of your own may use them.

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
        client: An `httpx.Client` to use instead, for `verify`; yours to close, and its single
            operations, not their sum, are held to `timeout`.
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
        self.captcha: Captcha = Captcha.of(app_id, app_secret_key)
        self.app_id: int = self.captcha.app_id
        check_apart(app_secret_key, secret_key)
        self._credentials = provider(secret_id, secret_key, token, credentials)
        self._origin = api.endpoint(site, endpoint, self.action)
        self._host = urlsplit(self._origin).netloc
        self._timeout = check_timeout(timeout)
        url = httpcore.URL(f"{self._origin}/")
        self._pool = PerProcess(partial(Pool, url))
        self._async_pool = PerLoop(partial(AsyncPool, url, self._timeout))
        self._client = self._over(client)
        self._async_client = self._over_async(async_client)
        self.site = site
        self.script: str = script_url(site, script)

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
        return cls(**settings_in(environ, settings))

    def __repr__(self) -> str:
        """Show what is no secret."""
        return f"<{type(self).__name__} app_id={self.app_id} at {self._origin}>"

    def verify(self, ticket: Submission) -> Verdict:
        """Check `ticket` with Tencent, once.

        Raises:
            VerifierError: No verdict; see its children for whose fault it is.
        """
        deadline = time.monotonic() + self._timeout
        with _translated():
            headers, body = self._call(key(self._credentials, self._timeout), ticket)
            over = self._client or self._pool.get()
            status, answer = over.send(headers, body, deadline)
        return api.read_answer(status, answer)

    async def averify(self, ticket: Submission) -> Verdict:
        """Same as `verify`, but awaited."""
        with _translated(), anyio.fail_after(self._timeout):
            headers, body = self._call(await akey(self._credentials, self._timeout), ticket)
            over = self._async_client or self._async_pool.get()
            status, answer = await over.send(headers, body)
        return api.read_answer(status, answer)

    def close(self) -> None:
        """Close the connections that `verify` opened; a client of your own stays open."""
        pool = self._pool.take()
        if pool is not None:
            pool.close()

    async def aclose(self) -> None:
        """Close the connections that `averify` opened in the running event loop."""
        pool = self._async_pool.take()
        if pool is not None:
            await pool.aclose()

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

    def _call(self, key: Key, ticket: Submission) -> tuple[dict[str, str], bytes]:
        body = api.call(self.captcha, ticket, self.action)
        headers = api.headers(
            key,
            host=self._host,
            body=body,
            timestamp=int(time.time()),
            action=self.action,
        )
        return headers, body

    def _over(self, client: httpx.Client | None) -> Client | None:
        if client is None:
            return None
        from tcaptcha_middleware.verifiers.clients import Client

        return Client(client, f"{self._origin}/", self._timeout)

    def _over_async(self, client: httpx.AsyncClient | None) -> AsyncClient | None:
        if client is None:
            return None
        from tcaptcha_middleware.verifiers.clients import AsyncClient

        return AsyncClient(client, f"{self._origin}/", self._timeout)


class TencentMiniProgramVerifier(TencentVerifier):
    """Check tickets of WeChat mini-programs with Tencent's DescribeCaptchaMiniResult.

    Same as `TencentVerifier`, but its tickets have no randstr, and there is no code for a
    ticket that was used before, so that nothing but the guard's claims stops a second use. It
    exists on the domestic site alone. A ticket of a web page is no good here, nor one of a
    mini-program there.

    https://cloud.tencent.com/document/product/1302/48499
    """

    action: ClassVar[Action] = MINI_PROGRAM


# Of sockets in general, of httpcore's, of anyio's.
_OUTAGES = (
    OSError,
    httpcore.NetworkError,
    httpcore.RemoteProtocolError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn others' errors into ours; none that a client can cause is an outage."""
    try:
        yield
    except VerifierError:
        raise
    except (TimeoutError, httpcore.TimeoutException) as error:
        raise OutageError("Tencent took too long") from error
    except _OUTAGES as error:
        raise unreached(error) from error
    except Exception as error:
        message = f"the call to Tencent failed ({type(error).__name__})"
        raise VerifierError(message, answered=False) from error
