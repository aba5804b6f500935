"""Django REST framework: a permission, whose refusals have the envelope of the API.

Run it in this folder:

    gunicorn rest_framework_app:application
    uvicorn rest_framework_app:asgi_application
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.urls import path

# In a project, all of this is in settings.py.
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    INSTALLED_APPS=["rest_framework", "tcaptcha_middleware.integrations.django"],
    MIDDLEWARE=["tcaptcha_middleware.integrations.django.CaptchaMiddleware"],
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "EXCEPTION_HANDLER": f"{__name__}.answer",
        "UNAUTHENTICATED_USER": None,
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY="for this example only",
    # The views with the permission are protected; the verifier is read from the environment.
    TCAPTCHA={},
)
django.setup()

# They read the settings.
from rest_framework.exceptions import APIException  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView, exception_handler  # noqa: E402

from tcaptcha_middleware import get_decision  # noqa: E402
from tcaptcha_middleware.integrations.rest_framework import HasCaptcha  # noqa: E402


def answer(error: Exception, context: dict[str, object]) -> Response | None:
    """Answer errors in the envelope of this API, those of the captcha included."""
    response = exception_handler(error, context)
    if response is not None and isinstance(error, APIException):
        response.data = {"error": error.get_codes(), "message": error.detail}
    return response


class Home(APIView):
    """Answers everyone: it does not have the permission."""

    def get(self, _: Request) -> Response:
        """Say what to do."""
        return Response("POST a user to /login, with a captcha.")


class Login(APIView):
    """Runs for `POST` only with a solved captcha."""

    permission_classes = (HasCaptcha,)

    def post(self, request: Request) -> Response:
        """Greet the visitor, and return Tencent's code for the ticket."""
        decision = get_decision(request)
        code = decision.code if decision else None
        return Response({"hello": request.data.get("user", "stranger"), "captchaCode": code})


urlpatterns = [path("", Home.as_view()), path("login", Login.as_view())]

application = get_wsgi_application()
asgi_application = get_asgi_application()
