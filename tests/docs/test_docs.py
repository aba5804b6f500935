"""The threat model names tests that exist, and the architecture names functions that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
MODEL = (TESTS.parent / "docs/threat-model.md").read_text()
NAME = re.compile(r"`([\w/]*test_\w+\.py)(?:::(test_\w+))?`")
NAMED = sorted(set(NAME.findall(MODEL)))


@pytest.mark.parametrize(("file", "name"), NAMED, ids=["::".join(pair) for pair in NAMED])
def test_every_test_named_in_the_threat_model_exists(file, name):
    assert f"def {name}(" in (TESTS / file).read_text() or not name


def test_every_threat_has_a_test():
    rows = [line for line in MODEL.splitlines() if re.match(r"\| (?!threat|-)", line)]
    assert len(rows) > 20
    assert all(NAME.search(row) for row in rows)


ARCHITECTURE = (TESTS.parent / "docs/architecture.md").read_text()
PACKAGE = TESTS.parent / "tcaptcha_middleware"
# "Guard.route()      guard.py": a function, and its file or folder.
DRAWN = re.findall(r"^ *(?:\w+\.)?(\w+)\(\) +(\w+\.py|\w+/)", ARCHITECTURE, re.MULTILINE)


@pytest.mark.parametrize(("name", "place"), DRAWN)
def test_every_function_in_the_architecture_exists(name, place):
    files = (PACKAGE / place).rglob("*.py") if place.endswith("/") else [PACKAGE / place]
    assert any(f"def {name}(" in file.read_text() for file in files)


def test_every_file_in_the_architecture_exists():
    cells = re.findall(r"^\| (.+?) \|", ARCHITECTURE, re.MULTILINE)
    places = {place for cell in cells for place in re.findall(r"`(\w+\.py|\w+/)`", cell)}
    assert len(places) > 15
    assert {place for place in places if not (PACKAGE / place).exists()} == set()
    assert len(DRAWN) > 8
