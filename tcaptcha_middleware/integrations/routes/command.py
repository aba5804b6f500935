"""`tcaptcha check`: load an application, and put its findings into a table or JSON."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter
from contextlib import redirect_stdout
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from posixpath import commonpath
from typing import TYPE_CHECKING, Any, NamedTuple

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.routes.check import BEHIND_ADMIN, check
from tcaptcha_middleware.integrations.routes.reading import is_application
from tcaptcha_middleware.tencent.credentials import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from tcaptcha_middleware.findings import Finding

_FACTORIES = ("create_app", "make_app", "get_app", "build_app", "app_factory", "factory")
_TARGET = re.compile(r"([\w.]+):([\w.]+)(\(\))?")


class Report(NamedTuple):
    """What a check prints.

    Attributes:
        text: The findings.
        warnings: What is wrong with the settings.
        status: 0 if nothing needs attention, and 1 otherwise.
    """

    text: str
    warnings: list[str]
    status: int


def report(target: str, *, factory: bool, as_json: bool, strict: bool) -> Report:
    """Load an application and check it.

    Args:
        target: `"module:app"`, or `"module:create_app()"`.
        factory: Whether the name is that of a factory, as with the parentheses.
        as_json: Whether to return JSON instead of a table.
        strict: Whether opaque routes need attention, too.

    Raises:
        ConfigurationError: If the application cannot be checked.
    """
    accepted = _accepted(Path.cwd() / "pyproject.toml")
    # What modules print when they are imported does not belong to the result.
    with redirect_stdout(sys.stderr):
        findings = check(_load(target, factory=factory))
    attention = [
        finding
        for finding in findings
        if (finding.needs_attention or (strict and finding.status == "opaque"))
        and str(finding) not in accepted
    ]
    if as_json:
        text = json.dumps([_as_object(finding, accepted) for finding in findings], indent=2)
    else:
        text = f"{_table(findings, accepted)}\n\n{_summary(attention)}"
    stale = accepted - {str(finding) for finding in findings}
    warnings = [_stale(name, findings) for name in sorted(stale)]
    return Report(text, warnings, 1 if attention else 0)


def _load(target: str, *, factory: bool) -> object:
    match = _TARGET.fullmatch(target)
    file, _, attribute = target.partition(":")
    if file.endswith(".py") and Path(file).is_file():
        module = ".".join(Path(file).with_suffix("").parts)
        raise ConfigurationError(
            f'{target!r} has the name of a file: write "{module}:{attribute or "app"}"'
        )
    if match is None:
        raise ConfigurationError(
            f'{target!r} is not the name of an application: write "module:app", or '
            '"module:create_app()" for a factory'
        )
    module, names, call = match.groups()
    sys.path.insert(0, str(Path.cwd()))
    statement = f"import {module}"
    try:
        value: Any = import_module(module)
        statement = ""
        for name in names.split("."):
            value = getattr(value, name)
        if call or factory:
            statement = f"import {module}; {module}.{names}()"
            value = value()
    # A module that ends the process must not end this one with its status.
    except (Exception, SystemExit) as error:
        advice = f'. See where with: python -c "{statement}"'
        if not statement:
            advice = _applications(module)
        elif any(name in str(error) for name in ACCOUNT):
            advice = ""  # the error has it
        cause = f"{type(error).__name__}: {error}{advice}"
        text = f"{target} cannot be loaded from {Path.cwd()}: {cause}"
        raise ConfigurationError(text) from error
    return value


def _applications(module: str) -> str:
    """Return what to write instead of a name that a module lacks, if that is known."""
    names = [
        f'"{module}:{name}()"' if isfunction(value) else f'"{module}:{name}"'
        for name, value in vars(sys.modules[module]).items()
        if is_application(value) or (isfunction(value) and name in _FACTORIES)
    ]
    return f": write {' or '.join(names)}" if names else ""


def _accepted(file: Path) -> set[str]:
    if not file.exists():
        return set()
    try:
        tool = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {})
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{file} is not valid TOML: {error}") from error
    settings = tool.get("tcaptcha", {}) if isinstance(tool, dict) else tool
    if not isinstance(settings, dict):
        raise ConfigurationError(
            f"{file}: tool.tcaptcha is {settings!r}: write a table, [tool.tcaptcha]"
        )
    if unknown := sorted(settings.keys() - {"accept"}):
        raise ConfigurationError(
            f"{file}: [tool.tcaptcha] has {unknown[0]!r}: its only key is accept"
        )
    accepted = settings.get("accept", [])
    if not isinstance(accepted, list) or not all(isinstance(text, str) for text in accepted):
        raise ConfigurationError(
            f"{file}: accept is {accepted!r}: write a list of what the table shows, such as "
            'accept = ["POST /token"]'
        )
    return set(accepted)


def _stale(name: str, findings: Iterable[Finding]) -> str:
    path = name.rpartition(" ")[2]
    same = dict.fromkeys(f'"{finding}"' for finding in findings if finding.path == path)
    advice = f": write {' or '.join(same)}" if same else ""
    return f"accept has {name!r}, which is not in the table{advice}"


def _as_object(finding: Finding, accepted: Collection[str]) -> dict[str, object]:
    return {
        "methods": finding.methods,
        "path": finding.path,
        "status": finding.status,
        "rule": finding.rule,
        "detail": finding.detail,
        "accepted": str(finding) in accepted,
    }


def _table(findings: Sequence[Finding], accepted: Collection[str]) -> str:
    rows = [("STATUS", "METHODS", "PATH", "RULE", "DETAIL")]
    in_admin = [finding.path for finding in findings if finding.detail == BEHIND_ADMIN]
    for finding in findings:
        if finding.detail == BEHIND_ADMIN:
            continue
        methods = ",".join(finding.methods) or "every"
        notes = ["accepted"] if str(finding) in accepted else []
        detail = "; ".join([*notes, finding.detail] if finding.detail else notes)
        rows.append((finding.status, methods, finding.path, finding.rule or "-", detail))
    if in_admin:  # in one row, because they would hide the project's own
        below = commonpath(in_admin).rstrip("/")
        detail = f"{len(in_admin)} routes {BEHIND_ADMIN}"
        rows.append(("uncovered", "every", f"{below}/**", "-", detail))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _summary(attention: Iterable[Finding]) -> str:
    counts = Counter(finding.status for finding in attention)
    listed = ", ".join(f"{number} {status}" for status, number in counts.items())
    return f"Needs attention: {listed}." if listed else "Nothing needs attention."
