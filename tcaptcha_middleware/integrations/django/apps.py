"""The app for `INSTALLED_APPS`: it has the template tags and the system checks."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register

from tcaptcha_middleware.integrations.django import checks


class _TCaptchaConfig(AppConfig):  # type: ignore[misc]
    """Registers the checks."""

    name = "tcaptcha_middleware.integrations.django"
    label = "tcaptcha"
    verbose_name = "Tencent Captcha"

    def ready(self) -> None:
        """Register what `manage.py check` has to look at."""
        register(checks.check_settings, Tags.security)
        register(checks.check_deployment, Tags.security, deploy=True)
