"""A project with the packed package and all libraries; installed once for all tests."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from npm_project import ROOT, Site, run
from npm_recipes import build

from tcaptcha_middleware.testing.emulator._http import serving


@pytest.fixture(scope="session")
def project():
    with TemporaryDirectory() as name:
        folder = Path(name) / "project"
        shutil.copytree(Path(__file__).parent / "project", folder)
        run(folder, "npm", "ci", "--no-audit", "--no-fund")
        run(folder, sys.executable, ROOT / "npm/build.py", "package")
        (packed,) = json.loads(run(folder, "npm", "pack", "--json", "./package"))
        run(folder, "npm", "install", "--no-save", "--no-audit", f"./{packed['filename']}")
        yield folder


@pytest.fixture(scope="session")
def served(project):
    """The application in front of the built pages."""
    site = Site(build(project))
    with serving(site.app) as site.origin:
        yield site


@pytest.fixture
def visit(page, served):
    """Open a built page; `plan` is what each challenge does without the user."""
    served.handled.clear()

    def visit(name, plan="solve"):
        if plan:
            page.add_init_script(f'window.tencent = {{ always: "{plan}" }}')
        # All modules have run, and so has React's first effect.
        page.goto(f"{served.origin}/{name}.html", wait_until="networkidle")
        return page

    return visit
