"""Tools for tests of applications: a scripted verifier, and an emulator of Tencent."""

from tcaptcha_middleware.testing.emulator import TencentEmulator
from tcaptcha_middleware.testing.fake import FakeVerifier
from tcaptcha_middleware.testing.override import override
from tcaptcha_middleware.testing.pairs import as_headers, fresh_pair

__all__ = ["FakeVerifier", "TencentEmulator", "as_headers", "fresh_pair", "override"]
