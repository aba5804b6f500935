"""Captcha verification for ASGI and WSGI applications, in front of the endpoints you name.

    guard = Guard(["POST /login"], TencentVerifier.from_env())
    app.add_middleware(TCaptchaMiddleware, guard=guard)

Names are loaded when they are first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcaptcha_middleware.access import decision
    from tcaptcha_middleware.addresses import TrustedProxies
    from tcaptcha_middleware.asgi import TCaptchaMiddleware
    from tcaptcha_middleware.browser.page import Page
    from tcaptcha_middleware.browser.policy import csp_sources
    from tcaptcha_middleware.claims.memory import MemoryClaims
    from tcaptcha_middleware.errors import (
        ClaimsError,
        ConfigurationError,
        MisconfiguredError,
        OutageError,
        TCaptchaError,
        ThrottledError,
        VerifierError,
    )
    from tcaptcha_middleware.extraction.sources import (
        Cookie,
        Form,
        Function,
        Header,
        Json,
        Query,
    )
    from tcaptcha_middleware.guard import Guard
    from tcaptcha_middleware.models import (
        Allow,
        Reason,
        Refuse,
        Request,
        Ticket,
        Unchecked,
        Verdict,
    )
    from tcaptcha_middleware.operating.events import Event
    from tcaptcha_middleware.operating.switch import Switch
    from tcaptcha_middleware.responses import Response
    from tcaptcha_middleware.settings import (
        AsyncClaims,
        AsyncVerifier,
        Claims,
        Rule,
        Settings,
        SyncClaims,
        SyncVerifier,
        Verifier,
    )
    from tcaptcha_middleware.verifiers.bridge import in_thread
    from tcaptcha_middleware.verifiers.http import TencentMiniProgramVerifier, TencentVerifier
    from tcaptcha_middleware.wsgi import TCaptchaWSGIMiddleware

_HOMES = {
    "Allow": "models",
    "AsyncClaims": "settings",
    "AsyncVerifier": "settings",
    "Claims": "settings",
    "ClaimsError": "errors",
    "ConfigurationError": "errors",
    "Cookie": "extraction.sources",
    "Event": "operating.events",
    "Form": "extraction.sources",
    "Function": "extraction.sources",
    "Guard": "guard",
    "Header": "extraction.sources",
    "Json": "extraction.sources",
    "MemoryClaims": "claims.memory",
    "MisconfiguredError": "errors",
    "OutageError": "errors",
    "Page": "browser.page",
    "Query": "extraction.sources",
    "Reason": "models",
    "Refuse": "models",
    "Request": "models",
    "Response": "responses",
    "Rule": "settings",
    "Settings": "settings",
    "Switch": "operating.switch",
    "SyncClaims": "settings",
    "SyncVerifier": "settings",
    "TCaptchaError": "errors",
    "TCaptchaMiddleware": "asgi",
    "TCaptchaWSGIMiddleware": "wsgi",
    "TencentMiniProgramVerifier": "verifiers.http",
    "TencentVerifier": "verifiers.http",
    "ThrottledError": "errors",
    "Ticket": "models",
    "TrustedProxies": "addresses",
    "Unchecked": "models",
    "Verdict": "models",
    "Verifier": "settings",
    "VerifierError": "errors",
    "csp_sources": "browser.policy",
    "decision": "access",
    "in_thread": "verifiers.bridge",
}

__all__ = [
    "Allow",
    "AsyncClaims",
    "AsyncVerifier",
    "Claims",
    "ClaimsError",
    "ConfigurationError",
    "Cookie",
    "Event",
    "Form",
    "Function",
    "Guard",
    "Header",
    "Json",
    "MemoryClaims",
    "MisconfiguredError",
    "OutageError",
    "Page",
    "Query",
    "Reason",
    "Refuse",
    "Request",
    "Response",
    "Rule",
    "Settings",
    "Switch",
    "SyncClaims",
    "SyncVerifier",
    "TCaptchaError",
    "TCaptchaMiddleware",
    "TCaptchaWSGIMiddleware",
    "TencentMiniProgramVerifier",
    "TencentVerifier",
    "ThrottledError",
    "Ticket",
    "TrustedProxies",
    "Unchecked",
    "Verdict",
    "Verifier",
    "VerifierError",
    "csp_sources",
    "decision",
    "in_thread",
]


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
