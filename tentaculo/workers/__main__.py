"""`python -m tentaculo.workers NUMBER SPEC CHANNEL`: one worker, as the supervisor starts it.

SPEC and CHANNEL are file descriptors.
"""

from __future__ import annotations

import sys

from tentaculo.library_imports import import_libraries


def main() -> int:
    """The exit code."""
    import_libraries()
    from tentaculo.workers.worker import work

    return work(*map(int, sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
