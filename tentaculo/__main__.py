"""`python -m tentaculo` and the `tentaculo` command: argv → cli."""

from __future__ import annotations

import sys

from tentaculo.server.start_signals import end_if_stopped, handle_start_signals


def main() -> None:
    """Run the command line; never returns."""
    # Importing takes most of a start, so the signals are handled before anything else is imported.
    if does_serve := sys.argv[1:2] in (["serve"], ["demo"]):
        handle_start_signals()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets another in its place, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    if does_serve:
        from tentaculo.library_imports import import_libraries

        import_libraries()
    from tentaculo.cli.main import cli

    end_if_stopped()
    cli(prog_name="tentaculo")


if __name__ == "__main__":
    main()
