"""Compare rules by how strict their settings are.

A request target with several readings is judged by a rule that suffices for all that it
touches. This module compares settings only, not what the rules match.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.rules import CompiledRule

    Order = Callable[[CompiledRule, CompiledRule], bool]


def _always(_first: CompiledRule, _second: CompiledRule) -> bool:
    return True


def _percent(rule: CompiledRule) -> int:
    """Return for how many of a hundred visitors a refusal is enforced."""
    return 0 if rule.settings.mode == "observe" else rule.settings.percent


def _budget(rule: CompiledRule) -> int:
    """Return how many requests a minute may pass without a verdict."""
    settings = rule.settings
    opens = "allow" in (settings.on_unavailable, settings.disaster_tickets)
    return settings.allow_per_minute if opens else 0


def _max_score(rule: CompiledRule) -> int:
    limit = rule.settings.max_score
    return 100 if limit is None else limit  # no score is higher


def _same(name: str) -> Order:
    return lambda first, second: getattr(first.settings, name) == getattr(second.settings, name)


def _denies(name: str) -> Order:
    return lambda first, second: (
        getattr(first.settings, name) == "deny" or getattr(second.settings, name) == "allow"
    )


def _enforces(first: CompiledRule, second: CompiledRule) -> bool:
    # Visitors are chosen by a hash of their address, so the lower share is part of the higher.
    return _percent(first) >= _percent(second)


def _defers_no_more(first: CompiledRule, second: CompiledRule) -> bool:
    # A view that defers still expects to refuse, so a rule that observes does not suffice.
    return _enforces(first, second) and not (
        first.settings.mode == "defer" and second.settings.mode == "enforce"
    )


def _none_or_same(name: str) -> Order:
    return lambda first, second: (
        getattr(first.settings, name) in (None, getattr(second.settings, name))
    )


ORDER: dict[str, Order] = {
    "verifier": lambda first, second: first.verifier is second.verifier,
    "sources": _same("sources"),
    "client_ip": _same("client_ip"),
    "fallback_ip": _none_or_same("fallback_ip"),
    "mode": _defers_no_more,
    "percent": _enforces,
    "max_score": lambda first, second: _max_score(first) <= _max_score(second),
    "when": _none_or_same("when"),
    "on_unavailable": _denies("on_unavailable"),
    "disaster_tickets": _denies("disaster_tickets"),
    "allow_per_minute": lambda first, second: _budget(first) <= _budget(second),
    # What a request matches, how a refusal looks, and limits that a client can reach at the
    # path of the rule that has them: none of these lets a request pass.
    "text": _always,
    "name": _always,
    "responder": _always,
    "body_limit": _always,
    "body_timeout": _always,
    "check_timeout": _always,
}
"""For each setting of a rule, whether the first rule's value is as strict as the second's."""


def suffices(first: CompiledRule, second: CompiledRule) -> bool:
    """Return whether a request that passes `first` needs not pass `second`.

    The relation is transitive, and every rule suffices for itself.

    Args:
        first: The rule that may judge alone.
        second: Another rule that a target touches.
    """
    if _percent(second) == 0:
        return True  # It refuses no request.
    return all(as_strict(first, second) for as_strict in ORDER.values())
