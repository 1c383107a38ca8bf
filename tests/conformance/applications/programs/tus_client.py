"""Uploads a file by tus in parts of 100 KB, the second half by a new client: tus_client.py URL FILE; prints its URL."""

from __future__ import annotations

import sys

from tusclient.client import TusClient


def main() -> None:
    """Upload, stop in the middle, and resume from the address that the server gave."""
    base, file = sys.argv[1:]
    uploader = TusClient(base).uploader(file, chunk_size=100_000)
    uploader.upload_chunk()
    uploader.upload_chunk()
    assert uploader.url is not None
    resumed = TusClient(base).uploader(file, chunk_size=100_000, url=uploader.url)
    assert resumed.offset == 200_000, resumed.offset
    resumed.upload()
    print(resumed.url)


if __name__ == "__main__":
    main()
