"""The package as a whole: its layers, its public names, the cost of importing it."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from enum import Enum
from importlib.metadata import metadata, requires, version
from importlib.resources import files
from pathlib import Path

import pytest

import tcaptcha_middleware

PACKAGE = Path(str(files(tcaptcha_middleware)))
ROOT = Path(__file__).parent.parent

# Folders and root modules, from the lowest layer up; each imports from lower layers only.
LAYERS = [
    {"errors", "findings", "models", "waiting"},
    {"languages", "matching", "scoped"},
    {"threadpool"},
    {"operations", "responses", "types", "validation"},
    {"client_ip", "health", "replay", "tencent"},
    {"_http"},
    {"effects", "wsgi_body"},
    {"extraction", "verifiers"},
    {"settings"},
    {"rules"},
    {"flow", "strictness"},
    {"browser"},
    {"guard"},
    {"asgi", "wsgi"},
    {"decision", "testing"},
    {"demo", "integrations"},
    {"cli"},
    {"__init__", "__main__"},
]
LAYER = {name: number for number, layer in enumerate(LAYERS) for name in layer}


def name_of(file):
    name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name):
            inner = node.module.removeprefix(PACKAGE.name).lstrip(".")
            names = [f"{inner}.{alias.name}".lstrip(".") for alias in node.names]
            yield from (name if name in MODULES else inner for name in names)


def layer_of(module):
    return LAYER[module.partition(".")[0]]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports_from_lower_layers_or_its_own_folder(module):
    folder = module.partition(".")[0]
    upward = [
        name
        for name in imports(MODULES[module])
        if name.partition(".")[0] != folder and layer_of(name) >= layer_of(module)
    ]
    assert upward == []


def test_every_folder_and_root_module_has_a_layer():
    assert LAYER.keys() == {module.partition(".")[0] for module in MODULES}


def foreign(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_every_package_that_is_imported_is_declared(module):
    declared = {
        re.split(r"[^a-z0-9-]", requirement, maxsplit=1)[0].replace("-", "_")
        for requirement in requires("tcaptcha-middleware")
    }
    declared |= {"tencentcloud", "tcaptcha_middleware", *sys.stdlib_module_names}
    # Who uses an integration has its framework.
    declared |= set(re.findall(r"^integrations\.(\w+)", module))
    declared.add("pytest")  # which loads the plugin
    if module.startswith("integrations.django."):
        declared.add("asgiref")  # Django requires it
    assert set(foreign(MODULES[module])) - declared == set()


def test_the_public_names_are_sorted_and_all_load():
    assert tcaptcha_middleware.__all__ == sorted(tcaptcha_middleware.__all__)
    assert dir(tcaptcha_middleware) == tcaptcha_middleware.__all__
    assert all(hasattr(tcaptcha_middleware, name) for name in tcaptcha_middleware.__all__)


def test_type_checkers_see_the_same_public_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body for alias in node.names}
    assert seen == set(tcaptcha_middleware.__all__)


def documented(public):
    return set(re.findall(r"^    (\w+): ", inspect.getdoc(public) or "", re.MULTILINE))


def parameters(public):
    # Users do not construct protocols; a union of two is not a class.
    if not callable(public) or getattr(public, "_is_protocol", False):
        return set()
    if isinstance(public, type) and issubclass(public, (Enum, Exception)):
        return set()
    own = inspect.signature(public).parameters.keys()
    bases = inspect.getmro(public)[1:-1] if isinstance(public, type) else ()
    return own - {name for base in bases for name in documented(base)}


@pytest.mark.parametrize("name", tcaptcha_middleware.__all__)
def test_every_public_name_documents_each_of_its_arguments(name):
    public = getattr(tcaptcha_middleware, name)
    assert parameters(public) - documented(public) == set()


def test_an_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tcaptcha_middleware.nothing


def loaded_by(code):
    script = f"import sys; {code}; print(*sys.modules)"
    run = [sys.executable, "-c", script]
    return set(subprocess.run(run, capture_output=True, check=True, text=True).stdout.split())


OPTIONAL = [
    "tencentcloud",
    "redis",
    "starlette",
    "uvicorn",
    "httpx",
    "cryptography",
]


EXTRAS = {
    "redis": ("redis", "import tcaptcha_middleware.replay.redis"),
    "sdk": ("tencentcloud", "import tcaptcha_middleware.verifiers.sdk"),
    "demo": (
        "uvicorn",
        "from tcaptcha_middleware.testing import TencentEmulator as E; E().serve().__enter__()",
    ),
}


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_reported_with_the_install_command(extra):
    module, code = EXTRAS[extra]
    script = f"import sys; sys.modules[{module!r}] = None; {code}"
    run = [sys.executable, "-c", script]
    errors = subprocess.run(run, capture_output=True, check=False, text=True).stderr
    assert f"pip install 'tcaptcha-middleware[{extra}]'" in errors.splitlines()[-1]


def test_importing_the_package_loads_nothing_else():
    modules = loaded_by("import tcaptcha_middleware")
    assert not {"httpx", "anyio", "python_multipart", *OPTIONAL} & modules
    assert [name for name in modules if name.startswith("tcaptcha_middleware")] == [
        "tcaptcha_middleware"
    ]


@pytest.mark.parametrize("module", OPTIONAL)
def test_no_optional_dependency_is_loaded_before_it_is_used(module):
    assert module not in loaded_by("from tcaptcha_middleware import *")


def test_the_wsgi_adapter_imports_no_event_loop():
    modules = loaded_by("from tcaptcha_middleware import Guard, TCaptchaWSGIMiddleware")
    assert not {"anyio", "asyncio", "httpx", "json.tool"} & modules


def test_the_asgi_adapter_imports_late_what_it_may_not_need():
    names = "Guard, TCaptchaMiddleware, TencentVerifier"
    modules = loaded_by(f"from tcaptcha_middleware import {names}") - loaded_by("import anyio")
    assert (
        not {"asyncio", "concurrent.futures", "html", "httpx", "queue", "secrets", "ssl"}
        & modules
    )


FRAMEWORKS = ["bottle", "django", "falcon", "fastapi", "flask", "litestar", "pyramid", "quart"]
FRAMEWORKS += ["rest_framework", "starlette"]
# What a framework itself imports.
BELOW = {"fastapi": "starlette", "quart": "flask", "rest_framework": "django"}
OWN: dict[str, list[str]] = {}
for module in MODULES:
    if module.startswith("integrations"):
        names = {*FRAMEWORKS} & {*module.split(".")}
        OWN.setdefault("".join(names), []).append(f"{PACKAGE.name}.{module}")


@pytest.mark.parametrize("framework", OWN)
def test_an_integration_imports_no_other_framework(framework):
    modules = loaded_by(f"import {', '.join(OWN[framework])}")
    assert modules & {*FRAMEWORKS} <= {framework, BELOW.get(framework)}


@pytest.mark.parametrize("file", sorted((PACKAGE / "integrations").rglob("*.py")), ids=str)
def test_a_module_of_the_integrations_is_short(file):
    assert len(file.read_text().splitlines()) <= 250


def test_the_policy_knows_no_framework():
    text = (PACKAGE / "flow.py").read_text().lower()
    assert [name for name in FRAMEWORKS if name in text] == []


BUILT = (
    "from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier; "
    "verifier = TencentVerifier(1, 'captchaSecret', 'AKID' + 'a' * 32, 'keySecret'); "
    "TCaptchaMiddleware(print, Guard(['POST /login'], verifier))"
)
# Each costs milliseconds; the first connection loads what TLS needs.
LATE = {"certifi", "email", "http.client", "importlib.metadata", "tempfile", "urllib.request"}


def test_a_guard_with_its_verifier_loads_fewer_modules_than_httpx():
    modules = loaded_by(BUILT)
    assert not LATE & modules
    assert len(modules) < len(loaded_by("import httpx"))


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()
    assert "Typing :: Typed" in metadata("tcaptcha-middleware").get_all("Classifier")


def test_the_changelog_has_an_entry_for_the_version():
    assert f"## [{version('tcaptcha-middleware')}]" in (ROOT / "CHANGELOG.md").read_text()


def test_what_is_tested_is_what_is_installed():
    assert "site-packages" in PACKAGE.parts
