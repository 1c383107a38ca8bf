"""A Gradio page whose function yields its result in parts: gradio_app.py PORT [ROOT_PATH]."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import gradio


def spell(word: str) -> Iterator[str]:
    """Yield the word letter by letter."""
    for end in range(1, len(word) + 1):
        yield word[:end]


def main() -> None:
    """Listen until the process is ended."""
    page = gradio.Interface(spell, "text", "text", api_name="spell")
    root = sys.argv[2] if len(sys.argv) > 2 else None
    page.queue().launch(server_name="127.0.0.1", server_port=int(sys.argv[1]), root_path=root, quiet=True)


if __name__ == "__main__":
    main()
