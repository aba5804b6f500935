"""Describe the captcha in OpenAPI documents; imports no framework."""

from __future__ import annotations

import re
from copy import deepcopy
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tcaptcha_middleware.browser.challenge import NavigationCookie
from tcaptcha_middleware.browser.page import shown_captcha
from tcaptcha_middleware.extraction.sources import BodySource, Header
from tcaptcha_middleware.matching.paths import mount_of, validate_mount
from tcaptcha_middleware.matching.patterns import METHODS, SAFE_METHODS
from tcaptcha_middleware.models import Reason
from tcaptcha_middleware.responses import CODE_HEADER
from tcaptcha_middleware.rules import AmbiguousTarget

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tcaptcha_middleware.guard import Guard
    from tcaptcha_middleware.integrations.marked_guard import MarkedGuard
    from tcaptcha_middleware.rules import CompiledRule

    Rules = list[CompiledRule | None]

Node = dict[str, Any]

_MEDIA_TYPE = "application/problem+json"
_STATUSES = sorted({reason.status for reason in Reason})
_MOST_EXAMPLES = 100
_DEEPEST = 20  # references may lead in a circle


def describe(schema: Node, guard: Guard | MarkedGuard, root_path: str = "") -> Node:
    """Return an OpenAPI document in which the operations that need a captcha say so.

    Each operation that a rule judges gets header parameters for the pair, the denial
    responses, and the extension `x-tcaptcha`. What it has already is kept.

    Args:
        schema: The document, of version 3.0 or 3.1. It is not changed.
        guard: The guard in front of the application.
        root_path: Where the application is mounted; the guard's `mounted_at` by default. The
            base paths of the document's `servers` count as mounts, too.

    Raises:
        ConfigurationError: If `root_path` is not a mount.
    """
    validate_mount("root_path", root_path)
    document = deepcopy(schema)
    paths = document.get("paths", {})
    for path in [key for key in paths if key.startswith("/")]:  # the others are extensions
        # Several paths may refer to one item, and a rule may judge only one of them.
        beside = {key: value for key, value in paths[path].items() if key != "$ref"}
        item = deepcopy(_resolved(document, paths[path])) | beside
        for method in [key for key in item if key.upper() in METHODS]:
            scopes = (item[method], item, document)
            servers = next((scope["servers"] for scope in scopes if "servers" in scope), ())
            mounts = [root_path or guard.mounted_at, *map(_base_path, servers)]
            listed = *item.get("parameters", ()), *item[method].get("parameters", ())
            parameters = [_resolved(document, parameter) for parameter in listed]
            examples = _examples(document, path, parameters)
            rules = [_judge(guard, method.upper(), example, mounts) for example in examples]
            if any(rules):
                paths[path] = item
                _describe_operation(item[method], method.upper(), rules, parameters, document)
    return document


def install(app: Any, guard: Guard | MarkedGuard, root_path: str = "") -> None:
    """Let `/openapi.json` and `/docs` of a FastAPI application describe the captcha.

    Args:
        app: The application. Its document is still made once, when it is first needed.
        guard: The guard in front of it.
        root_path: Where another application mounts it, such as `"/shop"`.

    Raises:
        ConfigurationError: If `root_path` is not a mount, or the guard's `mounted_at` is not
            the application's `root_path`.
    """
    validate_mount("root_path", root_path)
    make = app.openapi
    mount = root_path or mount_of(app, guard.mounted_at)
    latest: tuple[object, Node] = None, {}

    def openapi() -> Node:
        nonlocal latest
        schema = make()
        # FastAPI returns the same object until a route is added.
        if schema is not latest[0]:
            latest = schema, describe(schema, guard, mount)
        return latest[1]

    app.openapi = openapi


def _resolved(document: Node, node: Any) -> Any:
    """Return what a node's references within the document lead to; empty if to nothing."""
    for _ in range(_DEEPEST):
        if not isinstance(node, dict):
            return {}  # a boolean is a schema, too
        reference = node.get("$ref", "")
        if not reference.startswith("#/"):
            return node
        node = document
        for key in reference[2:].split("/"):
            name = unquote(key).replace("~1", "/").replace("~0", "~")
            node = node.get(name, {}) if isinstance(node, dict) else {}
    return {}


def _base_path(server: Node) -> str:
    url = server["url"]
    for name, variable in server.get("variables", {}).items():
        url = url.replace(f"{{{name}}}", str(variable["default"]))
    path = unquote(urlsplit(url).path).strip("/")
    return f"/{path}" if path else ""


def _examples(document: Node, path: str, parameters: Iterable[Node]) -> list[str]:
    """Return paths of an operation, with all values that an enum has or any other value."""
    values = {}
    for parameter in parameters:
        schema = _resolved(document, parameter.get("schema", {}))
        if parameter.get("in") == "path":
            values[parameter["name"]] = schema.get("enum", [schema.get("const", "value")])
    examples = [""]
    for literal, name in re.findall(r"([^{]*)(?:\{([^}]*)\})?", path):
        endings = values.get(name, ["value"]) if name else [""]
        examples = [f"{start}{literal}{end}" for start in examples for end in endings]
        del examples[_MOST_EXAMPLES:]
    return examples


def _judge(
    guard: Guard | MarkedGuard, method: str, path: str, mounts: list[str]
) -> CompiledRule | None:
    for mount in mounts:
        rule = guard.match(method, mount + path, b"", mount)
        if rule is not None:
            return rule.rules[0] if isinstance(rule, AmbiguousTarget) else rule
    return None


def _describe_operation(
    operation: Node, method: str, rules: Rules, parameters: list[Node], document: Node
) -> None:
    rule = next(rule for rule in rules if rule is not None)
    settings, captcha = rule.settings, shown_captcha(rule.verifier)
    enforces = settings.mode == "enforce"
    unusable = BodySource if method in SAFE_METHODS else NavigationCookie
    sources = [source for source in settings.sources if not isinstance(source, unusable)]
    header = next((source for source in sources if isinstance(source, Header)), None)
    if header is not None:
        known = {p["name"].lower() for p in parameters if p.get("in") == "header"}
        needed = enforces and settings.when is None and None not in rules and len(sources) == 1
        names = [header.ticket, header.randstr] if rule.captcha.has_randstr else [header.ticket]
        for name in names:
            if name.lower() not in known:
                parameter: Node = {"name": name, "in": "header", "required": needed}
                parameter["description"] = "Part of a solved captcha."
                parameter["schema"] = {"type": "string"}
                operation.setdefault("parameters", []).append(parameter)
    # A rule that observes refuses nothing; a responder's answers are unknown.
    if enforces and settings.responder is None:
        _add_responses(operation, document)
    shown = {} if captcha is None else {"appId": str(captcha.app_id)}
    operation["x-tcaptcha"] = {"rule": rule.name, "mode": settings.mode} | shown


def _add_responses(operation: Node, document: Node) -> None:
    responses = operation.setdefault("responses", {})
    for status in _STATUSES:
        text = f"{HTTPStatus(status).phrase}: an answer of the captcha check, see `code`."
        # A range or the default no longer applies to a status that has its own response. YAML
        # may have numbers as keys.
        keys = [str(status), status, f"{status // 100}XX", "default"]
        known: Node = next((responses[key] for key in keys if key in responses), {})
        response = deepcopy(_resolved(document, known))
        if "$ref" in response:
            continue  # a response of another document
        if text not in response.setdefault("description", text):
            response["description"] += f"\n\n{text}"
        headers = {CODE_HEADER: {"schema": {"type": "string"}}}
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = {"schema": {"type": "integer"}}
        response["headers"] = headers | response.get("headers", {})
        problem = _problem(document, status)
        media_type = response.setdefault("content", {}).setdefault(_MEDIA_TYPE, {})
        schema = media_type.setdefault("schema", problem)
        several = schema.get("anyOf", ()) if isinstance(schema, dict) else ()
        if problem not in (schema, *several):
            media_type["schema"] = {"anyOf": [schema, problem]}
        responses[status if status in responses else str(status)] = response


def _problem(document: Node, status: int) -> Node:
    """Return a reference to the schema of a status's problem documents."""
    codes = [reason.value for reason in Reason if reason.status == status]
    properties: Node = {name: {"type": "string"} for name in ("type", "title", "detail")}
    properties["status"] = {"type": "integer", "enum": [status]}
    properties["code"] = {"type": "string", "enum": codes}
    schema = {"type": "object", "required": [*properties], "properties": properties}
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    name = f"TCaptcha{status}"
    while schemas.setdefault(name, schema) != schema:
        name += "_"
    return {"$ref": f"#/components/schemas/{name}"}
