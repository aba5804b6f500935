"""`CaptchaFormMixin`: a form that shows the refusal of a captcha as one of its errors."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.forms.forms import BaseForm
from django.forms.utils import ErrorDict

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.django.deferral import deferred_refusal, detail_of


class CaptchaFormMixin:
    """Refuse the data of a form with an error of the form, if the captcha did not pass.

    Write it before the form's class, and mark the view with `captcha_required(mode="defer")`.
    If the captcha did not pass, nothing else is validated, so robots learn nothing, such as
    whether a password is right. What was typed stays in the form.

    Args:
        args: Those of the form.
        request: The request whose data the form gets.
        kwargs: Those of the form.

    Raises:
        ConfigurationError: If a subclass has the mixin behind the form's class.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Validate the order of the bases: behind the form's class, nothing is checked."""
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if BaseForm in order and order.index(BaseForm) < order.index(CaptchaFormMixin):
            raise ConfigurationError(
                f"{cls.__name__} would check no captcha: write CaptchaFormMixin before the "
                f"form's class, as in class {cls.__name__}(CaptchaFormMixin, …)"
            )

    def __init__(self, *args: Any, request: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.request = request  # as in Django's AuthenticationForm, which sets it to None

    def full_clean(self) -> None:
        """Validate the data, or only add the error.

        Not in `clean`, which forms override without calling this one, and which runs after
        fields have looked at the database.

        Raises:
            CaptchaRequired: If the form has data, and the gate decided nothing about it.
        """
        form: Any = self
        refuse = deferred_refusal(self.request) if form.is_bound else None
        if refuse is None:
            super().full_clean()  # type: ignore[misc]
            return
        form._errors = ErrorDict(renderer=form.renderer)  # noqa: SLF001
        form.cleaned_data = {}
        detail = detail_of(refuse.reason, self.request)
        form.add_error(None, ValidationError(detail, refuse.reason.value))
