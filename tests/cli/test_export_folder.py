"""The folder of an export."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from tentaculo.cli.export_folder import MANIFEST, Written, write
from tentaculo.cli.output import FaultError, StartError

FILES = {"services/a.html": b"a", "api/v2/summary.json": b"{}", "index.html": b"i"}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} - {MANIFEST}


def test_it_writes_whole_files_that_others_may_read(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "status"
    assert write(folder, FILES) == Written(3, 3, 0)
    assert names(folder) == set(FILES)
    assert (folder / "services" / "a.html").read_bytes() == b"a"
    current = os.umask(0)
    os.umask(current)
    assert (folder / "index.html").stat().st_mode & 0o777 == 0o666 & ~current


def test_what_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    before = (tmp_path / "index.html").stat()
    assert write(tmp_path, {**FILES, "services/a.html": b"b"}) == Written(3, 1, 0)
    assert (tmp_path / "index.html").stat().st_ino == before.st_ino


def test_a_reader_sees_the_old_or_the_new_file(tmp_path: Path) -> None:
    write(tmp_path, {"index.html": b"old"})
    with (tmp_path / "index.html").open("rb") as held:
        write(tmp_path, {"index.html": b"new"})
        assert held.read() == b"old"
    assert (tmp_path / "index.html").read_bytes() == b"new"


def test_what_no_longer_exists_is_removed_and_the_rest_stays(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "robots.txt").write_text("mine")
    (tmp_path / "services" / "mine.html").write_text("mine")
    assert write(tmp_path, {"index.html": b"i"}) == Written(1, 0, 2)
    assert names(tmp_path) == {"index.html", "robots.txt", "services/mine.html"}
    assert not (tmp_path / "api").exists(), "an empty folder goes too"


@pytest.mark.parametrize("place", ["index.html", "services/a.html", "services", "api"])
def test_a_file_of_somebody_else_is_in_the_way(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("mine")
    with pytest.raises(FaultError, match="this command"):
        write(tmp_path, FILES)
    assert names(tmp_path) == {place}, "nothing was written"
    assert (tmp_path / place).read_text() == "mine"


def test_no_link_leads_out_of_the_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "status", tmp_path / "outside"
    outside.mkdir()
    write(folder, FILES)
    (folder / "services" / "a.html").unlink()
    (folder / "services").rmdir()
    (folder / "services").symlink_to(outside)
    (outside / "a.html").write_text("mine")
    for files in (FILES, {"index.html": b"i"}):
        with pytest.raises(FaultError, match="not a folder of this command"):
            write(folder, files)
    assert (outside / "a.html").read_text() == "mine"


def test_a_link_in_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    outside = tmp_path / "outside.txt"
    outside.write_text("mine")
    (tmp_path / "index.html").unlink()
    (tmp_path / "index.html").symlink_to(outside)
    write(tmp_path, FILES)
    assert outside.read_text() == "mine"
    assert not (tmp_path / "index.html").is_symlink()


@pytest.mark.parametrize("names_", [["../mine.txt", "/etc/passwd", "mine.txt", "a/b/c/d/e.html", ".hidden.html", 7]])
def test_a_list_that_somebody_changed_removes_nothing_else(tmp_path: Path, names_: list[object]) -> None:
    folder = tmp_path / "status"
    write(folder, FILES)
    (tmp_path / "mine.txt").write_text("mine")
    (folder / "mine.txt").write_text("mine")
    (folder / MANIFEST).write_text(json.dumps({"files": [name for name in names_ if isinstance(name, str)]}))
    with pytest.raises(FaultError, match="not written by this command"):
        write(folder, FILES)
    assert (tmp_path / "mine.txt").read_text() == (folder / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 7}', '{"files": [7]}', "\udcff", "[" * 100_000])
def test_a_list_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(FaultError, match="cannot be read as the list of an export"):
        write(tmp_path, FILES)
    assert names(tmp_path) == set()


def test_after_a_kill_the_next_export_knows_every_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, count = os.replace, 0

    def killed(source: str, target: Path) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, FILES)
    monkeypatch.undo()
    (tmp_path / ".tentaculo-left.part").write_text("half")
    assert write(tmp_path, {"index.html": b"i"}) == Written(1, 1, 2)
    assert names(tmp_path) == {"index.html"}


def test_two_exports_do_not_mix(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(StartError, match="another export writes"):
            write(tmp_path, FILES)
    finally:
        os.close(descriptor)
    write(tmp_path, FILES)


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FaultError, match="is not a folder"):
        write(tmp_path / "file", FILES)
    with pytest.raises(FaultError, match="is not a folder"):
        write(tmp_path / "file" / "below", FILES)


def test_a_disk_that_is_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StartError, match="No space left on device"):
        write(tmp_path, FILES)
    assert names(tmp_path) == set()
