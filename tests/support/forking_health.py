"""Health in a process and in its fork; prints what each has established. Run as a script."""

from __future__ import annotations

import os
import threading
import time

from tcaptcha_middleware import OutageError
from tcaptcha_middleware.health.health import Health


class Verifier:
    """Hangs at a probe in the parent."""

    def __init__(self) -> None:
        self.parent = os.getpid()

    def probe(self, limit: float) -> None:
        if os.getpid() == self.parent:
            time.sleep(60)


def fail(health: Health) -> None:
    try:
        with health.verification:
            raise OutageError("down")
    except OutageError:
        pass


def main() -> None:
    health = Health(Verifier(), 1)
    assert health.slots.enter()
    fail(health)
    # As another thread may do at the moment of the fork.
    holder = threading.Thread(target=health._monitor._lock.acquire)
    holder.start()
    holder.join()
    forked = os.fork()
    if forked:
        os.waitpid(forked, 0)
        os.write(1, f"parent {health.state} {health.slots.enter()}\n".encode())
        return
    os.write(1, f"child {health.state} {health.slots.enter()}\n".encode())
    fail(health)
    deadline = time.monotonic() + 10
    while health.state != "up" and time.monotonic() < deadline:
        time.sleep(0.01)
    os.write(1, f"child {health.state}\n".encode())


if __name__ == "__main__":
    main()
