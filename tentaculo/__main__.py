"""`python -m tentaculo` and the `tentaculo` command: argv → cli."""

from __future__ import annotations

import sys

from tentaculo.cli.main import cli


def main() -> None:
    """Run the command line; never returns."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets another in its place, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    cli(prog_name="tentaculo")


if __name__ == "__main__":
    main()
