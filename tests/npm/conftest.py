"""A project with the packed package and all libraries; installed once for all tests."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from npm_project import ROOT, run


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
