"""The request as bytes, and the strict reader of responses."""

from __future__ import annotations

import pytest
from http_responses import assert_agreement, read_by_h11, read_by_us
from hypothesis import example, given
from hypothesis import strategies as st

from tcaptcha_middleware._http.codec import (
    ProtocolError,
    ResponseReader,
    encode_head,
    encode_request,
)

OK = b"HTTP/1.1 200 OK\r\n"


def test_a_request_is_one_piece():
    assert encode_request(encode_head({"Host": "a"}), {"X-B": "c"}, b"{}") == (
        b"POST / HTTP/1.1\r\nHost: a\r\nX-B: c\r\nContent-Length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize("value", ["b\r\nX-Forged: c", "b\n", "b\r"], ids=repr)
def test_a_header_with_a_line_break_is_rejected(value):
    with pytest.raises(ValueError, match="line break"):
        encode_request(b"", {"A": value}, b"")
    with pytest.raises(ValueError, match="line break"):
        encode_head({"A": value})


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return OK + b"Transfer-Encoding: chunked\r\n\r\n" + body + end


ACCEPTED = {
    "a length": (OK + b"Content-Length: 2\r\n\r\n{}", 200, b"{}", True),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "chunks": (chunked(b"{", b"}"), 200, b"{}", True),
    "no chunks": (chunked(), 200, b"", True),
    "an upper-case chunk size": (
        OK + b"transfer-encoding:Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        200,
        b"0123456789",
        True,
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", 200, b"a", True),
    "obs-text": (
        b"HTTP/1.1 200 \xe4\r\nX: \xff\tb\r\nContent-Length: 0\r\n\r\n",
        200,
        b"",
        True,
    ),
    "an end announced": (
        OK + b"Connection: Close\r\nContent-Length: 0\r\n\r\n",
        200,
        b"",
        False,
    ),
    "an end among others": (
        OK + b"Connection: x, close\r\nContent-Length: 0\r\n\r\n",
        200,
        b"",
        False,
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, b"a", False),
    "more behind it": (OK + b"Content-Length: 1\r\n\r\nab", 200, b"a", False),
    "more behind chunks": (chunked(b"a") + b"b", 200, b"a", False),
    "interim responses": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        + OK
        + b"Content-Length: 0\r\n\r\n",
        200,
        b"",
        True,
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "304 without a body": (b"HTTP/1.1 304 x\r\nContent-Length: 0\r\n\r\n", 304, b"", True),
    "an error page without a length": (b"HTTP/1.1 502 x\r\n\r\n<html>", 502, b"", False),
    "an error page": (b"HTTP/1.1 502 x\r\nContent-Length: 1\r\n\r\n<", 502, b"<", True),
}


@pytest.mark.parametrize(
    ("data", "status", "body", "reusable"), ACCEPTED.values(), ids=ACCEPTED
)
def test_a_response_is_read(data, status, body, reusable):
    answer = read_by_us(data)
    assert (answer.status, answer.body, answer.is_reusable) == (status, body, reusable)
    assert_agreement(data)


REJECTED = {
    "another protocol": (b"220 mail.example ESMTP ready\r\n", "does not speak HTTP"),
    "another protocol's first byte": (b"S", "does not speak HTTP"),
    "bare line feeds": (b"HTTP/1.1 200 OK\n", "does not speak HTTP"),
    "HTTP/2": (b"HTTP/2 200 OK\r\n\r\n", "malformed"),
    "HTTP/1.2": (b"HTTP/1.2 200 OK\r\n\r\n", "malformed"),
    "a status of two digits": (b"HTTP/1.1 99 x\r\n\r\n", "malformed"),
    "a status of four digits": (b"HTTP/1.1 2000 x\r\n\r\n", "malformed"),
    "a control character in the reason": (b"HTTP/1.1 200 O\x0bK\r\n\r\n", "malformed"),
    "a control character in a value": (OK + b"X: a\x01b\r\n\r\n", "malformed"),
    "a NUL in a value": (OK + b"X: a\0b\r\n\r\n", "malformed"),
    "a bare carriage return": (OK + b"X: a\rb\r\n\r\n", "malformed"),
    "a blank in a name": (OK + b"Content-Length : 1\r\n\r\na", "malformed"),
    "a name of nothing": (OK + b": a\r\n\r\n", "malformed"),
    "obs-fold": (OK + b"X: a\r\n b\r\n\r\n", "malformed"),
    "a bare line feed among the headers": (OK + b"X: a\nY: b\r\n\r\n", "malformed"),
    "101": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "malformed"),
    "two lengths": (OK + b"Content-Length: 1\r\ncontent-length: 1\r\n\r\na", "more than one"),
    "two encodings": (
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "more than one",
    ),
    "a length and an encoding": (
        OK + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "more than one",
    ),
    "another encoding": (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "unexpected"),
    "chunks in HTTP/1.0": (
        b"HTTP/1.0 200 x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "unexpected",
    ),
    "204 in chunks": (b"HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n", "unexpected"),
    "204 with a body": (b"HTTP/1.1 204 x\r\nContent-Length: 1\r\n\r\na", "invalid Content"),
    "304 with a body": (b"HTTP/1.1 304 x\r\nContent-Length: 1\r\n\r\na", "invalid Content"),
    "a negative length": (OK + b"Content-Length: -1\r\n\r\n", "invalid Content"),
    "a length with a sign": (OK + b"Content-Length: +1\r\n\r\na", "invalid Content"),
    "a list of lengths": (OK + b"Content-Length: 1, 1\r\n\r\na", "invalid Content"),
    "an empty length": (OK + b"Content-Length:\r\n\r\n", "invalid Content"),
    "no length": (OK + b"\r\n{}", "does not give its length"),
    "a body too long": (OK + b"Content-Length: 32769\r\n\r\n", "body of the response is too"),
    "chunks too long": (chunked(b" " * 20_000, b" " * 12_769), "body of the response is too"),
    "a head too long": (OK + b"X: a\r\n" * 3000, "head of the response is too"),
    "a whole head too long": (
        OK + b"X: a\r\n" * 3000 + b"Content-Length: 0\r\n\r\n",
        "head of the response is too",
    ),
    "interim responses without end": (b"HTTP/1.1 100 x\r\n\r\n" * 1000, "head of the response"),
    "a chunk size of letters": (chunked(end=b"xyz\r\n"), "invalid chunk"),
    "an empty chunk size": (chunked(end=b"\r\n"), "invalid chunk"),
    "a chunk size with a sign": (chunked(end=b"+1\r\na\r\n"), "invalid chunk"),
    "a chunk size without end": (chunked(end=b"00000000"), "invalid chunk"),
    "a chunk extension": (chunked(end=b"1;a=b\r\na\r\n"), "invalid chunk"),
    "a chunk longer than its size": (chunked(end=b"1\r\nab\r\n"), "invalid chunk"),
    "a trailer": (chunked(end=b"0\r\nX: a\r\n\r\n"), "invalid chunk"),
}


@pytest.mark.parametrize(("data", "message"), REJECTED.values(), ids=REJECTED)
def test_anything_else_is_rejected_before_the_connection_ends(data, message):
    with pytest.raises(ProtocolError, match=message):
        ResponseReader().feed(data)


@pytest.mark.parametrize(
    "data", [b"HTTP", OK, OK + b"Content-Length: 2\r\n\r\na", chunked(end=b"")]
)
def test_a_response_that_breaks_off_is_rejected(data):
    reader = ResponseReader()
    assert reader.feed(data) is None
    with pytest.raises(ProtocolError, match="before the response was complete"):
        reader.feed(b"")


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: gzip", b"X: y"])
def test_a_response_to_connect_ends_after_its_head(framing):
    data = b"HTTP/1.1 200 Connection established\r\n" + framing + b"\r\n\r\n"
    answer = ResponseReader(has_body=False).feed(data)
    assert (answer.status, answer.body) == (200, b"")


# Against h11.

WORDS = [
    *(b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"204", b"100", b"304", b"502", b" OK", b"\r\n"),
    *(b"Content-Length: ", b"content-length:", b"Transfer-Encoding: chunked\r\n", b"0", b"1"),
    *(
        b"Connection: close\r\n",
        b"X: y\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"\x0b",
        b" ",
        b"\t",
        b"\xff",
    ),
    *(b"a", b"ab", b"\r\n\r\n", b"0\r\n\r\n", b"1\r\na\r\n", b";x", b","),
]
mutations = st.lists(
    st.tuples(
        st.integers(0, 120), st.integers(0, 2), st.sampled_from(WORDS) | st.binary(max_size=2)
    ),
    max_size=4,
)


def mutated(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    for place, removed, word in changes:
        data = data[:place] + word + data[place + removed :]
    return data


@given(st.sampled_from([data for data, *_ in ACCEPTED.values()]), mutations)
@example(b"HTTP/1.1 204 x\r\nContent-Length: 1\r\n\r\na", [])
@example(b"HTTP/1.1 200 O\x0cK\r\nContent-Length: 0\r\n\r\n", [])
def test_our_reader_accepts_no_response_that_h11_rejects_and_reads_the_same(data, changes):
    assert_agreement(mutated(data, changes))


@given(st.lists(st.sampled_from(WORDS), max_size=16))
def test_our_reader_accepts_no_mutation_that_h11_rejects(words):
    assert_agreement(b"".join(words))


def test_h11_rejects_the_same_responses():
    assert read_by_h11(REJECTED["a NUL in a value"][0]) is None
    assert read_by_h11(b"HTTP/1.1 101 x\r\n\r\n") is None
    assert read_by_h11(ACCEPTED["chunks"][0]) == (200, b"{}", True)
