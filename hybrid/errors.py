"""The exceptions of hybrid and the one table of numbered errors.

    HybridError                     .row names the line of the table below that a peer is told
      ProtocolError                 a peer broke the protocol, or asked for something malformed
      AuthError                     no, bad, expired or insufficient credentials
      ChannelError                  a channel cannot do what was asked, for this principal
        UnrecoverablePosition       the log cannot continue exactly after a position
      BrokerError                   the broker refused or cannot be reached
        KeyConflict                 an idempotency key was used again with another body
      LimitError                    a bound was crossed; says which
      SettingsError                 a setting cannot be read or makes no sense (never sent to a peer)

Numbers are never re-used. Where an error ends a leg, its number is the WebSocket close code: 4000-4499 come back,
4500-4999 stay away; 3000-3999 answer a command, and end only what has not begun; 1012 is the registered code for a
restarting service.
The table is printed in `docs/protocol.md`; a test keeps both the same.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from hybrid.model import Position


class ErrorRow(NamedTuple):
    """One line of the table: what a peer is told, on whichever transport."""

    number: int
    name: str
    http_status: int
    comes_back: bool
    meaning: str


_ROWS: Final = (
    ErrorRow(1012, "draining", 503, True, "This server takes nobody in now; come back after the delay given."),
    ErrorRow(3400, "bad_request", 400, True, "The request is malformed; the detail says what to change."),
    ErrorRow(3401, "unauthorized", 401, True, "A credential is needed here and none was sent."),
    ErrorRow(3402, "proof_refused", 401, True, "The proof of possession is missing, used up or for another request."),
    ErrorRow(3403, "forbidden", 403, True, "This credential may not do that here, or there is no such channel."),
    ErrorRow(3404, "session_unknown", 404, True, "No such session here; attach anew."),
    ErrorRow(3405, "method_unknown", 400, True, "This server does not know the method."),
    ErrorRow(3406, "not_found", 404, True, "There is nothing under this path and method."),
    ErrorRow(3409, "out_of_order", 409, True, "A numbered command arrived ahead of an earlier one that never came."),
    ErrorRow(3410, "unrecoverable", 410, True, "The log cannot be continued exactly after this position."),
    ErrorRow(3411, "already_subscribed", 409, True, "The session is subscribed to this channel already."),
    ErrorRow(3412, "not_subscribed", 409, True, "The session is not subscribed to this channel."),
    ErrorRow(3413, "too_large", 413, True, "A part of the request is larger than its limit."),
    ErrorRow(3414, "outcome_unknown", 409, True, "Whether it took effect cannot be known; it was not repeated."),
    ErrorRow(3415, "key_conflict", 409, True, "The idempotency key was used before with another body."),
    ErrorRow(3416, "not_offered", 404, True, "The channel's namespace does not offer this (history, presence)."),
    ErrorRow(3417, "unsubscribed", 409, True, "The server ended this subscription; the right to it is as before."),
    ErrorRow(3429, "limit_exceeded", 429, True, "A limit is reached; the detail names it."),
    ErrorRow(3500, "call_failed", 500, True, "The handler of the call failed; the server's log says why."),
    ErrorRow(3503, "broker_unavailable", 503, True, "The broker cannot be reached; nothing took effect; try again."),
    ErrorRow(3504, "keys_unavailable", 503, True, "Rights cannot be checked now: who knows them is away; try again."),
    ErrorRow(
        3505, "unconfirmed", 503, True, "It was appended, but no replica has confirmed it; repeat it with its key."
    ),
    ErrorRow(4401, "token_expired", 401, True, "The token's time is over; come back with a new one."),
    ErrorRow(4408, "auth_timeout", 408, True, "No credential came in time."),
    ErrorRow(4409, "heartbeat_timeout", 408, True, "Nothing was heard from the client for too long."),
    ErrorRow(4410, "slow_client", 503, True, "The client reads more slowly than the history allows."),
    ErrorRow(4411, "candidate_timeout", 408, True, "The leg was opened but never confirmed."),
    ErrorRow(4412, "rotated", 503, True, "The stream has lived long enough; open the next one."),
    ErrorRow(4413, "disconnected", 503, True, "The server ended this connection; come back after the delay given."),
    ErrorRow(4429, "rate_limited", 429, True, "Too many connections or requests; come back after the delay given."),
    ErrorRow(4450, "internal", 500, True, "The server failed; its log says why."),
    ErrorRow(4500, "protocol_error", 400, False, "The peer broke the protocol; the same again would fail again."),
    ErrorRow(4501, "token_refused", 401, False, "The token is not accepted here."),
    ErrorRow(4503, "forbidden_or_revoked", 403, False, "This principal has no business here any more."),
    ErrorRow(4504, "origin_refused", 403, False, "This page's origin, or the host it asked for, is not allowed here."),
    ErrorRow(4505, "principal_changed", 403, False, "A refresh must be for the same issuer, subject and client."),
    ErrorRow(4509, "replaced", 409, False, "Another leg of the session took over."),
    ErrorRow(4513, "frame_too_large", 413, False, "A frame is larger than the limit told at attach."),
    ErrorRow(4514, "dismissed", 403, False, "The server ended this connection, and does not expect it back."),
)

TABLE: Final[dict[str, ErrorRow]] = {row.name: row for row in _ROWS}
"""Every error a peer can be told, by name."""

BY_NUMBER: Final[dict[int, ErrorRow]] = {row.number: row for row in _ROWS}


class HybridError(Exception):
    """Base of all. `detail` is one sentence for the peer: it says what to do and never quotes a credential."""

    default_row = "internal"

    def __init__(self, name: str | None = None, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(name, detail)
        self.row: ErrorRow = TABLE[name or self.default_row]
        self.detail = detail
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.detail or self.row.meaning


class ProtocolError(HybridError):
    """A peer sent what cannot be understood or carried out."""

    default_row = "bad_request"


class AuthError(HybridError):
    """A credential is missing, wrong, expired or not enough. `scope` names what would be enough, where known."""

    default_row = "token_refused"

    def __init__(
        self, name: str | None = None, detail: str = "", *, scope: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(name, detail, retry_after_s=retry_after_s)
        self.scope = scope


class ChannelError(HybridError):
    """A channel cannot do what was asked."""

    default_row = "forbidden"


class UnrecoverablePosition(ChannelError):
    """The log cannot continue exactly after a position. `head` is where a reader can start anew."""

    default_row = "unrecoverable"

    def __init__(self, head: Position) -> None:
        super().__init__()
        self.head = head


class BrokerError(HybridError):
    """The broker refused, or cannot be reached."""

    default_row = "broker_unavailable"


class KeyConflict(BrokerError):
    """An idempotency key came again with another body."""

    default_row = "key_conflict"


class LimitError(HybridError):
    """A bound was crossed. `limit` is its name in `limits.Limits` or the settings.

    `is_counted`: it stands in the process's counts already (`engine.counts`).
    """

    default_row = "limit_exceeded"

    def __init__(
        self, limit: str, detail: str = "", *, name: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(name, detail or f"The limit {limit} is reached.", retry_after_s=retry_after_s)
        self.limit = limit
        self.is_counted = False


class SettingsError(HybridError):
    """A setting is unknown, unreadable or contradicts another one. Only people at a terminal see it."""
