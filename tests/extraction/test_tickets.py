"""The sources of a pair: what they read, what they refuse, and that no input raises."""

from __future__ import annotations

import json
from collections import OrderedDict
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcaptcha_middleware import ConfigurationError, Reason, RequestInfo, sources
from tcaptcha_middleware.errors import RequestBodyError
from tcaptcha_middleware.extraction.extractor import Extractor
from tcaptcha_middleware.extraction.pairs import NOTHING, Invalid, PartialPair, combine, screen
from tcaptcha_middleware.extraction.sources import (
    DEFAULT_SOURCES,
    HeadSource,
    as_sources,
    body_kind,
)
from tcaptcha_middleware.operations.log import RateLimit
from tcaptcha_middleware.settings import Settings

if TYPE_CHECKING:
    from tcaptcha_middleware.extraction.sources import BodySource

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=B"
JSON = "application/json"
T, R = "tr03goodticket*", "@rand"


def request(*headers: tuple[str, str], query: bytes = b"") -> RequestInfo:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    return RequestInfo("http", "POST", "/login", query, raw)


def part(name: str, value: str, more: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"{more}'
    return f"--B\r\n{head}\r\n\r\n{value}\r\n".encode()


END = b"--B--\r\n"


RULE = SimpleNamespace(name="POST /login", rate_limit=RateLimit())


def extractor_of(sources, *, body_limit=65536, needs_randstr=True):
    return Extractor(
        Settings(sources=sources).sources,
        body_limit=body_limit,
        body_timeout=10.0,
        needs_randstr=needs_randstr,
    )


def read(
    source: BodySource, content_type: str, *pieces: bytes, alone: bool = False
) -> PartialPair | type[RequestBodyError]:
    """Feed a parser as the extractor does; return its result, or the reason to refuse."""
    seen = fed(source, content_type, pieces, needs_randstr=not alone)
    return PartialPair(seen.ticket, "") if alone and seen is not RequestBodyError else seen


def reader(source: BodySource, content_type: str, *, needs_randstr: bool):
    """Return a parser, and a function that returns what the source finds in it."""
    extractor = extractor_of([source], needs_randstr=needs_randstr)
    kind = body_kind(content_type.partition(";")[0])
    head = request(("Content-Type", content_type))
    parser = extractor.parser(kind, content_type, head)
    return parser, lambda: extractor.find_in(kind, parser, head)[0]


def fed(source, content_type, pieces, *, needs_randstr):
    try:
        parser, result = reader(source, content_type, needs_randstr=needs_randstr)
        for piece in pieces:
            if parser.feed(piece):
                break
        return result()
    except RequestBodyError:
        return RequestBodyError


def asked(seen: PartialPair | type[RequestBodyError]) -> object:
    """Call what the extractor calls."""
    if seen is RequestBodyError:
        return seen
    return seen.pair()


def seen_of(tickets: list[object], randstrs: list[object]) -> PartialPair:
    return PartialPair(combine(tickets), combine(randstrs))


def cut(body: bytes, places: set[int]) -> list[bytes]:
    ends = sorted({0, len(body), *(place % (len(body) + 1) for place in places)})
    return [body[start:end] for start, end in pairwise(ends)]


# Any bytes, and bytes that resemble each kind of body enough to get far into its parser.
SCRAPS = {
    URLENCODED: ["ticket=", "randstr=", "&", ";", "=", "%", "%74", "%ff", "+", "\xff", "a"],
    JSON: [
        *('{"ticket":', '"randstr":', "{", "}", "[", "]", ",", ":", '"a"', '"\\ud800"', "null"),
        *("1", "1e999", "-", "NaN", "tr", "true", "\ufeff", "\xff", "9" * 5000, "[" * 5000),
    ],
    MULTIPART: [
        *("--B", "--B\r\n", "\r\n--B\r\n", "\r\n--B--\r\n", "\r\n--B", "--", "-", "\r\n", "\r"),
        *("\n", ":", " ", "a", "\0", "\xff", "\r\n\r\n", "x: y\r\n", "a" * 5000, "--B \t\r\n"),
        'Content-Disposition: form-data; name="ticket"',
        'content-disposition: form-data; name="randstr"\r\n\r\n',
        "Content-Disposition: form-data; name=ticket; filename*=x''%ff\r\n\r\n",
        'Content-Disposition: form-data; name*0="ti"; name*1="cket"\r\n\r\n',
        'Content-Disposition: ;;="\\"; name="ticket',
        part("ticket", T).decode(),
        part("randstr", R).decode(),
        part("ticket", T, '; filename="t"').decode(),
    ],
}
SOURCES = {URLENCODED: sources.Form(), JSON: sources.Json(), MULTIPART: sources.Form()}
BODIES = {
    kind: st.binary()
    | st.lists(st.sampled_from(scraps), max_size=12).map(
        lambda parts: "".join(parts).encode("utf-8")
    )
    | st.lists(st.sampled_from(scraps), max_size=12).map(
        lambda parts: "".join(parts).encode("latin-1", "replace")
    )
    for kind, scraps in SCRAPS.items()
}
PLACES = st.sets(st.integers(0, 20_000), max_size=12)
KINDS = {URLENCODED: "urlencoded", JSON: "json", MULTIPART: "multipart"}


@pytest.mark.parametrize("alone", [False, True], ids=["pair", "ticket alone"])
@pytest.mark.parametrize("kind", KINDS, ids=KINDS.values())
@given(data=st.data(), places=PLACES)
def test_no_bytes_raise_and_no_chunking_changes_the_result(kind, alone, data, places):
    body, source = data.draw(BODIES[kind]), SOURCES[kind]
    whole = asked(read(source, kind, body, alone=alone))
    assert asked(read(source, kind, *cut(body, places), alone=alone)) == whole
    assert asked(read(source, kind, *(bytes([byte]) for byte in body), alone=alone)) == whole


WHOLE = {
    "urlencoded": (URLENCODED, f"a=b&ticket={quote(T)}&randstr={quote(R)}".encode()),
    "json": (JSON, json.dumps({"a": 1, "ticket": T, "randstr": R}).encode()),
    "multipart": (MULTIPART, part("a", "b") + part("ticket", T) + part("randstr", R) + END),
    "multipart, line breaks before": (
        MULTIPART,
        b"\r\n\n" + part("ticket", T) + part("randstr", R) + END,
    ),
}


@pytest.mark.parametrize(("kind", "body"), WHOLE.values(), ids=WHOLE)
def test_the_pair_is_found_wherever_the_body_is_cut(kind, body):
    for place in range(len(body)):
        assert asked(read(SOURCES[kind], kind, body[:place], body[place:])) == (T, R)


@pytest.mark.parametrize(("kind", "body"), WHOLE.values(), ids=WHOLE)
def test_a_ticket_alone_is_found_wherever_the_body_is_cut(kind, body):
    for place in range(len(body)):
        seen = read(SOURCES[kind], kind, body[:place], body[place:], alone=True)
        assert asked(seen) == (T, "")


@pytest.mark.parametrize("kind", KINDS, ids=KINDS.values())
@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1),
    places=PLACES,
)
def test_a_written_pair_is_read_unchanged(kind, text, places):
    pair = [("ticket", text), ("randstr", text)]
    body = {
        URLENCODED: urlencode(pair).encode(),
        JSON: json.dumps(dict(pair), ensure_ascii=False).encode(),
        MULTIPART: b"".join(part(*field) for field in pair) + END,
    }[kind]
    assert read(SOURCES[kind], kind, *cut(body, places)).pair() == (text, text)


def test_a_preamble_is_refused_in_chunks_of_any_size():
    # A parser that searches only for the first dash would depend on the chunks.
    body = b"\r\nA preamble.\r\n" + part("ticket", T) + part("randstr", R) + END
    for place in range(len(body)):
        assert read(sources.Form(), MULTIPART, body[:place], body[place:]) is RequestBodyError


NAME = b'Content-Disposition: form-data; name="ticket"'
PARTS = {
    "a field": (NAME, [T]),
    "names in lower case": (NAME.lower(), [T]),
    "names in capitals": (NAME.replace(b"Content-D", b"CONTENT-D"), [T]),
    "no quotes": (NAME.replace(b'"', b""), [T]),
    "another header before": (b"X: y\r\n" + NAME, [T]),
    "another header after": (NAME + b"\r\nContent-Type: text/plain; filename=x", [T]),
    "a file": (NAME + b'; filename="ticket.txt"', []),
    "a file without a name": (NAME + b'; filename=""', []),
    "a file's name in RFC 2231's form": (NAME + b"; filename*=utf-8''x", [T]),
    "the name in RFC 2231's form": (NAME.replace(b"name=", b"name*=utf-8''"), []),
    "another name": (NAME.replace(b"ticket", b"Ticket"), []),
    "a name beyond UTF-8": (NAME.replace(b"ticket", b"\xff"), []),
    "no name": (NAME.partition(b";")[0], []),
    "no disposition": (b"Content-Type: text/plain", []),
}


@pytest.mark.parametrize(("head", "tickets"), PARTS.values(), ids=PARTS)
def test_a_part_is_a_field_if_it_has_a_name_and_no_filename(head, tickets):
    body = b"--B\r\n" + head + b"\r\n\r\n" + T.encode() + b"\r\n" + part("randstr", R) + END
    assert read(sources.Form(), MULTIPART, body) == seen_of(tickets, [R])


def test_a_multipart_form_is_read_no_further_than_the_pair():
    parser, result = reader(sources.Form(), MULTIPART, needs_randstr=True)
    assert not parser.feed(part("ticket", T))
    assert not parser.feed(part("randstr", R))
    assert parser.feed(b"--B\r\n")
    assert result() == (T, R)


def test_a_multipart_form_is_read_no_further_than_a_ticket_without_a_randstr():
    parser, result = reader(sources.Form(), MULTIPART, needs_randstr=False)
    assert not parser.feed(part("randstr", R))
    assert not parser.feed(part("ticket", T))
    assert parser.feed(b"--B\r\n")
    assert result() == (T, "")


def test_a_multipart_form_without_the_pair_is_read_to_its_end():
    assert read(sources.Form(), MULTIPART, part("a", "b"), END, b"epilogue") == NOTHING
    assert read(sources.Form(), MULTIPART, part("a", "b"), b"") is RequestBodyError


def test_bytes_after_the_pair_are_not_parsed():
    second = part("ticket", "other") + b"--B\r\n\0"
    seen = read(sources.Form(), MULTIPART, part("ticket", T) + part("randstr", R) + second)
    assert seen == PartialPair(T, R)


BOUNDARIES = {
    "none": "multipart/form-data",
    "empty": "multipart/form-data; boundary=",
    "empty, quoted": 'multipart/form-data; boundary=""',
    "of 201 characters": "multipart/form-data; boundary=" + "b" * 201,
    "in RFC 2231's form": "multipart/form-data; boundary*=utf-8''B",
}


@pytest.mark.parametrize("content_type", BOUNDARIES.values(), ids=BOUNDARIES)
def test_a_multipart_form_needs_a_boundary(content_type):
    with pytest.raises(RequestBodyError, match="boundary"):
        reader(sources.Form(), content_type, needs_randstr=True)


@given(st.text(st.characters(max_codepoint=255)), st.binary())
@example('boundary="\\', b"")
@example("boundary=B; boundary=C", END)
@example(";;;=;charset", END)
def test_no_content_type_raises(parameters, body):
    try:
        content_type = f"multipart/form-data; {parameters}"
        reader(sources.Form(), content_type, needs_randstr=True)[0].feed(body)
    except RequestBodyError:
        return


READ = {
    URLENCODED: "urlencoded",
    "Application/X-WWW-Form-URLEncoded ; charset=utf-8": "urlencoded",
    MULTIPART: "multipart",
    'MULTIPART/FORM-DATA;boundary="B"': "multipart",
    JSON: "json",
    "application/json; charset=utf-8": "json",
    " APPLICATION/JSON": "json",
    "application/vnd.api+json": "json",
    "application/problem+json;v=1": "json",
    "": None,
    ";": None,
    "text/plain": None,
    "text/json": None,
    "application/jsonp": None,
    "application/json-patch": None,
    "application/octet-stream": None,
    "multipart/mixed; boundary=B": None,
    "form-data": None,
    "application/x-www-form-urlencoded, application/json": None,
}


@pytest.mark.parametrize(("content_type", "kind"), READ.items(), ids=repr)
def test_the_media_type_names_the_kind_of_body(content_type, kind):
    media_type = content_type.partition(";")[0]
    assert body_kind(media_type) == body_kind(f" {media_type.upper()} ") == kind


def steps_of(given_sources, given_request):
    """Return how many pieces of an endless body are read, and the reason that follows."""
    extractor = extractor_of(given_sources, body_limit=10)
    seen = extractor.find_in_head(given_request)
    flow, steps = extractor.find_in_body(given_request, seen, rule=RULE, may_disconnect=True), 0
    try:
        next(flow)
        while True:
            steps += 1
            flow.send((b"1234", True))
    except StopIteration as stop:
        return steps, stop.value


def test_the_first_of_two_media_types_counts():
    both = request(("Content-Type", "text/plain"), ("Content-Type", JSON))
    assert steps_of(DEFAULT_SOURCES, both) == (0, Reason.TICKET_MISSING)


def test_without_a_media_type_no_body_is_read():
    assert steps_of(DEFAULT_SOURCES, request()) == (0, Reason.TICKET_MISSING)


def test_no_more_than_the_limit_is_read():
    assert steps_of(DEFAULT_SOURCES, request(("Content-Type", JSON))) == (
        3,
        Reason.BODY_TOO_LARGE,
    )


@pytest.mark.parametrize(
    "source", [sources.Header(), sources.Query(), sources.Head(lambda _: None)], ids=repr
)
def test_a_source_in_the_head_reads_no_body(source):
    assert steps_of([source], request(("Content-Type", JSON))) == (0, Reason.TICKET_MISSING)


def test_a_websocket_handshake_reads_no_body():
    handshake = RequestInfo("websocket", "GET", "/", headers=[(b"content-type", JSON.encode())])
    assert steps_of(DEFAULT_SOURCES, handshake) == (0, Reason.TICKET_MISSING)


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip", "x", "Identity"])
def test_a_compressed_body_is_refused_if_it_would_be_read(encoding):
    compressed = request(("Content-Type", JSON), ("Content-Encoding", encoding))
    with pytest.raises(RequestBodyError, match="compressed"):
        steps_of(DEFAULT_SOURCES, compressed)
    assert steps_of([sources.Header()], compressed) == (0, Reason.TICKET_MISSING)


@pytest.mark.parametrize("encoding", ["", "identity"], ids=repr)
def test_a_body_with_the_identity_encoding_is_read(encoding):
    headers = [("Content-Type", JSON), ("Content-Encoding", encoding)]
    assert steps_of(DEFAULT_SOURCES, request(*headers)) == (3, Reason.BODY_TOO_LARGE)


JSON_PATHS = {
    "a key": ("t", '{"t": "a"}', ["a"]),
    "a path": ("c.t", '{"c": {"t": "a"}}', ["a"]),
    "a long path": ("a.b.c.t", '{"a": {"b": {"c": {"t": "a"}}}}', ["a"]),
    "a key twice": ("t", '{"t": "a", "t": "b"}', ["a", "b"]),
    "an object twice": ("c.t", '{"c": {"t": "a"}, "c": {"t": "b"}}', ["a", "b"]),
    "beside, not within": ("c.t", '{"c": {}, "t": "a"}', []),
    "a dot in the key": ("c.t", '{"c.t": "a"}', []),
    "a key of a string": ("c.t", '{"c": "t"}', []),
    "a key of a list": ("c.t", '{"c": [{"t": "a"}]}', []),
    "a key of a list of pairs": ("c.t", '{"c": [["t", "a"]]}', []),
    "a key of null": ("c.t", '{"c": null}', []),
    "case counts": ("t", '{"T": "a"}', []),
    "null": ("t", '{"t": null}', [None]),
    "empty": ("t", '{"t": ""}', [""]),
    "not an object": ("t", '["t"]', []),
    "a number alone": ("t", "1", []),
    "an empty key": ("c.", '{"c": {"": "a"}}', ["a"]),
    "escaped": ("t", '{"\\u0074": "\\u0061"}', ["a"]),
}


@pytest.mark.parametrize(("path", "body", "tickets"), JSON_PATHS.values(), ids=JSON_PATHS)
def test_a_dot_selects_a_key_of_a_nested_object(path, body, tickets):
    assert read(sources.Json(path, "r"), JSON, body.encode()) == seen_of(tickets, [])


PAIR = json.dumps({"ticket": T, "randstr": R})


def test_a_byte_order_mark_is_ignored():
    assert read(sources.Json(), JSON, PAIR.encode("utf-8-sig")) == PartialPair(T, R)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_json_is_utf_8_and_nothing_else(encoding):
    assert read(sources.Json(), JSON, PAIR.encode(encoding)) is RequestBodyError


NO_TEXT = ["1", "-1.5", "1e999", "true", "false", "[]", '["a"]', "{}", '{"a": "b"}', "NaN"]


@pytest.mark.parametrize("value", [*NO_TEXT, "1" * 5000], ids=lambda value: value[:10])
def test_a_json_value_that_is_not_a_string_is_malformed(value):
    seen = read(sources.Json(), JSON, f'{{"ticket": {value}, "randstr": "r"}}'.encode())
    assert seen.complete
    assert seen.pair() is Reason.TICKET_MALFORMED


@pytest.mark.parametrize("depth", [100, 400, 900, 5000, 9000, 200_000])
@pytest.mark.parametrize("level", ['{"a":', "["], ids=["objects", "lists"])
def test_a_deeply_nested_ticket_is_refused_without_recursion(level, depth):
    deep = level * depth + "1" + ("}" if level[0] == "{" else "]") * depth
    body = f'{{"ticket": {deep}, "ticket": {deep}, "randstr": "r"}}'
    seen = read(sources.Json(), JSON, body.encode())
    assert asked(seen) in (RequestBodyError, Reason.TICKET_MALFORMED)


def test_each_of_thousands_of_tickets_is_compared_once():
    compared = []

    class Counting(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            compared.append(other)
            return str.__eq__(self, other)

        def __ne__(self, other):
            compared.append(other)
            return str.__ne__(self, other)

    assert combine([Counting(number) for number in range(1000)]) is Invalid.AMBIGUOUS
    assert len(compared) < 10 * 1000


def test_partial_pairs_of_several_sources_are_combined():
    together = PartialPair("a").combined(seen_of(["a", "", None], ["r"]))
    assert together == PartialPair("a", "r")
    assert together.combined(PartialPair(randstr="s")).pair() is Reason.TICKET_AMBIGUOUS
    assert (
        PartialPair("a").combined(PartialPair(Invalid.NOT_TEXT, "r")).pair()
        is Reason.TICKET_AMBIGUOUS
    )
    assert (
        PartialPair(Invalid.NOT_TEXT).combined(PartialPair(Invalid.NOT_TEXT, "r")).pair()
        is Reason.TICKET_MALFORMED
    )
    assert NOTHING.combined(together) == together.combined(NOTHING) == together


@pytest.mark.parametrize("values", [[], [""], [None], ["", None]], ids=repr)
def test_an_empty_value_is_not_filled_in_from_another_source(values):
    assert combine(values) is None
    for seen in (PartialPair(combine(values), "r"), PartialPair("t", combine(values))):
        assert not seen.complete
        assert seen.pair() is Reason.TICKET_MISSING


def test_no_client_can_send_an_invalid_marker():
    for flaw in Invalid:
        assert combine([flaw.value]) == flaw.value
        assert PartialPair(flaw.value, flaw.name).pair() == (flaw.value, flaw.name)


RANDSTRS = [[], [""], ["r"], ["r", "s"]]


@pytest.mark.parametrize("randstrs", RANDSTRS, ids=repr)
@pytest.mark.parametrize(
    "sources", [DEFAULT_SOURCES, [sources.Header()]], ids=["any", "header"]
)
def test_a_randstr_that_is_not_needed_changes_nothing(sources, randstrs):
    extraction = extractor_of(sources, needs_randstr=False)

    def outcome(*tickets):
        names = {"x-captcha-ticket": tickets, "x-captcha-randstr": randstrs}
        headers = [(name, value) for name, values in names.items() for value in values]
        seen = extraction.find_in_head(request(*headers))
        if not isinstance(seen, PartialPair):
            return seen
        with pytest.raises(StopIteration) as stop:
            next(
                extraction.find_in_body(request(*headers), seen, rule=RULE, may_disconnect=True)
            )
        return stop.value.value

    assert outcome("t") == outcome("", "t", "t") == ("t", "")
    assert outcome("t", "u") is Reason.TICKET_AMBIGUOUS
    assert outcome() is outcome("") is Reason.TICKET_MISSING


HEADERS = {
    "one value": (["a"], ["a"]),
    "two headers": (["a", "b"], ["a", "b"]),
    "two values in one": (["a, b"], ["a", "b"]),
    "without a blank": (["a,b"], ["a", "b"]),
    "blanks around": ([" a\t"], ["a"]),
    "a comma alone": ([","], ["", ""]),
    "an empty header": ([""], [""]),
    "a blank within": (["a b"], ["a b"]),
    "no header": ([], []),
}


@pytest.mark.parametrize(("values", "tickets"), HEADERS.values(), ids=HEADERS)
def test_a_comma_joins_repeated_headers(values, tickets):
    head = request(*(("x-captcha-ticket", value) for value in values))
    assert sources.Header().find(head) == seen_of(tickets, [])


MANY = {
    "commas": ("," * 100, Invalid.NOT_TEXT),
    "a ticket after 64 commas": ("," * 64 + "t", Invalid.NOT_TEXT),
    "a hundred tickets": ("t," * 100, Invalid.AMBIGUOUS),
    "a ticket before 63 commas": ("t" + "," * 63, "t"),
}


@pytest.mark.parametrize(("value", "ticket"), MANY.values(), ids=MANY)
def test_the_rest_of_a_header_with_too_many_values_is_not_a_ticket(value, ticket):
    assert sources.Header().find(request(("x-captcha-ticket", value))).ticket == ticket


def test_headers_of_other_names_are_found():
    head = request(("t", T), ("r", R), ("x-captcha-ticket", "no"))
    assert sources.Header("T", "R").find(head) == PartialPair(T, R)


@given(st.binary(), st.binary())
def test_no_header_raises(name, value):
    raw = [(name, value), (b"x-captcha-ticket", value)]
    asked(sources.Header().find(RequestInfo("http", "POST", "/", headers=raw)))


QUERIES = {
    "": ([], []),
    "ticket=a&randstr=r": (["a"], ["r"]),
    "ticket=a&ticket=b": (["a", "b"], []),
    "%74icket=%61&randstr=%40r": (["a"], ["@r"]),
    "ticket=a+b": (["a b"], []),
    "ticket&randstr=": ([""], [""]),
    "ticket=a;randstr=r": (["a;randstr=r"], []),
    "ticket=%ff": (["\ufffd"], []),
    "ticket=%": (["%"], []),
    "TICKET=a": ([], []),
    "ticket[]=a": ([], []),
}


@pytest.mark.parametrize(("query", "pair"), QUERIES.items(), ids=[*map(repr, QUERIES)])
def test_a_query_is_read_like_a_form(query, pair):
    assert sources.Query().find(request(query=query.encode())) == seen_of(*pair)
    assert read(sources.Form(), URLENCODED, query.encode()) == seen_of(*pair)


def test_parameters_of_other_names_are_found():
    head = request(query=b"t=a&r=b&ticket=no")
    assert sources.Query("t", "r").find(head) == PartialPair("a", "b")


@given(st.binary())
def test_no_query_raises(query):
    asked(sources.Query().find(request(query=query)))


def test_a_function_gets_the_head_and_returns_a_pair_or_none():
    def find(head):
        return (head.path, R) if head.query else None

    assert sources.Head(find).find(request(query=b"x")) == PartialPair("/login", R)
    assert sources.Head(find).find(request()) == NOTHING


def function(head):
    raise NotImplementedError


class Own(HeadSource):
    def find(self, request):
        return PartialPair(T, R)


OWN = Own()
LISTS = {
    "a list": ([sources.Header(), sources.Json()], (sources.Header(), sources.Json())),
    "a tuple": ((sources.Form(),), (sources.Form(),)),
    "one source": (sources.Query(), (sources.Query(),)),
    "a function": (function, (sources.Head(function),)),
    "a function among sources": (
        [sources.Header(), function],
        (sources.Header(), sources.Head(function)),
    ),
    "a custom source": ([OWN], (OWN,)),
}


@pytest.mark.parametrize(("given_sources", "sources"), LISTS.values(), ids=LISTS)
def test_sources_are_a_list_or_a_single_source(given_sources, sources):
    assert as_sources(given_sources) == sources


NO_SOURCES = {
    "none": ([], "sources is empty"),
    "an empty string": ("", "sources is empty"),
    "a string": ("header", "is not a source"),
    "None": (None, "is not a source"),
    "a class": (sources.Header, "is not a source"),
    "a class in a list": ([sources.Header], "is not a source"),
    "a custom class": ([OrderedDict], "is not a source"),
    "a number": ([sources.Header(), 1], "is not a source"),
    "a list in a list": ([[sources.Header()]], "is not a source"),
    "a set": ({sources.Header()}, "is not a source"),
    "an iterator": (iter([sources.Header()]), "is not a source"),
}


@pytest.mark.parametrize(("sources", "message"), NO_SOURCES.values(), ids=NO_SOURCES)
def test_an_invalid_source_is_refused(sources, message):
    with pytest.raises(ConfigurationError, match=message):
        as_sources(sources)


@pytest.mark.parametrize("kind", [sources.Header, sources.Query, sources.Form, sources.Json])
@pytest.mark.parametrize("names", [("", "r"), ("t", ""), ("x", "x")], ids=repr)
def test_a_pair_needs_two_names(kind, names):
    with pytest.raises(ConfigurationError, match="two different names"):
        kind(*names)


def test_only_header_names_ignore_case():
    with pytest.raises(ConfigurationError, match="two different names"):
        sources.Header("X-T", "x-t")
    assert sources.Json("T", "t")


@pytest.mark.parametrize("name", ["X_T", "X T", "X:T", "X-T\r\n", "X-é", "X/T", '"X"', "X-T\n"])
def test_an_invalid_header_name_is_refused(name):
    with pytest.raises(ConfigurationError, match="header's name"):
        sources.Header(name, "X-R")
    with pytest.raises(ConfigurationError, match="header's name"):
        sources.Header("X-T", name)


SHAPES = {
    "a ticket": ((T, R), None),
    "every printable sign": (("".join(map(chr, range(33, 127))), R), None),
    "one character each": (("t", "r"), None),
    "8,192 characters": (("t" * 8192, R), None),
    "8,193 characters": (("t" * 8193, R), Reason.TICKET_MALFORMED),
    "a randstr of 1,024 characters": ((T, "r" * 1024), None),
    "a randstr of 1,025 characters": ((T, "r" * 1025), Reason.TICKET_MALFORMED),
    "empty": (("", R), Reason.TICKET_MALFORMED),
    "no randstr": ((T, ""), None),
    "a blank": (("a b", R), Reason.TICKET_MALFORMED),
    "a line break": ((T + "\n", R), Reason.TICKET_MALFORMED),
    "a line break in the randstr": ((T, R + "\n"), Reason.TICKET_MALFORMED),
    "a NUL": ((T + "\0", R), Reason.TICKET_MALFORMED),
    "beyond ASCII": (("é", R), Reason.TICKET_MALFORMED),
    "a lone surrogate": (("\ud800", R), Reason.TICKET_MALFORMED),
    "trerror": (("trerror_1001_1_1700000000", R), Reason.DISASTER_TICKET),
    "terror": (("terror_1001_11700000000", R), Reason.DISASTER_TICKET),
    "trerror with a blank": (("trerror 1001", R), Reason.TICKET_MALFORMED),
}


@pytest.mark.parametrize(("pair", "reason"), SHAPES.values(), ids=SHAPES)
def test_only_a_well_formed_ticket_is_verified(pair, reason):
    assert screen(pair) is reason


ALONE = {name: row for name, row in SHAPES.items() if "randstr" not in name}


@pytest.mark.parametrize(("pair", "reason"), ALONE.values(), ids=ALONE)
def test_a_ticket_alone_is_screened_like_any_other(pair, reason):
    assert screen((pair[0], "")) is reason


def test_a_malformed_multipart_form_is_not_logged_by_the_parser(caplog):
    caplog.set_level("DEBUG")
    malformed = b"--B\r\nno header\x00line\r\n\r\n"
    kind = "multipart/form-data; boundary=B"
    assert read(sources.Form(), kind, malformed) is RequestBodyError
    assert [r for r in caplog.records if r.name.startswith("python_multipart")] == []
