"""Several sources that read one body, functions that read it, and what both cost."""

from __future__ import annotations

import gc
import json
import logging
import math
import re
import string
import sys
from contextlib import suppress
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from adapters import ALLOWED, RUNNERS, Exchange
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import ConfigurationError, Guard, sources
from tcaptcha_middleware.errors import RequestBodyError
from tcaptcha_middleware.extraction import parsers
from tcaptcha_middleware.extraction.parsers import (
    MAX_FIELDS,
    MAX_HEADERS,
    MAX_OBJECTS,
    MultipartForm,
    all_fields,
    decode_json,
    decode_plain_json,
    fields_named,
)
from tcaptcha_middleware.testing import FakeVerifier

T, R = "tr03goodticket*", "@rand"
PAIR = {"ticket": T, "randstr": R}
JSON = ("Content-Type", "application/json")
URLENCODED = ("Content-Type", "application/x-www-form-urlencoded")
MULTIPART = ("Content-Type", "multipart/form-data; boundary=B")
END = b"--B--\r\n"

every_runner = pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)


def document(value: object) -> Exchange:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Exchange(headers=(JSON,), pieces=(body,))


def form(*fields: tuple[str, str]) -> Exchange:
    return Exchange(headers=(URLENCODED,), pieces=(urlencode(fields).encode(),))


def part(name: str, value: str, more: str = "") -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"{more}'
    return f"--B\r\n{head}\r\n\r\n{value}\r\n".encode()


def multipart(*parts: bytes, broken_off: bool = False) -> Exchange:
    return Exchange(headers=(MULTIPART,), pieces=parts, broken_off=broken_off)


def guard_of(*of: object, **settings: object) -> Guard:
    return Guard(["POST /login"], FakeVerifier(), sources=of, **settings)


# -- Several sources of one kind ------

WEB, APP = sources.Json(), sources.Json("captcha.ticket", "captcha.randstr")
WEB_FORM, APP_FORM = sources.Form(), sources.Form("captcha[ticket]", "captcha[randstr]")
WEB_FIELDS = (("ticket", T), ("randstr", R))
APP_FIELDS = (("captcha[ticket]", T), ("captcha[randstr]", R))

SEVERAL = {
    "JSON of the first": (document(PAIR), ALLOWED),
    "JSON of the second": (document({"captcha": PAIR}), ALLOWED),
    "JSON of both, the same pair": (document(PAIR | {"captcha": PAIR}), ALLOWED),
    "JSON of both, another pair": (
        document(PAIR | {"captcha": {"ticket": "other", "randstr": R}}),
        "ticket_ambiguous",
    ),
    "JSON, a pair and another ticket": (
        document(PAIR | {"captcha": {"ticket": "other"}}),
        "ticket_ambiguous",
    ),
    "JSON, each value of another source": (
        document({"ticket": T, "captcha": {"randstr": R}}),
        "ticket_missing",
    ),
    "JSON, a number beside the pair": (
        document({"ticket": 7, "captcha": PAIR}),
        "ticket_ambiguous",
    ),
    "JSON without a pair": (document({"a": "b"}), "ticket_missing"),
    "a form of the first": (form(*WEB_FIELDS), ALLOWED),
    "a form of the second": (form(*APP_FIELDS), ALLOWED),
    "a form of both, the same pair": (form(*WEB_FIELDS, *APP_FIELDS), ALLOWED),
    "a form of both, another pair": (
        form(*WEB_FIELDS, ("captcha[ticket]", "other"), APP_FIELDS[1]),
        "ticket_ambiguous",
    ),
    "a form, each value of another source": (
        form(WEB_FIELDS[0], APP_FIELDS[1]),
        "ticket_missing",
    ),
    "a multipart form of the second": (
        multipart(*(part(*field) for field in APP_FIELDS), END),
        ALLOWED,
    ),
    "a multipart form, each value of another source": (
        multipart(part(*WEB_FIELDS[0]), part(*APP_FIELDS[1]), END),
        "ticket_missing",
    ),
    "a multipart form, a pair and another ticket before it": (
        multipart(
            part("captcha[ticket]", "other"), *(part(*field) for field in WEB_FIELDS), END
        ),
        "ticket_ambiguous",
    ),
}


@every_runner
@pytest.mark.parametrize(("exchange", "code"), SEVERAL.values(), ids=SEVERAL)
def test_all_sources_of_a_body_are_read_and_must_agree(runner, exchange, code):
    outcome = runner(guard_of(WEB, APP, WEB_FORM, APP_FORM), exchange)
    assert outcome.code == code
    assert code != ALLOWED or outcome.body_seen == exchange.body


def test_a_multipart_form_is_read_no_further_than_the_pair_of_one_source():
    parts = [part(*field) for field in APP_FIELDS]
    exchange = multipart(*parts, b"--B\r\n", broken_off=True)
    guard = guard_of(WEB, APP, WEB_FORM, APP_FORM)
    assert RUNNERS["flow"](guard, exchange).code == ALLOWED


def test_a_body_is_parsed_once_for_all_its_sources(monkeypatch):
    decoded = []
    original = parsers.decode_json
    monkeypatch.setattr(
        "tcaptcha_middleware.extraction.parsers.decode_json",
        lambda *body: decoded.append(body) or original(*body),
    )
    guard = guard_of(WEB, APP, sources.Json("a", "b"))
    assert RUNNERS["flow"](guard, document({"captcha": PAIR})).code == ALLOWED
    assert len(decoded) == 1


# -- Functions ------


def joined(request, body):
    """Read one field with both values."""
    fields = dict(body)
    return tuple(fields["captcha"].split("___")) if "captcha" in fields else None


def first_of_each(request, body):
    """Read arrays of one element."""
    return body["ticket"][0], body["randstr"][0]


def text_in_field(request, body):
    """Read a JSON text in a form field."""
    pair = json.loads(dict(body)["captcha"])
    return pair["ticket"], pair["randstr"]


def no_batches(request, body):
    """Refuse GraphQL batches, and read the pair of a single operation."""
    if isinstance(body, list) or body["query"].count("login(") != 1:
        return None
    return body["extensions"]["ticket"], body["extensions"]["randstr"]


BOTH = f"{T}___{R}"
OPERATION = {"query": "mutation { login(name: 1) }", "extensions": PAIR}
FUNCTIONS = {
    "one field, JSON": (joined, document({"captcha": BOTH}), ALLOWED),
    "one field, form": (joined, form(("captcha", BOTH)), ALLOWED),
    "one field, multipart": (joined, multipart(part("captcha", BOTH), END), ALLOWED),
    "one field, multipart, with a file": (
        joined,
        multipart(part("f", "x", '; filename="f"'), part("captcha", BOTH), END),
        ALLOWED,
    ),
    "one field, multipart, a file of that name": (
        joined,
        multipart(part("captcha", BOTH, '; filename="f"'), END),
        "ticket_missing",
    ),
    "one field, missing": (joined, document({"a": "b"}), "ticket_missing"),
    "one field without the separator": (joined, form(("captcha", T)), "misconfigured"),
    "arrays": (first_of_each, document({"ticket": [T], "randstr": [R]}), ALLOWED),
    "a JSON text in a field": (
        text_in_field,
        form(("captcha", json.dumps(PAIR))),
        ALLOWED,
    ),
    "one GraphQL operation": (no_batches, document(OPERATION), ALLOWED),
    "a GraphQL batch": (no_batches, document([OPERATION] * 50), "ticket_missing"),
    "GraphQL aliases": (
        no_batches,
        document(OPERATION | {"query": "mutation { a: login(n: 1) b: login(n: 2) }"}),
        "ticket_missing",
    ),
    "not a pair of strings": (
        lambda _, body: (body["a"], 7),
        document({"a": T}),
        "ticket_malformed",
    ),
    "a pair that is empty": (lambda *_: ("", None), document({}), "ticket_missing"),
    "a list of two": (lambda *_: [T, R], document({}), ALLOWED),
    "a text": (lambda *_: "ab", document({}), "misconfigured"),
    "a bool": (lambda *_: True, document({}), "misconfigured"),
    "three values": (lambda *_: (T, R, ""), document({}), "misconfigured"),
    "an exception": (lambda _, body: body["nothing"], document({}), "misconfigured"),
    "a repeated key": (joined, document(b'{"a": {"b": 1, "b": 2}}'), "request_malformed"),
    "invalid JSON": (joined, document(b"{"), "request_malformed"),
    "JSON that is too deep": (joined, document(b"[" * 60_000), "request_malformed"),
    "too many fields": (
        joined,
        form(*[("captcha", BOTH)] * (MAX_FIELDS + 1)),
        "request_malformed",
    ),
    "a body over the limit": (joined, form(("captcha", "x" * 65_536)), "body_too_large"),
    "another type": (
        joined,
        Exchange(headers=(("Content-Type", "text/plain"),), pieces=(b"captcha",)),
        "ticket_missing",
    ),
}


@every_runner
@pytest.mark.parametrize(("function", "exchange", "code"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_finds_the_pair_in_the_body(runner, function, exchange, code):
    outcome = runner(guard_of(sources.Body(function)), exchange)
    assert outcome.code == code
    assert code != ALLOWED or outcome.body_seen == exchange.body


@every_runner
def test_a_function_that_fails_is_logged(runner, caplog):
    guard = guard_of(sources.Body(lambda _, body: body["nothing"]))
    assert runner(guard, document({})).status == 500
    assert "POST /login" in caplog.text
    assert 'body["nothing"]' in caplog.text
    assert "KeyError (text left out)" in caplog.text


HEAD_RETURNS = {
    "a text": "ab",
    "three values": (T, R, ""),
    "a bool": False,
}


@pytest.mark.parametrize("value", HEAD_RETURNS.values(), ids=HEAD_RETURNS)
def test_a_function_for_the_head_that_returns_no_pair_is_a_misconfiguration(value, caplog):
    guard = guard_of(sources.Head(lambda _: value))
    assert RUNNERS["flow"](guard, Exchange()).code == "misconfigured"
    assert "the function of Head returned" in caplog.text


def test_a_function_gets_the_head_and_the_body():
    seen = []
    guard = guard_of(sources.Body(lambda request, body: seen.append((request.path, body))))
    RUNNERS["flow"](guard, form(("a", "b"), ("a", ""), ("ü", "&=")))
    RUNNERS["flow"](guard, multipart(part("a", "b"), part('q\\"', "é"), END))
    RUNNERS["flow"](guard, document({"a": [1, 2.5, None, True]}))
    assert seen == [
        ("/login", [("a", "b"), ("a", ""), ("ü", "&=")]),
        ("/login", [("a", "b"), ('q"', "é")]),
        ("/login", {"a": [1, 2.5, None, True]}),
    ]


def test_a_function_and_another_source_must_agree():
    guard = guard_of(WEB, WEB_FORM, sources.Body(joined))
    codes = [
        RUNNERS["flow"](guard, exchange).code
        for exchange in (
            document(PAIR),
            document(PAIR | {"captcha": BOTH + "other"}),
            form(*WEB_FIELDS, ("captcha", BOTH + "other")),
            multipart(part("captcha", BOTH + "x"), END),
        )
    ]
    assert codes == [ALLOWED, "ticket_ambiguous", "ticket_ambiguous", ALLOWED]


def test_no_function_is_called_with_an_incomplete_form():
    called = []
    guard = guard_of(WEB_FORM, sources.Body(lambda _, body: called.append(body)))
    pair = [part(*field) for field in WEB_FIELDS]
    upload = part("file", "x" * 70_000, '; filename="f"')
    assert RUNNERS["flow"](guard, multipart(*pair, upload, END)).code == ALLOWED
    assert called == []


async def asynchronous(request, body=None):
    raise NotImplementedError


class Asynchronous:
    async def __call__(self, request, body=None):
        raise NotImplementedError


@pytest.mark.parametrize("source", [sources.Head, sources.Body])
@pytest.mark.parametrize("function", [asynchronous, Asynchronous()], ids=["function", "object"])
def test_an_async_function_is_refused(source, function):
    with pytest.raises(ConfigurationError, match="async: make it a plain function"):
        source(function)


@pytest.mark.parametrize("source", [sources.Head, sources.Body])
@pytest.mark.parametrize("value", [None, "name", 1], ids=repr)
def test_a_source_function_must_be_callable(source, value):
    with pytest.raises(ConfigurationError, match="has to be a function"):
        source(value)


@pytest.mark.parametrize("name", ["$.a", "$.captcha.ticket", "$['a']", "$[0]"])
def test_a_jsonpath_is_refused_with_advice(name):
    for names in ((name, "r"), ("t", name)):
        with pytest.raises(ConfigurationError, match="a dot leads into an object"):
            sources.Json(*names)


@pytest.mark.parametrize("name", ["$", "$a", "a.$", "a$.b"])
def test_a_key_may_contain_a_dollar(name):
    assert sources.Json(name, "r").ticket == name


# -- JSON for functions ------

DECODED = {
    b'{"a": [1, {"b": null}]}': {"a": [1, {"b": None}]},
    b"\xef\xbb\xbf 1 ": 1,
    b"-12": -12,
    b"9" * 640: 10**640 - 1,
    b"9" * 5000: math.inf,
    b"[%s, 1, -%s]" % (b"9" * 5000, b"9" * 5000): [math.inf, 1, -math.inf],
    b"1e999": math.inf,
    b"-Infinity": -math.inf,
    b'"\\ud800"': "\ud800",
}


@pytest.mark.parametrize(("body", "value"), DECODED.items(), ids=lambda value: repr(value)[:20])
def test_json_is_decoded_for_a_function_as_python_does(body, value):
    decoded = decode_plain_json(body)
    assert decoded == value
    assert type(decoded) is type(value)


def test_not_a_number_is_decoded():
    assert math.isnan(decode_plain_json(b"NaN"))


REFUSED = {
    "a repeated key": b'{"a": 1, "a": 1}',
    "a repeated key, escaped": b'{"a": 1, "\\u0061": 1}',
    "a repeated key far inside": b'[[{"b": [{"a": 1, "a": 1}]}]]',
    "more objects than the limit": b"[" + b"{}," * MAX_OBJECTS + b"{}]",
    "invalid JSON": b"{a}",
    "nothing": b"",
    "a tail": b"{} {}",
    "invalid UTF-8": b'"\xff"',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "too deep": b"[" * 60_000 + b"]" * 60_000,
    "a long number, then invalid JSON": b"[" + b"9" * 5000 + b",",
}


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_json_that_parsers_read_differently_is_refused(body):
    with pytest.raises(RequestBodyError):
        decode_plain_json(body)


def test_as_many_objects_as_the_limit_are_decoded():
    body = b"[" + b"{}," * (MAX_OBJECTS - 1) + b"{}]"
    assert decode_plain_json(body) == [{}] * MAX_OBJECTS


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON_VALUES)
def test_encoded_json_is_decoded_unchanged(value):
    assert decode_plain_json(json.dumps(value).encode()) == value


HOSTILE_JSON = {
    "integers": b"[" + b"1," * 30_000 + b"1]",
    "floats": b"[" + b"1.0," * 15_000 + b"1]",
    "objects": b"[" + b"{}," * 20_000 + b"1]",
    "objects in an object": b"{" + b'"":{},' * 10_000 + b'"":1}',
    "lists": b"[" + b"[]," * 20_000 + b"1]",
    "a list that is too deep": b"[" * 60_000,
    "an object that is too deep": b'{"":' * 15_000,
    "repeated tickets": b"{" + b'"ticket":1,' * 5_000 + b'"a":1}',
}


@pytest.mark.parametrize("body", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_json_is_decoded_without_calling_python(body):
    calls = []

    def note(frame, event, argument):
        if event == "call":
            calls.append(frame.f_code.co_name)

    gc.disable()  # libraries for tests call Python at each collection
    sys.setprofile(note)
    try:
        with suppress(RequestBodyError):
            WEB.find(None, parsers.decode_keys(body, [b'"ticket"', b'"randstr"']))
    finally:
        sys.setprofile(None)
        gc.enable()
    # Beside one for each value of the field, which are compared.
    assert len(calls) - calls.count("_agreed") < 30


@st.composite
def json_texts(draw, depth=2):
    """Write JSON with repeated and escaped keys, as no encoder does."""
    keys = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"c"'])
    leaves = st.sampled_from(
        ['"x"', '"a"', '"y"', '""', "1", "null", "[]", '"\\""', "9" * 5000]
    )
    values = leaves | json_texts(depth - 1) if depth else leaves
    pairs = draw(st.lists(st.tuples(keys, values), max_size=4))
    return "{" + ",".join(f"{key}: {value}" for key, value in pairs) + "}"


@given(json_texts(), st.booleans())
def test_keys_are_found_as_if_every_repeated_one_were_kept(text, has_many_objects):
    more = "{}," * 20 if has_many_objects else ""
    body, keys = f'{{"d": [{more}1], "e": {text}}}'.encode(), [b'"a"', b'"b"', b'"c"', b'"e"']
    for paths in (("e.a", "e.b"), ("e.a.b", "e.a.c"), ("e.c.a", "e.b")):
        source = sources.Json(*paths)
        found = source.find(None, parsers.decode_keys(body, keys))
        assert found == source.find(None, decode_json(body, parsers._PAIRS_LONG))


def test_many_objects_are_decoded_as_dicts_if_no_key_is_repeated():
    many = ", ".join(["{}"] * 20)
    body = f'{{"ticket": "t", "randstr": "r", "more": [{many}], "a": 1, "a": 2}}'.encode()
    assert type(parsers.decode_keys(body, [b'"ticket"', b'"randstr"'])) is dict
    assert type(parsers.decode_keys(body, [b'"ticket"', b'"a"'])) is parsers.JsonObject


# -- Urlencoded forms ------

NAMES = ["ticket", "randstr", "captcha[ticket]", "a b", "ü", "t", "%41", "a+b", "=", "&"]


def spelled(text: str, escapes: list[bool]) -> str:
    """Percent-encode some characters, and those that have to be."""
    plain = string.ascii_letters + string.digits + "[]"
    return "".join(
        quote(char, safe="") if char not in plain else f"%{ord(char):02x}" if escaped else char
        for char, escaped in zip(text, escapes * len(text), strict=False)
    )


FIELDS = st.lists(
    st.tuples(
        st.sampled_from(NAMES) | st.text(max_size=5),
        st.text(max_size=5),
        st.lists(st.booleans(), min_size=1),
    ),
    max_size=8,
)


@given(FIELDS, st.sets(st.sampled_from(NAMES), min_size=1))
def test_named_fields_match_the_standard_library(fields, names):
    text = "&".join(
        f"{spelled(name, escapes)}={spelled(value, escapes)}" for name, value, escapes in fields
    )
    expected = {field for field in parse_qsl(text, keep_blank_values=True) if field[0] in names}
    assert set(fields_named(text.encode(), frozenset(names))) == expected


@given(st.text("ticket&=%+6974 ;").map(str.encode) | st.binary(), st.sampled_from(NAMES[:4]))
def test_any_bytes_are_read_like_the_standard_library(body, name):
    text = body.decode("utf-8", "replace")
    expected = {field for field in parse_qsl(text, keep_blank_values=True) if field[0] == name}
    values = set(fields_named(body, frozenset([name])))
    assert values == expected


@given(FIELDS)
def test_all_fields_match_the_standard_library(fields):
    pairs = [field[:2] for field in fields]
    assert all_fields(urlencode(pairs).encode()) == pairs


@pytest.fixture
def decoded_fields(monkeypatch):
    """Count the fields that are decoded."""
    counts = []

    def count(text, **settings):
        fields = parse_qsl(text, **settings)
        counts.append(len(fields))
        return fields

    monkeypatch.setattr(parsers, "parse_qsl", count)
    return counts


HOSTILE_FORMS = {
    "tiny fields": b"a=&" * 21_000 + b"ticket=t",
    "separators": b"&" * 65_000 + b"ticket=t",
    "escapes": b"%=&" * 21_000 + b"ticket=t",
    "names of the same length": b"tickex=&" * 8_000 + b"ticket=t",
    "the same field": b"ticket=t&" * 7_000,
    "empty fields of the name": b"ticket=&" * 8_000 + b"ticket=t",
}


@pytest.mark.parametrize("body", HOSTILE_FORMS.values(), ids=HOSTILE_FORMS)
def test_few_fields_of_a_hostile_form_are_decoded(decoded_fields, body):
    assert ("ticket", "t") in fields_named(body, frozenset(["ticket", "randstr"]))
    assert sum(decoded_fields) <= 2


def test_few_of_many_values_are_decoded(decoded_fields):
    body = b"&".join(b"ticket=%d" % number for number in range(5_000))
    assert len(fields_named(body, frozenset(["ticket"]))) == parsers.MAX_REPEATS
    assert sum(decoded_fields) == parsers.MAX_REPEATS


def test_no_more_bytes_are_decoded_than_a_pair_may_have():
    fields = fields_named(b"ticket=" + b"%41" * 20_000, frozenset(["ticket"]))
    # Still too long for a ticket.
    assert 8_192 < len(fields[0][1]) < 11_000


# -- Multipart forms ------


def flood(step: bytes, times: int) -> bytes:
    return step * times + part("ticket", T) + part("randstr", R) + END


@pytest.mark.parametrize(
    ("step", "each"),
    [
        (part("a", "b"), 2),
        (b"--B\r\n\r\n\r\n", 1),
        (b"--B\r\n" + b"a: b\r\n" * 7 + b"\r\n\r\n", 8),
        (part("ticket", T), 2),
    ],
    ids=["fields", "parts without headers", "headers", "the same field"],
)
def test_parts_and_their_headers_are_counted(step, each):
    guard = guard_of(WEB_FORM, body_limit=10**6)
    allowed = (MAX_HEADERS - 4) // each
    assert RUNNERS["flow"](guard, multipart(flood(step, allowed))).code == ALLOWED
    more = multipart(flood(step, allowed + 4))
    assert RUNNERS["flow"](guard, more).code == "request_malformed"


def test_a_field_repeated_many_times_is_compared_once():
    calls = []

    def enough(fields):
        calls.append(fields)
        return False

    names = frozenset(["ticket", "randstr"])
    form = MultipartForm("multipart/form-data; boundary=B", names, enough, every=False)
    form.feed(part("ticket", T) * 400)
    assert len(calls) == 1


DISPOSITIONS = {
    'form-data; name="ticket"': "ticket",
    "form-data; name=ticket": "ticket",
    'form-data; NAME = "ticket" ; a=b': "ticket",
    'form-data; a="; name=x"; name="ticket"': "ticket",
    'form-data; a="\\"; name=x"; name=ticket': "ticket",
    'form-data; name="tick\\et"': "ticket",
    'form-data; name="x"; name="ticket"': "ticket",
    'form-data; name="a;b"': "a;b",
    "form-data;;; name=ticket;": "ticket",
    "form-data; xname=ticket": "",
    'form-data; name="ticket': None,
    'form-data; name="ticket"; filename="a"': None,
    "form-data; name=ticket; filename=": None,
    'form-data; name="ticket"; filename="a" b': "ticket",
}


@pytest.mark.parametrize(("header", "name"), DISPOSITIONS.items(), ids=repr)
def test_a_field_has_the_name_in_its_content_disposition(header, name):
    names = []
    guard = guard_of(sources.Body(lambda _, body: names.extend(dict(body))))
    body = f"--B\r\nContent-Disposition: {header}\r\n\r\nx\r\n".encode()
    RUNNERS["flow"](guard, multipart(body, END))
    assert names == ([] if name is None else [name])


BOUNDARIES = {
    "multipart/form-data; boundary=B": True,
    'multipart/form-data; boundary="B"': True,
    "multipart/form-data;Boundary = B ;charset=utf-8": True,
    'multipart/form-data; a="; boundary=C"; boundary=B': True,
    'multipart/form-data; boundary="\\B"': True,
    "multipart/form-data; xboundary=B": False,
    'multipart/form-data; boundary="B': False,
    'multipart/form-data; boundary="B" C': False,
}


@pytest.mark.parametrize(("content_type", "read"), BOUNDARIES.items(), ids=repr)
def test_the_boundary_is_a_parameter_of_the_type(content_type, read):
    body = part("ticket", T) + part("randstr", R) + END
    exchange = Exchange(headers=(("Content-Type", content_type),), pieces=(body,))
    code = RUNNERS["flow"](guard_of(WEB_FORM), exchange).code
    assert code == (ALLOWED if read else "request_malformed")


# -- Headers ------


def test_few_values_of_a_long_header_are_compared():
    exchange = Exchange(
        headers=(("X-Captcha-Ticket", "," * 60_000 + T), ("X-Captcha-Randstr", R))
    )
    outcome = RUNNERS["flow"](guard_of(sources.Header()), exchange)
    assert outcome.code == "ticket_malformed"
    values = ",".join(f"t{number}" for number in range(5_000))
    exchange = Exchange(headers=(("X-Captcha-Ticket", values), ("X-Captcha-Randstr", R)))
    outcome = RUNNERS["flow"](guard_of(sources.Header()), exchange)
    assert outcome.code == "ticket_ambiguous"


# -- The log ------

LOGGED = {
    "nothing": (Exchange(), "ticket: missing, randstr: missing"),
    "the ticket alone": (
        document({"ticket": "tr03secret"}),
        "ticket: sent, randstr: missing",
    ),
    "two tickets": (
        form(("ticket", "tr03secret"), ("ticket", "other")),
        "ticket: two different values, randstr: missing",
    ),
    "a number": (
        document({"ticket": 70_000_001}),
        "ticket: a value that is not text, randstr: missing",
    ),
    "too much": (form(("ticket", "x" * 70_000)), "body_too_large"),
}


@every_runner
@pytest.mark.parametrize(("exchange", "message"), LOGGED.values(), ids=LOGGED)
def test_a_debug_line_explains_why_no_pair_was_found(runner, exchange, message, caplog):
    caplog.set_level(logging.DEBUG, "tcaptcha_middleware")
    runner(guard_of(sources.Header(), WEB, WEB_FORM), exchange)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("POST /login: ")
    assert message in line
    assert "Header(ticket='X-Captcha-Ticket'" in line
    assert dict(exchange.headers).get("Content-Type", "") in line
    assert not re.search("tr03secret|70000001|xxx", line)


@every_runner
@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_a_body_of_a_type_that_no_source_reads_is_named(runner, level, caplog):
    caplog.set_level(level, "tcaptcha_middleware")
    kind = "text/x\tplain" + "y" * 1000
    exchange = Exchange(headers=(("Content-Type", kind),), pieces=(b"ticket=a",))
    assert runner(guard_of(sources.Header(), WEB), exchange).code == "ticket_missing"
    lines = [record for record in caplog.records if record.levelno == logging.INFO]
    assert len(lines) == 1
    message = lines[0].getMessage()
    assert r"no source reads a body of the type 'text/x\tplainyyy" in message
    assert len(message) < 300


QUIET = {
    "no source reads bodies": ([sources.Header()], Exchange(headers=(JSON,))),
    "no type": ([sources.Header(), sources.Json()], Exchange()),
    "a type that is read": ([sources.Header(), sources.Json()], document({})),
    "a pair in the headers": (
        [sources.Header(), sources.Json()],
        Exchange(
            headers=(
                ("X-Captcha-Ticket", T),
                ("X-Captcha-Randstr", R),
                ("Content-Type", "text/plain"),
            )
        ),
    ),
}


@every_runner
@pytest.mark.parametrize(("of", "exchange"), QUIET.values(), ids=QUIET)
def test_other_bodies_are_not_logged_at_info(runner, of, exchange, caplog):
    caplog.set_level(logging.INFO, "tcaptcha_middleware")
    runner(guard_of(*of), exchange)
    assert caplog.records == []
