"""Plain channels: what `curl`, an `EventSource`, any WebSocket client and a poll loop use."""

from __future__ import annotations

from typing import Annotated, Any, Final

from msgspec import Meta

from hybrid.protocol.commands import ChannelText
from hybrid.protocol.management import PresenceCounts
from hybrid.protocol.requests import (
    BatchAnswer,
    BatchBody,
    HistoryPage,
    PollPage,
    PresenceList,
    Published,
)
from hybrid.protocol.routes.shapes import EVENTS, JSON, Answer, Content, Parameter, Route

PUBLICATION: Final[dict[str, Any]] = {
    "channel": "chat:lobby",
    "offset": 42,
    "epoch": "k3f9",
    "tag": "9c1d07aa",
    "data": {"text": "hello"},
}
"""The example of all documents."""
_POSITION: Final = {"offset": 42, "epoch": "k3f9", "tag": "9c1d07aa"}
_FORBIDDEN: Final = {"number": 3403, "name": "forbidden"}
_CURSOR: Final = "k3f9-42-9c1d07aa"

CHANNEL: Final = Parameter(
    name="channel",
    place="path",
    kind=ChannelText,
    meaning="The channel's name, percent-encoded as one segment (`/` as `%2F`): 1 to 255 bytes of UTF-8 in NFC, "
    "without control characters and `*`, not `.` or `..`.",
    example="chat:lobby",
    is_needed=True,
)
_NAMES: Final = Parameter(
    name="name",
    place="query",
    kind=Annotated[list[ChannelText], Meta(min_length=1, max_length=16)],
    meaning="A channel's name; once for each channel, 16 at most.",
    example=["chat:lobby"],
    may_repeat=True,
)
_NUMBER: Final = Annotated[float, Meta(ge=0, le=999_999_999_999_999)]
_READING: Final = (
    Parameter(
        name="after",
        place="query",
        meaning="The cursor to go on after, 2 KB at most; `0` for the start. Composite for several channels. Without "
        "it and without `history` the reader starts now.",
        example=_CURSOR,
    ),
    Parameter(
        name="history",
        place="query",
        kind=_NUMBER,
        meaning="Start so many publications back. What is more than the server keeps or gives counts as that.",
        example=10,
    ),
    Parameter(
        name="wait",
        place="query",
        kind=_NUMBER,
        meaning="Of a long poll: seconds to wait for a publication, 25 at most and unless said otherwise.",
        example=25,
    ),
    Parameter(
        name="ticket",
        place="query",
        meaning="Of an event stream: the credential of an `EventSource`, which cannot set a header.",
    ),
    Parameter(
        name="Last-Event-ID",
        place="header",
        meaning="As `after`, and wins over it: what an `EventSource` sends when it comes back.",
        example=_CURSOR,
    ),
)
_READ: Final = Answer(
    meaning="A long poll's publications; or, with `Accept: text/event-stream`, a stream of them that does not end: "
    "`id` is the cursor, `event` the type, `data` the JSON. `event: hybrid.reset` says that the cursor could not be "
    "continued. A browser that asks a server which is draining gets an empty stream with a `retry:`.",
    contents=(
        Content(JSON, PollPage, {"cursor": _CURSOR, "recovered": True, "publications": [PUBLICATION]}),
        Content(EVENTS, None, f'id: {_CURSOR}\ndata: {{"text":"hello"}}\n\n'),
    ),
)
_READ_TEXT: Final = (
    "Without `after` and `history` a poll answers at once with the current cursor. `recovered: false` says that the "
    "cursor could not be continued: go on after the new one. With `Upgrade: websocket` the same URL sends one text "
    "frame for each publication (see the AsyncAPI document). `HEAD` asks what a `GET` would get and opens nothing."
)
_READ_ERRORS: Final = ("forbidden", "too_large", "slow_client", "disconnected", "dismissed")
_SUBSCRIBE: Final = "hybrid:subscribe:{channel}"

_PUBLISH_ERRORS: Final = ("forbidden", "key_conflict", "outcome_unknown", "unconfirmed")
_KEY: Final = Parameter(
    name="Idempotency-Key",
    place="header",
    kind=Annotated[str, Meta(min_length=1, max_length=128)],
    meaning="Makes a repeat within five minutes safe: the first one's position comes back, with `repeated`.",
    example="order-4711",
)
_TYPE: Final = Parameter(
    name="Hybrid-Type",
    place="header",
    kind=Annotated[str, Meta(pattern="^[A-Za-z0-9._-]{1,64}$")],
    meaning="The publication's type. `error`, `open`, `message` and `hybrid.*` are reserved.",
    example="said",
)

CHANNELS: Final = (
    Route(
        operation="read_channels",
        method="GET",
        path="/v1/channels",
        group="Channels",
        summary="Read several channels",
        text=_READ_TEXT + " With several channels an event's `data` is `{channel, data}`, and every `id` is composite.",
        credential="optional",
        scope=_SUBSCRIBE,
        parameters=(_NAMES, *_READING),
        answers=(_READ,),
        errors=_READ_ERRORS,
        has_head=True,
    ),
    Route(
        operation="read_channel",
        method="GET",
        path="/v1/channels/{channel}",
        group="Channels",
        summary="Read a channel",
        text=_READ_TEXT,
        credential="optional",
        scope=_SUBSCRIBE,
        parameters=(CHANNEL, *_READING),
        answers=(_READ,),
        errors=_READ_ERRORS,
        has_head=True,
    ),
    Route(
        operation="publish",
        method="POST",
        path="/v1/channels/{channel}",
        group="Channels",
        summary="Publish",
        text='The body is the data: JSON as it is, text as a JSON string, bytes as `{"base64": "..."}`. JSON is '
        "UTF-8, at most 32 levels deep, numbers of at most 64 bytes and within the range of a double; 64 KB unless the "
        "server is told otherwise. An answer means: it is in the log.",
        credential="optional",
        scope="hybrid:publish:{channel}",
        parameters=(CHANNEL, _KEY, _TYPE),
        takes=(
            Content(JSON, Any, {"text": "hello"}),
            Content("text/plain", None, "hello"),
            Content("application/octet-stream", None),
        ),
        answers=(Answer(meaning="Where it stands in the log.", contents=(Content(JSON, Published, _POSITION),)),),
        errors=_PUBLISH_ERRORS,
        repeats="Publishes twice, unless it has an `Idempotency-Key`.",
    ),
    Route(
        operation="publish_batch",
        method="POST",
        path="/v1/publish",
        group="Channels",
        summary="Publish to many channels",
        text="64 publications at most, each answered on its own, in their order: one that is refused leaves the others "
        "alone.",
        credential="optional",
        scope="hybrid:publish:{channel}",
        parameters=(
            Parameter(
                name="Idempotency-Key",
                place="header",
                kind=Annotated[str, Meta(min_length=1, max_length=123)],
                meaning="The key of the whole batch: each publication without a `key` of its own gets this one and its "
                "place (`KEY.0`, `KEY.1`, ...). Repeat the same batch in the same order.",
                example="import-17",
            ),
        ),
        takes=(
            Content(
                JSON,
                BatchBody,
                {
                    "publications": [
                        {"channel": "chat:lobby", "data": {"text": "one"}},
                        {"channel": "news", "data": "two", "type": "said"},
                    ]
                },
            ),
        ),
        answers=(
            Answer(
                meaning="What became of each.",
                contents=(Content(JSON, BatchAnswer, {"results": [{"position": _POSITION}, {"error": _FORBIDDEN}]}),),
            ),
        ),
        repeats="Publishes twice what has neither a `key` nor an `Idempotency-Key`.",
    ),
    Route(
        operation="history",
        method="GET",
        path="/v1/history/{channel}",
        group="Channels",
        summary="Read a channel's log",
        text="The oldest first: from the start of what is kept, or after a cursor; with `reverse` the last ones, the "
        "newest first. A page may be shorter than `limit` where its publications are long.",
        credential="optional",
        scope=_SUBSCRIBE,
        parameters=(
            CHANNEL,
            Parameter(
                name="after",
                place="query",
                meaning="Only what comes after this cursor; not together with `reverse`.",
                example="0",
            ),
            Parameter(
                name="limit",
                place="query",
                kind=_NUMBER,
                meaning="How many at most; 100 unless said otherwise. More than 1000 counts as that, less than 1 as 1.",
                example=10,
            ),
            Parameter(name="reverse", place="query", kind=bool, meaning="Whether to read from the end.", example=True),
        ),
        answers=(
            Answer(
                meaning="A part of the log, and the cursor of its head.",
                contents=(Content(JSON, HistoryPage, {"publications": [PUBLICATION], "cursor": _CURSOR}),),
            ),
        ),
        errors=("forbidden", "not_offered", "unrecoverable"),
        has_head=True,
    ),
    Route(
        operation="presence",
        method="GET",
        path="/v1/presence/{channel}",
        group="Channels",
        summary="Who is on a channel",
        text="Each principal once, however many connections it has. Only where the namespace says `presence`.",
        credential="optional",
        scope=_SUBSCRIBE,
        parameters=(
            CHANNEL,
            Parameter(
                name="count",
                place="query",
                meaning="With `true`: only how many, `{principals, sessions}`.",
                example="true",
            ),
        ),
        answers=(
            Answer(
                meaning="Who is there now.",
                contents=(
                    Content(JSON, (PresenceList, PresenceCounts), {"entries": [{"subject": "alice", "client": "app"}]}),
                ),
            ),
        ),
        errors=("forbidden", "not_offered"),
        has_head=True,
    ),
)
