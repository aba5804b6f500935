"""Decide which rule judges a request, in any form of its target.

Knows patterns, paths and methods, but no settings: the caller compares those.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

from tcaptcha_middleware.matching.paths import (
    INVISIBLE,
    below,
    cleaned,
    fold,
    has_extension,
    is_tame,
    is_too_odd,
    mounted,
    spellings,
    tame_prefix,
)
from tcaptcha_middleware.matching.patterns import METHODS, SAFE_METHODS, Tree

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from tcaptcha_middleware.matching.patterns import Pattern

Target = tuple[str, str, bytes, str, str]
"""A request's method, path, raw path, root path and mount, as `Matcher.match` takes them."""

Match = int | tuple[int, ...] | None
"""The number of the rule that judges; of all that a target touches if none can; or None."""

_T = TypeVar("_T")
_REMEMBERED = 2048
_LONG = 512
# What all readings of one target may have together, in characters.
_MOST_TEXT = 64 * 1024

_logger = logging.getLogger("tcaptcha_middleware")


class MatchCache(dict[Target, _T]):
    """The result for each target, computed when it is first looked up.

    A mapping, because every request looks one up, and a look-up calls no function of ours.

    Args:
        match: Computes the result for a target.
    """

    __slots__ = ("_match",)

    def __init__(self, match: Callable[[str, str, bytes, str, str], _T]) -> None:
        super().__init__()
        self._match = match

    def __missing__(self, target: Target) -> _T:
        """Compute it. Most requests are for few targets, and those are short."""
        result = self._match(*target)
        if sum(map(len, target)) <= _LONG:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[target] = result
        return result


class Matcher:
    """Rules and exemptions, and which rule judges a request.

    A target with one reading is judged by the first rule that matches it. Any other target is
    judged by every rule that some reading of it touches: by the first whose settings suffice
    for all of them, if there is one. So no form of a target is judged more weakly than the
    plain one. An exemption counts only if every reading is exactly exempt.

    Args:
        rules: Parsed rule texts.
        exempt: Parsed texts of what no rule judges, as the application's own paths.
        suffices: Whether a request that passes the first of two rules, given by their
            numbers, needs not pass the second. By default all rules are worth the same.

    Attributes:
        unmatched_methods: The standard methods that no rule names. Any other spelling of a
            method has to be matched.
    """

    def __init__(
        self,
        rules: Sequence[Pattern],
        exempt: Sequence[Pattern] = (),
        suffices: Callable[[int, int], bool] = lambda _first, _second: True,
    ) -> None:
        known = [pattern.known_methods for pattern in rules]
        self.unmatched_methods: frozenset[str] = METHODS.difference(*known)
        self._patterns = tuple(rules)
        self._suffices = suffices
        self._names_get = any("GET" in pattern.methods for pattern in rules)
        self._rules = Tree(rules, fold)
        self._exempt = Tree(exempt, str) if exempt else None
        self._by_method = {
            method: [n for n, methods in enumerate(known) if method in methods]
            for method in METHODS
        }
        self._by_unknown = [n for n, rule in enumerate(rules) if rule.passes_preflights]
        as_written = {rule.path[:end] for rule in rules for end in range(len(rule.path) + 1)}
        folded = {tuple(part and fold(part) for part in path) for path in as_written}
        self._mixes_case = len(folded) < len(as_written)

    def match(
        self,
        method: str,
        path: str,
        raw_path: bytes = b"",
        root_path: str = "",
        mount: str = "",
    ) -> Match:
        """Return which rule judges the request.

        Args:
            method: The method as it came; case and blanks do not matter.
            path: The decoded path.
            raw_path: The path's bytes before decoding, if the server passes them on.
            root_path: The mount that the server reports.
            mount: The mount that the application itself knows, which replaces the server's
                for exemptions.
        """
        method = method.strip().upper()
        raw_path = raw_path.partition(b"?")[0]  # Some servers leave the query in it.
        mounts = []
        if mount or root_path:
            mounts = [part for part in (mount.rstrip("/"), root_path.rstrip("/")) if part]
        readings = mounted(path, mounts) if is_tame(path, raw_path) else None
        if readings is None:
            touched = self._touched(method, path, raw_path, mounts)
        else:
            # With a mount, the rules are ordered by their matches with the application's own
            # path, which comes first. A rule for the full path judges too, but only if it does
            # not match the own path as well. Otherwise a final `/**` would judge beside every
            # rule before it.
            own, *others = readings
            touched, matching = self._look_up(method, own)
            for reading in others:
                touched |= self._look_up(method, reading)[0] - matching.keys()
        if touched is None:
            rules = self._by_method.get(method, self._by_unknown)
        elif touched:
            rules = sorted(touched)
        else:
            return None  # Nearly always.
        if not rules or self._is_exempt(method, path, raw_path, mounts[:1]):
            return None
        return tuple(rules) if touched is None else self._strictest(method, rules)

    def _look_up(self, method: str, path: str) -> tuple[set[int], dict[int, Pattern]]:
        """Return which rules judge one path, and all that match it.

        The first that matches as written judges, the first in lower case, and the first that
        matches only without the last extension: routers may ignore both. Without the "only",
        a final `/**` would judge `/search.do` beside the rule that was written for it.
        """
        folded = _parts(fold(path))
        matching = self._rules.find(method, folded)
        judges = set[int]()
        if matching:
            parts = _parts(path)
            exact = [n for n, pattern in matching.items() if pattern.is_written_as(parts)]
            judges |= self._first(matching.keys() - exact if self._mixes_case else matching)
            judges.update(sorted(exact)[:1])
        if folded and "." in folded[-1] and (stem := folded[-1].rpartition(".")[0]):
            others = self._rules.find(method, [*folded[:-1], stem])
            others = _only_by_stem(method, others, matching)
            for number in self._first(others):
                pattern = self._patterns[number]
                _logger.debug("%s matches %r only without its extension", pattern, path)
                judges.add(number)
            matching |= others
        return judges, matching

    def _first(self, numbers: Collection[int]) -> set[int]:
        # If rules differ in letter case alone, the first in lower case may not be the one that
        # a router has in mind.
        return set(numbers) if self._mixes_case else set(sorted(numbers)[:1])

    def _touched(
        self, method: str, path: str, raw_path: bytes, mounts: Sequence[str]
    ) -> set[int] | None:
        """Return the rules that any reading of the target touches; None if it is too odd."""
        # Decoded as often as the texts: a mount that the client names may be escaped, too.
        names = (name for mount in mounts for name in spellings(mount))
        prefixes = {fold(INVISIBLE.sub("", name)) for name in names} - {""}
        texts = set[str]()
        for spelling in map(fold, spellings(path, raw_path)):
            for part in (spelling, *_behind(spelling, prefixes)):
                for text in cleaned(part):
                    texts |= {text, *_behind(text, prefixes)}
                    if is_too_odd(text) or sum(map(len, texts)) > _MOST_TEXT:
                        return None
        stems = any(map(has_extension, texts))
        # Only the few rules for which it matters need two searches.
        twice = stems and method in SAFE_METHODS
        touched = self._rules.touch(method, texts, prefixes, stems=stems and not twice)
        if twice and self._names_get:
            by_stem = self._rules.touch(method, texts, prefixes, stems=True)
            touched |= _only_by_stem(method, by_stem, touched)
        return set(touched)

    def _is_exempt(
        self, method: str, path: str, raw_path: bytes, mounts: Sequence[str]
    ) -> bool:
        """Return whether every reading of the target is exactly exempt.

        From its first odd segment on, a path may be cut or read in other ways; so up to
        there, it has to be below an exemption with `/**`.
        """
        if self._exempt is None:
            return False
        for spelling in spellings(path, raw_path):
            own = below(spelling, mounts[0]) if mounts else spelling
            tame = None if own is None else tame_prefix(own)
            if tame is None:
                return False
            exempt = self._exempt.find(method, _parts(tame))
            if not any(tame == own or pattern.below for pattern in exempt.values()):
                return False
        return True

    def _strictest(self, method: str, rules: Sequence[int]) -> Match:
        """Return the first rule whose settings suffice for all of these, or all of them."""
        best = rules[0]
        for number in rules:
            if not self._is_enough(method, best, number):
                best = number
        enough = all(self._is_enough(method, best, number) for number in rules)
        return best if enough else tuple(rules)

    def _is_enough(self, method: str, first: int, second: int) -> bool:
        # A rule that names OPTIONS lets no preflight pass.
        lax = method == "OPTIONS" and self._patterns[first].passes_preflights
        if lax and not self._patterns[second].passes_preflights:
            return False
        return self._suffices(first, second)


def _parts(path: str) -> list[str]:
    parts = path.split("/")[1:]
    return parts[:-1] if parts and not parts[-1] else parts


def _behind(text: str, mounts: Iterable[str]) -> list[str]:
    # Litestar cuts at the first occurrence anywhere; Quart needs no slash behind it.
    return [text.partition(mount)[2] for mount in mounts if mount in text]


def _only_by_stem(
    method: str, by_stem: dict[int, Pattern], others: dict[int, Pattern]
) -> dict[int, Pattern]:
    """Return the patterns that match only without the extension, if these count."""
    only = {number: by_stem[number] for number in by_stem.keys() - others.keys()}
    # Beside a page's path, `/login.js` and `/login.css` are files, which no rule is meant for.
    names_get = any("GET" in pattern.methods for pattern in only.values())
    return only if names_get or method not in SAFE_METHODS else {}
