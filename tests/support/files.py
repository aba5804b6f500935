"""A machine that has no file left to open, which is what a flood of connections makes of it."""

from __future__ import annotations

import resource
from contextlib import contextmanager

# Standard input, output and error; what is open beyond them stays open.
LEAST = 3


@contextmanager
def no_file_left():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (LEAST, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Short:
    """Opens what it is given, and then leaves no file to it."""

    def __init__(self, opened):
        self.opened = opened
        self.files = no_file_left()

    def __enter__(self):
        found = self.opened.__enter__()
        self.files.__enter__()
        return found

    def __exit__(self, *error):
        self.files.__exit__(*error)
        self.opened.__exit__(*error)

    async def __aenter__(self):
        found = await self.opened.__aenter__()
        self.files.__enter__()
        return found

    async def __aexit__(self, *error):
        self.files.__exit__(*error)
        await self.opened.__aexit__(*error)
