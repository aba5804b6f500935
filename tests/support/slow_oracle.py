"""The enumeration of every form that a target can take: slow, and an oracle for the matcher.

`tcaptcha_middleware.matching` has to touch every rule that one of these forms matches.
Rewritings are combined freely here, so the number of forms is a product.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tcaptcha_middleware.matching.patterns import Pattern

Segments = tuple[str, ...]

# Such a path has only one form, itself: no escapes, no empty or dotted segments, no
# parameters, nothing outside printable ASCII. Nearly every request has such a path.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~!$&'()*+,=:@-][A-Za-z0-9._~!$&'()*+,=:@-]*)+|/")

_SCHEME = re.compile(r"[A-Za-z0-9+.-]+:")
# Any number of slashes: some are merged, or meet when a control between them is dropped.
_AUTHORITY = re.compile(r"//+[^/?#]*|[^/]+(?=/)")
_SUFFIX = re.compile(r"[?#;].*", re.DOTALL)
_SLASHES = re.compile(r"//+")
# Bytes that decoders drop or replace, and controls that urllib.parse strips before routing.
_DROPPED = re.compile("[\x00-\x1f\x7f-\x9f\ufffd\ufeff\u2028\u2029\ud800-\udfff]")


def segments(path: str) -> Segments:
    """Split `path` at its slashes, empty segments left out: `"//a/b/"` is `("a", "b")`."""
    return tuple(part for part in path.split("/") if part)


def is_plain(path: str, raw_path: bytes = b"") -> bool:
    """Return if the target has only one form, which is the usual and cheapest case."""
    return _PLAIN.fullmatch(path) is not None and (
        not raw_path or raw_path == path.encode("ascii")
    )


def forms(path: str, raw_path: bytes = b"", root_path: str = "") -> set[Segments]:
    """Return every form of the target as the application below `root_path` may see it.

    Args:
        path: The decoded path, as in an ASGI scope; with or without `root_path` before it.
        raw_path: The path's bytes before decoding, if the server passes them on.
        root_path: The application's mount (`SCRIPT_NAME` in WSGI).
    """
    if is_plain(path, raw_path):
        return {segments(text) for text in _within(path, root_path)}
    texts = {path, unquote(_undecoded(raw_path))} if raw_path else {path}
    within = {inner for text in texts for inner in _within(text, root_path)}
    return {form for text in within for form in _spellings(text)}


def full_forms(
    inner: set[Segments], path: str, raw_path: bytes = b"", root_path: str = ""
) -> set[Segments]:
    """Return every form at all: with the mounts before it, and without any decoding too.

    Args:
        inner: What `forms` returned for the same target.
        path: See `forms`.
        raw_path: See `forms`.
        root_path: See `forms`.
    """
    mount = segments(root_path)
    whole = forms(path, raw_path) if mount else inner
    undecoded = set(_spellings(_undecoded(raw_path))) if raw_path else set()
    return inner | {(*mount, *form) for form in inner} | whole | undecoded


def _undecoded(raw_path: bytes) -> str:
    # Some servers leave the query in the raw path.
    return raw_path.partition(b"?")[0].decode("utf-8", "ignore")


def _within(path: str, root_path: str) -> set[str]:
    """Return what is left of `path` below `root_path`, as frameworks see it.

    If it does not begin there, on a segment boundary, Starlette and Django keep the whole path;
    Quart requires no boundary, and Litestar removes the first `root_path` anywhere.
    """
    root = root_path.rstrip("/")
    if not root or root not in path:
        return {path}
    before, _, after = path.partition(root)
    return {after} if not before and after[:1] in ("", "/") else {path, after}


def _spellings(text: str) -> Iterator[Segments]:
    """Apply every rewriting to every result so far; each may or may not happen."""
    results = {text}
    for rewrite in _REWRITES:
        results |= {rewrite(form) for form in results}
    return (form for text in results for form in (segments(text), _with_empties(text)))


def _with_empties(text: str) -> Segments:
    """Split `text` with the empty segments inside, which Falcon takes for a `{x}`."""
    inner = text.lstrip("/").removesuffix("/")
    return tuple(inner.split("/")) if inner else ()


def _decoded(text: str) -> str:
    """Undo percent-encoding, without bytes of invalid UTF-8, as some decoders do."""
    return unquote(text, errors="ignore")


def _without_controls(text: str) -> str:
    """Drop what no router sees, and take a backslash for the slash it is on some systems."""
    parts = _DROPPED.sub("", text).replace("\\", "/").split("/")
    return "/".join(part.strip() for part in parts)


def _without_scheme(text: str) -> str:
    """Drop the scheme of an absolute-form target, which needs no host: `x:/a` or `x:a`."""
    return text[match.end() :] if (match := _SCHEME.match(text)) else text


def _without_authority(text: str) -> str:
    """Drop the host of an absolute-form target (RFC 9112, section 3.2.2).

    And all before the first slash, as Werkzeug's `DispatcherMiddleware` does with `x/login`.
    """
    return text[match.end() :] if (match := _AUTHORITY.match(text)) else text


def _without_suffix(text: str) -> str:
    """Drop query, fragment and parameters, which `urllib.parse.urlparse` cuts off."""
    return _SUFFIX.sub("", text)


def _without_empties(text: str) -> str:
    """Merge slashes: `/a//../b` is `/b` to `posixpath`, and `/a/b` to RFC 3986."""
    return _SLASHES.sub("/", text)


def _without_dots(text: str) -> str:
    """Resolve `.` and `..` segments (RFC 3986, section 5.2.4)."""
    kept: list[str] = []
    for part in text.split("/"):
        if part == "..":
            del kept[-1:]
        elif part != ".":
            kept.append(part)
    return "/".join(kept)


# In this order, each sees what the earlier ones reveal; decoded twice for a proxy and an
# application that both decode.
_REWRITES: tuple[Callable[[str], str], ...] = (
    _decoded,
    _decoded,
    _without_controls,
    _without_scheme,
    _without_authority,
    _without_suffix,
    _without_empties,
    _without_dots,
)


def touched(
    patterns: Sequence[Pattern], method: str, path: str, raw_path: bytes, root_path: str = ""
) -> set[int]:
    """Return the numbers of all patterns that some form of the target matches."""
    inner = forms(path, raw_path, root_path)
    every = full_forms(inner, path, raw_path, root_path)
    return {
        number
        for number, pattern in enumerate(patterns)
        if pattern.names(method) and any(_matches(pattern, form) for form in every)
    }


def is_exempt(
    patterns: Sequence[Pattern], method: str, path: str, raw_path: bytes, root_path: str = ""
) -> bool:
    """Return whether every form of the target matches one of these patterns."""
    named = [pattern for pattern in patterns if pattern.names(method)]
    inner = forms(path, raw_path, root_path)
    return all(any(_matches(pattern, form) for pattern in named) for form in inner)


def _matches(pattern: Pattern, form: Segments) -> bool:
    if len(form) < len(pattern.path) or (len(form) > len(pattern.path) and not pattern.below):
        return False
    return all(part in (None, own) for part, own in zip(pattern.path, form, strict=False))
