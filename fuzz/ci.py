"""Fuzz every target for a short time, with the corpus, two at a time.

    python fuzz/ci.py [SECONDS]

Fails if a target fails, or made too few runs. New inputs go to a temporary folder.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz import TARGETS

FOLDER = Path(__file__).parent
AT_ONCE = 2
FEWEST_RUNS = 100
_DONE = re.compile(r"^Done (\d+) runs", re.MULTILINE)
_COVERED = re.compile(r"cov: (\d+)")


def fuzz(target: str, seconds: int, new: Path) -> tuple[str, bool]:
    """Fuzz one target; return what to print, and if it passed."""
    new.mkdir()
    kept = FOLDER / "corpus" / target
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={new}/",
        "-timeout=20",
        "-rss_limit_mb=1024",
        "-print_final_stats=1",
    ]
    # libFuzzer writes to the first folder and only reads from others.
    line = [sys.executable, str(FOLDER / "fuzz.py"), target, str(new), str(kept), *options]
    process = subprocess.run(
        line, capture_output=True, text=True, errors="replace", check=False
    )
    done, covered = _DONE.search(process.stderr), _COVERED.findall(process.stderr)
    runs = int(done[1]) if done else 0
    if process.returncode or runs < FEWEST_RUNS:
        return f"{target}: FAILED after {runs} runs\n{process.stderr[-8000:]}", False
    return f"{target}: {runs} runs, {covered[-1]} edges covered", True


def main() -> None:
    """Fuzz all targets."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(AT_ONCE) as threads:
        running = [
            threads.submit(fuzz, target, seconds, Path(folder, target)) for target in TARGETS
        ]
        passed = True
        for future in running:
            text, is_passed = future.result()
            print(text, flush=True)  # noqa: T201
            passed &= is_passed
    if not passed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
