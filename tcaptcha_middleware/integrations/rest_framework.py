"""`HasCaptcha`: a permission of Django REST framework that needs a solved captcha."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.decision import get_decision
from tcaptcha_middleware.integrations.django.deferral import deferred_refusal, detail_of
from tcaptcha_middleware.integrations.marks import Mark, attach
from tcaptcha_middleware.matching.patterns import SAFE_METHODS
from tcaptcha_middleware.models import Unchecked
from tcaptcha_middleware.responses import CODE_HEADER

if TYPE_CHECKING:
    # The framework is untyped.
    from builtins import Exception as APIException
    from builtins import object as BasePermission  # noqa: N812

    from tcaptcha_middleware.models import Refuse
else:
    from rest_framework.exceptions import APIException
    from rest_framework.permissions import BasePermission


class CaptchaRefused(APIException):
    """The refusal of a captcha, for the exception handler of the project.

    Args:
        refuse: What the gate decided; the status and code of its reason are the exception's.
        detail: What the client should do about it.
    """

    def __init__(self, refuse: Refuse, detail: str) -> None:
        super().__init__(detail, refuse.reason.value)
        self.status_code: int = refuse.reason.status
        if self.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            self.wait: int = refuse.retry_after  # for the header `Retry-After`


class HasCaptcha(BasePermission):
    """Require a solved captcha for every method of a view but `GET` and `HEAD`.

    `CaptchaMiddleware` adds a rule for each path of a view that has it in `permission_classes`,
    and verifies; this class refuses, with the project's own exception handler. If the view has
    a `get_permissions` or `check_permissions` of its own, `CaptchaMiddleware` refuses. A
    permission that only `get_permissions` adds leads to no rule, so the view answers 500.

    It raises, so it has to be the last part of `IsAdminUser | HasCaptcha`, which is open to
    everyone for `GET` and `HEAD`.
    """

    def has_permission(self, request: Any, view: Any) -> bool:
        """Return whether the view may run.

        Raises:
            CaptchaRefused: If the captcha did not pass.
            CaptchaRequired: If the gate decided nothing.
        """
        if request.method in SAFE_METHODS:
            return True
        decision = get_decision(request)
        if decision is not None and decision.unchecked is Unchecked.PREFLIGHT:
            # The framework asks for other methods, too, while it answers one.
            return bool(request.method == "OPTIONS")
        sent = request._request  # noqa: SLF001  as the client has sent it
        if decision is None and sent.method in SAFE_METHODS:
            return False  # a renderer asks if its page shows a form
        refuse = deferred_refusal(request)
        if refuse is not None:
            view.headers[CODE_HEADER] = refuse.reason.value
            raise CaptchaRefused(refuse, detail_of(refuse.reason, request))
        return True


attach(Mark({"mode": "defer"}, ["UNSAFE"], may_defer=True), HasCaptcha)
