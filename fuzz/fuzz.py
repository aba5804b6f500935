"""Coverage-guided fuzzing of all input that clients, proxies or an upstream can send.

    python fuzz/fuzz.py [TARGET] [OPTION OF LIBFUZZER …]

Every target creates its input from the bytes with `_Bytes`, calls one part of the package, and
asserts its properties.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
import sys
from ipaddress import ip_address
from itertools import repeat
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, unquote_to_bytes, urlsplit

import atheris
import h11

sys.path.append(str(Path(__file__).parent.parent / "tests/support"))

with atheris.instrument_imports(include=["tcaptcha_middleware", "python_multipart"]):
    from health_simulation import Service, Simulation

    from tcaptcha_middleware import RequestInfo, TrustedProxies, sources
    from tcaptcha_middleware._http.codec import ProtocolError, ResponseReader
    from tcaptcha_middleware.errors import RequestBodyError, VerifierError
    from tcaptcha_middleware.extraction.extractor import Extractor
    from tcaptcha_middleware.extraction.sources import body_kind
    from tcaptcha_middleware.matching.matcher import Matcher
    from tcaptcha_middleware.matching.patterns import parse
    from tcaptcha_middleware.tencent.actions import WEB
    from tcaptcha_middleware.tencent.api import read_answer

from slow_oracle import touched

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.extraction.pairs import PartialPair
    from tcaptcha_middleware.extraction.sources import BodySource

_HIGH = 0x80


class _Bytes:
    """Reads choices and texts from the fuzzer's bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def byte(self) -> int:
        """Return the next byte; 0 at the end."""
        first, self._data = self._data[:1], self._data[1:]
        return first[0] if first else 0

    def take(self, length: int) -> bytes:
        """Return the next bytes."""
        taken, self._data = self._data[:length], self._data[length:]
        return taken

    def rest(self) -> bytes:
        """Return the remaining bytes."""
        return self.take(len(self._data))

    def written(self, data: bytes, words: list[str]) -> bytes:
        """Translate `data`: ASCII is kept, every other byte becomes one of the words.

        A mutation of one byte may therefore insert a whole boundary, or remove one.
        """
        pieces = [bytes([b]) if b < _HIGH else _word(words, b - _HIGH) for b in data]
        return b"".join(pieces)


def _word(words: list[str], number: int) -> bytes:
    return words[number % len(words)].encode("latin-1")


# -- The pair, in bodies, queries and headers ------

_URLENCODED = "application/x-www-form-urlencoded"
_JSON = "application/json"
_MULTIPART = "multipart/form-data; boundary=B"
_KINDS: list[tuple[str, BodySource, list[str]]] = [
    (
        _URLENCODED,
        sources.Form(),
        ["ticket=", "&randstr=", "&ticket=", "%74icket=", "%", "%ff", "+", "\xff", "\xc3\xa9"],
    ),
    (
        _JSON,
        sources.Json("c.ticket", "c.randstr"),
        [
            *('{"c":', '{"ticket":"a"', '"ticket":', ',"randstr":', '"\\ud800"', "null", "[{"),
            *(
                "9" * 5000,
                "[" * 2000,
                '{"c":' * 300,
                "NaN",
                "-",
                "1e999",
                "\xff",
                "\xef\xbb\xbf",
            ),
            '{"c":{"ticket":"t","randstr":"r"}}',
        ],
    ),
    (
        _MULTIPART,
        sources.Form(),
        [
            *(
                "--B",
                "--B\r\n",
                "\r\n--B\r\n",
                "\r\n--B--\r\n",
                "\r\n",
                "\r",
                "\n",
                "\0",
                "\xff",
            ),
            'Content-Disposition: form-data; name="ticket"\r\n\r\n',
            'content-disposition: form-data; name="randstr"\r\n\r\n',
            'Content-Disposition: form-data; name="ticket"; filename="f"\r\n\r\n',
            "Content-Disposition: form-data; name*=utf-8''ticket\r\n\r\n",
            'Content-Disposition: form-data; name="',
            '--B\r\nContent-Disposition: form-data; name="ticket"\r\n\r\nt\r\n',
            '--B\r\nContent-Disposition: form-data; name="randstr"\r\n\r\nr\r\n',
        ],
    ),
]


def extraction(data: bytes) -> None:
    """Any bytes raise only our errors, chunking changes no result, no value is invented."""
    choices = _Bytes(data)
    content_type, source, words = _KINDS[choices.byte() % len(_KINDS)]
    cuts = choices.take(choices.byte() % 8)
    body = choices.written(choices.rest(), words)
    whole = _read(source, content_type, [body])
    assert _read(source, content_type, _pieces(body, cuts)) == whole
    assert _read(source, content_type, [bytes([byte]) for byte in body]) == whole
    if isinstance(whole, tuple):
        assert set(whole) <= _texts(content_type, body), whole


def _pieces(body: bytes, cuts: bytes) -> list[bytes]:
    places = sorted(cut * len(body) // 255 for cut in cuts)
    return [
        body[start:end] for start, end in zip([0, *places], [*places, len(body)], strict=True)
    ]


def _read(source: BodySource, content_type: str, pieces: list[bytes]) -> object:
    extractor = Extractor([source], body_limit=65536, body_timeout=10.0, needs_randstr=True)
    kind, request = (
        body_kind(content_type.partition(";")[0]) or "",
        RequestInfo("http", "POST", "/"),
    )
    try:
        parser = extractor.parser(kind, content_type, request)
        any(parser.feed(piece) for piece in pieces)
        return _said(extractor.find_in(kind, parser, request)[0])
    except RequestBodyError:
        return "refused"


def _said(seen: PartialPair) -> object:
    return seen.pair()


def _texts(content_type: str, body: bytes) -> set[object]:
    """Return every text of the body, as the standard library reads it."""
    if content_type == _JSON:
        return set(_leaves(json.loads(body.decode("utf-8-sig"), object_pairs_hook=_flat)))
    if content_type == _URLENCODED:
        return {value for _, value in parse_qsl(body.decode("utf-8", "replace"), True)}  # noqa: FBT003
    # A multipart value is in the body unchanged, up to the next line that may end it.
    chunks = body.split(b"\r\n\r\n")
    ends = [chunk[:at] for chunk in _tails(chunks) for at in _ends(chunk)]
    return {end.decode("utf-8", "replace") for end in ends}


def _tails(chunks: list[bytes]) -> list[bytes]:
    return [b"\r\n\r\n".join(chunks[number:]) for number in range(1, len(chunks))]


def _ends(chunk: bytes) -> list[int]:
    return [at for at in range(len(chunk)) if chunk.startswith(b"\r\n--B", at)]


def _flat(pairs: list[tuple[str, object]]) -> list[object]:
    return [value for _, value in pairs]


def _leaves(value: object) -> list[object]:
    left, texts = [value], []
    while left:
        item = left.pop()
        if isinstance(item, list):
            left += item
        elif isinstance(item, str):
            texts.append(item)
    return texts


def head(data: bytes) -> None:
    """Only values that a header or a query contains are found in it."""
    choices = _Bytes(data)
    values = [choices.take(choices.byte()) for _ in range(choices.byte() % 4)]
    names = [b"x-captcha-ticket", b"x-captcha-randstr", b"x-other"]
    headers = [(names[value[0] % 3] if value else b"", value) for value in values]
    query = choices.rest()
    request = RequestInfo("http", "POST", "/", query, headers)
    whole = b"\n".join(values).decode("latin-1")
    for value in sources.Header().find(request):
        if isinstance(value, str):
            assert value in whole
            assert "," not in value
    _said(sources.Header().find(request))
    _said(sources.Query().find(request))


# -- The target ------

_TARGET_WORDS = [
    *(
        "/login",
        "/public",
        "/x",
        "//",
        "/./",
        "/../",
        "%2f",
        "%2F",
        "%2e",
        "%252f",
        "%5c",
        "\\",
    ),
    *("%00", "%0a", "\t", ";a=b", "?q", "#f", "http://h", "//h", "%ff", "\xff", "%c0%af", "%"),
    *("%ef%bb%bf", "%ed%a0%80", "\xc2\x85", " ", "%20", "%25", "%6c", "l%6fgin", "publi%63"),
]
_EVERYTHING = Matcher([parse("/**")])
_LOGIN = Matcher([parse("POST /login")])
_EXEMPT = Matcher([parse("/**")], [parse("/public")])
# The first rule judges, or refuses a target with too many oddities.
_FIRST = (0, (0,))
_ROOTS = ["", "", "/", "/x", "/x/", "/public", "/login"]


def target(data: bytes) -> None:
    """A rule matches every target that a router accepts; an exemption matches no other."""
    choices = _Bytes(data)
    root = _ROOTS[choices.byte() % len(_ROOTS)]
    with_raw, blank = choices.byte() % 2, choices.byte() % 2
    written = b"/" + choices.written(choices.rest(), _TARGET_WORDS)
    raw = written.partition(b"?")[0]
    path = unquote_to_bytes(raw).decode("utf-8", "replace" if blank else "ignore")
    shown = raw if with_raw else b""
    assert _EVERYTHING.match("POST", path, shown, root) in _FIRST
    readings = _readings(path, root)
    if "/login" in readings:
        assert _LOGIN.match("post ", path, shown, root) in _FIRST
        assert _LOGIN.match("POST", path, shown, root) in _FIRST
    if _EXEMPT.match("POST", path, shown, root) is None:
        assert {reading.rstrip("/") or "/" for reading in readings} == {"/public"}
    if not root:
        for matcher in (_LOGIN, _EXEMPT):
            short = matcher.match("POST", path, shown, "")
            assert short == matcher.match("POST", path, shown, "/")


_RULES = [
    parse(text)
    for text in (
        "/public/**",
        "POST /login",
        "/x/{a}",
        "UNSAFE /x",
        "/{a}/{b}",
        "GET /login/**",
    )
]


def strictness(data: bytes) -> None:
    """A target is judged at least as strictly as by each rule that the slow oracle touches.

    Of two rules, the one with the higher weight suffices for the other; rules of one weight do
    not suffice for each other.
    """
    choices = _Bytes(data)
    weights = [choices.byte() % 4 for _ in _RULES]
    root, method = (
        _ROOTS[choices.byte() % len(_ROOTS)],
        ["POST", "GET", "put"][choices.byte() % 3],
    )
    with_raw = choices.byte() % 2
    written = b"/" + choices.written(choices.rest()[:80], _TARGET_WORDS)
    raw = written.partition(b"?")[0]
    path = unquote_to_bytes(raw).decode("utf-8", "replace")
    shown = written if with_raw else b""

    def suffices(first: int, second: int) -> bool:
        return first == second or weights[first] > weights[second]

    expected = touched(_RULES, method.upper(), path, raw if with_raw else b"", root)
    match = Matcher(_RULES, suffices=suffices).match(method, path, shown, root)
    assert match is not None or not expected
    odd = unquote(path) != path or re.search(r"[;?#\\]|//|/\.{1,2}(?:/|$)", path)
    if isinstance(match, int) and odd:
        assert all(suffices(match, number) for number in expected), (match, expected)


def _readings(path: str, root: str) -> set[str]:
    """Return the paths below the mount that some framework uses for routing."""
    below = path.removeprefix(root.rstrip("/")) if _is_below(path, root) else path
    # Frameworks parse a target as a URL first, and resolve dots last.
    paths = {below, _path_of(below)}
    paths |= {unquote(path) for path in paths}
    paths |= {_path_of(path) for path in paths}
    paths |= {_merged(path) for path in paths}
    paths |= {posixpath.normpath(path) for path in paths if path}
    return {_merged("/" + path.lstrip("/")) for path in paths}


def _path_of(target: str) -> str:
    try:
        return target if target.startswith("//") else urlsplit(target).path
    except ValueError:  # a bracket without an address
        return target


def _is_below(path: str, root: str) -> bool:
    root = root.rstrip("/")
    return path == root or path.startswith(root + "/")


def _merged(path: str) -> str:
    while "//" in path:
        path = path.replace("//", "/")
    return path


# -- The visitor's address ------

_ADDRESS_WORDS = [
    *("10.0.0.2", "6.6.6.6", "2001:db8::6", "::ffff:10.0.0.9", "[", "]", ":80", "%eth0", '"'),
    *(
        "for=",
        "For=",
        ";",
        ",",
        '="',
        '",',
        'for="',
        "\\",
        '\\"',
        "\xff",
        "\xa0",
        "unknown",
        "by=",
    ),
    *('for="[2001:db8::6]:1"', "for=6.6.6.6", ';host="', ", for=10.0.0.3", "  "),
]
_OURS = ["10.0.0.0/8"]
_PROXY = "10.0.0.1"
_VISITOR = "198.51.100.9"
_CHAINS = {
    "X-Forwarded-For": [f", {_VISITOR}", f",{_VISITOR}:4711, 10.0.0.2"],
    "Forwarded": [
        f", for={_VISITOR}",
        f',for="{_VISITOR}:4711"',
        f', for="{_VISITOR}";host="a,b", for=10.0.0.2;proto=https',
    ],
}


def address(data: bytes) -> None:
    """The entry of a trusted proxy counts, not what the client wrote before it."""
    choices = _Bytes(data)
    name = list(_CHAINS)[choices.byte() % 2]
    client_ip = TrustedProxies(_OURS, name)
    text = choices.written(choices.rest(), _ADDRESS_WORDS)
    alone = client_ip(_from(_PROXY, name, text))
    assert str(ip_address(alone)) == alone
    assert client_ip(_from("6.6.6.7", name, text)) == "6.6.6.7"
    for chain in _CHAINS[name]:
        assert client_ip(_from(_PROXY, name, text + chain.encode())) == _VISITOR
        assert client_ip(_from(_PROXY, name, text, chain[1:].encode())) == _VISITOR
    spoken = client_ip(_from(text.decode("latin-1"), name, text))
    assert not spoken or str(ip_address(spoken)) == spoken


def _from(peer: str, name: str, *values: bytes) -> RequestInfo:
    headers = [(name.lower().encode(), value) for value in values]
    return RequestInfo("http", "POST", "/", b"", headers, peer)


# -- The answer of the upstream ------

_ANSWER_WORDS = [
    *(
        '{"Response":{',
        '"CaptchaCode":1',
        '"Error":{"Code":"InternalError"}',
        "}}",
        "null",
        ",",
    ),
    *("[" * 2000, "NaN", "\xff", "\xef\xbb\xbf", "\xff\xfe", "\\u0031", "<html>"),
]
_NAMES = [
    "CaptchaCode",
    "CaptchaCode",
    "EvilLevel",
    "Score",
    "Error",
    "RequestId",
    "captchaCode",
]
_NAMES += ["GetCaptchaTime", "CaptchaMsg", "SubmitCaptchaTime", "Captcha\\u0043ode", "Response"]
_VALUES = [
    "1",
    "1",
    "0",
    "true",
    '"1"',
    "1.0",
    "1e0",
    "100",
    "99",
    "101",
    "-1",
    "26",
    "null",
    "[]",
]
_VALUES += [
    "9" * 5000,
    "NaN",
    "{}",
    '{"Code":1}',
    '{"Code":"AuthFailure.x"}',
    '"\\ud800"',
    "-0",
    "",
]
_STATUSES = [200, 200, 200, 200, 199, 201, 204, 302, 400, 403, 429, 500, 503, 599]


def answer(data: bytes) -> None:
    """Only positive proof passes; anything else is a rejection or one of our errors."""
    choices = _Bytes(data)
    status = _STATUSES[choices.byte() % len(_STATUSES)]
    body = (_fields if choices.byte() % 4 else _anything)(choices)
    try:
        verdict = read_answer(status, body, WEB.codes)
    except VerifierError as error:
        str(error)
        return
    assert status == 200  # noqa: PLR2004
    assert verdict.passed == _is_proof(json.loads(body)["Response"])
    repr(verdict)


def _anything(choices: _Bytes) -> bytes:
    return choices.written(choices.rest(), _ANSWER_WORDS)


def _fields(choices: _Bytes) -> bytes:
    """Return an answer that resembles Tencent's: every two bytes are a field and its value."""
    pairs = [
        f'"{_NAMES[name % len(_NAMES)]}":{_VALUES[value % len(_VALUES)]}'
        for name, value in zip(*[iter(choices.rest())] * 2, strict=False)
    ]
    return f'{{"Response":{{{",".join(pairs)}}}}}'.encode()


def _is_proof(response: dict[str, object]) -> bool:
    evil = response.get("EvilLevel")
    harmless = evil is None or (type(evil) is int and evil < 100)  # noqa: PLR2004
    code = response["CaptchaCode"]
    return "Error" not in response and type(code) is int and code == 1 and harmless


# -- Delays that a client causes ------

# Warnings about verifications that fail, which is what happens here.
logging.getLogger("tcaptcha_middleware").disabled = True
_CAPACITIES = [inf, inf, 200, 50]
_TIMEOUTS = [0.3, 1.0, 5.0, 10.0]
_RATES = [1, 5, 60, 400]


def delay(data: bytes) -> None:
    """No stop of the process, blocked event loop or flood of visitors is an outage."""
    choices = _Bytes(data)
    run = Simulation(
        Service(latency=choices.byte() / 500, capacity=_CAPACITIES[choices.byte() % 4]),
        timeout=_TIMEOUTS[choices.byte() % 4],
        stops=_windows(choices),
        blocks=_windows(choices),
        seed=choices.byte(),
    )
    run.arrive(1, 0, 30)
    for _ in repeat(None, choices.byte() % 4):
        rate, begin, length = (
            _RATES[choices.byte() % 4],
            choices.byte() / 12,
            choices.byte() / 128,
        )
        kind = "disaster" if choices.byte() % 2 else "honest"
        run.arrive(rate, begin, begin + length, kind)
    run.run(60)
    assert not run.went_down
    assert run.count("let in") + run.count("let in", kind="disaster") == 0


def _windows(choices: _Bytes) -> list[tuple[float, float]]:
    begins = [choices.byte() / 10 for _ in range(choices.byte() % 6)]
    return [(begin, begin + (choices.byte() + 1) / 32) for begin in begins]


# -- The response as bytes ------

_RESPONSE_WORDS = [
    *("HTTP/1.1 200 OK\r\n", "HTTP/1.0 ", "204", "304", "100 x\r\n\r\n", "502", "\r\n"),
    *("Content-Length: ", "2", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n"),
    *(
        "\r\n\r\n",
        "2\r\n{}\r\n",
        "0\r\n\r\n",
        "{}",
        "X: y\r\n",
        ";x",
        "\0",
        "\x0b",
        "\xff",
        "\n",
    ),
]


def response(data: bytes) -> None:
    """Our reader accepts nothing that h11 rejects, and reads the same in what both accept."""
    choices = _Bytes(data)
    cuts = choices.take(choices.byte() % 8)
    content = choices.written(choices.rest(), _RESPONSE_WORDS)
    ours = _read_by_us([content])
    in_pieces = _read_by_us(_pieces(content, cuts))
    assert in_pieces == ours, (ours, in_pieces)
    if ours is not None:
        status, body, is_framed = _read_by_h11(content)
        assert ours == (status, body) or (ours == (status, b"") and not is_framed), ours


def _read_by_us(pieces: list[bytes]) -> tuple[int, bytes] | None:
    reader = ResponseReader()
    try:
        for piece in filter(None, pieces):
            if complete := reader.feed(piece):
                return complete.status, complete.body
    except ProtocolError:
        pass
    return None


def _read_by_h11(content: bytes) -> tuple[int, bytes, bool]:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(content)
    connection.receive_data(b"")
    status, body, names = 0, b"", set()
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status, names = event.status_code, {name for name, _ in event.headers}
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
    return status, body, bool(names & {b"content-length", b"transfer-encoding"})


TARGETS: dict[str, Callable[[bytes], None]] = {
    run.__name__: run
    for run in (extraction, head, target, strictness, address, answer, delay, response)
}


def main() -> None:
    """Fuzz one target, until it fails or the time is over."""
    name = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if name not in TARGETS:
        raise SystemExit(f"name one of {', '.join(TARGETS)}, not {name!r}")
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
