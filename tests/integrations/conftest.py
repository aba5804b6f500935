"""Fixtures for the tests of integrations."""

from __future__ import annotations

import pytest

from tcaptcha_middleware.operations import log


@pytest.fixture(autouse=True)
def every_line_is_logged(monkeypatch):
    """Forget which lines about handlers earlier tests have caused: few are logged a minute."""
    monkeypatch.setattr(log, "_handlers", log.RateLimit())
