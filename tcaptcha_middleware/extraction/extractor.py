"""The walk's first part: from a request's head, and its body where need be, to the pair.

A generator without I/O: it yields `ReadBody`, is sent the next piece, and returns the pair,
or why there is none.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tcaptcha_middleware.deadlines import left
from tcaptcha_middleware.effects import ReadBody
from tcaptcha_middleware.errors import RequestBodyError
from tcaptcha_middleware.extraction.pairs import NOTHING, Invalid, PartialPair
from tcaptcha_middleware.extraction.sources import BodySource, HeadSource
from tcaptcha_middleware.models import Reason

if TYPE_CHECKING:
    from tcaptcha_middleware.effects import Flow
    from tcaptcha_middleware.extraction.pairs import Pair
    from tcaptcha_middleware.extraction.parsers import Parser
    from tcaptcha_middleware.models import RequestInfo
    from tcaptcha_middleware.settings import Settings


# The faces keep every piece, which takes some 200 bytes however short it is. So many are let
# through, and more where the limit is high; honest ones are longer.
_PIECES = 1024
_SHORT = 256


class Extractor:
    """Find the pair where a rule's settings say; both halves come from one source.

    Args:
        settings: The rule's settings.
        needs_randstr: Whether a ticket is good only with its randstr; where it is not, its
            randstr is `""`, whatever was sent.
    """

    def __init__(self, settings: Settings, *, needs_randstr: bool) -> None:
        self._heads = [one for one in settings.sources if isinstance(one, HeadSource)]
        self._bodies = [one for one in settings.sources if isinstance(one, BodySource)]
        self._limit, self._timeout = settings.body_limit, settings.body_timeout
        self._pieces = _PIECES + settings.body_limit // _SHORT
        self._needs_randstr = needs_randstr

    def walk(self, request: RequestInfo, *, may_disconnect: bool) -> Flow[Pair | Reason]:
        """Return the pair, or why there is none.

        Args:
            request: The request's head.
            may_disconnect: Whether a client that is too slow may be cut off; see `ReadBody`.

        Yields:
            `ReadBody`, for each piece of a body that is read.

        Raises:
            RequestBodyError: The body could not be read to the pair.
        """
        seen = NOTHING
        for source in self._heads:
            found = self._needed(source.find(request))
            seen = seen.and_also(found)
            if found.complete:
                return seen.pair()
        body = yield from self._body(request, may_disconnect)
        if isinstance(body, Reason):
            return body
        seen = seen.and_also(body)
        if body.complete:
            return seen.pair()
        # Halves of two sources are no pair.
        return Reason.TICKET_AMBIGUOUS if Invalid.AMBIGUOUS in seen else Reason.TICKET_MISSING

    def parser(self, request: RequestInfo) -> Parser | None:
        """Return the parser of the first source that reads the request's body, if any does.

        A websocket's handshake has no body, whatever its headers say.

        Raises:
            RequestBodyError: The body cannot be read at all.
        """
        if request.kind != "http":
            return None
        content_type = next(iter(request.header("Content-Type")), "")
        for source in self._bodies:
            parser = source.parser(content_type, needs_randstr=self._needs_randstr)
            if parser is not None:
                _check_encoding(request)
                return parser
        return None

    def _needed(self, seen: PartialPair) -> PartialPair:
        return seen if self._needs_randstr else PartialPair(seen.ticket, "")

    def _body(self, request: RequestInfo, may_disconnect: bool) -> Flow[PartialPair | Reason]:
        parser = self.parser(request)
        if parser is None:
            return NOTHING
        found = yield from self._read(parser, may_disconnect)
        return found if isinstance(found, Reason) else self._needed(found)

    def _read(self, parser: Parser, may_disconnect: bool) -> Flow[PartialPair | Reason]:
        room, deadline = self._limit, time.monotonic() + self._timeout
        for _ in range(self._pieces):
            piece, more = yield from _piece(deadline, may_disconnect)
            seen = parser.feed(piece[:room])
            if seen is not None:
                return seen
            room -= len(piece)
            if room < 0:
                return Reason.BODY_TOO_LARGE
            if not more:
                return parser.finish()
        return Reason.BODY_TOO_LARGE


def _check_encoding(request: RequestInfo) -> None:
    if set(request.header("Content-Encoding")) - {"", "identity"}:
        raise RequestBodyError("the body is compressed: send the ticket in the headers")


def _piece(deadline: float, may_disconnect: bool) -> Flow[tuple[bytes, bool]]:
    try:
        # Looked at between pieces too: empty ones could come without end, and without a wait.
        piece: tuple[bytes, bool] = yield ReadBody(left(deadline), may_disconnect)
    except TimeoutError as error:
        raise RequestBodyError("the body came too slowly") from error
    return piece
