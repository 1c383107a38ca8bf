"""Repeat the tests that a change touches, to find the ones that fail now and then: `make test-flaky N=20`.

The change is everything that differs from the common ancestor of HEAD and origin/main (else main), uncommitted and new
files too. Its tests are the changed test files, and tests/X/test_Y.py for a changed tentaculo/X/Y.py, or the file that
`TESTED_IN` names for it. Each iteration seeds Python's hashes, Hypothesis and the order of the files with its own
number. The first failure ends the run, and the command that repeats it is printed.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent.parent
TESTED_IN: dict[str, str] = {
    # The exchange with a client: tested on the wire, where both ways of serving must behave in the same way.
    "proxy/attempts": "wire/test_stale_connections",
    "proxy/exchange": "wire/test_failures",
    "proxy/generation": "gateway/test_generation",
    "proxy/handler": "wire/test_forwarding",
    "proxy/hedging": "wire/test_hedging",
    "proxy/proxied_request": "wire/test_state_machine",
    "proxy/rotated_exchange": "wire/test_rotation",
    "proxy/state": "wire/test_application",
    "proxy/target_group": "wire/test_rotation",
    "proxy/upload": "wire/test_streaming",
    "server/route_entries": "server/test_route_table",
    "server/request_receiver": "server/test_connection",
    "server/event_stream": "events/test_stream",
    "server/rules": "gateway/test_generation",
    "upstream/connection": "upstream/test_pool",
    "store/migrate": "migrations/test_shapes",
    "store/worker_thread": "store/test_client_faults",
}
"""Modules without a test file of their name, with the test file that has their cases."""


def git(*words: str) -> list[str]:
    """The lines that a git command prints; none if it fails."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def changed_files() -> list[str]:
    """Paths of all files that the change touches, from the root of the project."""
    base = git("merge-base", "HEAD", "origin/main") or git("merge-base", "HEAD", "main") or ["HEAD"]
    return git("diff", "--name-only", base[0]) + git("ls-files", "--others", "--exclude-standard")


def files_for(changed: Iterable[str]) -> list[str]:
    """The test files that are changed, or that belong to a changed module by their name."""
    found = set()
    for name in changed:
        path = PurePosixPath(name)
        if path.parts[0] == "tentaculo":
            module = PurePosixPath(*path.parts[1:]).with_suffix("").as_posix()
            own = PurePosixPath("tests", *path.parts[1:-1], f"test_{path.name}")
            path = PurePosixPath("tests", f"{TESTED_IN[module]}.py") if module in TESTED_IN else own
        is_test = path.parts[0] == "tests" and path.name.startswith("test_") and path.suffix == ".py"
        if is_test and (ROOT / path).is_file():
            found.add(str(path))
    return sorted(found)


def repeat(files: list[str], times: int, arguments: list[str]) -> int:
    """Run `files` up to `times` times, and return pytest's exit code of the last run."""
    for seed in range(1, times + 1):
        order = random.Random(seed).sample(files, len(files))
        command = [sys.executable, "-m", "pytest", "-x", f"--hypothesis-seed={seed}", *arguments, *order]
        print(f"iteration {seed} of {times}", flush=True)
        code = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": str(seed)}, check=False).returncode
        if code:
            print(f"Iteration {seed} of {times} failed. The same again: PYTHONHASHSEED={seed} {shlex.join(command)}")
            return code
    print(f"{len(files)} test files passed {times} times.")
    return 0


def main() -> int:
    """Run from the command line, and return the exit code."""
    parser = argparse.ArgumentParser(description="Repeat the tests that a change touches.")
    parser.add_argument("-n", type=int, default=20, help="number of iterations (default 20)")
    known, arguments = parser.parse_known_args()
    files = files_for(changed_files())
    if not files:
        print("No test file is changed, and none belongs to a changed module.")
        return 0
    print("\n".join(files))
    return repeat(files, known.n, arguments)


if __name__ == "__main__":
    sys.exit(main())
