"""Calls a Gradio page's function by Gradio's own client: gradio_caller.py URL. A fault ends it with a traceback."""

from __future__ import annotations

import sys

from gradio_client import Client


def main() -> None:
    """Call once for the result, once for its parts."""
    client = Client(sys.argv[1], verbose=False)
    assert client.predict("pulpo", api_name="/spell") == "pulpo"
    job = client.submit("ocho", api_name="/spell")
    assert job.result(timeout=20) == "ocho"
    assert job.outputs() == ["o", "oc", "och", "ocho"], job.outputs()
    print("ok")


if __name__ == "__main__":
    main()
