"""An emulator of Tencent's captcha API and script, served as an ASGI app."""

from tcaptcha_middleware.testing.emulator._app import TencentEmulator

__all__ = ["TencentEmulator"]
