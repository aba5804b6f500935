"""Forms that a request's target and method can take on the wire."""

from __future__ import annotations

from random import Random
from typing import NamedTuple


class Form(NamedTuple):
    """One request line; without a Host header if `host` is None."""

    method: bytes
    target: bytes
    version: bytes = b"1.1"
    host: bytes | None = b"a"
    headers: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        line = b"%b %b %b" % (self.method, self.target, self.version)
        return " ".join([ascii(line)[2:-1], *map(ascii, self.headers)])

    def wire(self, *headers: bytes, body: bytes = b"") -> bytes:
        host = [] if self.host is None else [b"Host: " + self.host]
        line = b"%b %b HTTP/%b" % (self.method, self.target, self.version)
        lines = [line, *host, b"Connection: close", *self.headers, *headers]
        return b"\r\n".join([*lines, b"", body])


# What some server or framework drops, decodes or cuts off.
_ENDS = [
    b"/", b"//", b"%2f", b"%2F", b"/%2f", b"\\", b"%5c", b"%5C", b"/.", b"/%2e", b"/./",
    b"/x/..",
    b"/%2e%2e/login", b".", b"%2e", b"..", b"%0a", b"%0A", b"%0d", b"%0d%0a", b"%00", b"%09",
    b"%0b", b"%0c", b"%1f", b"%20", b"%7f", b"%85", b"%c2%85", b"%c2%a0", b"+", b";", b";x=1",
    b"%3b", b"?", b"?x=1", b"??", b"%3f", b"%3fx", b"#", b"#x", b"%23", b"%23x", b"%c0%af",
    b"%c0%80", b"%ff", b"%e2%80%a8", b"%e2%80", b"%ef%bb%bf", b"%ed%a0%80", b"%25", b"%", b"%2",
    b"%zz", b"%u002f", b"%250a", b"%252f", b"%2500", b"/%0a", b"%0a/", b"\t", b"\x00", b"\x0b",
    b"\x0c", b"\x1f", b"\x7f", b"\x80", b"\xff", b"\xc0\xaf", b"\xe2\x80\xa8", b"\xef\xbb\xbf",
    b"\xc2\xa0", b" ", b"  ", b" x", b"\r", b"\n", b"&", b"=", b":", b"@", b"*", b"~", b"|",
    b"^",
    b",", b"'", b'"', b"<", b"{", b"[", b"]", b".html", b".json", b"//x/..", b"/..;/login",
    b"%e3%80%80", b"%e2%80%8b", b"%c2%ad", b"%ef%bf%bd",
]  # fmt: skip
_BEGINS = [
    b"/", b"//", b"%2f", b"%2F", b"/%2f", b"/%2F", b"/%5c", b"\\", b"/\\", b"/.", b"/%2e",
    b"/..",
    b"/%2e%2e", b"/%2E.", b"/%252e%252e", b"/x/..", b"/x/%2e%2e", b"/x/..;", b"/x//..",
    b"/x%2f..", b"/;", b"/;x=1", b"/%0a", b"/%0d", b"/%00", b"/%09", b"/%20", b"/%c0%af",
    b"/%ff", b"/%ef%bb%bf", b"/%e2%80%a8", b"/\t", b"/\x00", b"/\xff", b"/\xef\xbb\xbf",
    b"//evil",
    b"///evil", b"http://evil", b"https://evil", b"HTTP://EVIL", b"http://a", b"http://evil:80",
    b"http://u:p@evil", b"http://u@evil:8", b"http://[::1]", b"http://", b"http:/", b"http:",
    b"http:///", b"ws://evil", b"x:", b"x:/", b"x://", b"mailto:x@a", b"-:", b"1:", b"//evil?",
    b"/?", b"?", b"#", b"/#", b";", b"*", b".", b"@", b"~", b"%", b"%25", b"%252f", b"\x00",
    b"\t", b" ", b"\x0b", b"\xef\xbb\xbf", b"%20", b"%0a", b"%00", b"x", b"http:\\\\evil",
    b"http://evil\\", b"http://evil#", b"http://evil?", b"http://evil%2f", b"a/../..",
    b"x.evil:80", b"[", b"//[", b"http://[", b"//evil@", b"blob:http://evil", b"/%3fx=",
    b"/%23",
]  # fmt: skip
_INSIDES = [
    b"%00", b"%0a", b"%0d", b"%09", b"%c0%af", b"%ff", b"%ef%bb%bf", b"%e2%80%a8", b"\t",
    b"\x00",
    b"\xff", b"%c2%ad", b"%e2%80%8b", b"%ed%a0%80", b"/", b"\\", b"%20", b"%", b"+", b"%80",
]  # fmt: skip
_ESCAPES = [
    b"%%%02x",
    b"%%%02X",
    b"%%25%02x",
    b"%%2525%02x",
    b"%%u00%02x",
    b"\\x%02x",
    b"&#x%x;",
]
_HOMOGLYPHS = ["\uff4c", "\u217c", "\U0001d4f5", "L", "\u0142", "I"]


def _rewritings(path: bytes):
    yield path
    yield path.lstrip(b"/")
    yield from (path + end for end in _ENDS)
    yield from (begin + path for begin in _BEGINS)
    yield from (begin + path.lstrip(b"/") for begin in _BEGINS)
    yield from (path[:3] + inside + path[3:] for inside in _INSIDES)
    yield from (path[:2] + escape % path[2] + path[3:] for escape in _ESCAPES)
    yield from (b"".join(escape % byte for byte in path) for escape in _ESCAPES)
    yield from (path.replace(b"/", escape % ord("/")) for escape in _ESCAPES)
    yield from (b"/" + path[1:].replace(b"/", escape % ord("/")) for escape in _ESCAPES)
    yield from (
        path.replace(b"/", b) for b in (b"//", b"\\", b"/./", b"/x/../", b"/;/", b"/%0a/")
    )
    yield from (b"/" + path[1:].replace(b"/", b) for b in (b"//", b"\\", b"%2f", b"/./"))
    yield from (path.swapcase(), path.title(), path[::-1])
    for glyph in _HOMOGLYPHS:
        escaped = b"".join(b"%%%02x" % byte for byte in glyph.encode())
        yield path[:1] + escaped + path[2:]
        yield path[:1] + glyph.encode() + path[2:]


_METHODS = [
    bytes.lower, bytes.title, bytes.swapcase, lambda m: m + b" ", lambda m: b" " + m,
    lambda m: m + b"\t", lambda m: b"\t" + m, lambda m: m + b"\x00", lambda m: m + b"\x0b",
    lambda m: b"\r\n" + m, lambda m: b"\n" + m, lambda m: m + b"X", lambda m: m[:-1],
    lambda m: m.replace(b"S", "\u017f".encode()), lambda m: b"HEAD", lambda m: b"head",
    lambda m: b"OPTIONS", lambda m: b"TRACE", lambda m: b"CONNECT", lambda m: b"PRI",
    lambda m: b"*", lambda m: b'"' + m + b'"', lambda m: m + b",GET",
]  # fmt: skip
_REROUTES = [
    (b"SCRIPT_NAME: /x", b"/x%b"), (b"Script-Name: /x", b"/x%b"), (b"PATH_INFO: %b", b"/"),
    (b"X-Forwarded-Prefix: /x", b"/x%b"), (b"X-Script-Name: /x", b"/x%b"),
    (b"X-Original-URL: %b", b"/free"), (b"X-Rewrite-URL: %b", b"/free"),
    (b"X-Forwarded-Path: %b", b"/free"), (b"Host: evil%b", b"/"),
    (b"X-Forwarded-Host: e/%b?", b"/"),
]  # fmt: skip

# A variable in a route may be nothing, or what is dropped.
EMPTY_SEGMENTS = [
    Form(b"POST", b"/users/%b/code" % x)
    for x in (b"", b"/", b".", b"..", b";", b"%00", b"%0a", b"%20", b"%2f", b"%3f", b"%23")
] + [
    Form(b"POST", b"/sms/" + x)
    for x in (b"/", b"%2f", b"%00", b"%0a", b"%20", b".", b"..", b"%c0", b";", b"%3f", b"%23")
]  # fmt: skip
_AT_API = [
    b"/login", b"login", b"/api/login", b"/apilogin", b"/x/api/login", b"/api/api/login",
    b"/free/api/login", b"/x/apilogin", b"api/login", b"x:/api/login", b"//api/login",
    b"/api//login", b"/api%2flogin", b"/%61pi/login", b"/api;/login", b"/api/x/../login",
    b"/x/../api/login", b"/api\\login", b"xapi/login", b"/api/login/api", b"http://e/api/login",
]  # fmt: skip
MOUNTED_AT_API = [Form(b"POST", target, headers=(b"X-Root: /api",)) for target in _AT_API]

# Each touches the weaker rules that come first in `gated_apps`.
WEAKER_RULES = [
    Form(method, target)
    for method, path in ((b"POST", b"login"), (b"GET", b"page"), (b"POST", b"users/1/code"))
    for target in (
        *(b"http://comments;x/" + path, b"//comments;/" + path, b"/" * 2100 + path),
        *(b"/comments/..;/" + path, b"/comments;/../" + path, b"/comments%3f/../" + path),
        *(b"/comments//../" + path, b"/comments/%2e%2e/" + path, b"//weak/" + path),
        *(
            b"/weak/../" + path,
            b"/weak/..%2f" + path,
            b"http://weak/" + path,
            b"x:weak/../" + path,
        ),
        *(
            b"/weak;/..\\" + path,
            b"/%77eak/%2e%2e/" + path,
            b"//" + path + b"?" + b"/weak/" * 900,
        ),
    )
]


def forms(method: bytes, path: bytes) -> list[Form]:
    """Return the plain form first, then all that differ from it in one way."""
    targets = dict.fromkeys(_rewritings(path))
    odd = dict.fromkeys(rewrite(method) for rewrite in _METHODS)
    return [
        *(Form(method, target) for target in targets),
        *(Form(m, path) for m in odd),
        Form(method, path, b"1.0"),
        Form(method, path, b"1.0", None),
        Form(method, path, host=None),
        Form(method, path, b"0.9", None),
        Form(method, path, b"1.1 "),
        Form(method, path, host=b"evil/login"),
        Form(method, path, host=b"a\\?#"),
        Form(method, path, host=b""),
    ] + [
        Form(method, target.replace(b"%b", path), headers=(header.replace(b"%b", path),))
        for header, target in _REROUTES
    ]


def pairs(method: bytes, path: bytes, count: int) -> list[Form]:
    """Return `count` forms that differ from the plain one in two ways, always the same."""
    single = list(dict.fromkeys(_rewritings(path)))
    every = {t: None for form in single for t in _rewritings(form)}
    targets = list(every)
    return [Form(method, t) for t in Random(count).sample(targets, min(count, len(targets)))]


_BESIDE = [
    b"//w;%b", b"//w;x%b", b"http://w;x%b", b"//w?/..%b", b"/w/..;%b", b"/w/..;/..%b",
    b"/w;/..%b", b"/w;x/..%b", b"/w//..%b", b"//w/..%b", b"/w/../%b", b"/w/./..%b",
    b"/w%%2f..%b", b"/w%%2f..%%2f%b", b"/w/..%%2f%b", b"/w/%%2e.%b", b"/w/%%252e%%252e%b",
    b"\\w\\..%b", b"/w\\..%b", b"/w%%5c..%b", b"/w%%3f/..%b", b"/w%%23/..%b",
    b"/w/%%00/../..%b", b"/w/%%0a..%b", b"/w/%%e2%%80%%8b..%b", b"w/..%b", b"x:/w/..%b",
    b"/W/..%b", b"/w.json/..%b", b"/w/x/../..%b", b"/x/../w/..%b", b"//evil/w/..%b",
    b"http://evil/w/..%b", b"%b;/../w", b"%b/../w", b"%b/..;/w", b"%b%%3f/w", b"%b#/w",
    b"%b?/../w", b"%b;x=/w", b"/%b/w", b"/%b;/w", b"http:/%b/w", b"%b%%2f..%%2fw",
    b"%b%%00/../w", b"%b%%0a/../w", b"%b/w/..", b"%b/%%2e%%2e/w", b"%b.json/../w", b"//w%b%%0a",
    b"http://w%b/",
]  # fmt: skip


def touching(method: bytes, path: bytes, other: bytes) -> list[Form]:
    """Return forms that may be read as `path` or as `other`, a path without a slash."""
    named = [
        target.replace(b"evil", other).replace(b"/x/", b"/%b/" % other)
        for target in _rewritings(path)
        if b"evil" in target or b"/x/" in target
    ]
    beside = [(target % path).replace(b"w", other) for target in _BESIDE]
    slashes = [b"/" * 2100 + path.lstrip(b"/"), b"/" * 2100 + other + b"/.." + path]
    return [Form(method, target) for target in dict.fromkeys([*named, *beside, *slashes])]


# What the applications protect, and each form of it that a gate has to stop.
PROTECTED = {
    "login": Form(b"POST", b"/login"),
    "page": Form(b"GET", b"/page"),
    "admin": Form(b"GET", b"/admin/secret"),
    "mounted": Form(b"POST", b"/mount/login"),
    "code": Form(b"POST", b"/users/1/code"),
    "sms": Form(b"POST", b"/sms/1"),
    "every": Form(b"PUT", b"/every"),
}
LOGIN = forms(b"POST", b"/login")
OTHERS = [form for name, form in PROTECTED.items() if name not in ("login", "every")]
CORPUS = [
    *LOGIN,
    *(form for plain in OTHERS for form in forms(*plain[:2])[::5]),
    *(form for plain in PROTECTED.values() for form in pairs(*plain[:2], 35)),
    *EMPTY_SEGMENTS,
    *MOUNTED_AT_API,
    *WEAKER_RULES,
]
HANDSHAKES = forms(b"GET", b"/socket")[::2]
