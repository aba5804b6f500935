"""Django in one file: every unsafe method is protected, except a webhook; WSGI and ASGI.

Run it in this folder:

    gunicorn django_app:application
    uvicorn django_app:asgi_application
"""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from tcaptcha_middleware import (
    Guard,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    TencentVerifier,
    get_decision,
)

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for this example only",
)


def home(_: HttpRequest) -> HttpResponse:
    """Answer everyone: GET is a safe method."""
    return HttpResponse("POST a user to /login, with a captcha.")


@require_POST
def login(request: HttpRequest) -> HttpResponse:
    """Greet the visitor, whose ticket the gate has verified."""
    decision = get_decision(request)
    code = decision.code if decision else None
    return JsonResponse({"hello": request.POST.get("user", "stranger"), "captchaCode": code})


def webhook(_: HttpRequest) -> HttpResponse:
    """Accept a message from a machine, which cannot solve a captcha."""
    return HttpResponse("Thanks.")


urlpatterns = [path("", home), path("login", login), path("webhook", webhook)]

# A function view answers every method, so a rule for POST would leave PUT open.
guard = Guard(["UNSAFE /**"], TencentVerifier.from_env(), exempt=["POST /webhook"])
application = TCaptchaWSGIMiddleware(get_wsgi_application(), guard)
asgi_application = TCaptchaMiddleware(get_asgi_application(), guard)
