"""`python -m tentaculo.workers NUMBER JOB LINE`: one worker, as the supervisor starts it; the last two are descriptors."""

from __future__ import annotations

import sys

from tentaculo.workers.worker import work

if __name__ == "__main__":
    sys.exit(work(*map(int, sys.argv[1:])))
