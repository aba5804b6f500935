"""A process without free file descriptors, as after a flood of connections."""

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
    """Opens a context, and then leaves no file descriptor free."""

    def __init__(self, opened):
        self.opened = opened
        self.files = no_file_left()

    def __enter__(self):
        result = self.opened.__enter__()
        self.files.__enter__()
        return result

    def __exit__(self, *error):
        self.files.__exit__(*error)
        self.opened.__exit__(*error)

    async def __aenter__(self):
        result = await self.opened.__aenter__()
        self.files.__enter__()
        return result

    async def __aexit__(self, *error):
        self.files.__exit__(*error)
        await self.opened.__aexit__(*error)
