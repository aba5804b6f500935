"""Captcha verification in Django: an app for `INSTALLED_APPS`, and its middleware.

Add this package to `INSTALLED_APPS`, its `CaptchaMiddleware` to `MIDDLEWARE`, and the setting
`TCAPTCHA = {"RULES": ["UNSAFE /login"]}`.
"""

from tcaptcha_middleware.integrations.django.decorators import captcha_required
from tcaptcha_middleware.integrations.django.middleware import CaptchaMiddleware

__all__ = ["CaptchaMiddleware", "captcha_required"]
