"""Compare routes with rules, by asking the guards' own matcher about example paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.findings import Finding
from tcaptcha_middleware.integrations.routes.reading import read
from tcaptcha_middleware.integrations.routes.route import Gate
from tcaptcha_middleware.integrations.routes.rule_set import (
    OTHER,
    RuleSet,
    answered_methods,
    written,
)
from tcaptcha_middleware.integrations.routes.sensitive import is_sensitive
from tcaptcha_middleware.matching.paths import mount_of
from tcaptcha_middleware.matching.patterns import SAFE_METHODS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tcaptcha_middleware.findings import Status
    from tcaptcha_middleware.guard import Guard
    from tcaptcha_middleware.integrations.routes.route import Route

    Answers = dict[tuple[str, str], "_Answer"]

BEHIND_ADMIN = "behind the login of the admin"
_LISTED = 3


class _Answer(NamedTuple):
    """What a guard does with a request: the rules that judge it, or else the exemption."""

    rules: list[str]
    exemption: str


def check(app: object, guard: Guard | None = None) -> list[Finding]:
    """Return a finding for each route, dead rule and shadowed page path of an application.

    Args:
        app: The application, with or without middlewares around it.
        guard: A guard that will be around it; None for those that are there.

    Raises:
        ConfigurationError: If nothing can be checked: no guard, no routes, or none that can
            be read; or no handler is marked, and there are no rules.
    """
    routes = list(read(app))
    guards = {id(gate.guard): gate.guard for route in routes for gate in route.gates}
    if guard is not None and id(guard) not in guards:
        routes = [route._replace(gates=(Gate(guard, ""), *route.gates)) for route in routes]
        guards[id(guard)] = guard
    _require_readable(app, routes, guards.values())
    rule_sets = {
        key: RuleSet(guard, mount_of(app, guard.mounted_at)) for key, guard in guards.items()
    }
    answers = _matched(routes, rule_sets, samples_exempt=True)
    found = list(map(_judge, routes, answers))
    for rule_set in rule_sets.values():
        found += [rule_set.dead(name, routes) for name in rule_set.unused()]
        found += rule_set.shadowed(routes)
    _require_rules(found)
    return found


def dead_rules(routes: Iterable[Route], guard: Guard, root: str) -> list[Finding]:
    """Return a finding for each rule that matches no route; none if all routes are opaque.

    Args:
        routes: All routes of the application behind the guard.
        guard: The guard.
        root: The path before the application's own.
    """
    routes = [route._replace(gates=(Gate(guard, ""),)) for route in routes]
    if routes and all(route.opaque for route in routes):
        return []
    rule_set = RuleSet(guard, root)
    _matched(routes, {id(guard): rule_set}, samples_exempt=False)
    return [rule_set.dead(name, routes) for name in rule_set.unused()]


def _matched(
    routes: Sequence[Route], rule_sets: Mapping[int, RuleSet], *, samples_exempt: bool
) -> list[Answers]:
    """Return the rules that judge each route's examples, and note them in the rule sets."""
    answers = [_answers(route, route.path.examples, rule_sets) for route in routes]
    # A rule may match only values that no example has, as "/users/me" does of "/users/{id}".
    for rule_set in rule_sets.values():
        for pattern in rule_set.sampled(with_exempt=samples_exempt):
            for route, known in zip(routes, answers, strict=True):
                known.update(_answers(route, rule_set.paths_of(pattern, route), rule_sets))
    return answers


def _require_readable(app: object, routes: Sequence[Route], guards: Iterable[Guard]) -> None:
    kind = type(app).__name__
    if not routes:
        raise ConfigurationError(
            f"this {kind} has no routes: name the application that your server runs, in the "
            "module that adds its routes"
        )
    if all(route.opaque for route in routes):
        raise ConfigurationError(
            f"no route of this {kind} can be read: {routes[0].opaque}. Name an application of "
            "FastAPI, Starlette, Litestar, Flask, Quart, Django, Pyramid, Falcon or Bottle; "
            'write a factory as "module:create_app()"'
        )
    if not list(guards):
        raise ConfigurationError(
            f"there is no guard around this {kind}: name the object that your server runs, "
            "with TCaptchaMiddleware or TCaptchaWSGIMiddleware around it, or add Django's "
            "CaptchaMiddleware to MIDDLEWARE"
        )


def _require_rules(findings: Iterable[Finding]) -> None:
    if not any(finding.rule for finding in findings):
        likely = [str(finding) for finding in findings if finding.status == "open"][:_LISTED]
        example = f", such as that of {', '.join(likely)}" if likely else ""
        raise ConfigurationError(
            "no handler is marked, and there are no rules: nothing needs a captcha. Mark each "
            f"handler that robots abuse{example}"
        )


def _answers(route: Route, paths: Iterable[str], rule_sets: Mapping[int, RuleSet]) -> Answers:
    """Return what happens to requests with each method and path."""
    answers: Answers = {}
    gates = [(rule_sets[id(gate.guard)], gate.mount) for gate in route.gates]
    for path in paths:
        for method in answered_methods(route):
            names = [n for rules, mount in gates for n in rules.match(method, path, mount)]
            texts = (rules.exemption(method, path, mount) for rules, mount in gates)
            exemption = "" if names else next(filter(None, texts), "")
            answers[method, path] = _Answer(names, exemption)
    return answers


def _judge(route: Route, answers: Answers) -> Finding:
    rule = ", ".join(dict.fromkeys(n for answer in answers.values() for n in answer.rules))
    # GET shows the form that POST submits, so it counts only if there is nothing else.
    changes = any(method not in SAFE_METHODS for method in answered_methods(route))
    counted = {t: a for t, a in answers.items() if not changes or t[0] not in SAFE_METHODS}
    exempt = dict.fromkeys(a.exemption for a in counted.values() if a.exemption)
    missing = [target for target, answer in counted.items() if not any(answer)]
    status: Status = "uncovered"
    details = [f"exempt: {', '.join(exempt)}"] if exempt else []
    if not route.path.examples:
        status, details = "opaque", ["no example of this path was found"]
    elif not missing:
        if any(answer.rules for answer in counted.values()):
            status = "covered"
    elif route.opaque:
        status, details = "opaque", [route.opaque, *details]
    elif rule:
        status, details = "partly", [_what_is_missing(answers, missing), *details]
    elif route.needs_login:
        details = [BEHIND_ADMIN]
    elif is_sensitive(route):
        status = "open"
    methods = ("WEBSOCKET",) if route.websocket else written(route.methods or ())
    return Finding(status, methods, str(route.path), rule, "; ".join(details))


def _what_is_missing(answers: Answers, missing: Sequence[tuple[str, str]]) -> str:
    methods = {method for method, _ in missing}
    if any(answer.rules for (method, _), answer in answers.items() if method in methods):
        return f"not {missing[0][1]}"
    others = OTHER in methods or len(methods) > _LISTED
    listed = ", ".join(sorted(methods - {OTHER})[:_LISTED])
    return f"not {listed} and others" if others else f"not {listed}"
