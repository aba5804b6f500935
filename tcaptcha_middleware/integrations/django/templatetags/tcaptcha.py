"""Template tags that load `tcaptcha.js`, and let a form of another app show the captcha."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.urls import get_script_prefix
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from tcaptcha_middleware.browser import MODULE
from tcaptcha_middleware.browser.page import Page
from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.integrations.django.deferral import visitor_language
from tcaptcha_middleware.languages import NOSCRIPT

register: Any = template.Library()

# Not `<form-wizard>`; the names of elements ignore case.
_FORM = re.compile(r"<form(?=[\s/>])", re.IGNORECASE)


def tcaptcha_script(context: Any) -> Any:
    """Return the script element of the module, with the nonce of the response's policy.

    Args:
        context: The template's context.

    Raises:
        ImproperlyConfigured: If the guard's page is not set.
    """
    page = current_guard().page
    if not isinstance(page, Page):
        message = 'tcaptcha_script needs a page: add "PAGE": "/tcaptcha" to TCAPTCHA'
        raise ImproperlyConfigured(message)
    source = quote(f"{get_script_prefix().rstrip('/')}{page.path}/{MODULE}")
    request = _request(context)
    # Of Django 6's context processor, of django-csp, and of Django 6's middleware alone. It is
    # made at its first use, and false until then.
    names = ("csp_nonce", "_csp_nonce")
    nonces = [context.get("csp_nonce"), *(getattr(request, name, None) for name in names)]
    nonce = [(nonce,) for nonce in nonces if nonce is not None][:1]
    attribute = format_html_join("", ' nonce="{}"', nonce)
    return format_html('<script type="module" src="{}"{}></script>', source, attribute)


def tcaptcha_form(context: Any, content: str) -> Any:
    """Return a part of a template, with the captcha in its first form.

    Before the form is a sentence for browsers that run no scripts, in the visitor's language.

    Args:
        context: The template's context.
        content: The part between the tag and its end.
    """
    request = _request(context)
    language = "en" if request is None else visitor_language(request)
    noscript = f'<noscript><p lang="{language}">{NOSCRIPT[language]}</p></noscript>'
    return SafeString(_FORM.sub(rf"{noscript}\g<0> data-tcaptcha", content, count=1))


def _request(context: Any) -> Any:
    # The context itself may have it, also without Django's context processor; and a variable of
    # that name may be something else.
    requests = getattr(context, "request", None), context.get("request")
    return next((request for request in requests if hasattr(request, "META")), None)


register.simple_tag(tcaptcha_script, takes_context=True)
register.simple_block_tag(tcaptcha_form, takes_context=True)
