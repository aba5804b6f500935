"""A verifier over Tencent's official client, for those who have one configured already.

The client is used for its signing and sending alone. Its answers are read as strictly as our
own, because it hides API errors behind any Content-Type that it does not know; its retryer is
left out, because a ticket can be spent once; and a deadline stands in for its 60 seconds.

Needs the extra `sdk`: https://github.com/TencentCloud/tencentcloud-sdk-python
"""

from __future__ import annotations

import copy
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from tcaptcha_middleware.errors import (
    ConfigurationError,
    MisconfiguredError,
    OutageError,
    VerifierError,
)
from tcaptcha_middleware.extras import needs
from tcaptcha_middleware.tencent import api
from tcaptcha_middleware.tencent.actions import WEB
from tcaptcha_middleware.tencent.codes import api_error
from tcaptcha_middleware.tencent.credentials import Captcha
from tcaptcha_middleware.tencent.scripts import script_url
from tcaptcha_middleware.validation import check_timeout
from tcaptcha_middleware.verifiers.shortage import unreached
from tcaptcha_middleware.verifiers.workers import PerProcessWorkers

with needs("sdk"):
    from tencentcloud.common.abstract_client_async import AbstractClient as AsyncSDKClient
    from tencentcloud.common.exception.tencent_cloud_sdk_exception import (
        TencentCloudSDKException,
    )
    from tencentcloud.common.http.request import requests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tcaptcha_middleware.models import Submission, Verdict


class TencentSDKVerifier:
    """Check tickets through the official client, sync or async as the client is.

    It has `verify` where the client is `captcha_client.CaptchaClient`, and `averify` where it
    is `captcha_client_async.CaptchaClient`. The client stays yours to close.

    Args:
        client: The configured client; its credential, endpoint and proxy are used as they are.
        app_id: CaptchaAppId, from the captcha console.
        app_secret_key: AppSecretKey, beside it.
        site: `"cn"` or `"intl"`, for the pages that show the captcha.
        script: Another client script for them; see `TencentVerifier`.
        timeout: Seconds for a whole check; the client's own limit is per socket operation.

    Raises:
        ConfigurationError: A value is missing, blank, a placeholder, or another one's.
    """

    verify: Callable[[Submission], Verdict]
    averify: Callable[[Submission], Awaitable[Verdict]]

    def __init__(  # noqa: PLR0913  a client, a captcha, and where pages find it
        self,
        client: Any,
        app_id: int | str,
        app_secret_key: str,
        *,
        site: str = "cn",
        script: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        if isinstance(client, type) or not hasattr(client, "DescribeCaptchaResult"):
            raise ConfigurationError(
                "client is no CaptchaClient of tencentcloud.captcha.v20190722"
            )
        self.captcha: Captcha = Captcha.of(app_id, app_secret_key)
        self.app_id: int = self.captcha.app_id
        self.site = site
        self.script: str = script_url(site, script)
        self._client = _without_retries(client)
        self._timeout = check_timeout(timeout)
        logging.getLogger("tencentcloud_sdk_common").addFilter(_is_fit_to_print)
        self._workers = PerProcessWorkers("tcaptcha-sdk")
        if isinstance(client, AsyncSDKClient):
            self.averify = self._averify
        else:
            self.verify = self._verify

    def __repr__(self) -> str:
        """Show what is no secret."""
        return f"<TencentSDKVerifier app_id={self.app_id}>"

    def close(self) -> None:
        """Let the threads end in which a blocking client is called."""
        self._workers.close()

    def _verify(self, ticket: Submission) -> Verdict:
        # In a thread, because the client cannot be held to a deadline.
        call = self._workers.get().submit(
            self._client.call, WEB.name, api.parameters(self.captcha, ticket, WEB)
        )
        with _translated():
            try:
                return api.read_answer(200, call.result(self._timeout))
            finally:
                call.cancel()

    async def _averify(self, ticket: Submission) -> Verdict:
        parameters = api.parameters(self.captcha, ticket, WEB)
        with _translated():
            with anyio.fail_after(self._timeout):
                document = await self._client.call_and_deserialize(WEB.name, parameters)
            return api.read_document(document)


def _is_fit_to_print(record: logging.LogRecord) -> bool:
    """Keep the client's debug log from printing its calls, which carry secret and ticket."""
    return "AppSecretKey" not in record.getMessage()


def _without_retries(client: Any) -> Any:
    ours = copy.copy(client)
    ours.profile = copy.copy(client.profile)
    ours.profile.retryer = None
    return ours


@contextmanager
def _translated() -> Iterator[None]:
    """Turn both vocabularies of errors into ours: the client's own, and its HTTP library's."""
    try:
        yield
    except VerifierError:
        raise
    except TencentCloudSDKException as error:
        raise _sdk_error(error) from error
    except TimeoutError as error:
        raise OutageError("Tencent took too long") from error
    except Exception as error:
        if _is_network(error):
            raise unreached(error) from error
        message = f"the call to Tencent failed ({type(error).__name__})"
        raise VerifierError(message, answered=False) from error


def _sdk_error(error: TencentCloudSDKException) -> VerifierError:
    code, request_id = error.code, error.requestId or ""
    if code == "ClientNetworkError":
        return unreached(error)
    if code == "InvalidCredential":
        return MisconfiguredError("the client's credential is not usable")
    # ServerNetworkError is any status but 200, and does not tell which, so that it is no
    # proof of an outage. Names of Python exceptions come here too.
    return api_error({"Code": code}, request_id)


def _is_network(error: Exception) -> bool:
    """Tell the raw errors of both clients' HTTP libraries that mean an outage."""
    import httpx

    return isinstance(
        error,
        (
            httpx.TimeoutException,
            httpx.NetworkError,
            httpx.RemoteProtocolError,
            httpx.ProxyError,
            # The sync client reads the answer where it catches nothing.
            requests.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
        ),
    )
