"""Probes of every kind, against servers that do as they should, and that do not."""

from __future__ import annotations

import asyncio
import codecs
import gzip
import socket
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets

from tentaculo.health.prober import KINDS, Prober
from tentaculo.model.health import Health, ProbeResult
from tests.support.addresses import DEAD, Names, dead_address
from tests.support.certificates import NEW_KEY, Certificate, openssl
from tests.support.health import Serve, answer, by_path, fleet, says, websocket_response
from tests.support.waits import free_port


async def ask(port: int, scheme: str = "http", **keys: Any) -> ProbeResult:
    probe = {"timeout": 2, **keys.pop("probe", {})}
    config = fleet(madre={"url": f"{scheme}://localhost:{port}", "probe": probe, **keys})
    prober = Prober(config)
    return await prober.probe(config.services["madre"].upstreams[0])


def test_every_kind_of_the_configuration_is_there() -> None:
    for kind in KINDS:
        assert fleet(madre={"url": "http://h", "probe": {"kind": kind}}).services["madre"].probe.kind == kind


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


class TestHttp:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
    async def test_the_method(self, serve: Serve, method: str) -> None:
        lines: list[bytes] = []

        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            lines.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        assert (await ask(await serve(note), probe={"method": method})).health is Health.UP
        assert lines == [f"{method} /health HTTP/1.1".encode()]

    @pytest.mark.parametrize(
        ("status", "expected", "health"),
        [
            ("204 No Content", [204], Health.UP),
            ("204 No Content", [200], Health.DOWN),
            ("200 OK", [204], Health.DOWN),
            ("302 Found", [200, "300-399"], Health.UP),
            ("400 Bad", ["200-399"], Health.DOWN),
            ("401 No", ["401-401"], Health.UP),
            ("503 Busy", ["200-299", 503], Health.UP),
        ],
    )
    async def test_the_status(self, serve: Serve, status: str, expected: list[Any], health: Health) -> None:
        result = await ask(await serve(says(answer(b"", status))), probe={"status": expected})
        assert (result.health, result.code) == (health, int(status[:3]))

    async def test_paths_in_order_by_the_statuses_expected(self, serve: Serve) -> None:
        port = await serve(by_path({"/a": answer(b"", "200 OK"), "/b": answer(b"", "204 No Content")}))
        result = await ask(port, health=["/a", "/b", "/c"], probe={"status": [204]})
        assert (result.health, result.endpoint) == (Health.UP, "/b")

    @pytest.mark.parametrize(
        ("probe", "health", "reason"),
        [
            ({"contains": "ready"}, Health.UP, ""),
            ({"contains": "Ready"}, Health.DOWN, "without the text Ready"),
            ({"matches": r"queue.*\d+"}, Health.UP, ""),
            ({"matches": r"^\d+$"}, Health.DOWN, r"without a match of ^\d+$"),
            ({"require": ["queue.depth == 250", 'state == "ready"']}, Health.UP, ""),
            ({"require": ["queue.depth < 100"]}, Health.DOWN, "queue.depth is 250, not < 100"),
            ({"prefer": ["queue.depth < 100"]}, Health.DEGRADED, "queue.depth is 250, not < 100"),
            (
                {"prefer": ["queue.depth < 100"], "require": ["db.ok"]},
                Health.DOWN,
                "db.ok is missing; queue.depth is 250, not < 100",
            ),
        ],
    )
    async def test_what_the_body_says(self, serve: Serve, probe: dict[str, Any], health: Health, reason: str) -> None:
        port = await serve(says(answer(b'{"state": "ready", "queue": {"depth": 250}}')))
        result = await ask(port, probe=probe)
        expected = f"answered 200 in {result.latency_ms} ms" + (f", but {reason}" if reason else "")
        assert (result.health, result.reason) == (health, expected)

    async def test_what_it_says_of_itself_and_what_is_asked_of_it(self, serve: Serve) -> None:
        port = await serve(says(answer(b'{"status": "degraded", "queue": 7}')))
        result = await ask(port, probe={"prefer": ["queue < 5"]})
        assert result.health is Health.DEGRADED
        assert result.reason.endswith(", but calls itself degraded; queue is 7, not < 5")

    @pytest.mark.parametrize(
        "body", [b"[1, 2]", b"no json", b"", b"\xff\xfe", b"[" * 60_000, b"<script>alert(1)</script>"]
    )
    async def test_a_condition_never_holds_of_what_is_no_object(self, serve: Serve, body: bytes) -> None:
        result = await ask(await serve(says(answer(body))), probe={"require": ["a.b == 1"]})
        assert result.health is Health.DOWN
        assert result.reason.partition(", but ")[2] in ("without JSON", "a.b is missing")

    async def test_only_the_first_bytes_are_looked_at(self, serve: Serve) -> None:
        body = b'{"pad": "' + b"x" * 70_000 + b'", "late": 1}'
        port = await serve(says(answer(body)))
        assert (await ask(port, probe={"contains": "late"})).health is Health.DOWN
        told = await ask(port, probe={"require": ["late == 1"]})
        assert told.reason.endswith("but longer than what is read of it")

    async def test_a_hostile_body_costs_no_time(self, serve: Serve) -> None:
        port = await serve(says(answer(b"a" * 60_000 + b"!")))
        result = await ask(port, probe={"matches": "^(a+)+$", "timeout": 20})
        assert result.health is Health.DOWN, "another engine would be at it for ever"

    @pytest.mark.parametrize(
        "path", ["/dash/", "/health", "/", "/v1/sys/health?standbyok=true&perfstandbyok", "/?a=/b//c", "/%C3%A9/?"]
    )
    async def test_the_path_is_sent_as_it_is_written(self, serve: Serve, path: str) -> None:
        result = await ask(await serve(by_path({path: answer()})), health=path)
        assert (result.health, result.endpoint) == (Health.UP, path)

    @pytest.mark.parametrize(
        ("routes", "headers", "sent"),
        [
            ([], {}, None),
            ([], {"Authorization": "Basic dTpw"}, "Basic dTpw"),
            ([{"Authorization": "Basic dTpw"}], {}, "Basic dTpw"),
            ([{"Authorization": "Basic dTpw"}, {"Authorization": "Basic dTpw", "X-A": "1"}], {}, "Basic dTpw"),
            ([{"Authorization": "Basic dTpw"}, {}], {}, None),
            ([{"Authorization": "Basic dTpw"}, {"Authorization": "Basic other"}], {}, None),
            ([{"Authorization": "Basic dTpw"}], {"authorization": "Basic own"}, "Basic own"),
        ],
    )
    async def test_headers(
        self, serve: Serve, routes: list[dict[str, str]], headers: dict[str, str], sent: str | None
    ) -> None:
        heads: list[bytes] = []

        async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer(heads[-1]))

        table = [{"prefix": f"/{number}", "set_headers": one} for number, one in enumerate(routes)]
        for kind in ("http", "websocket"):
            result = await ask(await serve(note), routes=table, probe={"headers": headers, "kind": kind})
            lines = [line for line in heads.pop().decode().split("\r\n") if line.lower().startswith("authorization:")]
            assert [line.partition(": ")[2] for line in lines] == ([] if sent is None else [sent])
            assert "dTpw" not in (result.snippet or "") or sent != "Basic dTpw"

    @pytest.mark.parametrize(
        ("head", "body", "health"),
        [
            (b"", codecs.BOM_UTF8 + b'{"status": "down", "ok": true}', Health.DOWN),
            (b"", codecs.BOM_UTF8 + b'{"ok": true}', Health.UP),
            (b"Content-Encoding: gzip\r\n", gzip.compress(b'{"status": "down", "ok": true}', mtime=0), Health.DOWN),
            (b"Content-Encoding: gzip\r\n", gzip.compress(b'{"ok": true}', mtime=0), Health.UP),
            (b"Content-Encoding: br\r\n", b"\x0b\x02\x80x\x03", Health.DOWN),
            (b"", b'{"load": NaN, "name": "\\ud800", "ok": true}', Health.UP),
            (b"", b'{"load": NaN, "ok": true, "status": "fail"}', Health.DOWN),
            (b"Content-Type: application/json; charset=utf-16\r\n", '{"ok": true}'.encode("utf-16"), Health.UP),
            (b"", b'{"status": "down", "ok": true, "pad": "' + b"x" * 70_000 + b'"}', Health.DOWN),
            (b"", b'{"ok": true, "pad": "' + b"x" * 70_000 + b'"}', Health.UP),
        ],
    )
    async def test_a_body_in_any_form(self, serve: Serve, head: bytes, body: bytes, health: Health) -> None:
        result = await ask(await serve(says(answer(body, headers=head))), probe={"require": ["ok"]})
        assert result.health is health, result.reason

    async def test_a_body_that_cannot_be_read_is_mentioned(self, serve: Serve) -> None:
        port = await serve(says(answer(b"\x0b\x02", headers=b"Content-Encoding: br\r\n")))
        result = await ask(port)
        assert result.health is Health.UP
        assert result.reason.endswith(", but its body has the content coding br, which cannot be read")
        assert result.snippet is None

    async def test_a_slow_answer_is_degraded(self, serve: Serve) -> None:
        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.1)
            writer.write(answer())

        port = await serve(slow)
        result = await ask(port, probe={"slow": 0.05})
        assert result.health is Health.DEGRADED
        assert result.reason.endswith(", but slower than 0.05 s")
        assert (await ask(port, probe={"slow": 60})).health is Health.UP


class TestTcp:
    async def test_a_connection(self, serve: Serve) -> None:
        result = await ask(await serve(silent), probe={"kind": "tcp"})
        assert (result.health, result.reason) == (Health.UP, f"connected in {result.latency_ms} ms")
        assert (result.code, result.endpoint, result.snippet) == (None, None, None)

    async def test_a_refusal_of_the_connection(self) -> None:
        result = await ask(free_port(), probe={"kind": "tcp"})
        assert (result.health, result.reason) == (Health.DOWN, "connection refused")

    async def test_a_name_that_does_not_exist(self) -> None:
        config = fleet(madre={"url": "http://no-such-name.invalid:1", "probe": {"kind": "tcp", "timeout": 10}})
        prober = Prober(config)
        result = await prober.probe(config.services["madre"].upstreams[0])
        assert result.health is Health.DOWN
        assert result.reason.startswith("name not found")

    async def test_nothing_is_sent(self, serve: Serve) -> None:
        got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(await reader.read())

        await ask(await serve(listen), probe={"kind": "tcp"})
        assert await asyncio.wait_for(got, 5) == b""


class TestWebSocket:
    PROBE = {"kind": "websocket", "timeout": 2}

    @staticmethod
    async def handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, salt: bytes = b"") -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(websocket_response(head, salt))
        await writer.drain()
        return head

    async def test_it_opens_and_closes_one(self, serve: Serve) -> None:
        heads: list[bytes] = []
        gone = asyncio.Event()

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await self.handshake(reader, writer))
            await reader.read()
            gone.set()

        result = await ask(await serve(talk), health="/ws", token="s3cret", probe=self.PROBE)
        assert (result.health, result.reason) == (Health.UP, f"opened a WebSocket in {result.latency_ms} ms")
        assert (result.code, result.endpoint) == (101, "/ws")
        await asyncio.wait_for(gone.wait(), 5)
        head = heads[0].lower()
        assert heads[0].startswith(b"GET /ws HTTP/1.1\r\n")
        assert b"upgrade: websocket\r\n" in head
        assert b"sec-websocket-version: 13\r\n" in head
        assert b"x-vx11-token: s3cret\r\n" in head

    async def test_against_a_server_of_another_hand(self) -> None:
        async def accept(connection: ServerConnection) -> None:
            await connection.wait_closed()

        async with serve_websockets(accept, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            result = await ask(port, health="/ws", probe=self.PROBE)
        assert (result.health, result.code) == (Health.UP, 101)

    async def test_a_wrong_accept(self, serve: Serve) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.handshake(reader, writer, salt=b"x")
            await reader.read()

        result = await ask(await serve(talk), health="/ws", probe=self.PROBE)
        assert (result.health, result.reason) == (Health.DOWN, "answered 101, but not as a WebSocket at /ws")

    async def test_a_101_to_another_protocol(self, serve: Serve) -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(websocket_response(head).replace(b"Upgrade: websocket", b"Upgrade: h2c"))
            await reader.read()

        result = await ask(await serve(talk), health="/ws", probe=self.PROBE)
        assert (result.health, result.reason) == (Health.DOWN, "answered 101, but not as a WebSocket at /ws")

    @pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "426 Upgrade Required", "503 Busy"])
    async def test_a_refusal(self, serve: Serve, status: str) -> None:
        result = await ask(await serve(says(answer(b"no", status))), health=["/ws", "/b"], probe=self.PROBE)
        assert result.health is Health.DOWN
        assert result.reason.startswith(f"answered {status[:3]} at /ws and /b")

    async def test_silence(self, serve: Serve) -> None:
        result = await ask(await serve(silent), health="/ws", probe={"kind": "websocket", "timeout": 0.2})
        assert (result.health, result.reason) == (Health.DOWN, "no response within 0.2 s at /ws")


_AUTHORITY = """
[ca]
default_ca = one
[one]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = any
x509_extensions = local
[any]
commonName = supplied
[local]
subjectAltName = DNS:localhost
"""


@pytest.fixture(scope="module")
def issue(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`issue(days)` → context of a server, and the file of its certificate, which then stands for an authority.

    With less than no days it has expired: `openssl req` makes none of those, `openssl ca` does.
    """

    def make(days: float) -> tuple[ssl.SSLContext, Path]:
        folder = tmp_path_factory.mktemp("tls")
        (folder / "ca.cnf").write_text(_AUTHORITY)
        (folder / "index.txt").touch()
        (folder / "serial").write_text("01\n")
        now = datetime.now(UTC)
        start, end = (f"{now + timedelta(days=shift):%Y%m%d%H%M%SZ}" for shift in (-30, days))
        request = f"req -new {NEW_KEY} -subj /CN=localhost -keyout key.pem -out request.pem"
        sign = "ca -selfsign -batch -notext -config ca.cnf -keyfile key.pem -in request.pem -out certificate.pem"
        openssl(folder, request, f"{sign} -startdate {start} -enddate {end}")
        made = Certificate(folder / "certificate.pem", folder / "key.pem")
        return made.server_context(), made.certificate

    return make


def _refuse_one(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Accept one connection whose client has no certificate."""
    connection, _ = listener.accept()
    with connection, suppress(ssl.SSLError):
        context.wrap_socket(connection, server_side=True)


class TestCertificates:
    @pytest.mark.parametrize(
        ("kind", "did"),
        [("tls", "completed the TLS handshake"), ("http", "answered 200"), ("websocket", "opened a WebSocket")],
    )
    @pytest.mark.parametrize(
        ("days", "health", "reason"),
        [(90, Health.UP, ""), (10, Health.DEGRADED, ", but its certificate is valid for 9 days only")],
    )
    async def test_days_left(
        self,
        serve: Serve,
        issue: Any,
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
        did: str,
        days: int,
        health: Health,
        reason: str,
    ) -> None:
        context, certificate = issue(days)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if kind == "websocket":
                await TestWebSocket.handshake(reader, writer)
            elif kind == "http":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(answer())
            await reader.read()

        result = await ask(await serve(talk, ssl=context), "https", probe={"kind": kind, "timeout": 10})
        assert (result.health, result.reason) == (health, f"{did} in {result.latency_ms} ms{reason}")
        assert result.certificate is not None
        assert result.certificate.names == ("localhost",)
        assert round((result.certificate.ends - result.checked_at) / timedelta(days=1)) == days

    @pytest.mark.parametrize("kind", ["tls", "http"])
    async def test_one_that_has_expired(
        self, serve: Serve, issue: Any, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        context, certificate = issue(-1)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        result = await ask(await serve(silent, ssl=context), "https", probe={"kind": kind})
        assert (result.health, result.reason) == (
            Health.DOWN,
            "its certificate is not accepted: certificate has expired",
        )

    async def test_a_certificate_is_cut_and_printable(
        self, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = ",".join(["DNS:localhost", *(f"DNS:{'a' * 60}.{'b' * 60}.host-{n}" for n in range(40))])
        issuer = "/O=<script>\u202e" + "o" * 40 + "/CN=localhost"
        subject = f"-days 90 -utf8 -subj {issuer} -addext subjectAltName={names}"
        openssl(tmp_path, f"req -x509 {NEW_KEY} {subject} -keyout key.pem -out c.pem")
        context = Certificate(tmp_path / "c.pem", tmp_path / "key.pem").server_context()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.pem"))
        found = (await ask(await serve(silent, ssl=context), "https", probe={"kind": "tls", "timeout": 10})).certificate
        assert found is not None
        assert (len(found.names), found.more_names) == (8, 33)
        assert max(map(len, found.names)) == 100
        assert found.issuer == "localhost, <script>" + "o" * 40

    @staticmethod
    def make(folder: Path, *commands: str) -> None:
        """Make certificates, of which that of the authority has a name that is no UTF-8."""
        names = b"[req]\ndistinguished_name = req\n[bad]\nbasicConstraints = CA:TRUE\nsubjectAltName = DNS:localhost,DNS:caf\xe9\n"
        (folder / "c.cnf").write_bytes(names + b"[good]\nsubjectAltName = DNS:localhost\n")
        made = "req -x509 -days 90 -extensions bad -subj /CN=authority -keyout ca-key.pem -out ca.pem"
        key = f"{NEW_KEY} -config c.cnf"
        openssl(folder, *(f"{one} {key if one.startswith('req') else ''}" for one in (made, *commands)))

    async def test_a_name_that_is_no_text_is_named(
        self, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It was an address that is not valid; Python cannot make such a connection."""
        self.make(tmp_path)
        context = Certificate(tmp_path / "ca.pem", tmp_path / "ca-key.pem").server_context()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        found = await ask(await serve(silent, ssl=context), "https", probe={"kind": "tls", "timeout": 10})
        assert found.health is Health.DOWN
        assert found.reason == "its certificate is not accepted: a name in it is not valid UTF-8"

    async def test_an_issuer_that_python_cannot_read_is_no_fault(
        self, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Requests reach the service, and the probes said that its address is not valid."""
        sign = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 30 -extfile c.cnf -extensions good"
        self.make(tmp_path, "req -new -subj /CN=localhost -keyout leaf-key.pem -out leaf.csr", f"{sign} -out leaf.pem")
        context = Certificate(tmp_path / "leaf.pem", tmp_path / "leaf-key.pem").server_context()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        found = await ask(await serve(silent, ssl=context), "https", probe={"kind": "tls", "timeout": 10})
        assert found.health is Health.UP, found.reason
        assert found.certificate is not None
        assert found.certificate.names == ("localhost",)

    @pytest.mark.parametrize("kind", ["tls", "http"])
    async def test_an_authority_that_ends_before_the_certificate(
        self, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        """It reads `SSLObject._sslobj`, a private name of Python's: without it the end of the authority is not seen."""
        (tmp_path / "leaf.cnf").write_text("subjectAltName = DNS:localhost\n")
        openssl(
            tmp_path,
            f"req -x509 {NEW_KEY} -days 5 -subj /CN=authority -keyout ca-key.pem -out ca.pem",
            f"req -new {NEW_KEY} -subj /CN=localhost -keyout key.pem -out leaf.csr",
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 90 -extfile leaf.cnf -out leaf.pem",
        )
        context = Certificate(tmp_path / "leaf.pem", tmp_path / "key.pem").server_context()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        port = await serve(says(answer()) if kind == "http" else silent, ssl=context)
        found = await ask(port, "https", probe={"kind": kind, "timeout": 10})
        assert found.certificate is not None, found.reason
        ends = (found.certificate.ends, found.certificate.chain_ends)
        assert [round((end - found.checked_at) / timedelta(days=1)) for end in ends] == [90, 5]

    async def test_a_self_signed_certificate(self, serve: Serve, issue: Any) -> None:
        context, _ = issue(90)
        result = await ask(await serve(silent, ssl=context), "https", probe={"kind": "tls"})
        assert result.health is Health.DOWN
        assert result.reason == "its certificate is not accepted: self-signed certificate"

    async def test_one_for_another_name(self, serve: Serve, issue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        context, certificate = issue(90)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        port = await serve(silent, ssl=context)
        config = fleet(madre={"url": f"https://127.0.0.1:{port}", "probe": {"kind": "tls"}})
        prober = Prober(config)
        result = await prober.probe(config.services["madre"].upstreams[0])
        assert result.health is Health.DOWN
        assert result.reason.startswith("its certificate is not accepted: IP address mismatch")

    async def test_the_name_for_tls(self, serve: Serve, issue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        context, certificate = issue(90)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        port = await serve(says(answer()), ssl=context)
        for keys in (
            {"tls_server_name": "localhost"},
            {"host": "localhost:8443"},
            {"host": "a", "tls_server_name": "localhost"},
        ):
            for kind in ("tls", "http"):
                config = fleet(madre={"url": f"https://127.0.0.1:{port}", "probe": {"kind": kind}, **keys})
                result = await Prober(config).probe(config.services["madre"].upstreams[0])
                assert result.health is Health.UP, result.reason

    async def test_one_dead_address_of_a_name(self, serve: Serve, issue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        context, certificate = issue(90)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        port = await serve(silent, ssl=context)
        config = fleet(madre={"url": f"https://localhost:{port}", "probe": {"kind": "tls", "timeout": 5}})
        with dead_address(port):
            prober = Prober(config, look_up=Names([DEAD, "127.0.0.1"]))
            result = await prober.probe(config.services["madre"].upstreams[0])
        assert result.health is Health.UP, result.reason

    @pytest.mark.parametrize(("leaf", "root"), [(300, 10), (10, 300)])
    async def test_the_certificate_that_ends_first_decides(
        self, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaf: int, root: int
    ) -> None:
        (tmp_path / "leaf.ext").write_text("subjectAltName=DNS:localhost\n")
        openssl(
            tmp_path,
            f"req -x509 {NEW_KEY} -days {root} -subj /CN=root -keyout root.key -out root.pem",
            f"req -new {NEW_KEY} -subj /CN=localhost -keyout leaf.key -out leaf.csr",
            f"x509 -req -in leaf.csr -CA root.pem -CAkey root.key -CAcreateserial -days {leaf} -extfile leaf.ext -out leaf.pem",
        )
        context = Certificate(tmp_path / "leaf.pem", tmp_path / "leaf.key").server_context()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
        result = await ask(await serve(silent, ssl=context), "https", probe={"kind": "tls", "timeout": 10})
        whose = "its certificate" if leaf < root else "the certificate of its issuer"
        assert result.certificate is not None
        assert (result.certificate.names, result.certificate.issuer) == (("localhost",), "root")
        assert result.certificate.is_issuer_first is (root < leaf)
        assert result.health is Health.DEGRADED
        assert result.reason.endswith(f", but {whose} is valid for 9 days only")

    @pytest.mark.parametrize("kind", ["http", "websocket", "tls"])
    @pytest.mark.parametrize(
        ("version", "why"),
        [
            (ssl.TLSVersion.TLSv1_3, "it requires a client certificate"),
            (ssl.TLSVersion.TLSv1_2, "it refused the handshake; it may require a client certificate"),
        ],
        ids=["1.3", "1.2"],
    )
    async def test_a_client_certificate_is_required(
        self, issue: Any, monkeypatch: pytest.MonkeyPatch, kind: str, version: ssl.TLSVersion, why: str
    ) -> None:
        monkeypatch.setattr("tentaculo.health.prober._AFTER_HANDSHAKE", 20)
        context, certificate = issue(90)
        context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(certificate)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        # A blocking server: that of asyncio closes without the alert that says why.
        with socket.create_server(("127.0.0.1", 0)) as listener:
            served = asyncio.to_thread(_refuse_one, listener, context)
            asked = ask(listener.getsockname()[1], "https", health=["/a", "/b"], probe={"kind": kind, "timeout": 30})
            _, result = await asyncio.gather(served, asked)
        assert (result.health, result.reason) == (Health.DOWN, f"the secure connection failed: {why}")

    async def test_a_server_that_closes_during_the_handshake(self, serve: Serve) -> None:
        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)

        result = await ask(await serve(close), "https")
        assert (result.health, result.reason) == (Health.DOWN, "the connection ended during the handshake")

    async def test_no_tls_there(self, serve: Serve) -> None:
        async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 smtp.example ready\r\n")
            await reader.read(100)

        result = await ask(await serve(plain), probe={"kind": "tls"})
        assert (result.health, result.reason) == (Health.DOWN, "the secure connection failed: this is no TLS port")

    async def test_a_handshake_that_hangs(self, serve: Serve) -> None:
        result = await ask(await serve(silent), probe={"kind": "tls", "timeout": 0.2})
        assert (result.health, result.reason) == (Health.DOWN, "could not connect within 0.2 s")


class TestHeartbeat:
    CONFIG = fleet(cron={"url": "http://h:1", "probe": {"kind": "heartbeat", "silence": 60, "prefer": ["queue < 5"]}})

    async def look(self, last: tuple[float, bytes] | None) -> ProbeResult:
        prober = Prober(self.CONFIG, last_heartbeat=lambda _: last)
        return await prober.probe(self.CONFIG.services["cron"].upstreams[0])

    @pytest.mark.parametrize(
        ("last", "health", "reason"),
        [
            (None, Health.UNKNOWN, "waits for its first heartbeat"),
            ((3.2, b'{"queue": 1}'), Health.UP, "its last heartbeat came 3 s ago"),
            ((59.9, b'{"status": "ok", "queue": 1}'), Health.UP, "its last heartbeat came 60 s ago"),
            ((60.0, b'{"queue": 1}'), Health.DOWN, "no heartbeat for 60 s"),
            ((9.0, b'{"queue": 9}'), Health.DEGRADED, "its last heartbeat came 9 s ago, but queue is 9, not < 5"),
            (
                (9.0, b'{"status": "down", "queue": 1}'),
                Health.DOWN,
                "its last heartbeat came 9 s ago, but calls itself down",
            ),
        ],
    )
    async def test_what_the_last_one_means(self, last: tuple[float, bytes] | None, health: Health, reason: str) -> None:
        result = await self.look(last)
        assert (result.health, result.reason) == (health, reason)

    async def test_what_it_said_is_shown(self) -> None:
        result = await self.look((3.0, b'{"status": "ok", "message": "<b>fine</b>"}'))
        assert result.snippet == '{"status": "ok", "message": "<b>fine</b>"}'

    async def test_a_process_that_receives_none_does_not_know(self) -> None:
        prober = Prober(self.CONFIG)
        result = await prober.probe(self.CONFIG.services["cron"].upstreams[0])
        assert result.health is Health.UNKNOWN
        assert result.reason == "it sends heartbeats, which only the running gateway receives"
