"""The npm package: what is in it, where it can be imported, and its types."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from npm_project import LIBRARIES, ROOT, run

import tcaptcha_middleware
from tcaptcha_middleware.browser import module_path

pytestmark = pytest.mark.outside

PROJECT = Path(__file__).parent / "project"
NAME = "node_modules/tcaptcha-middleware"
IMPORT = """
const before = Reflect.ownKeys(globalThis);
const names = ["addEventListener", "fetch", "setInterval", "setTimeout"];
const refuse = { value() { throw new Error("not at import"); } };
for (const name of names) Object.defineProperty(globalThis, name, refuse);
const module = await import("tcaptcha-middleware");
const added = Reflect.ownKeys(globalThis).filter((key) => !before.includes(key));
console.log(JSON.stringify([Object.keys(module), added.map(String)]));
"""


@pytest.fixture
def package(project):
    return project / NAME


def test_the_package_has_the_files_of_the_python_package(package):
    assert {file.name for file in package.iterdir()} == {
        "LICENSE",
        "README.md",
        "package.json",
        "tcaptcha.d.ts",
        "tcaptcha.js",
    }
    module = module_path()
    for file in (module, module.with_name("tcaptcha.d.ts"), ROOT / "LICENSE"):
        assert (package / file.name).read_bytes() == file.read_bytes()


def test_the_package_has_the_version_of_the_python_package(package):
    manifest = json.loads((package / "package.json").read_text())
    assert manifest["version"] == tcaptcha_middleware.__version__
    assert "dependencies" not in manifest


def test_an_import_on_a_server_only_declares_the_module(project):
    exports, added = json.loads(run(project, "node", "--input-type=module", "-e", IMPORT))
    assert exports == ["CaptchaError", "TCaptcha", "default", "messages"]
    state = [name for name in added if name != "addEventListener"]
    assert [name[:15] for name in state] == ["Symbol(tcaptcha"]


@pytest.mark.parametrize("resolution", ["bundler", "node16"])
@pytest.mark.parametrize("react", [True, False])
def test_consumers_are_type_checked(project, tmp_path, resolution, react):
    folder, files = project, ["consumer.tsx"]
    if not react:
        folder, files = tmp_path, ["consumer.ts", "consumer.js"]
        shutil.copytree(project / NAME, folder / NAME)
        for name in (*files, "package.json"):
            shutil.copy(project / name, folder)
    options = {
        "module": "esnext" if resolution == "bundler" else resolution,
        "moduleResolution": resolution,
        "target": "es2022",
        "lib": ["es2022", "dom", "dom.iterable"],
        "types": [],
        "jsx": "react-jsx",
        "allowJs": True,
        "checkJs": True,
        "strict": True,
        "noEmit": True,
    }
    config = folder / f"{resolution}.json"
    config.write_text(json.dumps({"compilerOptions": options, "files": files}))
    run(project, "npx", "tsc", "-p", config)


def test_vitest_with_jsdom_imports_the_module(project):
    settings = re.search(r"`captcha.options.settings = (\{.*\})`", LIBRARIES)[1]
    (project / "settings.js").write_text(f"export default {settings};")
    assert "3 passed" in run(project, "npx", "vitest", "run", "--no-color")


def test_the_lock_names_no_registry():
    assert '"resolved"' not in (PROJECT / "package-lock.json").read_text()
