"""Links that a library follows by a script: its refusal makes it load the page in full."""

from __future__ import annotations

import pytest
from adapters import Exchange
from both_adapters import ADAPTERS
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import Guard, Reason, RequestInfo
from tcaptcha_middleware.browser.navigation import full_load
from tcaptcha_middleware.testing import FakeVerifier

every_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
# Pages without https, and Safari before 16.4, do not send the header.
with_and_without_dest = pytest.mark.parametrize("sends_dest", [True, False])
# As Turbo 8.0, htmx 2.0 and 4.0 and Unpoly 3.14 send them.
TURBO = (
    ("Accept", "text/html, application/xhtml+xml"),
    ("X-Turbo-Request-Id", "0b9e"),
    ("Sec-Fetch-Dest", "empty"),
)
HTMX = (("HX-Request", "true"), ("Sec-Fetch-Dest", "empty"))
UNPOLY = (("X-Up-Version", "3.14.3"), ("X-Up-Target", "main"), ("Accept", "*/*"))


def guard():
    return Guard(["/secret/**"], FakeVerifier(), page="/tcaptcha")


def follow(headers, target="/secret/x", method="GET", *, sends_dest=True):
    sent = [pair for pair in headers if sends_dest or pair[0] != "Sec-Fetch-Dest"]
    return Exchange(method, target, tuple(sent))


@with_and_without_dest
@every_adapter
def test_turbo_loads_a_page_in_full_because_the_answer_is_not_html(adapter, sends_dest):
    answer = adapter(guard(), follow(TURBO, sends_dest=sends_dest))
    assert answer.status == 403
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["tcaptcha-code"] == "ticket_missing"


@with_and_without_dest
@every_adapter
def test_a_turbo_frame_shows_a_page_whose_link_loads_it_in_full(adapter, sends_dest):
    headers = (*TURBO, ("Turbo-Frame", "messages"))
    answer = adapter(guard(), follow(headers, sends_dest=sends_dest))
    assert answer.status == 403
    assert b'<meta name="turbo-visit-control" content="reload">' in answer.body
    assert b'<a href="" data-turbo="false">Show the captcha</a>' in answer.body


TARGETS = {
    "/secret/x": "/secret/x",
    "/secret/x?a=1&b=%2F+c": "/secret/x?a=1&b=%2F+c",
    "/secret/%E7%A7%98%3F%0D%0Ax": "/secret/%E7%A7%98%3F%0D%0Ax",
}


@with_and_without_dest
@every_adapter
@pytest.mark.parametrize("accept", ["text/html", "*/*"])
@pytest.mark.parametrize(("target", "location"), TARGETS.items())
def test_a_boosted_link_of_htmx_loads_its_page_in_full(
    adapter, accept, target, location, sends_dest
):
    headers = (("Accept", accept), *HTMX, ("HX-Boosted", "true"))
    answer = adapter(guard(), follow(headers, target, sends_dest=sends_dest))
    assert (answer.status, answer.headers["hx-redirect"]) == (403, location)


@every_adapter
@pytest.mark.parametrize("target", ["/secret/x", "/mounted", "/", ""])
def test_the_page_of_a_mounted_application_is_below_its_mount(adapter, target):
    headers = (("Accept", "text/html"), *HTMX, ("HX-Boosted", "true"))
    gate = Guard(["/**"], FakeVerifier(), page="/tcaptcha")
    answer = adapter(gate, follow(headers, target), "/mount")
    assert answer.headers["hx-redirect"] == f"/mount{target}"


@given(path=st.text(), query=st.binary(), mount=st.sampled_from(["", "/", "//evil.example"]))
def test_a_redirect_never_leads_to_another_host(path, query, mount):
    head = [(b"hx-boosted", b"true")]
    request = RequestInfo("http", "GET", path, query, head, root_path=mount)
    answer = full_load(request, Reason.TICKET_MISSING)
    location = dict(answer.headers)["HX-Redirect"]
    assert location[0] == "/"
    assert location[1:2] not in ("/", "\\")
    assert location.isascii()
    assert location.isprintable()


OTHERS = {
    "a fragment of htmx": follow((("Accept", "*/*"), *HTMX)),
    "a boosted form": follow((("Accept", "*/*"), *HTMX, ("HX-Boosted", "true")), method="POST"),
    "a form of Turbo": follow(TURBO, method="POST"),
    "Unpoly": follow(UNPOLY),
    "a script": follow((("Accept", "text/html"), ("Sec-Fetch-Dest", "empty"))),
}


@every_adapter
@pytest.mark.parametrize("exchange", OTHERS.values(), ids=OTHERS)
def test_any_other_request_of_a_script_gets_the_plain_refusal(adapter, exchange):
    without_page = Guard(["/secret/**"], FakeVerifier())
    assert adapter(guard(), exchange) == adapter(without_page, exchange)


@every_adapter
def test_a_page_that_cannot_show_the_challenge_is_not_loaded_in_full(adapter):
    gate = Guard(["/secret/**"], FakeVerifier())
    assert adapter(gate, follow(TURBO)).headers["content-type"].startswith("text/html")


CHOSEN = {
    "Turbo Drive": TURBO,
    "a Turbo Frame": (*TURBO, ("Turbo-Frame", "messages")),
    "htmx": (("Accept", "*/*"), *HTMX, ("HX-Boosted", "true")),
    "a browser": (("Accept", "text/html,*/*;q=0.8"), ("Sec-Fetch-Dest", "document")),
}


@every_adapter
@pytest.mark.parametrize("headers", CHOSEN.values(), ids=CHOSEN)
def test_what_a_cache_may_keep_varies_with_the_headers_that_choose_it(adapter, headers):
    # The last of two: the first has the headers of content negotiation.
    answer = adapter(guard(), follow(headers))
    assert answer.headers["vary"] == "HX-Boosted, Sec-Fetch-Dest, Turbo-Frame"
