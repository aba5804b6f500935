"""Find the framework's application behind its middlewares, and the guards on the way."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.asgi import TCaptchaMiddleware
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.routes.route import (
    ANYTHING,
    Gate,
    Mounted,
    Parameter,
    PathTemplate,
    Route,
)
from tcaptcha_middleware.wsgi import TCaptchaWSGIMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator

# By the type's name, so no framework is imported that the application does not use.
_READERS = {
    "bottle.Bottle": "bottle",
    "django.core.handlers.asgi.ASGIHandler": "django",
    "django.core.handlers.wsgi.WSGIHandler": "django",
    "falcon.app.App": "falcon",
    "flask.app.Flask": "werkzeug",
    "litestar.app.Litestar": "litestar",
    "pyramid.router.Router": "pyramid",
    "quart.app.Quart": "werkzeug",
    "starlette.applications.Starlette": "starlette",
    "starlette.routing.Router": "starlette",
}
_MIDDLEWARES = (TCaptchaMiddleware, TCaptchaWSGIMiddleware)
# What middlewares call the application that they wrap.
_INNER = ("app", "application", "wsgi_app", "asgi_app", "wsgi_application")
_ROOT = PathTemplate()
_BELOW = PathTemplate(("/", Parameter("path", ANYTHING)))


def read(
    app: object, prefix: PathTemplate = _ROOT, gates: tuple[Gate, ...] = ()
) -> Iterator[Route]:
    """Yield the routes of an application and of those that are mounted in it.

    Args:
        app: The application, with or without middlewares around it.
        prefix: Where it is mounted.
        gates: The guards in front of it.

    Raises:
        ConfigurationError: If the framework's reader fails.
    """
    layers = list(_layers(app))
    for layer in layers:
        if isinstance(layer, _MIDDLEWARES):
            gates = (*gates, Gate(layer.guard, str(prefix)))
        for path, mounted in _mounts(layer).items():
            yield from read(mounted, prefix + PathTemplate((path.rstrip("/"),)), gates)
    framework = next(filter(_reader, layers), None)
    if framework is not None:
        gates = (*gates, *(Gate(guard, str(prefix)) for guard in _added(framework)))
        for item in _served(framework):
            if isinstance(item, Mounted):
                yield from read(item.app, prefix + item.path, gates)
            else:
                yield item._replace(path=prefix + item.path, gates=gates)
    elif not any(map(_mounts, layers)):
        why = f"{type(app).__name__} is not an application that can be read"
        yield Route(None, prefix + _BELOW, app, opaque=why, gates=gates)


def is_application(value: object) -> bool:
    """Return whether a value is an application of a framework, or has a gate around it."""
    return issubclass(type(value), _MIDDLEWARES) or bool(_reader(value))


def _reader(app: object) -> str:
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in type(app).__mro__)
    return next((_READERS[name] for name in names if name in _READERS), "")


def _served(framework: object) -> list[Route | Mounted]:
    module = import_module(f"tcaptcha_middleware.integrations.routes.{_reader(framework)}")
    try:
        return list(module.read(framework))
    except ConfigurationError:
        raise
    except Exception as error:
        kind, text = type(framework).__name__, f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"the routes of this {kind} cannot be read: {text}") from error


def _mounts(layer: object) -> Mapping[str, object]:
    # Werkzeug's and Hypercorn's DispatcherMiddleware.
    mounts = getattr(layer, "mounts", None)
    return mounts if isinstance(mounts, Mapping) else {}


def _layers(app: object) -> Iterator[object]:
    """Yield an application and what it wraps, from the outside to the framework."""
    seen: list[object] = []
    while app is not None and not any(app is layer for layer in seen):
        yield app
        seen.append(app)
        if inspect.ismethod(app):
            # Flask's `wsgi_app` and Quart's `asgi_app`, inside of what replaced them.
            app = app.__self__
        elif _reader(app) in ("", "werkzeug"):
            app = next((getattr(app, name) for name in _INNER if hasattr(app, name)), None)
        else:
            app = None


def _added(framework: Any) -> Iterator[Any]:
    """Yield the guards of the middlewares that the framework itself creates."""
    # Without it, a Django application has not loaded its middlewares.
    if getattr(framework, "_middleware_chain", None) is not None:
        django = "tcaptcha_middleware.integrations.django"
        if import_module(f"{django}.middleware").is_installed():
            yield import_module(f"{django}.configuration").current_guard()
    for attribute, kind in (("user_middleware", "cls"), ("middleware", "middleware")):
        added = getattr(framework, attribute, ())
        for entry in added if isinstance(added, (list, tuple)) else ():
            middleware = getattr(entry, kind, None)
            if inspect.isclass(middleware) and issubclass(middleware, _MIDDLEWARES):
                yield entry.kwargs["guard"] if "guard" in entry.kwargs else entry.args[0]
