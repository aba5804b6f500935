"""A verifier over Tencent's official client, for users who have one configured already.

The client only signs and sends. Its answers are read as strictly as our own, because it hides
API errors behind any Content-Type that it does not know. Its retryer is left out, because a
ticket can be spent once, and a deadline replaces its 60 seconds.

Needs the extra `sdk`: https://github.com/TencentCloud/tencentcloud-sdk-python
"""

from __future__ import annotations

import copy
import logging
import re
from http.client import HTTPException, RemoteDisconnected
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from tcaptcha_middleware._http.codec import ProtocolError
from tcaptcha_middleware._http.connection import Progress, ProxyError
from tcaptcha_middleware.errors import ConfigurationError, MisconfiguredError, needs
from tcaptcha_middleware.models import CaptchaInfo
from tcaptcha_middleware.tencent import api
from tcaptcha_middleware.tencent.actions import WEB, api_error, refusal
from tcaptcha_middleware.tencent.credentials import Captcha
from tcaptcha_middleware.tencent.disaster import answer_expected, probe_submission
from tcaptcha_middleware.tencent.sites import script_url
from tcaptcha_middleware.threadpool import BoundedThreadPool
from tcaptcha_middleware.validation import validate_timeout
from tcaptcha_middleware.verifiers.httpx_transport import httpx_error
from tcaptcha_middleware.verifiers.network_errors import (
    causes_of,
    network_error,
    without_secrets,
)
from tcaptcha_middleware.waiting import DeadlineError, Done

with needs("sdk"):
    from tencentcloud.common.abstract_client_async import AbstractClient as AsyncSDKClient
    from tencentcloud.common.exception.tencent_cloud_sdk_exception import (
        TencentCloudSDKException,
    )
    from tencentcloud.common.http.request import requests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tcaptcha_middleware.models import Submission, Verdict
    from tcaptcha_middleware.tencent.credentials import Secret

_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([1-5][0-9]{2})")


class TencentSDKVerifier:
    """Verify tickets through the official client, sync or async as the client is.

    With a `captcha_client.CaptchaClient` it has `verify` and `probe`, with a
    `captcha_client_async.CaptchaClient` `averify` and `aprobe`. The user closes the client.

    Args:
        client: The configured client; its credential, endpoint and proxy are used as they are.
        app_id: CaptchaAppId, from the captcha console.
        app_secret_key: AppSecretKey, shown beside it.
        site: `"cn"` or `"intl"`, for the pages that show the captcha.
        script: Another client script for them; see `TencentVerifier`.
        timeout: Seconds for a whole verification; the client's own limit is per operation.

    Raises:
        ConfigurationError: If a value is missing, blank, a placeholder, or in the wrong place.
    """

    verify: Callable[[Submission], Verdict]
    averify: Callable[[Submission], Awaitable[Verdict]]
    probe: Callable[[float], None]
    aprobe: Callable[[float], Awaitable[None]]

    def __init__(  # noqa: PLR0913  a client, a captcha, and how pages load it
        self,
        client: Any,
        app_id: int | str,
        app_secret_key: str | Secret,
        *,
        site: str = "cn",
        script: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        if isinstance(client, type) or not hasattr(client, "DescribeCaptchaResult"):
            raise ConfigurationError(
                "client is not a CaptchaClient: pass an instance of "
                "tencentcloud.captcha.v20190722.captcha_client.CaptchaClient"
            )
        self._captcha = Captcha.of(app_id, app_secret_key)
        self.captcha: CaptchaInfo = CaptchaInfo(
            self._captcha.app_id,
            script=script_url(site, script),
            site="intl" if site == "intl" else "cn",  # validated with the script
            app_secret_key=self._captcha.app_secret_key,
        )
        # Without the client's own retries, because a ticket can be spent once.
        self._client = copy.copy(client)
        self._client.profile = copy.copy(client.profile)
        self._client.profile.retryer = None
        self._timeout = validate_timeout(timeout)
        logging.getLogger("tencentcloud_sdk_common").addFilter(_is_fit_to_print)
        self._threads = BoundedThreadPool("tcaptcha-sdk")
        if isinstance(client, AsyncSDKClient):
            self.averify, self.aprobe = self._averify, self._aprobe
        else:
            self.verify, self.probe = self._verify, self._probe

    def __repr__(self) -> str:
        """Show what is not secret."""
        return f"<TencentSDKVerifier app_id={self.captcha.app_id}>"

    def close(self) -> None:
        """End the idle threads in which a sync client is called."""
        self._threads.close()

    def _verify(self, ticket: Submission) -> Verdict:
        return self._within(ticket, self._timeout)

    async def _averify(self, ticket: Submission) -> Verdict:
        return await self._awithin(ticket, self._timeout, self._client)

    def _probe(self, limit: float) -> None:
        with answer_expected():
            refusal(self._within(probe_submission(self.captcha.app_id), limit), WEB.codes)

    async def _aprobe(self, limit: float) -> None:
        submission, client = probe_submission(self.captcha.app_id), self._client
        with answer_expected():
            # The client's connections belong to the event loop of the verifications.
            async with type(client)(client.credential, client.region, client.profile) as own:
                refusal(await self._awithin(submission, limit, own), WEB.codes)

    def _within(self, ticket: Submission, seconds: float) -> Verdict:
        try:
            return self._call(ticket, seconds)
        except Exception as error:
            failure = without_secrets(_translated(error))
        raise failure

    async def _awithin(self, ticket: Submission, seconds: float, client: Any) -> Verdict:
        try:
            return await self._acall(ticket, seconds, client)
        except Exception as error:
            failure = without_secrets(_translated(error))
        raise failure

    # `_call` and `_acall` are not in their callers: an error keeps the frames that it leaves,
    # and theirs have the secret and the ticket.

    def _call(self, ticket: Submission, seconds: float) -> Verdict:
        parameters = api.parameters(self._captcha, ticket, WEB)
        # In a thread, because the client cannot be held to a deadline.
        call = self._threads.submit(self._client.call, WEB.name, parameters)
        if not Done(call).block(seconds):
            raise DeadlineError
        return api.read_answer(200, call.result(), WEB.codes)

    async def _acall(self, ticket: Submission, seconds: float, client: Any) -> Verdict:
        parameters = api.parameters(self._captcha, ticket, WEB)
        with anyio.move_on_after(seconds) as limit:
            document = await client.call_and_deserialize(WEB.name, parameters)
        if limit.cancelled_caught:
            raise DeadlineError
        return api.read_document(document, WEB.codes)


def _is_fit_to_print(record: logging.LogRecord) -> bool:
    """Drop those lines of the client's debug log that contain secret and ticket."""
    return "AppSecretKey" not in record.getMessage()


def _translated(error: Exception) -> Exception:  # noqa: PLR0911  one for each family
    """Return our error for one of the client, or of its HTTP libraries."""
    if isinstance(error, TencentCloudSDKException) and error.code != "ClientNetworkError":
        if error.code == "InvalidCredential":
            return MisconfiguredError("the client's credential is not usable", answered=False)
        # ServerNetworkError is any status but 200, and does not say which, so it proves no
        # outage. Names of Python exceptions come here too.
        return api_error({"Code": error.code}, error.requestId or "")
    causes = causes_of(error)
    refused = any(isinstance(cause, ConnectionRefusedError) for cause in causes)
    progress = Progress(stage="exchange", connected=not refused, sent=True)
    if isinstance(error, httpx.HTTPError):
        return httpx_error(error, progress)
    for cause in causes:
        if tunnel := _TUNNEL_REFUSED.search(str(cause)):
            return network_error(ProxyError(int(tunnel[1])), progress)
        if isinstance(cause, RemoteDisconnected):
            return network_error(cause, progress)
        if isinstance(cause, _UNCLEAR) and not isinstance(cause, _NETWORK):
            return network_error(ProtocolError(type(cause).__name__), progress)
    is_network = isinstance(error, (TencentCloudSDKException, DeadlineError, *_NETWORK))
    return network_error(error, progress) if is_network else error


_NETWORK = (requests.ConnectionError, requests.Timeout)
_UNCLEAR = (HTTPException, requests.RequestException)
