"""Django's system checks: mistakes that `manage.py check` and `runserver` should report.

https://docs.djangoproject.com/en/stable/ref/checks/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.urls import NoReverseMatch, get_script_prefix, reverse

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.integrations.django.middleware import is_installed
from tcaptcha_middleware.integrations.django.urlconf import PROJECT, marked_views
from tcaptcha_middleware.integrations.routes.check import dead_rules
from tcaptcha_middleware.integrations.routes.reading import read
from tcaptcha_middleware.matching.paths import mount_of
from tcaptcha_middleware.rules import as_rule
from tcaptcha_middleware.tencent.sites import is_tencents

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIDDLEWARE = "tcaptcha_middleware.integrations.django.CaptchaMiddleware"


def check_settings(**_: object) -> Iterator[Any]:
    """Yield what is wrong with `TCAPTCHA`, with marked views and with rules."""
    try:
        guard, routes = current_guard(), list(read(PROJECT))
        marked = list(marked_views(routes))
        root = mount_of(PROJECT, guard.mounted_at)
    except (ConfigurationError, ImproperlyConfigured) as error:
        yield checks.Error(str(error), id="tcaptcha.E001")
        return
    if not is_installed():
        yield _not_installed()
    for route, rule in marked:
        method = rule.text.partition(" ")[0].replace("UNSAFE", "POST")
        if not all(guard.match(method, root + p, b"", root) for p in route.path.examples):
            message = f"the view of {route.path} needs a captcha, but no rule covers it"
            hint = f'Add "{rule.text}" to the rules of GUARD, or end its exemption.'
            yield checks.Error(message, hint=hint, id="tcaptcha.E003")
    for finding in dead_rules(routes, guard, root):
        message = f"the rule {finding.rule!r} protects nothing"
        yield checks.Warning(message, hint=finding.detail, id="tcaptcha.W001")


def _not_installed() -> Any:
    """Return the message about a project whose `MIDDLEWARE` lacks ours."""
    if "GUARD" in settings.TCAPTCHA:
        message = "CaptchaMiddleware is not in MIDDLEWARE, so Django does not use GUARD"
        hint = (
            f'Add "{_MIDDLEWARE}". If wsgi.py and asgi.py put this guard around the '
            'application, add "tcaptcha.W003" to SILENCED_SYSTEM_CHECKS.'
        )
        return checks.Warning(message, hint=hint, id="tcaptcha.W003")
    message = (
        "CaptchaMiddleware is not in MIDDLEWARE, so the rules of TCAPTCHA protect nothing, and "
        "marked views answer 500"
    )
    return checks.Error(message, hint=f'Add "{_MIDDLEWARE}".', id="tcaptcha.E002")


def check_deployment(**_: object) -> Iterator[Any]:
    """Yield what may be right on a developer's machine, and is not in production."""
    try:
        guard = current_guard()
    except ImproperlyConfigured:
        return  # the other check reports it
    verifiers = [guard.verifier, *(as_rule(rule).verifier for rule in guard.rules)]
    for verifier in {id(each): each for each in verifiers if each is not None}.values():
        inner = getattr(verifier, "_verifier", verifier)  # of `in_thread`
        origin = getattr(inner, "_origin", None)
        if type(inner).__module__.startswith("tcaptcha_middleware.testing"):
            message = f"the verifier is a {type(inner).__name__}, which is for tests"
            hint = "Remove VERIFIER from TCAPTCHA, or name one that calls Tencent."
            yield checks.Error(message, hint=hint, id="tcaptcha.E004")
        elif isinstance(origin, str) and not is_tencents(origin):
            message = f"tickets and secrets are sent to {origin}, which is not Tencent's"
            hint = "Unset TCAPTCHA_ENDPOINT, or leave endpoint= out."
            yield checks.Error(message, hint=hint, id="tcaptcha.E005")
    try:
        path = reverse("admin:login")
    except NoReverseMatch:
        return
    if guard.match("POST", path, b"", get_script_prefix().rstrip("/")) is None:
        hint = f'Add "UNSAFE {path}" to RULES, and show the captcha in its form.'
        yield checks.Warning("no rule covers the admin's login", hint=hint, id="tcaptcha.W002")
