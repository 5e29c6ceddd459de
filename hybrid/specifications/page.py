"""Writes `docs/http-api.md` from the table of routes: the same for people, with a line of curl for each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from hybrid.errors import TABLE
from hybrid.protocol.routes import ROUTES
from hybrid.protocol.routes.shapes import EVERYWHERE, WITH_BODY, WITH_CREDENTIAL, Content, Parameter, Route

_HEAD: Final = """# The HTTP API

<!-- Written by `python -m hybrid.specifications docs`; a test fails when it is stale. -->

Every route below `/v1`, from the same table that the server routes by. For programs a server gives it out as
[OpenAPI 3.1](openapi.json) at `/v1/openapi.json`; what sessions say over WebSocket, event streams and long polls as
[AsyncAPI 3](asyncapi.json) at `/v1/asyncapi.json`; and each message and body as a JSON Schema at
`/v1/schemas/NAME.json` ([all of them](schemas)). They need no token, and carry an `ETag`.
[The protocol](protocol.md) has the rules of use.

The examples are run by a test as they stand, with

```sh
URL=http://127.0.0.1:8000
TOKEN=$(hybrid token | tail -n 1)
```

"""
_ERRORS: Final = """## Errors

Every error is `application/problem+json` (RFC 9457) with `number` and `name` beside `title`, `status` and `detail`;
[the table](protocol.md#errors) says of each whether to come back. Every route can answer {everywhere}; where a token
counts, also {credential}; where there is a body, {body}. Each route's own stand beside it.

A method or path that is not there is answered with 404 and `not_found`. `OPTIONS` is answered for CORS, and `HEAD`
wherever it says so: what a `GET` would be answered, without the body.

"""
_RETRIES: Final = """## Asking twice

Whoever got no answer asks again. What comes of that:

| route | the same request again |
| --- | --- |
"""


def describe() -> str:
    """The whole page, as Markdown that ends with a newline."""
    return _HEAD + "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    group = ""
    for route in ROUTES:
        if route.group != group:
            group = route.group
            yield f"## {group}\n" + _BESIDE.get(group, "")
        yield from _route(route)
    yield _ERRORS.format(everywhere=_names(EVERYWHERE), credential=_names(WITH_CREDENTIAL), body=_names(WITH_BODY))
    yield _RETRIES + "\n".join(_retries())


def _retries() -> Iterator[str]:
    for route in ROUTES:
        if route.repeats:
            yield f"| `{route.method} {route.path}` | {route.repeats} |"
    yield "| every `GET` | Changes nothing. |"


def _route(route: Route) -> Iterator[str]:
    yield f"### {route.summary}\n\n`{route.method} {route.path}`{' (and `HEAD`)' if route.has_head else ''}\n"
    if route.text:
        yield route.text + "\n"
    yield _credential(route) + "\n"
    if route.parameters:
        yield "| parameter | in | |\n| --- | --- | --- |"
        for parameter in route.parameters:
            yield f"| `{parameter.name}` | {parameter.place} | {_meaning(parameter)} |"
        yield ""
    if route.takes:
        yield "Takes " + ", ".join(map(_content, route.takes)) + ".\n"
    for answer in route.answers:
        contents = " or ".join(map(_content, answer.contents))
        yield f"Answers {answer.status}{f' with {contents}' if contents else ''}: {_lower(answer.meaning)}\n"
    if route.errors:
        yield f"Errors of its own: {_names(route.errors)}.\n"
    example = curl(route)
    if example:
        yield f"```sh\n{example}\n```\n"
        shown = _shown(route)
        if shown is not None:
            yield f"```json\n{json.dumps(shown, indent=2, ensure_ascii=False)}\n```\n"


def _credential(route: Route) -> str:
    if route.credential == "none":
        return "Needs no token."
    scope = f" with the scope `{route.scope}`" if route.scope else ""
    needed = "Needs a token" if route.credential == "needed" else "A token"
    return f"{needed}{scope}{'' if route.credential == 'needed' else ', or none where a namespace is open to anyone'}."


def _meaning(parameter: Parameter) -> str:
    return parameter.meaning.replace("|", "\\|") + (" Needed." if parameter.is_needed else "")


def _content(content: Content) -> str:
    return f"`{content.media_type}`"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}` ({TABLE[name].http_status})" for name in names)


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _shown(route: Route) -> Any:
    answer = route.answers[0]
    return next((content.example for content in answer.contents if content.media_type == "application/json"), None)


def curl(route: Route) -> str:
    """A line of curl that asks this route; empty for those that only a client library asks."""
    if route.operation in _NO_EXAMPLE:
        return ""
    path = route.path
    query = ""
    for parameter in route.parameters:
        if parameter.place == "path":
            path = path.replace(f"{{{parameter.name}}}", str(parameter.example).replace("/", "%2F"))
        elif parameter.is_needed or (parameter.name, route.operation) in _ASKED:
            values = parameter.example if isinstance(parameter.example, list) else [parameter.example]
            query += "".join(f"&{parameter.name}={quote(_text(value), safe='')}" for value in values)
    parts = ["curl -sS"]
    if route.credential != "none":
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if (key := _key(route)) is not None:
        parts.append(f"-H 'Idempotency-Key: {key}'")
    if route.takes:
        parts.append(f"--json '{json.dumps(route.takes[0].example, ensure_ascii=False)}'")
    parts.append(f'"$URL{path}{"?" + query[1:] if query else ""}"')
    return " ".join(parts)


_BESIDE: Final = {"Management": "\n[The server API](server-api.md) has the rules and more examples.\n"}
_NO_EXAMPLE: Final = ("session_by_ticket", "command", "session", "drain")
"""They need a ticket, a session or a node, which an example does not have."""
_ASKED: Final = (("name", "read_channels"), ("limit", "history"), ("reverse", "history"), ("history", "read_channel"))
"""Which parameters the examples use."""


def _key(route: Route) -> str | None:
    return next((one.example for one in route.parameters if one.name == "Idempotency-Key"), None)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
