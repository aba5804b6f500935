"""The walk's first part: from a request's head, and its body where need be, to the pair.

A generator without I/O: it yields `ReadBody`, is sent the next piece, and returns the pair,
or why there is none.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import RequestBodyError
from tcaptcha_middleware.extraction.pairs import Seen
from tcaptcha_middleware.extraction.sources import body_parser
from tcaptcha_middleware.models import Reason
from tcaptcha_middleware.steps import ReadBody

if TYPE_CHECKING:
    from tcaptcha_middleware.extraction.bodies import Parser
    from tcaptcha_middleware.extraction.pairs import Pair
    from tcaptcha_middleware.models import Request
    from tcaptcha_middleware.settings import Settings
    from tcaptcha_middleware.steps import Walk


def extract(
    settings: Settings, request: Request, *, needs_randstr: bool = True
) -> Walk[Pair | Reason]:
    """Find the pair where the settings say; both halves come from one source.

    Args:
        settings: The rule's settings.
        request: The request's head.
        needs_randstr: Whether a ticket is good only with its randstr; where it is not, its
            randstr is `""`, whatever was sent.

    Raises:
        RequestBodyError: The body could not be read to the pair.
    """
    seen = Seen(needs_randstr=needs_randstr)
    for source in settings.sources:
        found = source.find(request)
        if found.is_empty:
            continue
        found.needs_randstr = needs_randstr
        seen.add(found)
        if found.complete:
            return Reason.TICKET_AMBIGUOUS if seen.ambiguous else found.pair()
    parser = body_parser(settings.sources, request, needs_randstr=needs_randstr)
    body = yield from _read(settings, parser)
    if isinstance(body, Reason):
        return body
    body.needs_randstr = needs_randstr
    seen.add(body)
    if seen.ambiguous:
        return Reason.TICKET_AMBIGUOUS
    return body.pair() if body.complete else Reason.TICKET_MISSING


def _read(settings: Settings, parser: Parser | None) -> Walk[Seen | Reason]:
    if parser is None:
        return Seen()
    room, deadline = settings.body_limit, time.monotonic() + settings.body_timeout
    while (piece := (yield ReadBody(_left(deadline)))) is not None:
        seen = parser.feed(piece[:room])
        if seen is not None:
            return seen
        room -= len(piece)
        if room < 0:
            return Reason.BODY_TOO_LARGE
    return parser.finish()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise RequestBodyError("the body came too slowly")
    return left
