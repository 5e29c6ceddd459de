"""What hybrid posts to an application's backend, as the `webhooks` of OpenAPI 3.1, from `hybrid.hooks.messages`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hybrid.hooks.messages import Answer, AskCall, AskConnect, AskPublish, AskSubscribe, CallAnswer, Told

Question = AskConnect | AskSubscribe | AskPublish | AskCall
"""All that a backend is asked, told apart by `ask`."""
GROUP: Final = "Webhooks"
_SIGNED: Final = (
    ("webhook-id", "The same for every attempt, so that a repeat is recognised."),
    ("webhook-timestamp", "Of this attempt, in Unix seconds; refuse what is older than some minutes."),
    ("webhook-signature", "One `v1,` and HMAC-SHA256 in base64 over `id.timestamp.body` for each secret, with spaces."),
)


def webhooks(schema_of: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Both of them; `schema_of` gives the schema of a type."""
    answer = {"oneOf": [schema_of(Answer), schema_of(CallAnswer)]}
    return {
        "question": {
            "post": {
                "operationId": "hook_question",
                "tags": [GROUP],
                "summary": "May this be? What does this call give?",
                "description": (
                    "Posted to `hooks.url`. `connect`, `subscribe` and `publish` are answered by an `Answer`, `call` "
                    "by a `CallAnswer`. Whatever is not answered in time, or otherwise, is refused."
                ),
                "parameters": _parameters(),
                "requestBody": _json(schema_of(Question)),
                "responses": {"200": {"description": "The answer.", **_content(answer)}},
            }
        },
        "events": {
            "post": {
                "operationId": "hook_events",
                "tags": [GROUP],
                "summary": "This has happened",
                "description": (
                    "Posted to `hooks.tell_url`, or to `hooks.url`: at least once, in order, and again until it is "
                    "taken."
                ),
                "parameters": _parameters(),
                "requestBody": _json(schema_of(Told)),
                "responses": {"2XX": {"description": "It was taken; the body is not looked at."}},
            }
        },
    }


def _parameters() -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": True, "description": meaning, "schema": {"type": "string"}}
        for name, meaning in _SIGNED
    ]


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"required": True, **_content(schema)}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}
