"""Files of a configuration that are something else."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.config.change_layer import ChangeLayer, locked, read_layer, write_layer
from tentaculo.config.errors import ConfigError
from tentaculo.config.files import FileTooLargeError, read_bytes, read_text, replaceable
from tentaculo.config.loader import load
from tentaculo.security.token_file import edit, keep_token, read_tokens
from tentaculo.security.tokens import hash_token


def test_a_file_is_read_as_python_reads_text(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes("\ufeffá\r\nb\rc\n".encode())
    assert read_text(file) == file.read_text(encoding="utf-8-sig") == "á\nb\nc\n"
    assert read_bytes(Path(os.devnull)) == b""


def test_a_named_pipe_holds_up_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="it is a pipe"):
        read_bytes(pipe)
    with pytest.raises(ConfigError, match="cannot be read: it is a pipe"):
        load(pipe, {})
    with pytest.raises(ConfigError, match="cannot be read: it is a pipe"):
        read_layer(pipe)
    with pytest.raises(OSError, match="it is a pipe"):
        read_tokens(pipe)
    file = tmp_path / "gateway.toml"
    file.write_text(f'[services.one]\nurl = "http://127.0.0.1:1"\ntoken_file = "{pipe}"\n')
    with pytest.raises(ConfigError, match=r"services\.one\.token_file: cannot be read: it is a pipe"):
        load(file, {})


def test_a_folder_that_is_read_again_and_again_takes_no_descriptors(tmp_path: Path) -> None:
    """A gateway that watches its configuration looks at it every second."""
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        with pytest.raises(IsADirectoryError):
            read_bytes(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_the_pipe_of_a_shell_is_read_to_its_end() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "wb") as file:
        content = b"x" * 200_000

        def write() -> None:
            with file:
                file.write(content)

        writer = threading.Thread(target=write)
        writer.start()
        assert read_bytes(Path(f"/dev/fd/{reading}")) == content
        writer.join()


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileTooLargeError, match="more than 100 bytes"):
        read_bytes(Path("/dev/zero"), 100)
    file = tmp_path / "file"
    file.write_bytes(b"x" * 101)
    with pytest.raises(FileTooLargeError):
        read_bytes(file, 100)
    assert read_bytes(file, 101) == b"x" * 101
    with pytest.raises(ConfigError, match=r"cannot be read: it has more than \d+ bytes"):
        load(Path("/dev/zero"), {})


def test_what_has_nothing_to_read_now_is_refused() -> None:
    leader, follower = os.openpty()
    try:
        with pytest.raises(BlockingIOError):
            read_bytes(Path(os.ttyname(follower)))
    finally:
        os.close(leader)
        os.close(follower)


def test_only_a_regular_file_is_replaced(tmp_path: Path) -> None:
    """As root, a token file /dev/null was replaced by a file, for all programs of the machine."""
    with pytest.raises(OSError, match="it is no regular file"):
        replaceable(Path(os.devnull))
    with pytest.raises(OSError, match="it is no regular file"):
        replaceable(tmp_path)
    assert replaceable(tmp_path / "missing") == tmp_path / "missing"


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    """The link became a file, and what others read behind it still had the revoked token."""
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("token", "changes.json"):
        (tmp_path / name).symlink_to(shared / name)
    token = TokenSettings(hash=hash_token("one"))
    keep_token(tmp_path / "token", token)
    assert [one.hash for one in read_tokens(shared / "token")] == [token.hash]
    with edit(tmp_path / "token") as file:
        file.remove(token)
        file.write()
    assert read_tokens(shared / "token") == []
    layer = ChangeLayer(3)
    with locked(tmp_path / "changes.json"):
        write_layer(tmp_path / "changes.json", layer)
    assert read_layer(shared / "changes.json") == layer
    assert all((tmp_path / name).is_symlink() for name in ("token", "changes.json"))
