"""The threat model names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
MODEL = (TESTS.parent / "docs/threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)(?:::(test_\w+))?`", MODEL)))


@pytest.mark.parametrize(("file", "name"), NAMED, ids=["::".join(pair) for pair in NAMED])
def test_every_test_that_the_threat_model_names_exists(file, name):
    assert f"def {name}(" in (TESTS / file).read_text() or not name


def test_every_threat_has_a_test():
    rows = [line for line in MODEL.splitlines() if re.match(r"\| (?!threat|-)", line)]
    assert len(rows) > 20
    assert all("`test_" in row for row in rows)
