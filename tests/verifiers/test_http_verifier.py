"""TencentVerifier: its settings, its API keys, its clients, its deadline."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import anyio
import forking
import httpx
import pytest
from tencents import (  # noqa: F401
    VERDICT,
    Tencent,
    address,
    answering,
    certificate,
    drips,
    http,
    one_context,
    says,
    shared_tls,
    speaks_tls,
    tencent,
    trusted_tls,
)

from tcaptcha_middleware import (
    ConfigurationError,
    MisconfiguredError,
    OutageError,
    Submission,
    TencentVerifier,
    ThrottledError,
    Verdict,
    VerifierError,
)
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.verifiers.api_key import api_key
from tcaptcha_middleware.verifiers.tencent import default_context
from tcaptcha_middleware.waiting import run as run_steps

pytestmark = pytest.mark.usefixtures("shared_tls")

TICKET = Submission("tr03ticket", "@r", "203.0.113.7")
PATIENCE = 3.0

ARGUMENTS = {
    "app_id": 190000000,
    "app_secret_key": "emulatorAppSecretKey12345",
    "secret_id": "AKIDemulator00000000000000000000",
    "secret_key": "emulatorSecretKey000000000000000",
}
GOOD = ARGUMENTS["secret_id"], ARGUMENTS["secret_key"], None
ENVIRON = {
    "TENCENTCLOUD_SECRET_ID": ARGUMENTS["secret_id"],
    "TENCENTCLOUD_SECRET_KEY": ARGUMENTS["secret_key"],
    "TCAPTCHA_APP_ID": "190000000",
    "TCAPTCHA_APP_SECRET_KEY": ARGUMENTS["app_secret_key"],
}


def blocking(verifier, *tickets):
    with verifier:
        return [verifier.verify(ticket) for ticket in tickets]


def on(backend):
    return lambda verifier, *tickets: anyio.run(awaited, verifier, tickets, backend=backend)


async def awaited(verifier, tickets):
    async with verifier:
        return [await verifier.averify(ticket) for ticket in tickets]


RUNS = {"sync": blocking, "asyncio": on("asyncio"), "trio": on("trio")}
sync_and_async = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


# Settings.


def test_from_env_reads_the_environment():
    verifier = TencentVerifier.from_env(ENVIRON)
    captcha = verifier.captcha
    assert (captcha.app_id, captcha.site) == (190000000, "cn")
    assert repr(verifier).endswith("at https://captcha.tencentcloudapi.com>")


@pytest.mark.parametrize("name", ENVIRON)
@pytest.mark.parametrize("without", [None, ""], ids=["missing", "empty"])
def test_from_env_names_the_variable_that_is_not_set(name, without):
    environ = {k: v for k, v in ENVIRON.items() if k != name}
    with pytest.raises(ConfigurationError) as caught:
        TencentVerifier.from_env(environ if without is None else environ | {name: without})
    advice = "(without an account: tcaptcha emulator -- COMMAND)"
    assert str(caught.value) == f"set the environment variable {name} {advice}"


def test_from_env_names_every_variable_that_is_not_set():
    with pytest.raises(ConfigurationError, match=", ".join(ENVIRON)):
        TencentVerifier.from_env({})


class Key:
    """What the official client's credentials have in common."""

    def __init__(self, *infos):
        self.infos = infos
        self.asked_in = []

    def get_credential_info(self):
        self.asked_in.append(threading.get_ident())
        info = self.infos[min(len(self.asked_in), len(self.infos)) - 1]
        if isinstance(info, Exception):
            raise info
        return info


INTL = "https://captcha.intl.tencentcloudapi.com"
FROM_ENV = {
    "site": ({"TCAPTCHA_SITE": "intl"}, {}, INTL),
    "site, set": ({"TCAPTCHA_SITE": "cn"}, {"site": "intl"}, INTL),
    "endpoint": ({"TCAPTCHA_ENDPOINT": "http://127.0.0.1:9000"}, {}, "http://127.0.0.1:9000"),
    "endpoint, set": (
        {"TCAPTCHA_ENDPOINT": "http://127.0.0.1:9000"},
        {"endpoint": "http://[::1]:9001/"},
        "http://[::1]:9001",
    ),
    "endpoint, empty": ({"TCAPTCHA_ENDPOINT": "", "TCAPTCHA_SITE": "intl"}, {}, INTL),
}


@pytest.mark.parametrize(("environ", "settings", "origin"), FROM_ENV.values(), ids=FROM_ENV)
def test_settings_win_over_the_environment(environ, settings, origin):
    verifier = TencentVerifier.from_env(ENVIRON | environ, **settings)
    assert repr(verifier) == f"<TencentVerifier app_id=190000000 at {origin}>"


def test_arguments_replace_missing_environment_variables():
    assert TencentVerifier.from_env({}, **ARGUMENTS).captcha.app_id == 190000000


@pytest.mark.parametrize("kept", ["APP", ""], ids=["alone", "beside a key"])
def test_credentials_replace_the_api_key_of_the_environment(kept):
    environ = {name: value for name, value in ENVIRON.items() if kept in name}
    verifier = TencentVerifier.from_env(environ, credentials=Key())
    assert type(verifier._credentials) is Key


WRAPPED = ["'%s'", '"%s"', "%s\n", " %s ", "' %s '\r\n"]


@pytest.mark.parametrize("wrapped", WRAPPED, ids=repr)
def test_quotes_and_blanks_around_a_variable_are_removed(wrapped):
    environ = {name: wrapped % value for name, value in ENVIRON.items()}
    verifier = TencentVerifier.from_env(environ)
    assert verifier._credentials.get_credential_info()[:2] == GOOD[:2]
    assert verifier.captcha.app_secret_key == ARGUMENTS["app_secret_key"]
    assert verifier.captcha.app_id == 190000000


def test_a_quote_within_a_variable_is_left_alone():
    environ = ENVIRON | {"TENCENTCLOUD_SECRET_KEY": "'"}
    assert TencentVerifier.from_env(environ)._credentials.secret_key == "'"


FUNCTION = {
    "TENCENTCLOUD_SECRETID": "AKIDtemporary",
    "TENCENTCLOUD_SECRETKEY": "temporary-key",
    "TENCENTCLOUD_SESSIONTOKEN": "temporary-token",
}
CAPTCHA = {name: value for name, value in ENVIRON.items() if "APP" in name}


def key_of(verifier):
    return run_steps(api_key(verifier._credentials, 5.0), time.monotonic() + 5)


def test_the_key_of_a_serverless_function_is_read_at_each_verification():
    environ = FUNCTION | CAPTCHA
    verifier = TencentVerifier.from_env(environ)
    assert key_of(verifier) == ("AKIDtemporary", "temporary-key", "temporary-token")
    environ["TENCENTCLOUD_SECRETKEY"] = "the-next-key"
    assert key_of(verifier)[1] == "the-next-key"
    del environ["TENCENTCLOUD_SESSIONTOKEN"]
    assert key_of(verifier)[2] is None
    del environ["TENCENTCLOUD_SECRETID"]
    with pytest.raises(MisconfiguredError):
        key_of(verifier)


def test_the_environment_of_the_process_is_read_at_each_verification(monkeypatch):
    for name, value in (FUNCTION | CAPTCHA).items():
        monkeypatch.setenv(name, value)
    verifier = TencentVerifier.from_env()
    monkeypatch.setenv("TENCENTCLOUD_SECRETID", "AKIDnext")
    assert key_of(verifier)[0] == "AKIDnext"


def test_an_explicit_key_takes_precedence_over_a_serverless_functions():
    assert key_of(TencentVerifier.from_env(FUNCTION | ENVIRON))[:2] == GOOD[:2]
    mine = Key(GOOD)
    assert TencentVerifier.from_env(FUNCTION | CAPTCHA, credentials=mine)._credentials is mine


@pytest.mark.parametrize("name", ["TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY"])
def test_an_incomplete_key_of_a_serverless_function_is_not_used(name):
    environ = {key: value for key, value in FUNCTION.items() if key != name} | CAPTCHA
    with pytest.raises(ConfigurationError, match="TENCENTCLOUD_SECRET_ID"):
        TencentVerifier.from_env(environ)


class SecretStr:
    """Like pydantic's SecretStr."""

    def __init__(self, text):
        self.text = text

    def get_secret_value(self):
        return self.text

    def __repr__(self):
        return "SecretStr('**********')"


def test_secrets_may_be_pydantic_secret_strings():
    hidden = {name: SecretStr(value) for name, value in ARGUMENTS.items() if name != "app_id"}
    verifier = TencentVerifier(190000000, **hidden, token=SecretStr("temporary-token"))
    assert verifier.captcha.app_secret_key == ARGUMENTS["app_secret_key"]
    assert key_of(verifier) == (*GOOD[:2], "temporary-token")
    with pytest.raises(ConfigurationError, match="are the same"):
        TencentVerifier(
            **(ARGUMENTS | hidden | {"secret_key": SecretStr(ARGUMENTS["app_secret_key"])})
        )


# Where calls go.


def test_an_endpoint_that_is_not_tencents_is_reported_once(caplog):
    log.foreign_endpoint.cache_clear()
    for _ in range(2):
        TencentVerifier(**ARGUMENTS, endpoint="https://mirror.example")
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert "verifications go to https://mirror.example" in record.message


OURS = [None, "https://captcha.ap-guangzhou.tencentcloudapi.com"]


@pytest.mark.parametrize("endpoint", OURS)
def test_an_endpoint_of_tencents_is_not_reported(endpoint, caplog):
    TencentVerifier(**ARGUMENTS, endpoint=endpoint)
    assert caplog.records == []


BAD = {
    "an unknown site": ({"site": "us"}, "site is 'us'"),
    "an endpoint with a path": ({"endpoint": "http://127.0.0.1/x"}, "endpoint is"),
    "a timeout of 0": ({"timeout": 0}, "timeout is 0"),
    "a negative timeout": ({"timeout": -1.5}, "timeout is -1.5"),
    "a timeout that is not a number": ({"timeout": float("nan")}, "timeout is nan"),
    "an infinite timeout": ({"timeout": float("inf")}, "timeout is inf"),
    "a timeout in quotes": ({"timeout": "5"}, "timeout is '5'"),
    "no timeout": ({"timeout": None}, "timeout is None"),
    "a timeout that is true": ({"timeout": True}, "timeout is True"),
    "no secret_id": ({"secret_id": None}, "secret_id is missing"),
    "no secret_key": ({"secret_key": None}, "secret_key is missing"),
    "an API key and credentials": ({"credentials": Key()}, "not both"),
    "a token and credentials": (
        {"secret_id": None, "secret_key": None, "token": "t", "credentials": Key()},
        "not both",
    ),
    "a class of credentials": (
        {"secret_id": None, "secret_key": None, "credentials": Key},
        "credentials is type",
    ),
    "an unencrypted endpoint": ({"endpoint": "http://captcha.example"}, "use https"),
    "credentials of another kind": (
        {"secret_id": None, "secret_key": None, "credentials": object()},
        "without get_credential_info",
    ),
}


@pytest.mark.parametrize(("settings", "message"), BAD.values(), ids=BAD)
def test_invalid_settings_are_refused_at_construction(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        TencentVerifier(**(ARGUMENTS | settings))


SCRIPTS = {
    "cn": "https://turing.captcha.qcloud.com/TJCaptcha.js",
    "intl": "https://ca.turing.captcha.qcloud.com/TJNCaptcha-global.js",
}


@pytest.mark.parametrize(("site", "script"), SCRIPTS.items())
def test_each_site_has_its_own_client_script(site, script):
    assert TencentVerifier(**ARGUMENTS, site=site).captcha.script == script


def test_the_repr_contains_no_secret():
    text = repr(TencentVerifier(**ARGUMENTS, token="temporary-token"))
    secrets = [*ARGUMENTS.values(), "temporary-token"]
    assert [secret for secret in secrets if str(secret) in text] == [190000000]


# API keys.


@sync_and_async
def test_a_temporary_key_is_sent_with_its_token(address, run):  # noqa: F811
    address.app = Tencent(address.origin, token="temporary-token")
    verifier = TencentVerifier(**address.app.arguments())
    assert run(verifier, address.app.ticket())[0].passed
    assert address.app.heads[0]["x-tc-token"] == "temporary-token"


def with_key(tencent, *infos, **settings):  # noqa: F811
    arguments = tencent.arguments(secret_id=None, secret_key=None, **settings)
    return TencentVerifier(**arguments, credentials=Key(*infos))


@sync_and_async
def test_credentials_are_read_at_each_verification(tencent, run):  # noqa: F811
    verifier = with_key(tencent, GOOD, ("AKIDrotated", "key", "token"))
    with pytest.raises(VerifierError, match="SecretIdNotFound"):
        run(verifier, tencent.ticket(), tencent.ticket())
    assert len(tencent.calls) == 1


@sync_and_async
def test_credentials_may_block_without_blocking_the_event_loop(tencent, run):  # noqa: F811
    verifier = with_key(tencent, GOOD)
    assert run(verifier, tencent.ticket())[0].passed
    assert verifier._credentials.asked_in != [threading.get_ident()]


NO_KEY = {
    "an error of the system": OSError("TKE_REGION not exist"),
    "no answer in time": TimeoutError(),
    "an error": RuntimeError(),
    "an outage": OutageError("of something else"),
}


@pytest.mark.parametrize("info", NO_KEY.values(), ids=NO_KEY)
@sync_and_async
def test_credentials_that_fail_are_not_an_outage(tencent, run, info):  # noqa: F811
    with pytest.raises(VerifierError) as caught:
        run(with_key(tencent, info), tencent.ticket())
    assert (caught.type, caught.value.answered) == (VerifierError, False)
    assert tencent.heads == []


NOT_KEYS = {
    "nothing": None,
    "no key": (None, None, None),
    "empty texts": ("", "", ""),
    "two values": GOOD[:2],
    "a text": "AKIDx",
    "no SecretKey": (GOOD[0], None, None),
    "a SecretKey with a line break": (GOOD[0], f"{GOOD[1]}\n", None),
    "a token with a line break": (*GOOD[:2], "of a file\n"),
    "bytes": (GOOD[0].encode(), GOOD[1], None),
}


@pytest.mark.parametrize("info", NOT_KEYS.values(), ids=NOT_KEYS)
@sync_and_async
def test_credentials_that_return_no_key_are_misconfigured_and_no_call_is_made(
    tencent,  # noqa: F811
    run,
    info,
):
    with pytest.raises(MisconfiguredError, match="the credentials cannot be used") as caught:
        run(with_key(tencent, info), tencent.ticket())
    assert (caught.value.answered, caught.value.sent) == (False, False)
    assert GOOD[1] not in str(caught.value)
    assert tencent.heads == []


class Environment:
    """The official client's EnvironmentVariableCredential, and others, have only this."""

    def __init__(self, key):
        self.key = key

    def get_credential(self):
        return self.key and Key(self.key)


@sync_and_async
def test_credentials_may_have_get_credential_only(tencent, run):  # noqa: F811
    arguments = tencent.arguments(secret_id=None, secret_key=None)
    good = TencentVerifier(**arguments, credentials=Environment(GOOD))
    assert run(good, tencent.ticket())[0].passed
    without = TencentVerifier(**arguments, credentials=Environment(None))
    with pytest.raises(MisconfiguredError):
        run(without, tencent.ticket())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_credentials_that_block_are_abandoned_at_the_deadline(tencent, backend):  # noqa: F811
    verifier = with_key(tencent, GOOD, timeout=0.2)
    released = threading.Event()
    verifier._credentials.get_credential_info = lambda: released.wait(10) and GOOD
    began = time.monotonic()
    try:
        with pytest.raises(VerifierError) as caught:
            anyio.run(awaited, verifier, [tencent.ticket()], backend=backend)
        assert caught.type is VerifierError
        assert time.monotonic() - began < PATIENCE
    finally:
        released.set()


def test_a_verification_whose_key_took_all_the_time_makes_no_call(tencent):  # noqa: F811
    verifier = with_key(tencent, GOOD, timeout=0.01)
    verifier._credentials.get_credential_info = lambda: time.sleep(0.02) or GOOD
    with verifier, pytest.raises(VerifierError) as caught:
        verifier.verify(tencent.ticket())
    assert caught.type is VerifierError
    assert tencent.heads == []


# Clients.


@sync_and_async
def test_one_connection_serves_consecutive_verifications(tencent, run):  # noqa: F811
    verdicts = run(TencentVerifier(**tencent.arguments()), *map(tencent.ticket, [None] * 4))
    assert all(verdict.passed for verdict in verdicts)
    assert len(tencent.connections) == 1


def test_twenty_threads_at_once_share_the_connections(tencent):  # noqa: F811
    tickets = [tencent.ticket() for _ in range(60)]
    with TencentVerifier(**tencent.arguments()) as verifier, ThreadPoolExecutor(20) as threads:
        verdicts = list(threads.map(verifier.verify, tickets))
    assert all(verdict.passed for verdict in verdicts)
    assert len(tencent.connections) <= 20


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_twenty_tasks_at_once_share_the_connections(tencent, backend):  # noqa: F811
    passed = []

    async def check(verifier):
        for _ in range(3):
            verdict = await verifier.averify(tencent.ticket())
            passed.append(verdict.passed)

    async def main():
        async with (
            TencentVerifier(**tencent.arguments(), timeout=30) as verifier,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(20):
                tasks.start_soon(check, verifier)

    anyio.run(main, backend=backend)
    assert passed == [True] * 60
    assert len(tencent.connections) <= 20


@sync_and_async
def test_a_verifier_opens_again_after_it_was_closed(tencent, run):  # noqa: F811
    verifier = TencentVerifier(**tencent.arguments())
    assert run(verifier, tencent.ticket())[0].passed
    assert run(verifier, tencent.ticket())[0].passed
    assert len(tencent.connections) == 2


@sync_and_async
def test_a_verifier_may_be_closed_unused_and_twice(run):
    verifier = TencentVerifier(**ARGUMENTS)
    assert run(verifier) == run(verifier) == []


def test_close_and_aclose_are_independent(tencent):  # noqa: F811
    verifier = TencentVerifier(**tencent.arguments())

    async def main():
        await verifier.averify(tencent.ticket())
        verifier.close()
        await verifier.averify(tencent.ticket())
        await verifier.aclose()

    verifier.verify(tencent.ticket())
    anyio.run(main)
    assert len(tencent.connections) == 2


def test_event_loops_at_the_same_time_share_no_connection(tencent):  # noqa: F811
    verifier = TencentVerifier(**tencent.arguments())
    # So the second loop begins while the first one's connection is not idle.
    tencent.script({"latency": 0.5})
    tencent.script({"latency": 0.5})
    together = threading.Barrier(2, timeout=10)

    async def main():
        async with verifier:
            await verifier.averify(tencent.ticket())
            together.wait()
            verdict = await verifier.averify(tencent.ticket())
            together.wait()  # closing the verifier closes what the other loop has idle
            return verdict

    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(anyio.run, main, backend=name) for name in ("asyncio", "trio")]
    assert all(run.result().passed for run in runs)
    assert len(tencent.connections) == 2


def test_a_fork_opens_its_own_connection(tencent):  # noqa: F811
    pairs = [tencent.mint(code=code) for code in (1, 21, 15)]
    run = subprocess.run(
        # Python warns if the resolver's thread has not ended yet.
        [
            *(sys.executable, "-W", "ignore::DeprecationWarning", forking.__file__),
            *(" ".join(pair.values()) for pair in pairs),
        ],
        env=ENVIRON | {"TCAPTCHA_ENDPOINT": tencent.origin, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert len(run.stderr.splitlines()) == 1, run.stderr
    [line] = run.stderr.splitlines()
    assert "which is not Tencent's" in line
    assert sorted(run.stdout.splitlines()) == ["1 OK", "15 decrypt fail", "21 diff"]
    assert len(tencent.connections) == 2


def test_a_given_client_is_used_and_left_open(tencent):  # noqa: F811
    with httpx.Client() as client:
        verifier = TencentVerifier(**tencent.arguments(), client=client)
        assert blocking(verifier, tencent.ticket())[0].passed
        assert not client.is_closed
        assert client.get(tencent.origin).status_code == 200
    assert len(tencent.connections) == 1


def fails_when_kept(connection):
    while not connection.recv(65536).endswith(b"}"):
        pass
    connection.sendall(http())
    while not connection.recv(65536).endswith(b"}"):
        pass


def test_an_idle_connection_of_a_given_client_proves_no_outage():
    with httpx.Client() as client, answering(fails_when_kept) as origin:
        verifier = TencentVerifier(**ARGUMENTS, endpoint=origin, client=client)
        assert verifier.verify(TICKET).passed
        with pytest.raises(VerifierError, match="a kept connection failed") as caught:
            verifier.verify(TICKET)
        assert (caught.type, caught.value.sent) == (VerifierError, True)


def test_a_given_async_client_is_used_and_left_open(tencent):  # noqa: F811
    async def main():
        async with httpx.AsyncClient() as client:
            verifier = TencentVerifier(**tencent.arguments(), async_client=client)
            [verdict] = await awaited(verifier, [tencent.ticket()])
            assert verdict.passed
            assert not client.is_closed
            await client.get(tencent.origin)

    anyio.run(main)
    assert len(tencent.connections) == 1


def test_a_closed_client_is_not_an_outage(tencent):  # noqa: F811
    client = httpx.Client()
    client.close()
    with pytest.raises(VerifierError, match="RuntimeError") as caught:
        TencentVerifier(**tencent.arguments(), client=client).verify(tencent.ticket())
    assert caught.type is VerifierError


OF_ITS_OWN = {
    "headers": {"X-Leak": "leak", "Authorization": "Basic leak", "Content-Type": "text/leak"},
    "cookies": {"leak": "leak"},
    "auth": ("leak", "leak"),
    "params": {"leak": "leak"},
    "base_url": "http://127.0.0.1/leak",
    "follow_redirects": True,
}


def test_headers_and_cookies_of_a_given_client_are_not_sent(tencent):  # noqa: F811
    with httpx.Client(**OF_ITS_OWN) as client:
        verifier = TencentVerifier(**tencent.arguments(), client=client)
        assert verifier.verify(tencent.ticket()).passed
    assert "leak" not in json.dumps(tencent.heads).lower()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_headers_and_cookies_of_a_given_async_client_are_not_sent(tencent, backend):  # noqa: F811
    async def main():
        async with httpx.AsyncClient(**OF_ITS_OWN) as client:
            verifier = TencentVerifier(**tencent.arguments(), async_client=client)
            return await verifier.averify(tencent.ticket())

    assert anyio.run(main, backend=backend).passed
    assert "leak" not in json.dumps(tencent.heads).lower()


@sync_and_async
def test_network_settings_of_the_environment_are_ignored(tencent, run, monkeypatch, tmp_path):  # noqa: F811
    monkeypatch.undo()  # its own TLS settings, too
    netrc = tmp_path / "netrc"
    netrc.write_text("default login leak password leak\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    assert run(TencentVerifier(**tencent.arguments()), tencent.ticket())[0].passed
    assert tencent.heads[0]["authorization"].startswith("TC3-HMAC-SHA256 ")


# Deadline, and answers that must not be read.


def within(timeout, run, origin, **settings):
    verifier = TencentVerifier(**ARGUMENTS, endpoint=origin, timeout=timeout, **settings)
    began = time.monotonic()
    with pytest.raises(VerifierError) as caught:
        run(verifier, TICKET)
    assert time.monotonic() - began < PATIENCE
    return caught.value


DRIPS = {
    "its head": drips(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 99),
    "its body": drips(http(b" " * 500)),
    "its chunks": drips(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n \r\n" * 99
    ),
}


@pytest.mark.parametrize("speak", DRIPS.values(), ids=DRIPS)
@sync_and_async
def test_an_answer_that_arrives_byte_by_byte_ends_at_the_deadline(run, speak):
    with answering(speak) as origin:
        error = within(1, run, origin)
    assert (type(error), error.timed_out) == (OutageError, True)


def test_the_deadline_applies_between_pieces_from_a_given_client():
    with httpx.Client() as client, answering(slow_body) as origin:
        assert type(within(0.3, blocking, origin, client=client)) is OutageError


def test_a_timeout_of_a_given_client_is_an_outage():
    with httpx.Client() as client, answering(lambda _: time.sleep(0.6)) as origin:
        assert type(within(0.2, blocking, origin, client=client)) is OutageError


def slow_body(connection):
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    for _ in range(100):
        connection.sendall(b" ")
        time.sleep(0.05)


@sync_and_async
def test_interim_answers_without_end_are_unclear(run):
    def speak(connection):
        connection.recv(65536)
        while True:
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    with answering(speak) as origin:
        error = within(5, run, origin)
    assert (type(error), error.answered) == (VerifierError, False)


GARBAGE = {
    "another protocol": b"220 mail.example ESMTP ready\r\n",
    "a head of 200 KB": b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000,
    "HTML": http(b"<html><body>Welcome to the hotel"),
    "half an answer": http()[:-5],
    "half a head": b"HTTP/1.1 20",
    "no length": b"HTTP/1.1 200 OK\r\n\r\n" + VERDICT,
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE)
@sync_and_async
def test_garbage_is_unclear_and_not_an_outage(run, answer):
    def speak(connection):
        connection.recv(65536)
        connection.sendall(answer)

    with answering(speak) as origin:
        error = within(5, run, origin)
    assert (type(error), error.answered, error.sent) == (VerifierError, False, True)


@sync_and_async
def test_a_server_that_accepts_no_call_is_an_outage(run):
    with answering(lambda _: time.sleep(0.6)) as origin:
        assert type(within(0.2, run, origin)) is OutageError


@sync_and_async
def test_a_tls_handshake_that_stalls_is_an_outage(run):
    with answering(lambda _: time.sleep(0.6)) as origin:
        assert type(within(0.2, run, origin.replace("http:", "https:"))) is OutageError
    gc.collect()  # a socket that is left open would warn


@sync_and_async
def test_a_tls_handshake_that_the_server_ends_is_an_outage(run):
    with answering(lambda connection: connection.recv(65536)) as origin:
        error = within(5, run, origin.replace("http:", "https:"))
    assert (type(error), error.sent, error.connected) == (OutageError, False, True)


@sync_and_async
def test_a_server_without_tls_is_unclear(run):
    with answering(lambda connection: connection.sendall(b"220 ESMTP ready\r\n")) as origin:
        error = within(5, run, origin.replace("http:", "https:"))
    assert (type(error), error.sent) == (VerifierError, False)


LONG = {
    "a length": http(b" " * 33_000 + VERDICT),
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"400\r\n%b\r\n" % (b" " * 1024) * 40,
}


@pytest.mark.parametrize("answer", LONG.values(), ids=LONG)
@sync_and_async
def test_a_longer_answer_than_32_kib_is_not_read(run, answer):
    with answering(says(answer)) as origin:
        error = within(5, run, origin)
    assert type(error) is VerifierError
    assert "too long" in str(error)


@pytest.mark.parametrize("answer", LONG.values(), ids=LONG)
def test_a_given_client_does_not_read_a_longer_answer_either(answer):
    with httpx.Client() as client, answering(says(answer)) as origin:
        error = within(5, blocking, origin, client=client)
    assert type(error) is VerifierError
    assert "too long" in str(error)


@pytest.mark.parametrize("answer", LONG.values(), ids=LONG)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_given_async_client_does_not_read_a_longer_answer_either(answer, backend):
    async def main(origin):
        async with httpx.AsyncClient() as client:
            verifier = TencentVerifier(**ARGUMENTS, endpoint=origin, async_client=client)
            with pytest.raises(VerifierError, match="too long") as caught:
                await verifier.averify(TICKET)
        return caught.type

    with answering(says(answer)) as origin:
        assert anyio.run(main, origin, backend=backend) is VerifierError


@sync_and_async
def test_a_compressed_answer_is_not_decompressed(run):
    bomb = zlib.compress(b" " * 10_000_000)
    with answering(says(http(bomb, "200 OK", "Content-Encoding: deflate"))) as origin:
        assert type(within(5, run, origin)) is VerifierError


@sync_and_async
def test_a_redirect_is_not_followed(tencent, run):  # noqa: F811
    answer = http(b"", "307 Temporary Redirect", f"Location: {tencent.origin}/")
    with answering(says(answer)) as origin:
        error = within(5, run, origin)
    assert (type(error), tencent.heads) == (VerifierError, [])
    assert "HTTP 307" in str(error)


def test_a_redirect_is_not_followed_by_a_client_that_follows_redirects(tencent):  # noqa: F811
    answer = http(b"", "307 Temporary Redirect", f"Location: {tencent.origin}/")

    async def main(origin):
        async with httpx.AsyncClient(follow_redirects=True) as client:
            settings = ARGUMENTS | {"endpoint": origin, "async_client": client}
            with pytest.raises(VerifierError, match="HTTP 307"):
                await TencentVerifier(**settings).averify(TICKET)

    with answering(says(answer)) as origin:
        with (
            httpx.Client(follow_redirects=True) as client,
            pytest.raises(VerifierError, match="HTTP 307"),
        ):
            TencentVerifier(**ARGUMENTS, endpoint=origin, client=client).verify(TICKET)
        anyio.run(main, origin)
    assert tencent.heads == []


@sync_and_async
def test_a_name_that_does_not_exist_is_not_an_outage(run):
    error = within(5, run, "https://name.invalid")
    assert (type(error), error.answered, error.sent) == (VerifierError, False, False)
    assert "name cannot be resolved" in str(error)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_task_that_waits_for_a_connection_of_httpx_sees_no_outage(tencent, backend):  # noqa: F811
    tencent.latency = 1.0
    kinds = []

    async def check(verifier):
        try:
            kinds.append(type(await verifier.averify(tencent.ticket())))
        except VerifierError as error:
            kinds.append((type(error), error.answered, error.sent))

    async def main():
        few = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(limits=few) as client:
            arguments = tencent.arguments(async_client=client, timeout=1.9)
            async with (
                TencentVerifier(**arguments) as verifier,
                anyio.create_task_group() as tasks,
            ):
                for _ in range(2):
                    tasks.start_soon(check, verifier)

    anyio.run(main, backend=backend)
    assert set(kinds) == {Verdict, (ThrottledError, False, False)}


# TLS.


@pytest.mark.parametrize(
    "in_environment", [False, True], ids=["untrusted", "trusted by the environment"]
)
@sync_and_async
def test_a_certificate_that_is_not_trusted_is_misconfiguration(
    run,
    in_environment,
    speaks_tls,  # noqa: F811
    certificate,  # noqa: F811
    monkeypatch,
):
    monkeypatch.undo()
    if in_environment:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        default_context.cache_clear()
    heard = []

    def speak(connection):
        heard.append(connection.recv(65536))

    with answering(speak, speaks_tls) as origin:
        error = within(5, run, origin)
    assert (type(error), error.answered, error.sent) == (MisconfiguredError, False, False)
    assert "certificate verify failed: self-signed certificate" in str(error)
    assert b"".join(heard) == b""


@sync_and_async
def test_a_server_with_a_trusted_certificate_is_called(run, trusted_tls):  # noqa: F811
    with answering(says(http()), trusted_tls) as origin:
        verifier = TencentVerifier(**ARGUMENTS, endpoint=origin)
        assert [verdict.code for verdict in run(verifier, TICKET, TICKET)] == [1, 1]
