"""Secrets stay out of what error reporters collect: messages, causes, and local variables."""

from __future__ import annotations

import inspect
import pydoc
import sys
import time

import anyio
import pytest
from tencents import (  # noqa: F401
    address,
    answering,
    hangs_up,
    http,
    nowhere,
    one_context,
    says,
    shared_tls,
    tencent,
)

from tcaptcha_middleware import Submission, TencentVerifier, VerifierError
from tcaptcha_middleware.verifiers.sdk import TencentSDKVerifier

TICKET = Submission("tr03-the-secret-ticket", "@the-secret-randstr", "203.0.113.7")
TOKEN = "the-secret-token-of-a-temporary-key"  # a token, which is not a secret of this project


class Provider:
    """Returns an API key, or fails with the key in its frame."""

    def __init__(self, key, *, fails=False):
        self.key, self.fails = key, fails

    def get_credential_info(self):
        key = self.key
        if self.fails:
            raise RuntimeError("no metadata")
        return key


def blocking(verifier):
    return verifier.verify(TICKET)


def on(backend):
    return lambda verifier: anyio.run(verifier.averify, TICKET, backend=backend)


RUNS = {"sync": blocking, "asyncio": on("asyncio"), "trio": on("trio")}
every_kind = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def chain(error):
    """Return the error and all its causes and contexts, more than error reporters follow."""
    errors = [error]
    for each in errors:
        behind = (each.__cause__, each.__context__, *getattr(each, "exceptions", ()))
        errors += [error for error in behind if error is not None and error not in errors]
    return errors


def collected(error):
    """Return what sentry-sdk would send: messages, and every variable of every frame."""
    texts = []
    for each in chain(error):
        texts.append(repr(each))
        traceback = each.__traceback__
        while traceback is not None:
            frame = traceback.tb_frame
            # Frames of the package only: those of the test contain the secrets.
            if "tcaptcha_middleware" in frame.f_globals.get("__name__", ""):
                texts += [repr(value) for value in frame.f_locals.values()]
            traceback = traceback.tb_next
    return "\n".join(texts)


UPSTREAMS = {
    "no server": None,
    "hangs up": hangs_up,
    "garbage": says(b"220 ESMTP ready\r\n"),
    "HTML": says(http(b"<html>")),
    "502": says(http(b"", "502 Bad Gateway")),
    "an API error": says(http(b'{"Response":{"Error":{"Code":"InternalError"}}}')),
    "no code": says(http(b'{"Response":{"RequestId":"r"}}')),
    "silence": lambda connection: time.sleep(0.6),
}


def is_kept(error, settings):
    text = collected(error)
    secrets = [settings["app_secret_key"], settings["secret_key"], TOKEN]
    secrets += [TICKET.ticket, TICKET.randstr]
    return [secret for secret in secrets if secret in text] == []


@pytest.mark.parametrize("speak", UPSTREAMS.values(), ids=UPSTREAMS)
@every_kind
def test_no_frame_of_an_error_contains_a_secret(run, speak, tencent):  # noqa: F811
    settings = tencent.arguments(token=TOKEN, timeout=0.5)

    def fail(endpoint):
        with TencentVerifier(**(settings | {"endpoint": endpoint})) as verifier:
            with pytest.raises(VerifierError) as caught:
                run(verifier)
            return caught.value

    if speak is None:
        error = fail(nowhere())
    else:
        with answering(speak) as origin:
            error = fail(origin)
    assert is_kept(error, settings)


@every_kind
def test_no_frame_of_a_provider_is_kept_by_an_error(run, tencent):  # noqa: F811
    settings = tencent.arguments()
    key = (settings.pop("secret_id"), settings.pop("secret_key"), TOKEN)
    settings.pop("token", None)
    for bad in (Provider(key, fails=True), Provider((*key[:2], f"{TOKEN}\n"))):
        with pytest.raises(VerifierError) as caught:
            run(TencentVerifier(**settings, credentials=bad))
        assert is_kept(caught.value, settings | {"secret_key": key[1]})


class Client:
    """Fails as the official client does, with the call in its frames."""

    DescribeCaptchaResult = None

    class profile:  # noqa: N801
        retryer = None

    def call(self, action, parameters):
        raise ConnectionError(str(parameters))


def test_no_frame_of_the_official_client_is_kept_by_an_error(tencent):  # noqa: F811
    settings = tencent.arguments()
    verifier = TencentSDKVerifier(Client(), settings["app_id"], settings["app_secret_key"])
    with pytest.raises(VerifierError) as caught:
        verifier.verify(TICKET)
    assert is_kept(caught.value, settings)


def test_the_check_finds_a_secret_in_a_frame(tencent):  # noqa: F811
    verifier = TencentVerifier(**tencent.arguments(endpoint=nowhere()))
    with pytest.raises(VerifierError) as caught:
        verifier._verify(TICKET, 1.0, verifier._transport)
    assert TICKET.ticket in collected(caught.value)


def test_no_documentation_shows_the_environment(monkeypatch):
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", "a-secret-of-the-environment")
    shown = [
        str(inspect.signature(TencentVerifier.from_env)),
        pydoc.render_doc(TencentVerifier.from_env),
        pydoc.render_doc(TencentVerifier),
    ]
    assert "secret-of-the-environment" not in "".join(shown)
    assert "environ(" not in "".join(shown)
    assert sys.modules["os"].environ["TENCENTCLOUD_SECRET_KEY"]
