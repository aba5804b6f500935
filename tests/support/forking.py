"""Verify in a process and in its fork, in turns; print each result. Run as a script."""

from __future__ import annotations

import os
import sys

from tcaptcha_middleware import Submission, TencentVerifier


def check(verifier: TencentVerifier, ticket: str, randstr: str) -> None:
    verdict = verifier.verify(Submission(ticket, randstr, "203.0.113.7"))
    os.write(1, f"{verdict.code} {verdict.message}\n".encode())


def main(*pairs: str) -> None:
    (before, child, after) = (pair.split(" ") for pair in pairs)
    with TencentVerifier.from_env() as verifier:
        check(verifier, *before)
        forked = os.fork()
        check(verifier, *(after if forked else child))
        if forked:
            os.waitpid(forked, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
