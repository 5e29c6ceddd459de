"""The server API: what backends and operators ask. Its rules and examples are in `docs/server-api.md`."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from hybrid.protocol.management import (
    BroadcastAnswer,
    BroadcastRequest,
    ChannelAnswer,
    ChannelsAnswer,
    DisconnectAnswer,
    DisconnectRequest,
    DrainAnswer,
    DrainRequest,
    NodesAnswer,
    PurgeAnswer,
    PurgeRequest,
    SessionsAnswer,
    StatsAnswer,
    SubscribeAnswer,
    SubscribeRequest,
    UnsubscribeAnswer,
)
from hybrid.protocol.orders import SessionInfo
from hybrid.protocol.routes.channels import CHANNEL, PUBLICATION
from hybrid.protocol.routes.shapes import JSON, Answer, Content, Parameter, Route

_GROUP: Final = "Management"
_POSITION: Final = {"offset": 42, "epoch": "k3f9", "tag": "9c1d07aa"}
_PURGED: Final = {"offset": 1, "epoch": "q7m2", "tag": "00000000"}
_NODE: Final = "fR2kQ0zvT1aB"
_SESSION: Final = {
    "session": f"{_NODE}.Zp0x4tTq5vYw1m2n3o4p5Q",
    "node": _NODE,
    "transport": "websocket",
    "issuer": "https://id.example.com",
    "subject": "alice",
    "client": "web",
    "address": "203.0.113.7",
    "since_s": 1_700_000_000.123,
    "channel_count": 1,
}
_CHANNEL: Final = "chat:lobby"
_KEY: Final = Parameter(
    name="Idempotency-Key",
    place="header",
    kind=Annotated[str, Meta(min_length=1, max_length=128)],
    meaning="The same key and body within five minutes does nothing more, on whichever node, and gets the first answer "
    "with `repeated`.",
)
_AGAIN: Final = "Does it again, unless it has an `Idempotency-Key`: then it gets the first answer."
_PAGE: Final = (
    Parameter(name="after", place="query", meaning="The `next` of the page before."),
    Parameter(
        name="limit",
        place="query",
        kind=Annotated[float, Meta(ge=1, le=999_999_999_999_999)],
        meaning="How many at most; 100 unless said otherwise. More than 500 counts as that.",
        example=100,
    ),
)
_ACTING: Final = ("forbidden", "key_conflict", "outcome_unknown", "call_failed")


def _post(
    operation: str,
    path: str,
    summary: str,
    scope: str,
    takes: tuple[type[msgspec.Struct], Any],
    answers: tuple[type[msgspec.Struct], Any],
    *,
    text: str = "",
    errors: tuple[str, ...] = _ACTING,
) -> Route:
    return Route(
        operation=operation,
        method="POST",
        path=path,
        group=_GROUP,
        summary=summary,
        text=text,
        scope=scope,
        parameters=(_KEY,),
        takes=(Content(JSON, *takes),),
        answers=(Answer(meaning="What came of it.", contents=(Content(JSON, *answers),)),),
        errors=errors,
        repeats=_AGAIN,
    )


def _get(
    operation: str,
    path: str,
    summary: str,
    scope: str,
    answers: tuple[type[msgspec.Struct], Any],
    *parameters: Parameter,
    errors: tuple[str, ...] = (),
) -> Route:
    return Route(
        operation=operation,
        method="GET",
        path=path,
        group=_GROUP,
        summary=summary,
        scope=scope,
        parameters=parameters,
        answers=(Answer(meaning="What is known.", contents=(Content(JSON, *answers),)),),
        errors=("forbidden", *errors),
        has_head=True,
    )


def _filter(name: str) -> Parameter:
    return Parameter(name=name, place="query", meaning=f"Only those of this {name}.")


MANAGEMENT: Final = (
    _post(
        "broadcast",
        "/v1/broadcast",
        "The same data to many channels",
        "hybrid:publish:{channel}",
        (BroadcastRequest, {"channels": [_CHANNEL, "chat:staff"], "data": PUBLICATION["data"]}),
        (BroadcastAnswer, {"results": [{"channel": _CHANNEL, "position": _POSITION}]}),
        text="Each channel is answered on its own. The key, here or in the body, is one for each channel.",
    ),
    _post(
        "assign",
        "/v1/subscribe",
        "Ask others to subscribe",
        "hybrid:assign:{channel}",
        (SubscribeRequest, {"channel": _CHANNEL, "subject": "alice"}),
        (SubscribeAnswer, {"sessions": 1, "already": 0, "refused": 0, "nodes": 1}),
        text="Exactly one of `subject`, `client` and `session`. It grants nothing.",
    ),
    _post(
        "unassign",
        "/v1/unsubscribe",
        "End subscriptions of others",
        "hybrid:assign:{channel}",
        (SubscribeRequest, {"channel": _CHANNEL, "subject": "alice"}),
        (UnsubscribeAnswer, {"sessions": 1, "nodes": 1}),
        text="Exactly one of `subject`, `client` and `session`. The right to the channel stays.",
    ),
    _post(
        "disconnect",
        "/v1/disconnect",
        "End what is open",
        "hybrid:disconnect",
        (DisconnectRequest, {"subject": "mallory", "reason": "Your plan has changed.", "delay_s": 5.0}),
        (DisconnectAnswer, {"sessions": 1, "streams": 0, "nodes": 1}),
        text="Exactly one of `subject`, `client` and `session`. To keep somebody out, revoke.",
    ),
    _post(
        "purge",
        "/v1/purge",
        "Empty a channel's history",
        "hybrid:purge:{channel}",
        (PurgeRequest, {"channel": _CHANNEL}),
        (PurgeAnswer, {"channel": _CHANNEL, "position": _PURGED}),
        text="In one step; every reader is told of a reset.",
    ),
    _post(
        "drain",
        "/v1/drain",
        "Take a node out of service",
        "hybrid:drain",
        (DrainRequest, {"node": _NODE}),
        (DrainAnswer, {"node": _NODE, "streams": 2}),
        text="Its clients are sent to the other nodes, at the pace that these can take.",
        errors=(*_ACTING, "not_found"),
    ),
    _get(
        "list_channels",
        "/v1/info/channels",
        "Channels in use",
        "hybrid:channels:{channel}",
        (ChannelsAnswer, {"channels": [{"channel": _CHANNEL, "subscribers": 1}], "nodes": 1}),
        Parameter(name="prefix", place="query", meaning="Only those whose names begin so.", example="chat:"),
        *_PAGE,
    ),
    _get(
        "channel",
        "/v1/info/channels/{channel}",
        "One channel",
        "hybrid:channels:{channel}",
        (
            ChannelAnswer,
            {
                "channel": _CHANNEL,
                "subscribers": 1,
                "position": _POSITION,
                "present": {"principals": 1, "sessions": 1},
                "nodes": 1,
            },
        ),
        CHANNEL,
    ),
    _get(
        "list_sessions",
        "/v1/info/sessions",
        "Who is connected",
        "hybrid:sessions",
        (SessionsAnswer, {"sessions": [_SESSION], "nodes": 1}),
        _filter("subject"),
        _filter("client"),
        _filter("transport"),
        _filter("channel"),
        *_PAGE,
    ),
    _get(
        "session",
        "/v1/info/sessions/{session}",
        "One session",
        "hybrid:sessions",
        (SessionInfo, {**_SESSION, "channels": [_CHANNEL]}),
        Parameter(
            name="session", place="path", meaning="The session's id.", example=_SESSION["session"], is_needed=True
        ),
        errors=("session_unknown", "outcome_unknown"),
    ),
    _get(
        "nodes",
        "/v1/info/nodes",
        "The nodes",
        "hybrid:nodes",
        (
            NodesAnswer,
            {
                "nodes": [
                    {"node": _NODE, "version": "0.1.0", "streams": 2, "sessions": 1, "channels": 1, "room": 14_998}
                ]
            },
        ),
    ),
    _get(
        "stats",
        "/v1/info/stats",
        "What the nodes count",
        "hybrid:admin",
        (
            StatsAnswer,
            {
                "nodes": [
                    {
                        "node": _NODE,
                        "at_s": 86_400.5,
                        "connections": {"websocket": 1, "sse": 1, "longpoll": 0},
                        "sessions": {"websocket": 1, "sse": 1, "longpoll": 0, "none": 0},
                        "slow": 0,
                        "behind": 0,
                        "buffered_bytes": 0,
                        "channels": 1,
                        "subscriptions": 2,
                        "published": 1,
                        "deliveries": 2,
                        "flushed_bytes": 254,
                        "refused": 0,
                        "cpu_s": 1.25,
                        "lag_s": 0.001,
                        "is_draining": False,
                    }
                ]
            },
        ),
    ),
)
