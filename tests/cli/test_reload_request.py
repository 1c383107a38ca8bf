"""`tentaculo reload`: what it sends, what it prints of each response, and with which code it ends."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tentaculo.cli.main import cli
from tentaculo.cli.reload_request import PATH
from tests.support.waits import free_port

TOKEN = "an-admin-token"
ACCEPTED = {
    "generation": 4,
    "by": "token ci",
    "at": "2026-11-29T03:00:00Z",
    "added": ["madre"],
    "removed": ["hermes", "spawner"],
    "changed": [],
    "kept": ["switch"],
    "changed_keys": ["limits.body"],
    "needs_restart": [{"key": "server.port", "reason": "the gateway opens its sockets at the start"}],
    "warnings": ["auth.share_token is true"],
}
REJECTED = {
    "title": "The configuration has faults",
    "status": 422,
    "error": "configuration_rejected",
    "detail": "Nothing was changed, since the configuration has 2 faults.",
    "generation": 3,
    "faults": [
        {"path": "server.prot", "message": 'unknown key; did you mean "port"?'},
        {"path": "services.x.url", "message": "must not hold\x1b[31m a password"},
    ],
}


class Gateway:
    """A server that responds once as it is told to."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.body = body
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.requests.append((self.command, self.path, headers))
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                """Nothing: standard error is the command's."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def gateway(status: int, body: Any) -> Iterator[Gateway]:
    made = Gateway(status, body if isinstance(body, bytes) else json.dumps(body).encode())
    thread = Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()


def run(*arguments: str, **environ: str) -> Result:
    names = ("TENTACULO_TOKEN", "VX11_TENTACULO_LINK_TOKEN", "VX11_GATEWAY_TOKEN", "TENTACULO_CONFIG")
    environ = dict.fromkeys(names, "") | {"TENTACULO_TOKEN": TOKEN} | environ
    return CliRunner().invoke(cli, ["reload", *arguments], env=environ)


def configured(tmp_path: Path, port: int, more: str = "") -> str:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[server]\nport = {port}\n{more}")
    return str(file)


def test_it_asks_where_the_configuration_says_and_prints_what_has_changed(tmp_path: Path) -> None:
    with gateway(200, ACCEPTED) as there:
        done = run("-c", configured(tmp_path, there.port))
    ((method, path, headers),) = there.requests
    assert (method, path, headers["x-vx11-token"], headers["content-length"]) == ("POST", PATH, TOKEN, "0")
    assert "origin" not in headers
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        [
            "The gateway serves generation 4 of its configuration.",
            "  added    madre",
            "  removed  hermes, spawner",
            "  kept     1 service",
            "  applied  limits.body",
            "  needs a restart: server.port (the gateway opens its sockets at the start)",
            "warning: auth.share_token is true",
        ],
    )


def test_it_says_that_nothing_has_changed(tmp_path: Path) -> None:
    body = ACCEPTED | {"added": [], "removed": [], "changed_keys": [], "needs_restart": [], "warnings": []}
    with gateway(200, body) as there:
        done = run("-c", configured(tmp_path, there.port))
    assert done.stdout.splitlines()[0] == (
        "The gateway serves generation 4 of its configuration, in which nothing has changed."
    )


def test_faults_are_printed_as_check_prints_them(tmp_path: Path) -> None:
    with gateway(422, REJECTED) as there:
        done = run("-c", configured(tmp_path, there.port))
    assert (done.exit_code, done.stdout.splitlines()) == (
        1,
        [
            'server.prot: unknown key; did you mean "port"?',
            "services.x.url: must not hold[31m a password",
            "Nothing was changed, since the configuration has 2 faults.",
        ],
    )


@pytest.mark.parametrize(("status", "body", "code"), [(200, ACCEPTED, 0), (422, REJECTED, 1)])
def test_json_is_the_response(tmp_path: Path, status: int, body: dict[str, Any], code: int) -> None:
    with gateway(status, body) as there:
        done = run("--url", there.url, "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (code, body)


def test_a_faulty_file_does_not_keep_it_from_asking(tmp_path: Path) -> None:
    """The gateway judges the file, records that it was rejected, and lists every fault."""
    with gateway(422, REJECTED) as there:
        done = run("-c", configured(tmp_path, there.port, '[services.x]\nurl = "ftp://"\n'))
    assert (len(there.requests), done.exit_code) == (1, 1)


@pytest.mark.parametrize("text", ["][", '[server]\nprot = 1\n[services.x]\nurl = "ftp://"\n'])
def test_where_faults_hide_the_address_they_are_printed(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(text)
    done = run("-c", str(file))
    *faults, last = done.stdout.splitlines()
    assert (done.exit_code, last) == (
        1,
        "The gateway was not asked: these faults hide its address. It serves what it served before.",
    )
    assert len(faults) == (1 if text == "][" else 2)
    with gateway(422, REJECTED) as there:
        assert run("-c", str(file), "--url", there.url).exit_code == 1
        assert len(there.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error": "auth_required"}, "set TENTACULO_TOKEN to one with the scope admin"),
        (403, {"error": "forbidden", "scope": "admin"}, "does not have the scope admin"),
        (404, {"error": "not_found"}, "is no gateway of this version"),
        (405, b"", "is no gateway of this version"),
        (503, {"error": "stopping", "detail": "The gateway is stopping."}, "did not reload: The gateway is stopping."),
        (302, b"<html>", "responded with status 302"),
        (200, b"<html>", "is no gateway of this version"),
        (200, {"status": "ok"}, "is no gateway of this version"),
    ],
)
def test_a_refusal_says_what_to_do(tmp_path: Path, status: int, body: Any, words: str) -> None:
    with gateway(status, body) as there:
        done = run("-c", configured(tmp_path, there.port))
    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert TOKEN not in done.output + done.stderr


def test_no_gateway_is_an_error_with_the_address(tmp_path: Path) -> None:
    port = free_port()
    done = run("-c", configured(tmp_path, port))
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"no gateway listens at http://127.0.0.1:{port}" in done.stderr
    done = run("-c", configured(tmp_path, 0))
    assert (done.exit_code, "--url" in done.stderr) == (2, True)


def test_what_listens_there_may_be_something_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def respond() -> None:
            accepted, _ = listening.accept()
            with accepted:
                accepted.recv(65536)
                accepted.sendall(b"220 mail.example.org ESMTP\r\n")

        thread = Thread(target=respond)
        thread.start()
        done = run("-c", configured(tmp_path, listening.getsockname()[1]))
        thread.join()
    assert (done.exit_code, "could not be asked: BadStatusLine" in done.stderr) == (2, True)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", "http://x:port", "http://x?y", "http://", "http://[::1"])
def test_an_address_must_be_one(url: str) -> None:
    done = run("--url", url)
    assert (done.exit_code, "--url must be an address" in done.stderr) == (2, True)


def test_a_url_may_have_a_path_before_the_gateway(tmp_path: Path) -> None:
    with gateway(200, ACCEPTED) as there:
        assert run("--url", f"{there.url}/link/").exit_code == 0
    assert there.requests[0][1] == f"/link{PATH}"


def test_the_token_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "admin"
    file.write_bytes(b"\xef\xbb\xbfanother-token\r\n")
    with gateway(200, ACCEPTED) as there:
        assert run("--url", there.url, "--token-file", str(file)).exit_code == 0
        assert run("--url", there.url, TENTACULO_TOKEN="").exit_code == 0
    assert [headers.get("x-vx11-token") for _, _, headers in there.requests] == ["another-token", None]
    done = run("--url", "http://127.0.0.1:1", "--token-file", str(tmp_path / "gone"))
    assert (done.exit_code, "gone cannot be read: No such file or directory" in done.stderr) == (2, True)
    done = run("--url", "http://127.0.0.1:1", TENTACULO_TOKEN="two words\r\nX: y")
    assert (done.exit_code, "must be visible ASCII characters only" in done.stderr) == (2, True)
