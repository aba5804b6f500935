"""Write the npm package to a folder, from the files of the Python package.

Use: ``python npm/build.py [FOLDER]``; the folder is ``npm/dist`` by default. Then
``npm pack ./FOLDER`` or ``npm publish ./FOLDER``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = (
    "npm/README.md",
    "LICENSE",
    "tcaptcha_middleware/browser/tcaptcha.js",
    "tcaptcha_middleware/browser/tcaptcha.d.ts",
)


def build(folder: Path) -> None:
    """Write the package to `folder`, with the version of the Python package."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    manifest = json.loads((ROOT / "npm/package.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    manifest["version"] = project["version"]
    (folder / "package.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    build(Path(*sys.argv[1:2]) if sys.argv[1:] else ROOT / "npm/dist")
