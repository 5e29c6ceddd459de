"""What describes the server, for machines: the OpenAPI and AsyncAPI documents and the JSON Schemas.

Public, and the same for everybody: whoever has one asks by its `ETag` (RFC 9110, section 13.1.2) whether it is new.
"""

from __future__ import annotations

import asyncio
from typing import Final

from hybrid.errors import ProtocolError
from hybrid.specifications import asyncapi_document, openapi_document, schema_file
from hybrid.specifications.document import Document
from hybrid.transports.exchange import Exchange

_SCHEMA_TYPE: Final = "application/schema+json"
_CACHE: Final = b"public, max-age=3600"


class Documents:
    """Serves them. Each is made when it is first asked for, beside the event loop: it takes some 50 ms."""

    async def openapi(self, exchange: Exchange) -> None:
        """`GET /v1/openapi.json`."""
        await _answer(exchange, await asyncio.to_thread(openapi_document))

    async def asyncapi(self, exchange: Exchange) -> None:
        """`GET /v1/asyncapi.json`."""
        await _answer(exchange, await asyncio.to_thread(asyncapi_document))

    async def schema(self, exchange: Exchange, segment: bytes) -> None:
        """`GET /v1/schemas/{schema}`."""
        document = await asyncio.to_thread(schema_file, segment.decode("latin-1"))
        if document is None:
            raise ProtocolError("not_found", "There is no such schema; the OpenAPI document names them all.")
        await _answer(exchange, document, _SCHEMA_TYPE)


async def _answer(exchange: Exchange, document: Document, content_type: str = "application/json") -> None:
    headers = ((b"etag", document.etag),)
    asked = exchange.header(b"if-none-match") or ""
    known = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
    if document.etag.decode() in known or "*" in known:
        await exchange.respond(304, headers=headers, cache_control=_CACHE)
        return
    await exchange.respond(200, document.body, content_type=content_type, headers=headers, cache_control=_CACHE)
