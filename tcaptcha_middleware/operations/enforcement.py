"""Who is refused, and who is only observed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from tcaptcha_middleware.models import Allow, Unchecked
from tcaptcha_middleware.operations import log

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Refuse, RequestInfo
    from tcaptcha_middleware.rules import CompiledRule

_EVERYBODY = 100


def enforced(coverage: CompiledRule, request: RequestInfo) -> bool:
    """Tell whether a refusal holds for this visitor."""
    if coverage.settings.mode == "observe":
        return False
    percent = coverage.settings.percent
    return percent == _EVERYBODY or percent > _bucket(coverage, request)


def _bucket(coverage: CompiledRule, request: RequestInfo) -> int:
    """Return the visitor's own number below 100; 0 where the address cannot be had."""
    try:
        address = coverage.settings.client_ip(request)
        return zlib.crc32(address.encode("utf-8", "surrogatepass")) % 100
    except Exception as error:
        log.broken_hook(coverage.name, "client_ip", error)
        return 0


def observed(refuse: Refuse, coverage: CompiledRule) -> Allow:
    """Return the decision that lets a refused request through, and says so."""
    return Allow(
        rule=refuse.rule,
        verdict=refuse.verdict,
        unchecked=Unchecked.OBSERVED,
        refused=refuse.reason,
        fingerprint=refuse.fingerprint,
        coverage=coverage,
    )
