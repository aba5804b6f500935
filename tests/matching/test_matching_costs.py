"""What one match costs, in what can be counted: nodes visited and characters read."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tcaptcha_middleware.matching import matcher as module
from tcaptcha_middleware.matching.matcher import Matcher
from tcaptcha_middleware.matching.patterns import parse

RULES = ["POST /login", "/users/{id}/code", "/{a}/{b}/{c}/z", "/admin/**", "GET /page"]


class Counted(dict):
    """A node's children that count how often one is looked up."""

    visits = 0

    def get(self, *key):
        Counted.visits += 1
        return super().get(*key)


def counted(node):
    node.children = Counted({key: counted(child) for key, child in node.children.items()})
    return node


def matcher(more=0):
    rules = [*RULES, *(f"POST /api/v1/r{number}/{{id}}" for number in range(more))]
    result = Matcher([parse(rule) for rule in rules])
    counted(result._rules.root)
    return result


def visits(rules, path, raw_path=b""):
    Counted.visits = 0
    rules.match("POST", path, raw_path)
    return Counted.visits


def at_length(unit, length):
    return (unit * length)[:length]


PLAIN = {
    "plain": "/abcdefg",
    "below a rule": "/users",
    "every segment matches": "/a",
}
ODD = {
    "a proxy's target": "/proxy/http://host",
    "slashes": "//",
    "dots": "/users/7/../api/v1/r4/..",
    "blanks that end in dots": "/%00..",
    "escapes of escapes": "/%2525252e",
    "escaped slashes": "/x%252f%5c",
    "backslashes": "/a\\b",
    "marks": "/a;b?c#d",
    "extensions": "/a.b.c",
    "blank segments": "/ \t",
}
TARGETS = PLAIN | ODD
every_target = pytest.mark.parametrize("unit", TARGETS.values(), ids=TARGETS)


@every_target
@pytest.mark.parametrize("path", ["/items/42", "/api/v1/r5/7", "//login", "/x/../users/7/code"])
def test_the_cost_does_not_depend_on_the_number_of_rules(unit, path):
    few, many = matcher(10), matcher(1000)
    for target in (path, path + at_length(unit, 200)):
        assert visits(few, target) == visits(many, target)


@every_target
def test_a_target_of_8_kb_visits_few_nodes(unit):
    rules = matcher(100)
    for length in (100, 1000, 2000, 8000):
        assert visits(rules, at_length(unit, length)) < 8000


@every_target
def test_visited_nodes_grow_at_most_linearly_with_the_target(unit):
    rules = matcher(100)
    short, long = (visits(rules, at_length(unit, length)) for length in (400, 800))
    assert long <= 2 * short + 100


@pytest.mark.parametrize("unit", PLAIN.values(), ids=PLAIN)
def test_matching_a_plain_path_stops_if_no_rule_can_match(unit):
    assert visits(matcher(100), at_length(unit, 64_000)) < 20


def read(monkeypatch, path, raw_path):
    """Return how many characters are searched for a target, over all of its readings."""
    texts = []

    def note(text):
        texts.append(text)
        return is_too_odd(text)

    is_too_odd = module.is_too_odd
    monkeypatch.setattr(module, "is_too_odd", note)
    matcher(10).match("POST", path, raw_path)
    monkeypatch.undo()
    return sum(map(len, texts))


@pytest.mark.parametrize("unit", ODD.values(), ids=ODD)
@pytest.mark.parametrize("length", [1000, 8000, 16_000, 64_000])
def test_all_readings_together_are_bounded(monkeypatch, unit, length):
    few = at_length("/a", length - 60) + unit
    for path in (few, at_length(unit, length)):
        for raw_path in (b"", quote(path).encode(), quote(quote(path)).encode()):
            limit = min(12 * len(path), 64 * 1024 + 3 * len(path))
            assert read(monkeypatch, path, raw_path) <= limit


def test_a_plain_path_has_one_reading(monkeypatch):
    assert read(monkeypatch, "/a/b.c/d/", b"/a/b.c/d/?x") == 0
    assert read(monkeypatch, "/caf\u00e9 au lait", b"/caf%C3%A9%20au%20lait") == 0


def test_few_rules_are_compared_even_if_a_target_touches_many():
    pairs = []

    def suffices(first, second):
        pairs.append((first, second))
        return False

    rules = [parse(f"/r{number}") for number in range(1000)]
    path = "".join(f"/r{number};/.." for number in range(45))
    match = Matcher(rules, suffices=suffices).match("POST", path)
    assert match == tuple(range(45))
    assert len(pairs) <= 2 * 45
