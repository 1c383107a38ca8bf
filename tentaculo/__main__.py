"""`python -m tentaculo` and the `tentaculo` command: argv → cli."""

from __future__ import annotations

import mimetypes
import signal
import sys


def main() -> None:
    """Run the command line; never returns."""
    if sys.argv[1:2] in (["serve"], ["demo"]):
        _handle_signals()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets another in its place, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    # aiohttp reads the types of files as soon as it is imported. The gateway serves no files, and those of the system's
    # table take 0.4 MB.
    mimetypes.knownfiles.clear()
    # Importing takes most of a start, and comes after the signals are handled.
    from tentaculo.cli.main import cli

    cli(prog_name="tentaculo")


def _handle_signals() -> None:
    """Handle signals until the event loop does: SIGTERM ends the start, and the others do nothing.

    The kernel discards a signal to the first process of a container if it has no handler. SIGHUP and SIGUSR2 would end
    any other process.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, lambda _number, _frame: None)


if __name__ == "__main__":
    main()
