"""Verify in a thread, in a process and then in its fork; print each code. Run as a script."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

from tcaptcha_middleware import Submission, in_thread
from tcaptcha_middleware.testing import FakeVerifier
from tcaptcha_middleware.verifiers.sdk import TencentSDKVerifier

if TYPE_CHECKING:
    from collections.abc import Callable

TICKET = Submission("tr03ticket", "@r", "203.0.113.7")


class Client:
    """As much of the official client as is used."""

    profile = SimpleNamespace(retryer=None)
    DescribeCaptchaResult = None

    def call(self, action: str, parameters: object) -> str:
        return '{"Response": {"CaptchaCode": 1, "RequestId": "r"}}'


def bridged() -> Callable[[], int]:
    verifier = in_thread(FakeVerifier())

    async def awaited() -> int:
        return (await asyncio.wait_for(verifier.averify(TICKET), 10)).code

    return lambda: asyncio.run(awaited())


def official() -> Callable[[], int]:
    verifier = TencentSDKVerifier(Client(), 190000000, "emulatorAppSecretKey12345")
    return lambda: verifier.verify(TICKET).code


def main(kind: str) -> None:
    check = {"bridged": bridged, "official": official}[kind]()
    codes = [check()]
    # The thread that this call leaves does not exist after the fork.
    time.sleep(0.1)
    forked = os.fork()
    codes.append(check())
    os.write(1, f"{codes}\n".encode())
    if forked:
        os.waitpid(forked, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
