"""A document that many ask for: encoded once, compressed once for those who take that, and sent only to those without it."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from aiohttp import hdrs, web
from markupsafe import escape

from tentaculo.server.content_negotiation import takes_gzip
from tentaculo.server.native_routes import BodyResponse, is_known


@dataclass(slots=True)
class Document:
    """The body of a response to GET, with its entity tag."""

    body: bytes
    etag: str
    is_personal: bool = False
    """Whether it is made for one client, who must not keep it."""
    _compressed: bytes = b""

    @classmethod
    def of(cls, body: bytes) -> Self:
        """The document with this body."""
        # A weak validator: the compressed document and the plain one are the same document.
        return cls(body, f'W/"{sha256(body).hexdigest()[:24]}"')

    @property
    def is_compressed(self) -> bool:
        """Whether `compress` was called."""
        return bool(self._compressed)

    def compress(self) -> None:
        """Compress the body, unless it is. For a large one that takes milliseconds, so call it in a thread."""
        if not self._compressed:
            self._compressed = gzip.compress(self.body, 1 if self.is_personal else 6, mtime=0)

    def filled(self, values: Mapping[str, str]) -> Self:
        """The document for one client: with other text, or markup, in place of placeholders. The entity tag says which version it is."""
        body = self.body
        for placeholder, value in values.items():
            body = body.replace(placeholder.encode(), str(escape(value)).encode("utf-8", "replace"))
        return type(self)(body, self.etag, is_personal=True)

    def respond(
        self, request: web.Request, headers: Mapping[str, str], vary: Iterable[str] = (), *, status: int = 200
    ) -> web.Response:
        """The response to `request` with `headers`; 304 where the client has the document.

        `vary` are the fields of the request that it depends on, beside the one that compression depends on.
        """
        vary = ", ".join((hdrs.ACCEPT_ENCODING, *vary))
        headers = {**headers, hdrs.VARY: vary, hdrs.ETAG: self.etag}
        if not self.is_personal and is_known(request, self.etag):
            return web.Response(status=304, headers=headers)
        if takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
            self.compress()
            headers = {**headers, hdrs.CONTENT_ENCODING: "gzip"}
            return BodyResponse(status=status, body=self._compressed, headers=headers)
        return BodyResponse(status=status, body=self.body, headers=headers)
