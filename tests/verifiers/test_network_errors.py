"""Errors of the network become errors of the package; only an outage counts as one."""

from __future__ import annotations

import errno
import os
import socket
import ssl

import anyio
import httpx
import pytest

from tcaptcha_middleware import MisconfiguredError, OutageError, ThrottledError, VerifierError
from tcaptcha_middleware._http.codec import ProtocolError
from tcaptcha_middleware._http.connection import Progress, ProxyError
from tcaptcha_middleware.verifiers.httpx_transport import httpx_error
from tcaptcha_middleware.verifiers.network_errors import network_error, without_secrets
from tcaptcha_middleware.verifiers.tencent import default_context
from tcaptcha_middleware.waiting import DeadlineError


def failed(number):
    return OSError(number, os.strerror(number))


def caused(error):
    try:
        raise ConnectionError from error
    except ConnectionError as wrapper:
        return wrapper


def during(error):
    try:
        try:
            raise error
        except type(error):
            raise ConnectionError  # noqa: B904  as libraries do
    except ConnectionError as wrapper:
        return wrapper


def circular(error):
    error.__cause__ = wrapper = ConnectionError()
    wrapper.__context__ = error
    return wrapper


WRAPPED = {
    "bare": lambda error: error,
    "as a cause": caused,
    "as a context": during,
    "twice": lambda error: caused(during(error)),
    "in a group": lambda error: caused(ExceptionGroup("tried", [ValueError(), error])),
    "in a circle": circular,
}
SHORT = {
    "EMFILE": "ulimit -n",
    "ENFILE": "fs.file-max",
    "ENOBUFS": "memory",
    "ENOMEM": "memory",
    "EADDRNOTAVAIL": "ip_local_port_range",
}
AWAY = ["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT"]


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize(("name", "advice"), SHORT.items())
def test_a_shortage_of_this_machine_is_never_an_outage(name, advice, wrapped):
    error = network_error(wrapped(failed(getattr(errno, name))), Progress())
    assert (type(error), error.answered, error.sent) == (ThrottledError, False, False)
    assert advice in str(error)


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("name", AWAY)
def test_a_connection_that_fails_is_an_outage(name, wrapped):
    progress = Progress(stage="connect")
    error = network_error(wrapped(failed(getattr(errno, name))), progress)
    assert (type(error), error.answered, error.sent) == (OutageError, False, False)


def test_running_out_of_memory_is_a_shortage():
    assert type(network_error(MemoryError(), Progress())) is ThrottledError


def test_a_name_is_unknown_only_if_a_file_was_free_to_resolve_it(monkeypatch):
    unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    error = network_error(unknown, Progress())
    assert (type(error), error.answered) == (VerifierError, False)
    assert "Name or service not known" in str(error)

    def none_left(*_):
        raise failed(errno.EMFILE)

    monkeypatch.setattr("socket.socket", none_left)
    assert type(network_error(unknown, Progress())) is ThrottledError


def untrusted():
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


def tls(kind, reason):
    error = kind(1, reason)
    error.reason = reason
    return error


R, C, P, X = "resolve", "connect", "proxy", "exchange"
ROWS = {
    "untrusted": (untrusted(), X, MisconfiguredError, "failed: self-signed certificate"),
    "untrusted, in httpx": (caused(untrusted()), X, MisconfiguredError, "ssl_context="),
    "untrusted, no reason": (
        ssl.SSLCertVerificationError(1, "x"),
        X,
        MisconfiguredError,
        "not trusted",
    ),
    "proxy, 407": (ProxyError(407), P, MisconfiguredError, "HTTP 407"),
    "proxy, 403": (ProxyError(403), P, MisconfiguredError, "HTTP 403"),
    "proxy, 502": (ProxyError(502), P, VerifierError, "HTTP 502"),
    "proxy, refused": (failed(errno.ECONNREFUSED), P, VerifierError, "proxy is out of reach"),
    "proxy, silent": (DeadlineError(), P, VerifierError, "proxy took too long"),
    "proxy, garbage": (ProtocolError("x"), P, VerifierError, "the proxy cannot be understood"),
    "garbage": (ProtocolError("x"), X, VerifierError, "Tencent cannot be understood: x"),
    "names, silent": (DeadlineError(), R, VerifierError, "name was not resolved"),
    "connecting, silent": (DeadlineError(), C, OutageError, "took too long"),
    "silent": (DeadlineError(), X, OutageError, "took too long"),
    "TLS, ended": (tls(ssl.SSLEOFError, "EOF"), X, OutageError, "out of reach"),
    "TLS, no TLS": (tls(ssl.SSLError, "WRONG_VERSION"), X, VerifierError, "WRONG_VERSION"),
    "ours": (MisconfiguredError("mine"), R, MisconfiguredError, "mine"),
    "a mistake": (ZeroDivisionError("secret"), X, VerifierError, "failed (ZeroDivisionError)"),
}


@pytest.mark.parametrize(("error", "stage", "kind", "message"), ROWS.values(), ids=ROWS)
def test_every_network_error_has_its_class(error, stage, kind, message):
    translated = network_error(error, Progress(stage=stage, sent=True))
    assert type(translated) is kind
    assert message in str(translated)
    assert translated.sent or error is translated
    assert not translated.answered or error is translated


def test_a_connection_that_breaks_within_the_answer_is_unclear():
    progress = Progress(stage="exchange", connected=True, sent=True, answering=True)
    error = network_error(ConnectionResetError(), progress)
    assert (type(error), error.answered) == (VerifierError, False)


@pytest.mark.parametrize("connected", [True, False])
def test_an_outage_says_if_a_connection_was_accepted(connected):
    progress = Progress(stage="exchange", connected=connected)
    for error in (ConnectionResetError(), DeadlineError()):
        assert network_error(error, progress).connected is connected


HTTPX = {
    "refused": (httpx.ConnectError("x"), OutageError, False, False),
    "connecting, silent": (httpx.ConnectTimeout("x"), OutageError, False, False),
    "silent": (httpx.ReadTimeout("x"), OutageError, True, True),
    "reset": (httpx.ReadError("x"), OutageError, True, True),
    "ended": (
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        OutageError,
        True,
        True,
    ),
    "garbage": (httpx.RemoteProtocolError("illegal status line"), VerifierError, True, None),
    "no connection free": (httpx.PoolTimeout("x"), ThrottledError, False, None),
    "proxy, 407": (
        httpx.ProxyError("407 Proxy Authentication Required"),
        MisconfiguredError,
        False,
        None,
    ),
    "proxy, 503": (httpx.ProxyError("503 x"), VerifierError, False, None),
    "proxy, refused": (httpx.ProxyError("x"), VerifierError, False, None),
    "our own call": (httpx.LocalProtocolError("x"), VerifierError, True, None),
    "our deadline": (DeadlineError(), OutageError, True, True),
}


@pytest.mark.parametrize(("error", "kind", "sent", "connected"), HTTPX.values(), ids=HTTPX)
def test_every_error_of_httpx_has_its_class(error, kind, sent, connected):
    translated = httpx_error(error, Progress(stage="exchange", connected=True, sent=True))
    assert (type(translated), translated.answered) == (kind, False)
    assert (translated.sent, getattr(translated, "connected", None)) == (sent, connected)


@pytest.mark.parametrize("content", [None, "not a certificate"], ids=["missing", "damaged"])
def test_authorities_that_cannot_be_loaded_are_misconfiguration(content, monkeypatch, tmp_path):
    file = tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setattr("certifi.where", lambda: str(file))
    default_context.cache_clear()
    with pytest.raises(MisconfiguredError, match="reinstall certifi") as caught:
        default_context()
    assert (caught.value.answered, caught.value.sent) == (False, False)


def test_an_error_keeps_no_frames_and_causes():
    def call(secret):
        try:
            raise ValueError(secret)
        except ValueError as error:
            raise OutageError("down") from error

    try:
        call("secret")
    except OutageError as error:
        bare = without_secrets(error)
    assert (bare.__traceback__, bare.__cause__, bare.__context__) == (None, None, None)
    assert type(bare) is OutageError
    assert (
        str(without_secrets(anyio.EndOfStream())) == "the call to Tencent failed (EndOfStream)"
    )
