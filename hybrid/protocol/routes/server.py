"""The server itself, and the documents that describe it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from hybrid.protocol.requests import PingAnswer
from hybrid.protocol.routes.shapes import JSON, Answer, Content, Parameter, Route

_ETAG: Final = (
    ("ETag", "What `If-None-Match` asks with."),
    ("Cache-Control", "Anybody may keep it, for an hour."),
)
_CONDITION: Final = Parameter(
    name="If-None-Match", place="header", meaning="The `ETag` of what the client has.", example='"0"'
)


def _document(operation: str, path: str, summary: str, *parameters: Parameter, media_type: str = JSON) -> Route:
    return Route(
        operation=operation,
        method="GET",
        path=path,
        group="Server",
        summary=summary,
        credential="none",
        parameters=(*parameters, _CONDITION),
        answers=(
            Answer(meaning="The document.", contents=(Content(media_type, dict[str, Any]),), headers=_ETAG),
            Answer(status=304, meaning="It is still what the client has.", headers=_ETAG),
        ),
        errors=("not_found",) if parameters else (),
        has_head=True,
    )


SERVER: Final = (
    Route(
        operation="ping",
        method="GET",
        path="/v1/ping",
        group="Server",
        summary="Is somebody there",
        text="Needs no token and no place, and is answered where everything else is full: by it a client tells a "
        "server that is away from a network that spoils its streams.",
        credential="none",
        answers=(
            Answer(meaning="The server's clock.", contents=(Content(JSON, PingAnswer, {"at_ms": 1_700_000_000_123}),)),
        ),
        errors=("draining",),
        has_head=True,
    ),
    _document("openapi", "/v1/openapi.json", "This document"),
    _document("asyncapi", "/v1/asyncapi.json", "Sessions and streams: the AsyncAPI document"),
    _document(
        "schema",
        "/v1/schemas/{schema}",
        "The JSON Schema of a message or body",
        Parameter(
            name="schema",
            place="path",
            kind=Annotated[str, Meta(pattern=r"^[a-z-]{1,64}\.json$")],
            meaning="Its file name, such as `push.json` or `command.json`.",
            example="push.json",
            is_needed=True,
        ),
        media_type="application/schema+json",
    ),
)
