"""The values that pass between the parts: requests, submissions, verdicts, decisions.

Values only: no I/O, no policy, and nothing from a framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NoReturn,
    Self,
    TypeVar,
    dataclass_transform,
    overload,
)
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T]) -> type[T]:
    """Make a dataclass that is frozen for type checkers only.

    Every protected request makes several, and freezing at run time triples what each costs.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


PASSED_CODE = 1
"""The one `CaptchaCode` that means a solved captcha (DescribeCaptchaResult, output table)."""

# Credentials and bodies, which preflights do not have (https://fetch.spec.whatwg.org/), and the
# headers in which method overrides find another method.
_NOT_IN_PREFLIGHTS = {
    b"authorization",
    b"cookie",
    b"transfer-encoding",
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
}

FINGERPRINT = 12
"""How much of a pair's key identifies its ticket in decisions and logs."""

Outcome = Literal["passed", "rejected", "expired", "reused", "risk"]
"""What a vendor can say about a ticket."""

MALICIOUS_LEVEL = 100
"""The `EvilLevel` that marks a malicious request, even beside code 1 (invisible mode)."""


class Reason(StrEnum):
    """Why a request was refused: the `code` of the answer, its status and its advice.

    Attributes:
        status: The HTTP status that the refusal is sent with.
        detail: What the client should do about it, in one sentence.
    """

    status: int
    detail: str

    TICKET_MISSING = "ticket_missing", 403, "Solve the captcha, and send this again."
    TICKET_REJECTED = "ticket_rejected", 403, "The captcha did not pass. Solve it again."
    TICKET_EXPIRED = "ticket_expired", 403, "The captcha is too old. Solve it again."
    TICKET_REUSED = "ticket_reused", 403, "This captcha was used before. Solve it again."
    RISK_DENIED = "risk_denied", 403, "The captcha did not pass. Solve it again."
    DISASTER_TICKET = "disaster_ticket", 403, "The captcha did not load. Solve it again."
    TICKET_MALFORMED = (
        "ticket_malformed",
        400,
        "This is not what a captcha returns. Solve it again.",
    )
    TICKET_AMBIGUOUS = (
        "ticket_ambiguous",
        400,
        "The captcha was sent several times. Solve it once, and send this again.",
    )
    TARGET_AMBIGUOUS = (
        "target_ambiguous",
        400,
        "The request's address can be read in several ways. Write its path in the usual form.",
    )
    REQUEST_MALFORMED = "request_malformed", 400, "The request's body could not be read."
    BODY_TOO_LARGE = (
        "body_too_large",
        413,
        "Too much was sent before the captcha. Send less, or the captcha first.",
    )
    VERIFIER_UNAVAILABLE = "verifier_unavailable", 503, "The captcha check is down. Try again."
    OVERLOADED = "overloaded", 503, "Too many captcha checks at once. Try again."
    MISCONFIGURED = "misconfigured", 500, "The captcha check is not set up correctly."

    def __new__(cls, code: str, status: int, detail: str) -> Self:
        """Make a member whose text is its code."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.status = status
        member.detail = detail
        return member


@lru_cache(maxsize=128)
def raw_name(name: str) -> bytes:
    """Return a header's name as in an ASGI message: bytes, in lower case."""
    return name.lower().encode("latin-1")


# PEP 3333, "environ Variables": these two lack the prefix, and may be empty.
_NO_PREFIX = ("CONTENT_TYPE", "CONTENT_LENGTH")
_PREFIX = "HTTP_"
_PREFIXED = frozenset(f"{_PREFIX}{key}" for key in _NO_PREFIX)


@lru_cache(maxsize=128)
def _environ_key(name: str) -> str:
    # A header whose name has an underscore looks like one with a dash.
    key = "" if "_" in name else name.upper().replace("-", "_")
    return key if key in _NO_PREFIX else _PREFIX + key


class EnvironHeaders(Sequence[tuple[bytes, bytes]]):
    """The headers of a WSGI environ as raw pairs, converted when they are asked for.

    The client chooses the names and their length, so nothing that depends on them is cached.

    Args:
        environ: The request's environ.
    """

    __slots__ = ("environ",)

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self.environ: Mapping[str, Any] = environ

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over all headers."""
        for key, value in self.environ.items():
            if key.startswith(_PREFIX) and key not in _PREFIXED:
                name = key[len(_PREFIX) :]
            elif key in _NO_PREFIX and value:
                name = key
            else:
                continue
            header = name.replace("_", "-").lower().encode("latin-1", "replace")
            yield header, value.encode("latin-1", "replace")

    def __len__(self) -> int:
        """Count the headers."""
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> tuple[bytes, bytes]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[bytes, bytes]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> tuple[bytes, bytes] | list[tuple[bytes, bytes]]:
        """Return the header at an index."""
        return list(self)[index]


# Not frozen, which would more than double what it costs to make one; nothing changes it.
@dataclass(slots=True, eq=False)
class RequestInfo:
    """The head of one request, the same for both adapters.

    Attributes:
        kind: `"http"`, or `"websocket"` for a handshake.
        method: The method as it came; `"GET"` for a handshake.
        path: The decoded path as the application sees it: with the mount before it under
            ASGI, without it under WSGI.
        query: The raw query string, without the question mark.
        headers: Raw pairs of name and value, in the order they came, with names in lower case.
            Under WSGI the server has joined headers of one name with commas, and dashes and
            underscores in names are the same.
        peer: The host of the connection's other end; `""` if it is unknown.
        root_path: The application's mount; `""` at the top.
        raw: The ASGI scope or the WSGI environ, for a hook that needs a session or a user that
            a middleware further out has put there. It holds the visitor's cookies, so keep it
            out of logs; do not change it.
    """

    kind: Literal["http", "websocket"]
    method: str
    path: str
    query: bytes = field(default=b"", repr=False)
    headers: Sequence[tuple[bytes, bytes]] = field(default=(), repr=False)
    peer: str = ""
    root_path: str = ""
    raw: Any = field(default=None, repr=False)
    _last_values: dict[bytes, bytes] | None = field(init=False, default=None, repr=False)

    def header(self, name: str) -> list[str]:
        """Return every value of the header `name` (any case), in the order they came."""
        if type(self.headers) is EnvironHeaders:
            key = _environ_key(name)
            text: str | None = self.headers.environ.get(key)
            if text is None or (not text and key in _NO_PREFIX):
                return []
            # The server has joined the values. Not every server keeps to latin-1.
            return [
                text if text.isascii() else text.encode("latin-1", "replace").decode("latin-1")
            ]
        last_values = self._last_values
        if last_values is None:
            # Made and asked in C; a search takes a step for each header, and several names are
            # looked up.
            last_values = self._last_values = dict(self.headers)
        wanted = raw_name(name)
        last = last_values.get(wanted)
        if last is None:
            return []
        if len(last_values) == len(self.headers):  # no name is repeated
            return [last.decode("latin-1")]
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    @property
    def is_preflight(self) -> bool:
        """Whether its head is that of a CORS preflight.

        Browsers send a preflight without credentials and without a body, and never with another
        method's name in it, which a method override behind the gate would obey.
        https://fetch.spec.whatwg.org/#cors-preflight-fetch
        """
        if self.method.upper() != "OPTIONS":
            return False
        query = unquote_to_bytes(self.query).lower()
        if b"_method" in query or b"http-method" in query:
            return False
        # On the way into WSGI, an underscore becomes what a dash does.
        headers = {name.replace(b"_", b"-"): value for name, value in self.headers}
        return (
            bool(headers.get(b"origin"))
            and bool(headers.get(b"access-control-request-method"))
            and headers.keys().isdisjoint(_NOT_IN_PREFLIGHTS)
            and headers.get(b"content-length", b"0").strip() in (b"", b"0")
        )


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """The meaning of `Verdict.code`, for verdicts without an outcome.

    Attributes:
        outcomes: Codes that are about the ticket, and what they say.
        misconfigured: Codes that only the operator can fix, and what to look at.
    """

    outcomes: Mapping[int, Outcome]
    misconfigured: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class CaptchaInfo:
    """What the rest of the package needs to know about a verifier's captcha.

    Args:
        app_id: Tencent's CaptchaAppId; 0 if it is not Tencent's. `disaster_tickets` needs it.
        script: The URL of the client script, which may be relative to that of the settings;
            `""` if no browser can show the captcha.
        site: `"cn"` or `"intl"`: which of Tencent's two services the script is of.
        app_secret_key: Tencent's AppSecretKey, which only `Page(aid=…)` needs; never sent.
        has_randstr: If a ticket is valid only with its randstr.
        refuses_reuse: If the vendor is known to refuse a ticket's second use; if not, only the
            replay store stops it.
        lifetime: How long a ticket is valid, in seconds.
        codes: The meaning of `Verdict.code`; Tencent's for web pages by default.
    """

    app_id: int = 0
    _: KW_ONLY
    script: str = ""
    site: Literal["cn", "intl"] = "cn"
    app_secret_key: str = field(default="", repr=False)
    has_randstr: bool = True
    refuses_reuse: bool = True
    # Tencent's are valid for five minutes (DescribeCaptchaResult).
    lifetime: float = 300.0
    codes: Codes | None = field(default=None, repr=False)


@value
class Submission:
    """What a solved captcha gave the browser, and who sent it.

    Attributes:
        ticket: The callback's `ticket`; valid once, so kept out of `repr`.
        randstr: The callback's `randstr`, kept out of `repr` too; `""` for a ticket without
            one.
        user_ip: The visitor's address, a valid IPv4 or IPv6 text.
        rule: The name of the rule that the request is judged by; `""` outside of a guard.
    """

    ticket: str = field(repr=False)
    randstr: str = field(repr=False)
    user_ip: str
    rule: str = ""


@value
class Verdict:
    """A vendor's answer about a ticket. Not a bool: use `.passed`.

    A custom verifier sets `outcome`. The other attributes are Tencent's; without an `outcome`,
    `code` decides.

    Attributes:
        code: `CaptchaCode`; 1 is a solved captcha. 0 if the vendor is not Tencent.
        evil_level: `EvilLevel`, 0 to 100; 100 is malicious, even beside code 1.
        score: `Score`, 0 to 100, higher is riskier; None if Tencent sent none.
        message: `CaptchaMsg`, free text for logs; its wording changes, never compare it.
        request_id: `RequestId`, which Tencent's support asks for.
        fetched_at: `GetCaptchaTime`, Unix seconds; 0 if unknown.
        submitted_at: `SubmitCaptchaTime`, Unix seconds; 0 if unknown.
        resent: Whether the call was sent twice, because its first connection failed without an
            answer. Tencent may have handled it twice.
        outcome: `"passed"`, `"rejected"`, `"expired"`, `"reused"` (the ticket was used before),
            or `"risk"` (solved, but the visitor is a risk).
    """

    code: int = 0
    evil_level: int = 0
    score: int | None = None
    message: str = ""
    request_id: str = ""
    fetched_at: int = 0
    submitted_at: int = 0
    resent: bool = False
    outcome: Outcome | None = None

    @property
    def passed(self) -> bool:
        """Whether there is positive proof: the outcome or exactly code 1, and no malice."""
        if self.outcome is None:
            solved = type(self.code) is int and self.code == PASSED_CODE
        else:
            solved = self.outcome == "passed"
        return solved and type(self.evil_level) is int and self.evil_level < MALICIOUS_LEVEL

    def __bool__(self) -> NoReturn:
        """Refuse a truth value: `if verify(ticket):` would let everyone pass.

        Raises:
            TypeError: Always.
        """
        msg = "a Verdict has no truth value: use verdict.passed"
        raise TypeError(msg)


class Unchecked(StrEnum):
    """Why a request was let through without a passed verdict."""

    PREFLIGHT = "preflight"
    """A CORS preflight, which carries no ticket."""
    NOT_ASKED = "not_asked"
    """The rule's `when` said no."""
    SWITCHED_OFF = "switched_off"
    """The guard's kill switch is off."""
    OBSERVED = "observed"
    """It would have been refused; the rule only observes."""
    DEFERRED = "deferred"
    """It was refused, and its view answers; the rule has `mode="defer"`."""
    UNAVAILABLE = "unavailable"
    """Tencent is down, and `on_unavailable` is `"allow"`."""
    DISASTER_TICKET = "disaster_ticket"
    """Tencent is down, and `disaster_tickets` is `"allow"`."""


@value
class Allow:
    """The request goes on to the application.

    Attributes:
        rule: The name of the rule that covered it.
        verdict: What the verifier returned; None if it returned nothing.
        unchecked: Why it goes on without a passed verdict; None if there is one.
        refused: Why it would have been refused, if the rule only observes; why its view has to
            refuse it, if `unchecked` is `DEFERRED`.
        deferred: The refusal that its view has to answer, if `unchecked` is `DEFERRED`.
        fingerprint: A short hash of the ticket; `""` without a ticket.
        target: The rule, method and path that it is for, so a second instance of the same guard
            on one stack does not verify again.
        outer: The decision of another guard further out on the same stack.
    """

    rule: str
    verdict: Verdict | None = None
    unchecked: Unchecked | None = None
    refused: Reason | None = None
    fingerprint: str = ""
    deferred: Refuse | None = field(default=None, repr=False, compare=False)
    target: tuple[object, str, str] | None = field(default=None, repr=False, compare=False)
    outer: Allow | None = field(default=None, repr=False, compare=False)

    @property
    def code(self) -> int | None:
        """CaptchaCode of the verdict; None without a verdict."""
        return None if self.verdict is None else self.verdict.code


@value
class Refuse:
    """The request is answered by the gate.

    Attributes:
        reason: Why, with the status and advice that belong to it.
        rule: The name of the rule that covered it.
        verdict: What the verifier returned, if anything.
        fingerprint: A short hash of the ticket; `""` without a ticket.
        retry_after: How long a client should wait after a 503, in seconds.
    """

    reason: Reason
    rule: str
    verdict: Verdict | None = None
    fingerprint: str = ""
    retry_after: int = 2


Decision = Allow | Refuse
