"""`python -m tentaculo` and the `tentaculo` command: argv → cli."""

from __future__ import annotations

import mimetypes
import sys

from tentaculo.cli.main import cli


def main() -> None:
    """Run the command line; never returns."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets another in its place, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    # aiohttp reads the types of files as soon as it is imported. The gateway serves no files, and those of the system's
    # table take 0.4 MB.
    mimetypes.knownfiles.clear()
    cli(prog_name="tentaculo")


if __name__ == "__main__":
    main()
