"""What you test your own application with: a scripted verifier, and a Tencent of your own."""

from tcaptcha_middleware.testing.emulator import TencentEmulator
from tcaptcha_middleware.testing.fake import FakeVerifier

__all__ = ["FakeVerifier", "TencentEmulator"]
