"""Tools for tests of applications: a scripted verifier, and an emulator of Tencent."""

from tcaptcha_middleware.testing.emulator import TencentEmulator
from tcaptcha_middleware.testing.fake import FakeVerifier

__all__ = ["FakeVerifier", "TencentEmulator"]
