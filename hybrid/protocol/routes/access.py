"""Tickets for what cannot send a token, and the end of what was given out."""

from __future__ import annotations

from typing import Final

from hybrid.protocol.requests import Revoked, RevokeRequest, TicketAnswer, TicketRequest
from hybrid.protocol.routes.shapes import JSON, Answer, Content, Route

ACCESS: Final = (
    Route(
        operation="ticket",
        method="POST",
        path="/v1/ticket",
        group="Access",
        summary="Ask for a ticket",
        text="For an `EventSource`, which cannot send a header: a ticket may stand in a URL, a token never does. With "
        'the purpose "channels" it opens an event stream of exactly these channels, again with `Last-Event-ID` within '
        '60 s of its end, one at a time. With "session" it opens `GET /v1/stream` once, within 30 s. Both are bound to '
        "who asked and to the page's origin.",
        takes=(Content(JSON, TicketRequest, {"purpose": "channels", "channels": ["chat:lobby"]}),),
        answers=(
            Answer(
                status=201,
                meaning="A ticket.",
                contents=(Content(JSON, TicketAnswer, {"ticket": "3yq1...", "expires_in_s": 60.0}),),
            ),
        ),
        errors=("forbidden", "already_subscribed"),
        repeats="Gives another ticket. The first one is not used and ends by itself, so no key is needed.",
    ),
    Route(
        operation="revoke",
        method="POST",
        path="/v1/revoke",
        group="Access",
        summary="Refuse tokens from now on",
        text="Exactly one of `jti`, `sid`, `subject` and `client`, of the caller's own issuer. What they hold open "
        "here has ended when it is answered; other nodes follow within moments.",
        scope="hybrid:revoke",
        takes=(Content(JSON, RevokeRequest, {"subject": "mallory"}),),
        answers=(
            Answer(
                meaning="What is refused, and how much has ended at this node.",
                contents=(
                    Content(
                        JSON,
                        Revoked,
                        {
                            "subject": "mallory",
                            "issuer": "https://id.example.com",
                            "at_s": 1_700_000_000.123,
                            "ended_here": 2,
                        },
                    ),
                ),
            ),
        ),
        errors=("forbidden",),
        repeats="Does no harm: what is refused already is refused, and `ended_here` counts what has come since.",
    ),
)
