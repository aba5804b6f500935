"""The default verifier: calls DescribeCaptchaResult, sync and async.

Holds the settings, the deadline, and what keeps secrets out of errors. The call as
bytes is in `tencent.api`, the way to Tencent in `_http`.
"""

from __future__ import annotations

import os
import time
from functools import cache, partial
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from tcaptcha_middleware._http.client import HttpClient
from tcaptcha_middleware.errors import (
    ConfigurationError,
    MisconfiguredError,
    OutageError,
)
from tcaptcha_middleware.models import CaptchaInfo
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.tencent import api
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB, refusal
from tcaptcha_middleware.tencent.credentials import (
    Captcha,
    Credentials,
    check_apart,
    settings_in,
)
from tcaptcha_middleware.tencent.disaster import answer_expected, probe_submission
from tcaptcha_middleware.tencent.sites import api_origin, is_tencents, script_url
from tcaptcha_middleware.validation import validate_timeout
from tcaptcha_middleware.verifiers.api_key import api_key, provider
from tcaptcha_middleware.verifiers.network_errors import network_error, without_secrets
from tcaptcha_middleware.verifiers.proxy import parse_proxy
from tcaptcha_middleware.waiting import arun, run

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    import httpx

    from tcaptcha_middleware._http.connection import Progress
    from tcaptcha_middleware.errors import VerifierError
    from tcaptcha_middleware.models import Submission, Verdict
    from tcaptcha_middleware.tencent.actions import Action
    from tcaptcha_middleware.tencent.credentials import CredentialProvider, Key, Secret
    from tcaptcha_middleware.verifiers.httpx_transport import Transport

_PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class TencentVerifier:
    """Verify tickets with Tencent's DescribeCaptchaResult, sync and async.

    Connections are kept, for five minutes at most, until `close` or `aclose`; later calls open
    new ones. A call is sent a second time only if a kept connection fails before any answer.
    Proxies and certificates of the environment (`HTTPS_PROXY`, `SSL_CERT_FILE`, `.netrc`) are
    ignored: pass `proxy` and `ssl_context`.

    Args:
        app_id: CaptchaAppId, from the captcha console.
        app_secret_key: AppSecretKey, shown beside it. Secrets may be pydantic's `SecretStr`.
        secret_id: SecretId of an API key that may call `captcha:DescribeCaptchaResult`.
        secret_key: SecretKey, shown beside it.
        site: `"cn"` or `"intl"`: which of Tencent's two separate services the captcha and the
            API key belong to. Selects the API's address and the client script together.
        endpoint: Another origin for the API, such as `"http://127.0.0.1:9000"`. Plain http is
            allowed to this machine only.
        script: Another client script for pages: a whole URL, the name of another one of the
            site's, such as `"TCaptcha.js"`, or a path relative to the page's settings, such as
            `"../emulator/TJCaptcha.js"`.
        timeout: Seconds for a whole verification, with connecting. Tencent gives up after 5.
        token: The token of a temporary API key.
        client: An `httpx.Client` to use instead, for `verify`. The user closes it, and its
            single operations, not their sum, are limited to `timeout`.
        async_client: The same for `averify`.
        credentials: An object with the official SDK's `get_credential_info`, asked at each
            verification, instead of `secret_id` and `secret_key`.
        proxy: URL of an HTTP proxy, such as `"http://user:password@proxy.example:3128"`.
        ssl_context: TLS settings, for a private certificate authority. By default certifi's
            authorities are trusted.

    Raises:
        ConfigurationError: If a value is missing, blank, a placeholder, or in the wrong place.

    https://www.tencentcloud.com/document/product/1159/50367
    """

    action: ClassVar[Action] = WEB

    def __init__(  # noqa: PLR0913  two pairs of secrets, and how to send them
        self,
        app_id: int | str,
        app_secret_key: str | Secret,
        secret_id: str | Secret | None = None,
        secret_key: str | Secret | None = None,
        *,
        site: str = "cn",
        endpoint: str | None = None,
        script: str | None = None,
        timeout: float = 5.0,
        token: str | Secret | None = None,
        client: httpx.Client | None = None,
        async_client: httpx.AsyncClient | None = None,
        credentials: CredentialProvider | None = None,
        proxy: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        captcha = Captcha.of(app_id, app_secret_key)
        check_apart(app_secret_key, secret_key)
        self._credentials = provider(secret_id, secret_key, token, credentials)
        lasting = isinstance(self._credentials, Credentials)
        self._key: Key | None = self._credentials.get_credential_info() if lasting else None
        self._origin = api_origin(site, endpoint, self.action)
        host = urlsplit(self._origin).netloc
        self._writer = api.CallWriter(captcha, self.action, host)
        self._timeout = validate_timeout(timeout)
        self.captcha: CaptchaInfo = CaptchaInfo(
            captcha.app_id,
            script=script_url(site, script),
            site="intl" if site == "intl" else "cn",  # both are validated above
            app_secret_key=captcha.app_secret_key,
            has_randstr=self.action.has_randstr,
            refuses_reuse=self.action.refuses_reuse,
            codes=self.action.codes,
        )
        if not is_tencents(self._origin):
            log.foreign_endpoint(self._origin)
        has_client = client is not None or async_client is not None
        if has_client and (proxy is not None or ssl_context is not None):
            raise ConfigurationError(
                "proxy and ssl_context are for connections of the verifier's own: set them on "
                "your httpx client instead"
            )
        if ssl_context is not None and not hasattr(ssl_context, "wrap_bio"):
            kind = type(ssl_context).__name__
            raise ConfigurationError(f"ssl_context must be an ssl.SSLContext, not {kind}")
        route = (
            self._writer.constant_headers,
            self._origin,
            default_context if ssl_context is None else lambda: ssl_context,
            _error_without_proxy if proxy is None else network_error,
            None if proxy is None else parse_proxy(proxy),
        )
        self._client = HttpClient(*route)
        self._transport: Transport = self._client
        self._async_transport: Transport = self._transport
        self._probe_client = HttpClient(*route)
        self._probe_transport: Transport | None = self._probe_client
        if has_client:
            from tcaptcha_middleware.verifiers.httpx_transport import HttpxTransport

            theirs = HttpxTransport(
                self._writer.constant_headers, f"{self._origin}/", client, async_client
            )
            if async_client is not None:
                self._async_transport = theirs
            # A probe has to take the way of the verifications, and cannot await.
            self._probe_transport = None if client is None else theirs
            if client is not None:
                self._transport = theirs

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **settings: Any) -> Self:
        """Make a verifier from environment variables.

        Reads `TENCENTCLOUD_SECRET_ID`, `TENCENTCLOUD_SECRET_KEY`, `TENCENTCLOUD_TOKEN`
        (optional), `TCAPTCHA_APP_ID`, `TCAPTCHA_APP_SECRET_KEY`, `TCAPTCHA_SITE` (`cn` by
        default), `TCAPTCHA_ENDPOINT` and `TCAPTCHA_SCRIPT` (optional). Without the first two,
        the temporary key that Tencent's serverless functions have in `TENCENTCLOUD_SECRETID`,
        `TENCENTCLOUD_SECRETKEY` and `TENCENTCLOUD_SESSIONTOKEN` is read at each verification.

        Args:
            environ: The variables; `os.environ` by default.
            settings: Any other argument of the class; takes precedence over the environment.

        Raises:
            ConfigurationError: If one is missing or cannot work; the message names it.
        """
        return cls(**settings_in(os.environ if environ is None else environ, settings))

    def __repr__(self) -> str:
        """Show what is not secret."""
        return f"<{type(self).__name__} app_id={self.captcha.app_id} at {self._origin}>"

    def verify(self, ticket: Submission) -> Verdict:
        """Verify `ticket` with Tencent, once.

        Raises:
            VerifierError: If there is no verdict; its subclasses say why.
        """
        try:
            return self._verify(ticket, self._timeout, self._transport)
        except Exception as error:
            failure = without_secrets(error)
        raise failure

    async def averify(self, ticket: Submission) -> Verdict:
        """Same as `verify`, but awaited."""
        try:
            return await self._averify(ticket)
        except Exception as error:
            failure = without_secrets(error)
        raise failure

    @property
    def probe(self) -> Callable[[float], None]:
        """Find out if Tencent is up: `probe(seconds)` verifies a ticket that cannot pass.

        It takes a new connection, or a user's `client` as `verify` does; with only an
        `async_client` there is no such attribute. Returning means that Tencent answered.

        Raises:
            OutageError: If Tencent is down.
            VerifierError: If this is unclear, for any other reason.
        """
        if self._probe_transport is None:
            raise AttributeError("an async_client cannot probe: use proxy= and ssl_context=")
        return partial(self._probe, self._probe_transport)

    def close(self) -> None:
        """Close the idle connections of this process; a user's own client stays open."""
        self._client.close()

    async def aclose(self) -> None:
        """Same as `close`, for async code."""
        self._client.close()

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

    # `_verify` and `_averify` are not in their callers: an error keeps the frames that it
    # leaves, and theirs have the key and the ticket.

    def _verify(self, ticket: Submission, seconds: float, transport: Transport) -> Verdict:
        deadline = time.monotonic() + seconds
        key = self._key
        if key is None:
            key = run(api_key(self._credentials, seconds), deadline)
        body = self._writer.body(ticket)
        headers = self._writer.headers(key, body, int(time.time()))
        answer = transport.send(headers, body, deadline)
        return api.read_answer(
            answer.status, answer.body, self.action.codes, resent=answer.resent
        )

    async def _averify(self, ticket: Submission) -> Verdict:
        deadline = time.monotonic() + self._timeout
        key = self._key
        if key is None:
            key = await arun(api_key(self._credentials, self._timeout), deadline)
        body = self._writer.body(ticket)
        headers = self._writer.headers(key, body, int(time.time()))
        answer = await self._async_transport.asend(headers, body, deadline)
        return api.read_answer(
            answer.status, answer.body, self.action.codes, resent=answer.resent
        )

    def _probe(self, transport: Transport, limit: float) -> None:
        with answer_expected():
            try:
                submission = probe_submission(self.captcha.app_id)
                refusal(self._verify(submission, limit, transport), self.action.codes)
            except Exception as error:
                failure = without_secrets(error)
            else:
                return
            finally:
                self._probe_client.close()  # the next probe takes a new connection
            raise failure


def _error_without_proxy(error: Exception, progress: Progress) -> VerifierError:
    """Translate an error of a direct call, and report a proxy that it should perhaps use."""
    failure = network_error(error, progress)
    if isinstance(failure, OutageError) or progress.stage == "resolve":
        for variable in _PROXY_VARIABLES:
            if os.environ.get(variable):
                log.ignored_proxy(variable)
                break
    return failure


@cache
def default_context() -> ssl.SSLContext:
    """Return TLS settings with certifi's authorities, independent of the environment.

    Raises:
        MisconfiguredError: If they cannot be loaded.
    """
    import ssl  # late, as in `_http.connection`

    import certifi  # late, because it loads a dozen modules

    try:
        context = ssl.create_default_context(cafile=certifi.where())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"certifi's authorities cannot be loaded ({reason}): reinstall certifi"
        raise MisconfiguredError(message, answered=False, sent=False) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


class TencentMiniProgramVerifier(TencentVerifier):
    """Verify tickets of WeChat mini-programs with Tencent's DescribeCaptchaMiniResult.

    Same as `TencentVerifier`, but its tickets lack a randstr, and Tencent does not report a
    ticket that was used before, so only the guard's replay store stops a second use. It exists
    on the domestic site only. Tickets of web pages are not valid here, and vice versa.

    https://cloud.tencent.com/document/product/1302/48499
    """

    action: ClassVar[Action] = MINI_PROGRAM
