"""The pytest plugin: test an application as it is, against an emulator of Tencent.

It does nothing without `tcaptcha = true` in the configuration of pytest. Each pytest loads this
module if the package is installed, so the rest of the package is imported later.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tcaptcha_middleware.testing.emulated import EmulatedTencent

_SERVED = pytest.StashKey["EmulatedTencent"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    parser.addini(
        "tcaptcha", "serve an emulator of Tencent's captcha to the tests", type="bool"
    )
    text = "replace the settings of a real Tencent account while tests run"
    parser.addini("tcaptcha_override", text, type="bool")


# Before other plugins and conftest modules, which may import the application.
@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Serve the emulator, and set the variables that `from_env` reads."""
    if early_config.getini("tcaptcha"):
        serving = ExitStack()
        early_config.add_cleanup(serving.close)
        early_config.stash[_SERVED] = _serve(
            serving, overrides=early_config.getini("tcaptcha_override")
        )
    yield


@pytest.fixture
def tcaptcha(pytestconfig: pytest.Config) -> Iterator[EmulatedTencent]:
    """Tencent, emulated: pairs for requests, outcomes, outages, and what was verified."""
    served = pytestconfig.stash.get(_SERVED, None)
    if served is None:
        pytest.fail("the fixture tcaptcha needs tcaptcha = true in the configuration of pytest")
    served.renew()
    yield served
    served.renew()


def _serve(serving: ExitStack, *, overrides: bool) -> EmulatedTencent:
    from tcaptcha_middleware.tencent.credentials import ACCOUNT
    from tcaptcha_middleware.tencent.sites import is_loopback
    from tcaptcha_middleware.testing.emulated import EmulatedTencent
    from tcaptcha_middleware.testing.emulator import _http
    from tcaptcha_middleware.testing.environment import variables

    account = [name for name in ACCOUNT if os.environ.get(name)]
    try:
        host = urlsplit(os.environ.get("TCAPTCHA_ENDPOINT", "")).hostname or ""
    except ValueError:  # a malformed one, which is replaced like any other
        host = ""
    # An endpoint on this machine is an emulator, such as that of the process that started this.
    if account and not overrides and not is_loopback(host):
        raise pytest.UsageError(
            f"tcaptcha: the environment has a real account of Tencent ({', '.join(account)}): "
            "unset it for tests, or write tcaptcha_override = true to replace it"
        )
    served = EmulatedTencent()
    try:
        served.origin = serving.enter_context(_http.serving(served, lifespan="off"))
    except (ModuleNotFoundError, OSError) as error:
        raise pytest.UsageError(f"tcaptcha: {error}") from error
    environ = serving.enter_context(pytest.MonkeyPatch.context())
    for name, value in variables(served.emulator, served.origin).items():
        environ.setenv(name, value)
    return served
