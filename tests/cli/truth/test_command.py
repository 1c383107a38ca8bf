"""`tentaculo truth` with its options: data for programs, and the drift against a compose file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_main import fleet, run, upstream, write_config

__all__ = ["upstream"]


async def test_json_is_alone_on_standard_output(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream))
    assert (await run(tmp_path, "db", "upgrade")).code == 0
    (tmp_path / "compose.yaml").write_text("services: {madre: {ports: ['9999:9999']}, redis: {image: redis}}")
    done = await run(tmp_path, "truth", "--json", "--compose", "compose.yaml", "--output", "t.md")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    (madre,) = (one for one in found["services"] if one["service"] == "madre")
    assert (madre["status"], madre["http_code"]) == ("OK", 200)
    assert found["summary"] == {"OK": 1, "BROKEN": 0, "UNKNOWN": 0, "total": 1}
    assert (found["report"], found["table"]["rows"]) == ("t.md", 1)
    port = upstream.rpartition(":")[2]
    assert {one["service"]: one["differences"] for one in found["drift"]["services"]} == {
        "madre": [f"is asked on port {port} of the host, and publishes 9999"],
        "redis": ["is only in the compose file"],
    }
    assert "✓ madre" in done.err
    assert "2 of 2 services differ from compose.yaml." in (tmp_path / "t.md").read_text(encoding="utf-8")


async def test_drift_is_told_and_is_no_failure(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream))
    assert (await run(tmp_path, "db", "upgrade")).code == 0
    (tmp_path / "compose.yaml").write_text("services: {other: {}}")
    done = await run(tmp_path, "truth", "--compose", "compose.yaml")
    assert done.code == 0, done.err
    assert "2 of 2 services differ from compose.yaml.\n" in done.out


async def test_a_table_that_cannot_be_written_is_null_for_programs(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream))
    done = await run(tmp_path, "truth", "--json")
    assert done.code == 1
    assert json.loads(done.out)["table"] is None
    assert "Warning: the table was not brought up to date" in done.err


async def test_variables_come_from_the_environment_and_from_the_file_beside_it(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream))
    folder = tmp_path / "stack"
    folder.mkdir()
    (folder / "compose.yaml").write_text("services: {madre: {ports: ['${OUTSIDE}:${INSIDE:-1}', '${SHELL_SAYS}:80']}}")
    (folder / ".env").write_text("OUTSIDE=9001\nINSIDE=9002\nSHELL_SAYS=1\n")
    done = await run(tmp_path, "truth", "--compose", "stack/compose.yaml", "--output", "t.md", SHELL_SAYS="9003")
    assert "1 of 1 services differs from stack/compose.yaml.\n" in done.out, done.err
    text = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert all(port in text for port in ("9001", "9003"))
    (folder / ".env").write_text("OUTSIDE=${NOT_THERE:?say which}\n")
    done = await run(tmp_path, "truth", "--compose", "stack/compose.yaml")
    assert "the variable NOT_THERE has no value: say which" in done.err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "compose.yaml cannot be read: No such file or directory"),
        (b"services:\n  a: [\n", "compose.yaml is not YAML: line 3"),
        (b"\xff\xfe\x00", "compose.yaml is not YAML"),
        (b"services: []", "compose.yaml is not a compose file: it has no services"),
        (b"services: {a: !!python/object:os.system {}}", "compose.yaml is not YAML: line 1"),
        (b"a: 2026-99-99", "compose.yaml is not a compose file: it has no services"),
        (b"[" * 5000, "compose.yaml is not a compose file"),
        (b"#" * (1024 * 1024 + 1), "compose.yaml is larger than 1048576 bytes"),
    ],
    ids=["missing", "broken", "binary", "list", "object", "date", "deep", "large"],
)
async def test_a_compose_file_that_is_none_is_said_before_anybody_is_asked(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    write_config(tmp_path, fleet("http://127.0.0.1:1"))
    if content is not None:
        (tmp_path / "compose.yaml").write_bytes(content)
    done = await run(tmp_path, "truth", "--compose", "compose.yaml")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert list(tmp_path.glob("*.md")) == []


async def test_without_pyyaml_the_rest_works_and_the_option_says_what_to_install(tmp_path: Path) -> None:
    write_config(tmp_path, fleet("http://127.0.0.1:1"))
    (tmp_path / "yaml.py").write_text("raise ImportError")
    (tmp_path / "compose.yaml").write_text("services: {}")
    done = await run(tmp_path, "truth", "--compose", "compose.yaml", PYTHONSAFEPATH="")
    assert done.code == 2
    assert "install tentaculo-link[compose]" in done.err
    assert (await run(tmp_path, "truth", PYTHONSAFEPATH="")).code == 1
