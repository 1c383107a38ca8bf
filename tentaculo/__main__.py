"""`python -m tentaculo` and the `tentaculo` command: argv → cli."""

from __future__ import annotations

import sys

from tentaculo.server.start_signals import end_if_stopped, handle_start_signals


def main() -> None:
    """Run the command line; never returns."""
    # Importing takes most of a start, so the signals are handled before anything else is imported.
    if sys.argv[1:2] in (["serve"], ["demo"]):
        handle_start_signals()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets another in its place, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    import mimetypes

    # aiohttp reads the types of files as soon as it is imported. The gateway serves no files, and those of the system's
    # table take 0.4 MB.
    mimetypes.knownfiles.clear()
    from tentaculo.cli.main import cli

    end_if_stopped()
    cli(prog_name="tentaculo")


if __name__ == "__main__":
    main()
