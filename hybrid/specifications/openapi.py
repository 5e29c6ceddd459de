"""The routes as OpenAPI 3.1, from `hybrid.protocol.routes`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from hybrid import __version__
from hybrid.errors import TABLE
from hybrid.protocol.requests import Problem
from hybrid.protocol.routes import ROUTES
from hybrid.protocol.routes.shapes import PROBLEM, Answer, Content, Parameter, Route
from hybrid.specifications.document import Document
from hybrid.specifications.schemas import components
from hybrid.specifications.webhooks import GROUP, webhooks

_GROUPS: Final = {
    "Channels": "Channels as HTTP resources, for clients without a library.",
    "Management": "What backends and operators ask. Every request can be made at any node and holds for all of them.",
    "Access": "Tickets for what cannot send a token, and the end of what was given out.",
    "Sessions": "What carries sessions of client libraries; their messages are in the AsyncAPI document.",
    "Server": "The server itself, and what describes it.",
    GROUP: "What hybrid posts to an application's backend, signed (Standard Webhooks).",
}
_TEXT: Final = (
    "One logical channel API over WebSocket, Server-Sent Events and long polling. Errors are "
    "`application/problem+json` (RFC 9457); programs go by `name` or `number`, which say whether to come back: numbers "
    "from 4500 on stay away. A token travels in the Authorization header, never in a URL; which scope it needs stands "
    "at each operation. Unknown paths and methods are answered with 404 and `not_found`. A page of a listed origin may "
    "ask across origins (CORS)."
)
_ERROR_HEADERS: Final = {
    401: ("WWW-Authenticate",),
    403: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


class _Shared:
    """Components: schemas of types, made together so that they share what is in them; and each error answer once."""

    def __init__(self) -> None:
        self.responses: dict[str, Any] = {}
        self._errors: dict[tuple[tuple[str, ...], bool], str] = {}
        self._kinds: dict[int, Any] = {}
        self._wanted: list[tuple[dict[str, Any], int]] = []

    def of(self, kind: Any) -> dict[str, Any]:
        """A schema that is filled in by `fill`."""
        schema: dict[str, Any] = {}
        self._kinds[id(kind)] = kind
        self._wanted.append((schema, id(kind)))
        return schema

    def error(self, status: int, names: tuple[str, ...], is_head: bool) -> str:
        """The name of the answer with one of these errors."""
        key = (names, is_head)
        if key not in self._errors:
            count = sum(1 for name in self.responses if name.startswith(f"Error{status}"))
            name = self._errors[key] = f"Error{status}" + (f"-{count + 1}" if count else "")
            self.responses[name] = self._error(status, names, is_head)
        return self._errors[key]

    def _error(self, status: int, names: tuple[str, ...], is_head: bool) -> dict[str, Any]:
        lines = [f"- `{name}` ({TABLE[name].number}): {TABLE[name].meaning}" for name in names]
        answer: dict[str, Any] = {"description": "\n".join([HTTPStatus(status).phrase + ":", *lines])}
        if status in _ERROR_HEADERS:
            answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _ERROR_HEADERS[status]}
        if not is_head:
            is_one_of = {"properties": {"status": {"const": status}, "name": {"enum": list(names)}}}
            answer["content"] = {PROBLEM: {"schema": {"allOf": [self.of(Problem), is_one_of]}}}
        return answer

    def fill(self) -> dict[str, Any]:
        """Fill in what was asked for; returns the components."""
        made, named = components(list(self._kinds.values()), "openapi")
        by_kind = dict(zip(self._kinds, made, strict=True))
        for schema, kind in self._wanted:
            schema |= by_kind[kind]
        return named


@cache
def openapi_document() -> Document:
    """The document, made once."""
    return Document(describe(ROUTES))


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of these routes."""
    shared = _Shared()
    paths: dict[str, dict[str, Any]] = {}
    groups: dict[str, None] = {}
    for route in routes:
        groups[route.group] = None
        operations = paths.setdefault(route.path, {})
        operations[route.method.lower()] = _operation(route, shared, is_head=False)
        if route.has_head:
            operations["head"] = _operation(route, shared, is_head=True)
    posted = webhooks(shared.of)
    named = shared.fill()
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "hybrid",
            "version": __version__,
            "summary": "Realtime channels over HTTP",
            "description": _TEXT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": _GROUPS.get(name, name)} for name in (*groups, GROUP)],
        "paths": paths,
        "webhooks": posted,
        "components": {
            "schemas": named,
            "responses": shared.responses,
            "headers": _HEADERS,
            "securitySchemes": _SECURITY,
        },
    }


_HEADERS: Final[dict[str, Any]] = {
    "WWW-Authenticate": {
        "description": "The challenge (RFC 6750, RFC 9449), where a credential is what is missing or wrong.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds until the same is worth another try; `retry_after_s` in the body has fractions.",
        "schema": {"type": "integer", "minimum": 1},
        "required": True,
    },
}
_SECURITY: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of an issuer that the server trusts (RFC 6750): a JWT (RFC 9068) or opaque.",
    },
    "dpop": {
        "type": "http",
        "scheme": "DPoP",
        "description": "A token that is bound to a key, with a proof in the `DPoP` header (RFC 9449), each used once.",
    },
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "A ticket of `POST /v1/ticket`.",
    },
}


def _operation(route: Route, shared: _Shared, *, is_head: bool) -> dict[str, Any]:
    text = [route.text] if route.text else []
    if route.repeats:
        text.append(f"Sent twice: {route.repeats[0].lower()}{route.repeats[1:]}")
    operation: dict[str, Any] = {
        "operationId": f"{route.operation}_head" if is_head else route.operation,
        "tags": [route.group],
        "summary": f"{route.summary} (head only)" if is_head else route.summary,
        "security": list(_security(route)),
    }
    if text and not is_head:
        operation["description"] = "\n\n".join(text)
    if route.parameters:
        operation["parameters"] = [_parameter(parameter, shared) for parameter in route.parameters]
    if route.takes:
        operation["requestBody"] = {"required": True, "content": _contents(route.takes, shared)}
    operation["responses"] = {
        **{str(answer.status): _answer(answer, shared, is_head=is_head) for answer in route.answers},
        **_errors(route.all_errors, shared, is_head=is_head),
    }
    return operation


def _security(route: Route) -> Iterator[dict[str, list[str]]]:
    if route.credential != "needed":
        yield {}
    if route.credential != "none":
        scopes = [route.scope] if route.scope else []
        yield {"bearer": scopes}
        yield {"dpop": scopes}
    if any(parameter.name == "ticket" for parameter in route.parameters):
        yield {"ticket": []}


def _parameter(parameter: Parameter, shared: _Shared) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.is_needed,
        "description": parameter.meaning,
        "schema": shared.of(parameter.kind),
    }
    if parameter.may_repeat:
        described |= {"style": "form", "explode": True}
    if parameter.example is not None:
        described["example"] = parameter.example
    return described


def _contents(contents: Sequence[Content], shared: _Shared) -> dict[str, Any]:
    described: dict[str, Any] = {}
    for content in contents:
        kind = described[content.media_type] = {}
        if isinstance(content.kind, tuple):
            kind["schema"] = {"oneOf": [shared.of(one) for one in content.kind]}
        elif content.kind is not None:
            kind["schema"] = shared.of(content.kind)
        elif content.media_type == "text/plain":
            kind["schema"] = {"type": "string"}
        if content.example is not None:
            kind["example"] = content.example
    return described


def _answer(answer: Answer, shared: _Shared, *, is_head: bool) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.meaning}
    if answer.headers:
        described["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}, "required": True}
            for name, meaning in answer.headers
        }
    if answer.contents and not is_head:
        described["content"] = _contents(answer.contents, shared)
    return described


def _errors(names: Iterable[str], shared: _Shared, *, is_head: bool) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for name in names:
        by_status.setdefault(TABLE[name].http_status, []).append(name)
    return {
        str(status): {"$ref": "#/components/responses/" + shared.error(status, tuple(sorted(of_status)), is_head)}
        for status, of_status in sorted(by_status.items())
    }
