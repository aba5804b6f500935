"""Captcha verification for ASGI and WSGI applications, in front of the endpoints you name.

    guard = Guard(["POST /login"], TencentVerifier.from_env())
    app.add_middleware(TCaptchaMiddleware, guard=guard)

Names are loaded when they are first used, so importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcaptcha_middleware.asgi import TCaptchaMiddleware
    from tcaptcha_middleware.browser.page import Page, csp_sources
    from tcaptcha_middleware.client_ip import TrustedProxies
    from tcaptcha_middleware.decision import get_decision, require_captcha
    from tcaptcha_middleware.errors import (
        CaptchaRequired,
        ConfigurationError,
        MisconfiguredError,
        OutageError,
        ReplayStoreError,
        TCaptchaError,
        ThrottledError,
        VerifierError,
    )
    from tcaptcha_middleware.extraction import sources
    from tcaptcha_middleware.guard import Guard
    from tcaptcha_middleware.models import (
        Allow,
        CaptchaInfo,
        Reason,
        Refuse,
        RequestInfo,
        Submission,
        Unchecked,
        Verdict,
    )
    from tcaptcha_middleware.operations import Event, Switch
    from tcaptcha_middleware.replay.memory import MemoryReplayStore
    from tcaptcha_middleware.responses import PlainResponse
    from tcaptcha_middleware.rules import Rule
    from tcaptcha_middleware.settings import Settings
    from tcaptcha_middleware.types import (
        AsyncReplayStore,
        AsyncVerifier,
        ReplayStore,
        SyncReplayStore,
        SyncVerifier,
        Verifier,
    )
    from tcaptcha_middleware.verifiers.tencent import (
        TencentMiniProgramVerifier,
        TencentVerifier,
    )
    from tcaptcha_middleware.verifiers.threads import in_thread
    from tcaptcha_middleware.wsgi import TCaptchaWSGIMiddleware

# Read from the installed distribution when it is first used.
__version__: str

_HOMES = {
    "Allow": "models",
    "AsyncReplayStore": "types",
    "AsyncVerifier": "types",
    "CaptchaInfo": "models",
    "CaptchaRequired": "errors",
    "ConfigurationError": "errors",
    "Event": "operations",
    "Guard": "guard",
    "MemoryReplayStore": "replay.memory",
    "MisconfiguredError": "errors",
    "OutageError": "errors",
    "Page": "browser.page",
    "PlainResponse": "responses",
    "Reason": "models",
    "Refuse": "models",
    "ReplayStore": "types",
    "ReplayStoreError": "errors",
    "RequestInfo": "models",
    "Rule": "rules",
    "Settings": "settings",
    "Submission": "models",
    "Switch": "operations",
    "SyncReplayStore": "types",
    "SyncVerifier": "types",
    "TCaptchaError": "errors",
    "TCaptchaMiddleware": "asgi",
    "TCaptchaWSGIMiddleware": "wsgi",
    "TencentMiniProgramVerifier": "verifiers.tencent",
    "TencentVerifier": "verifiers.tencent",
    "ThrottledError": "errors",
    "TrustedProxies": "client_ip",
    "Unchecked": "models",
    "Verdict": "models",
    "Verifier": "types",
    "VerifierError": "errors",
    "csp_sources": "browser.page",
    "get_decision": "decision",
    "in_thread": "verifiers.threads",
    "require_captcha": "decision",
    "sources": "extraction.sources",
}

__all__ = [
    "Allow",
    "AsyncReplayStore",
    "AsyncVerifier",
    "CaptchaInfo",
    "CaptchaRequired",
    "ConfigurationError",
    "Event",
    "Guard",
    "MemoryReplayStore",
    "MisconfiguredError",
    "OutageError",
    "Page",
    "PlainResponse",
    "Reason",
    "Refuse",
    "ReplayStore",
    "ReplayStoreError",
    "RequestInfo",
    "Rule",
    "Settings",
    "Submission",
    "Switch",
    "SyncReplayStore",
    "SyncVerifier",
    "TCaptchaError",
    "TCaptchaMiddleware",
    "TCaptchaWSGIMiddleware",
    "TencentMiniProgramVerifier",
    "TencentVerifier",
    "ThrottledError",
    "TrustedProxies",
    "Unchecked",
    "Verdict",
    "Verifier",
    "VerifierError",
    "csp_sources",
    "get_decision",
    "in_thread",
    "require_captcha",
    "sources",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("tcaptcha-middleware")
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    module = import_module(f"{__name__}.{_HOMES[name]}")
    value: object = module if name == "sources" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
