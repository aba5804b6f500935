"""The readings of a request target, as text, and the mount in it; knows no rules.

Servers, proxies and frameworks disagree about what `//login`, `/login%0a` or `/%2flogin`
names, and each disagreement is a way around a rule that is compared with one text alone.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tcaptcha_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

Segments = tuple[str, ...]

MARK = re.compile(r"[?#;]")
"""The begin of a query, a fragment or parameters, which `urllib.parse.urlparse` cuts off."""

# Controls that urllib.parse strips before routing, bytes that decoders drop or replace, and
# characters at which some router's `$` or `.` ends a line.
_DROPPED = "\x00-\x1f\x7f-\x9f\ufffd\ufeff\u2028\u2029\ud800-\udfff"
INVISIBLE = re.compile(f"[{_DROPPED}]")
_BLANK_SEGMENT = re.compile(rf"(?<![^/])[\s{_DROPPED}]++(?![^/])")

_UNUSUAL = re.compile(r"[^A-Za-z0-9_~!$&'()*+,=:@/.-]")
_TAME_SEGMENT = rf"(?!\.{{1,2}}(?:/|\Z)|\s)[^/?#;\\{_DROPPED}]++(?<!\s)(?=/|\Z)"
_TAME = re.compile(rf"(?:/{_TAME_SEGMENT})*+/?")
_DOTTED_SEGMENT = re.compile(r"/\s*+\.{1,2}\s*+(?=[/?#;]|\Z)")

_ESCAPED_SLASH = re.compile("%(?=2f|5c)", re.IGNORECASE)
_EXTENSION = re.compile(r"[^/.]\.")

# An honest request had 4 at most, an attack that works 18 (4,005 targets of public access
# logs; 12,670 requests to real servers). A path of one reading may be of any length.
_MOST_ODDITIES = 100
_LONGEST_ODD = 16 * 1024

# FastAPI and Django have a setting for the path before their own, and cut it off themselves.
# Flask's and Quart's `root_path` is a folder, and Starlette has no such attribute.
_FASTAPI = {("fastapi.applications", "FastAPI")}
_DJANGO = {
    ("django.core.handlers.asgi", "ASGIHandler"),
    ("django.core.handlers.wsgi", "WSGIHandler"),
}
# More middlewares than any stack has; an application might lead back to itself.
_DEEPEST = 50


def segments(path: str) -> Segments:
    """Split `path` at its slashes, empty segments left out: `"//a/b/"` is `("a", "b")`."""
    return tuple(part for part in path.split("/") if part)


def fold(text: str) -> str:
    """Return the text with equal letters for those that some router takes for equal."""
    if text.isascii():
        return text.lower()
    # Django's `(?i)` takes dotted and dotless i for i, but casefold() does not.
    return text.replace("\u0130", "i").replace("\u0131", "i").casefold()


def is_plain(path: str) -> bool:
    """Return whether the path is printable ASCII and has one reading; a quick `is_tame`."""
    return (
        _UNUSUAL.search(path) is None
        and "//" not in path
        and "/." not in path
        and path[:1] in ("", "/")
    )


def is_tame(path: str, raw_path: bytes = b"") -> bool:
    """Return whether the target has one reading, up to letter case and a last extension.

    Such a target begins with one slash and is the same however often it is decoded. Empty,
    dotted and blank segments, parameters, backslashes and invisible characters do not occur.

    Args:
        path: The decoded path, as in an ASGI scope.
        raw_path: The path's bytes before decoding, if the server passes them on.
    """
    if not is_plain(path) and not (_TAME.fullmatch(path) and unquote(path) == path):
        return False
    if not raw_path or raw_path == path.encode():
        return True
    text = _text(raw_path)
    return unquote(text) == path and not _ESCAPED_SLASH.search(text)


def spellings(path: str, raw_path: bytes = b"") -> Iterator[str]:
    """Yield each text that a server, a proxy or an application may decode the target to.

    A proxy and an application may both decode what a server has decoded already; and routers
    that split before they decode keep an escaped slash as a letter.

    Args:
        path: See `is_tame`.
        raw_path: See `is_tame`.
    """
    yield path
    seen = {path}
    for text, times in ((path, 2), (_text(raw_path), 3)) if raw_path else ((path, 2),):
        encoded = text
        for _ in range(times):
            with_letters = _ESCAPED_SLASH.sub("%25", encoded)
            decoded = [unquote(encoded)]
            if with_letters != encoded:
                decoded.append(unquote(with_letters))
            encoded = decoded[0]
            for spelling in decoded:
                if spelling not in seen:
                    seen.add(spelling)
                    yield spelling


def _text(raw_path: bytes) -> str:
    return raw_path.decode("utf-8", "replace")


def cleaned(spelling: str) -> Iterator[str]:
    r"""Yield `spelling` without invisible characters; also with `\` as the slash it may be.

    A segment of nothing else becomes a blank one: to some routers it is still a segment.
    """
    variants = (spelling, spelling.replace("\\", "/")) if "\\" in spelling else (spelling,)
    for text in variants:
        if text.isprintable() and "\ufffd" not in text:
            yield text  # Nearly always; the search below costs more.
        else:
            yield INVISIBLE.sub("", _BLANK_SEGMENT.sub(" ", text))


def is_too_odd(text: str) -> bool:
    """Return whether a cleaned text has so many readings that it could mean any path.

    Only an attacker writes such a target, and wants the time that it takes to find out.
    """
    oddities = ("//", "/.", "/ ", "?", "#", ";", "%")
    return len(text) > _LONGEST_ODD or sum(map(text.count, oddities)) > _MOST_ODDITIES


def tame_prefix(spelling: str) -> str | None:
    """Return the segments before the first odd one; None if these need not come first.

    Dots, backslashes and invisible characters may lead anywhere.
    """
    anywhere = (
        "\\" in spelling or INVISIBLE.search(spelling) or _DOTTED_SEGMENT.search(spelling)
    )
    prefix = _TAME.match(spelling)
    return None if anywhere or prefix is None else prefix.group()


def has_extension(text: str) -> bool:
    """Return whether some segment of a text may have an extension."""
    return "." in text and _EXTENSION.search(text) is not None


def below(path: str, mount: str) -> str | None:
    """Return the path below `mount`, which is the path itself if the mount is not in it.

    None if readings differ: Quart looks for no boundary, Litestar cuts at the first `mount`
    anywhere, and some routers ignore case.
    """
    if fold(mount) not in fold(path):
        return path
    after = path[len(mount) :]
    clean = is_tame(mount) and path.startswith(mount) and after[:1] in ("", "/")
    return after if clean else None


def mounted(path: str, mounts: list[str]) -> list[str] | None:
    """Return what a tame path may name: the path below the first mount, then the others.

    The others are the path as it is, below each mount, and with each mount before it. None if
    it is not clear what the path below a mount is.
    """
    if not mounts:
        return [path]
    own, *others = [below(path, mount) for mount in mounts]
    if own is None or None in others or not all(map(is_tame, mounts)):
        return None
    paths = [own, path, *others, *(mount + own for mount in mounts)]
    return list(dict.fromkeys(path for path in paths if path is not None))


def validate_mount(what: str, mount: object) -> None:
    """Check a mount: empty, or a path as it is after decoding.

    Args:
        what: The setting's name.
        mount: Its value.

    Raises:
        ConfigurationError: If it cannot be a mount.
    """
    if not isinstance(mount, str) or not is_tame(mount) or mount.endswith("/"):
        raise ConfigurationError(
            f"{what} is {mount!r}: write the path before the application's own, decoded and "
            'without a final slash, such as "/api"'
        )


def mount_of(app: object, mounted_at: str) -> str:
    """Return the mount of `app` that its server does not report; empty if unknown.

    Args:
        app: An ASGI or WSGI application, with or without middlewares around it.
        mounted_at: What the guard's user says; empty if they do not.

    Raises:
        ConfigurationError: If the application says otherwise, or something impossible.
    """
    framework = _inner(app, _FASTAPI)
    root_path = str(getattr(framework, "root_path", "")).rstrip("/")
    for what, mount in (
        ("FastAPI's root_path", root_path),
        ("Django's FORCE_SCRIPT_NAME", forced_script_name(app)),
    ):
        validate_mount(what, mount)
        if mount and mounted_at and mount != mounted_at:
            raise ConfigurationError(
                f"mounted_at is {mounted_at!r}, but {what} is {mount!r}: leave mounted_at out"
            )
        mounted_at = mounted_at or mount
    return mounted_at


def forced_script_name(app: object) -> str:
    """Return Django's `FORCE_SCRIPT_NAME` if `app` is Django; empty otherwise.

    Under WSGI, Django takes it for `SCRIPT_NAME` and leaves `PATH_INFO` as it is.
    """
    if _inner(app, _DJANGO) is None:
        return ""
    settings = sys.modules["django.conf"].settings
    # An application that has not been configured yet cannot have been mounted.
    setting = settings.FORCE_SCRIPT_NAME if settings.configured else ""
    return (setting or "").rstrip("/")


def _inner(app: object, kinds: set[tuple[str, str]]) -> Any:
    """Return the application of one of these types in a stack of middlewares."""
    for _ in range(_DEEPEST):
        if any((kind.__module__, kind.__qualname__) in kinds for kind in type(app).__mro__):
            return app
        app = getattr(app, "app", None)
    return None
