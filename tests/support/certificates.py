"""Certificates for tests, made by the openssl command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.support.needs import need

NEW_KEY = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
"""Options of `openssl req` that make a key."""


class Certificate(NamedTuple):
    """The files of a certificate and of its key."""

    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """The context of a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def openssl(folder: Path, *commands: str) -> None:
    """Run openssl in `folder` for each of `commands`, which have no blanks within a word."""
    need(shutil.which("openssl"), "openssl (Debian: openssl)")
    for command in commands:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True, timeout=30)


def self_signed(folder: Path, name: str = "DNS:localhost") -> Certificate:
    """A certificate for `name` that signed itself."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    subject = f"-subj /CN=localhost -addext subjectAltName={name}"
    openssl(folder, f"req -x509 {NEW_KEY} -days 2 {subject} -keyout {made.key.name} -out {made.certificate.name}")
    return made
