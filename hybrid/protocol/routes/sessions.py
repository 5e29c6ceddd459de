"""What carries sessions, whose messages the AsyncAPI document describes."""

from __future__ import annotations

from typing import Any, Final

from hybrid.protocol.commands import CommandPost
from hybrid.protocol.requests import PushList, ReplyList, StreamRequest
from hybrid.protocol.routes.shapes import EVENTS, JSON, Answer, Content, Parameter, Route

SESSION: Final = "n1.6f1c2a"
ATTACH: Final[dict[str, Any]] = {
    "method": "attach",
    "attempt": 1,
    "nonce": "n1",
    "confirm": True,
    "subscriptions": [{"channel": "chat:lobby", "history": 10}],
}
ATTACHED: Final[dict[str, Any]] = {
    "attached": {
        "session": SESSION,
        "attempt": 1,
        "nonce": "n1",
        "heartbeat_interval_s": 20.0,
        "limits": {
            "data_max_bytes": 65_536,
            "command_max_bytes": 69_632,
            "channels_max": 256,
            "key_window_s": 300.0,
            "poll_wait_max_s": 25.0,
            "echo_interval_s": 0.5,
        },
        "token_expires_in_s": 900.0,
    }
}
_STREAM_TEXT: Final = (
    "Only heartbeats and errors come before the leg is confirmed. An event stream ends with a `disconnect` and its "
    "connection; a leg of long polls goes on with `poll` commands on the same path."
)

SESSIONS: Final = (
    Route(
        operation="session_stream",
        method="POST",
        path="/v1/stream",
        group="Sessions",
        summary="Open a leg, or poll",
        text="The body is an `attach`; with `Accept: text/event-stream` the answer is a stream of pushes, otherwise it "
        "holds those there are, and later ones are asked for with `poll`. " + _STREAM_TEXT,
        credential="optional",
        takes=(Content(JSON, StreamRequest, ATTACH),),
        answers=(
            Answer(
                meaning="Pushes: a list, or a stream of events without `id` and `event`.",
                contents=(
                    Content(JSON, PushList, {"pushes": [ATTACHED]}),
                    Content(EVENTS, None, 'data: {"heartbeat":{"at_ms":1700000000123}}\n\n'),
                ),
            ),
        ),
        errors=(
            "forbidden",
            "method_unknown",
            "session_unknown",
            "already_subscribed",
            "outcome_unknown",
            "replaced",
            "frame_too_large",
        ),
        repeats="An attach opens another leg, and the highest `attempt` wins; a session that nobody comes back to is "
        "forgotten after a minute. A poll gives nothing up before its positions have passed it.",
    ),
    Route(
        operation="session_by_ticket",
        method="GET",
        path="/v1/stream",
        group="Sessions",
        summary="Open a leg with a ticket",
        text="For an `EventSource`: the attach was left with the ticket, which is used up. With `Upgrade: websocket` "
        "this path is the session's WebSocket (see the AsyncAPI document). " + _STREAM_TEXT,
        credential="optional",
        parameters=(Parameter(name="ticket", place="query", meaning="The ticket.", is_needed=True),),
        answers=(Answer(meaning="A stream of pushes.", contents=(Content(EVENTS, None),)),),
        errors=("forbidden",),
        repeats="A ticket opens one stream, once.",
    ),
    Route(
        operation="command",
        method="POST",
        path="/v1/command",
        group="Sessions",
        summary="Send commands",
        text="The way up beside an event stream or long polls: 64 commands at most, carried out in order, each "
        "answered on its own. A `call` may take long and goes in a POST of its own.",
        credential="optional",
        scope="hybrid:publish:{channel}",
        takes=(
            Content(
                JSON,
                CommandPost,
                {
                    "session": SESSION,
                    "commands": [
                        {"method": "publish", "id": 1, "channel": "chat:lobby", "data": {"text": "hi"}, "key": "k-1"}
                    ],
                },
            ),
        ),
        answers=(
            Answer(
                meaning="The replies.",
                contents=(
                    Content(
                        JSON,
                        ReplyList,
                        {"replies": [{"id": 1, "position": {"offset": 42, "epoch": "k3f9", "tag": "9c1d07aa"}}]},
                    ),
                ),
            ),
        ),
        repeats="Is safe: `publish` and `call` have a `key`, `subscribe`, `unsubscribe` and `refresh` a number or the "
        "sealed list, `confirm` its `attempt`; the others change nothing.",
    ),
)
