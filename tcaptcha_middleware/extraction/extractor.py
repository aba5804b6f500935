"""The first part of the flow: from a request's head, and its body if needed, to the pair.

A generator without I/O: it yields `ReadBody`, is sent the next piece, and returns the pair or
the reason to refuse the request.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from tcaptcha_middleware.effects import ReadBody
from tcaptcha_middleware.errors import RequestBodyError
from tcaptcha_middleware.extraction.pairs import NOTHING, Invalid, PartialPair
from tcaptcha_middleware.extraction.parsers import (
    MultipartForm,
    WholeBody,
    all_fields,
    decode_keys,
    decode_plain_json,
    fields_named,
)
from tcaptcha_middleware.extraction.sources import (
    KINDS,
    Body,
    BodySource,
    Form,
    Header,
    HeadSource,
    Json,
    body_kind,
)
from tcaptcha_middleware.models import Reason
from tcaptcha_middleware.operations import log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tcaptcha_middleware.effects import Flow
    from tcaptcha_middleware.extraction.pairs import Pair
    from tcaptcha_middleware.extraction.parsers import BodyParser, FormFields
    from tcaptcha_middleware.extraction.sources import Source
    from tcaptcha_middleware.models import RequestInfo


# The adapters keep every piece, and each takes about 200 bytes however short it is. This many
# are allowed, and more if the limit is high; honest clients send longer ones.
_PIECES = 1024
_SHORT = 256
# In characters; RFC 6838 allows 127 for each half of a media type (section 4.2).
_LONGEST_TYPE = 256


class Extractor:
    """Finds the pair in the sources of rules; both values come from the same source.

    The first source of the head that has a pair is the last that is read. All sources that
    read the body's kind are read, and have to agree.

    Args:
        sources: Where the pair may be.
        body_limit: How much of a body is read, in bytes.
        body_timeout: How long a client may take to send that much, in seconds.
        needs_randstr: Whether a ticket is valid only with its randstr; if not, its randstr is
            `""`, whatever was sent.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        body_limit: int,
        body_timeout: float,
        needs_randstr: bool,
    ) -> None:
        self._sources = sources
        self._heads = [source for source in sources if isinstance(source, HeadSource)]
        self._other_heads = self._heads[1:]
        bodies = [source for source in sources if isinstance(source, BodySource)]
        first = self._heads[0] if self._heads else None
        self._first = first if type(first) is Header and needs_randstr else None
        self._forms = [source for source in bodies if isinstance(source, Form)]
        self._readers = {kind: [b for b in bodies if kind in b.kinds] for kind in KINDS}
        self._reads_bodies = bool(bodies)
        names = frozenset[str]().union(*(form.names for form in self._forms))
        # A function gets the whole body; other sources need a few fields of it.
        self._every = any(isinstance(source, Body) for source in bodies)
        self._names = names
        self._decoders: dict[str, Callable[[bytes], object]] = {
            "json": decode_plain_json
            if self._every
            else partial(decode_keys, keys=_keys(bodies)),
            "urlencoded": all_fields if self._every else partial(fields_named, names=names),
        }
        self._limit, self._timeout = body_limit, body_timeout
        self._pieces = _PIECES + body_limit // _SHORT
        self._needs_randstr = needs_randstr

    def find_in_head(self, request: RequestInfo) -> Pair | Reason | PartialPair:
        """Return the pair, the reason to refuse it, or an incomplete pair if the body counts.

        A plain function, because most requests have the pair in their headers.

        Args:
            request: The request's head.
        """
        sources = self._heads
        if self._first is not None:
            # Two headers with one value each, or none, as nearly always; the loop would find
            # the same.
            ticket = request.header(self._first.ticket)
            randstr = request.header(self._first.randstr)
            if not ticket and not randstr:
                sources = self._other_heads
            elif len(ticket) == len(randstr) == 1:
                pair = ticket[0].strip(), randstr[0].strip()
                if all(pair) and "," not in pair[0] and "," not in pair[1]:
                    return pair
        seen = NOTHING
        for source in sources:
            found = self._needed(source.find(request))
            seen = found if seen is NOTHING else seen.combined(found)
            if found.complete:
                return seen.pair()
        return seen

    def find_in_body(
        self,
        request: RequestInfo,
        seen: PartialPair = NOTHING,
        first_piece: tuple[bytes, bool] | None = None,
        *,
        rule: log.Origin,
        may_disconnect: bool,
    ) -> Flow[Pair | Reason]:
        """Return the pair, or the reason to refuse the request.

        Args:
            request: The request's head.
            seen: What `find_in_head` returned.
            first_piece: The body's first piece, and whether more follows, if it was read.
            rule: The rule, for the log.
            may_disconnect: Whether a client that is too slow may be disconnected; see
                `ReadBody`.

        Yields:
            `ReadBody`, for each piece of a body that is read.

        Raises:
            RequestBodyError: If the body cannot be read.
        """
        content_type = next(iter(request.header("Content-Type")), "")
        # Without parameters, because each form of a browser has another boundary.
        kind = body_kind(content_type.partition(";")[0][:_LONGEST_TYPE])
        # A websocket handshake comes without a body, even if its headers declare one.
        if kind is None or request.kind != "http" or not self._readers[kind]:
            if content_type and self._reads_bodies:
                log.unread_body(rule, content_type)
            return self._no_pair(rule, Reason.TICKET_MISSING, seen, content_type)
        parser = self.parser(kind, content_type, request)
        room, deadline = self._limit, time.monotonic() + self._timeout
        for _ in range(self._pieces):
            try:
                # The deadline is checked between pieces too: empty ones could come without end,
                # and without a wait.
                seconds = deadline - time.monotonic()
                if seconds <= 0:
                    raise TimeoutError
                piece, more = first_piece or (yield ReadBody(seconds, may_disconnect))
                first_piece = None
            except TimeoutError as error:
                raise RequestBodyError("the body came too slowly") from error
            enough = parser.feed(piece[:room])
            room -= len(piece)
            if enough or (room >= 0 and not more):
                parts = self.find_in(kind, parser, request)
                for found in parts:
                    seen = found if seen is NOTHING else seen.combined(found)
                # Complete, without a call for each.
                if [found for found in parts if None not in found]:
                    return seen.pair()
                return self._no_pair(rule, Reason.TICKET_MISSING, seen, content_type)
            if room < 0:
                break
        return self._no_pair(rule, Reason.BODY_TOO_LARGE, seen, content_type)

    def parser(self, kind: str, content_type: str, request: RequestInfo) -> BodyParser:
        """Return a parser for a body of this kind.

        Args:
            kind: What `body_kind` returned for `content_type`.
            content_type: The request's `Content-Type`, with its parameters.
            request: The request's head.

        Raises:
            RequestBodyError: If such a body cannot be read.
        """
        encodings = request.header("Content-Encoding")
        if encodings and set(encodings) - {"", "identity"}:
            raise RequestBodyError("the body is compressed: send the ticket in the headers")
        if kind != "multipart":
            return WholeBody(self._decoders[kind])

        def enough(fields: FormFields) -> bool:
            found = [self._needed(form.find(request, fields)) for form in self._forms]
            # A value that is ambiguous stays so.
            return any(pair.complete or Invalid.AMBIGUOUS in pair for pair in found)

        return MultipartForm(content_type, self._names, enough, every=self._every)

    def find_in(self, kind: str, parser: BodyParser, request: RequestInfo) -> list[PartialPair]:
        """Return what each source of this kind finds in a body that was fed to `parser`.

        Raises:
            RequestBodyError: If the body does not conform to its media type.
        """
        body = parser.finish()
        sources = self._readers[kind] if parser.whole else self._forms
        found = [source.find(request, body) for source in sources]
        return (
            found if self._needs_randstr else [PartialPair(each.ticket, "") for each in found]
        )

    def _needed(self, found: PartialPair) -> PartialPair:
        return found if self._needs_randstr else PartialPair(found.ticket, "")

    def _no_pair(
        self, rule: log.Origin, reason: Reason, seen: PartialPair, content_type: str
    ) -> Reason:
        # Values of two sources are not a pair.
        if reason is Reason.TICKET_MISSING and Invalid.AMBIGUOUS in seen:
            reason = Reason.TICKET_AMBIGUOUS
        log.no_pair(rule, reason, self._sources, seen, content_type)
        return reason


def _keys(sources: Sequence[Source]) -> list[bytes]:
    """Return the keys that JSON sources read, in quotes."""
    paths = [
        path
        for source in sources
        if isinstance(source, Json)
        for path in (source.ticket, source.randstr)
    ]
    keys = {key for path in paths for key in path.split(".")}
    return [f'"{key}"'.encode("utf-8", "surrogatepass") for key in keys]
