"""Which plain channels a request is about, and from where it wants to go on."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hybrid.errors import LimitError, ProtocolError
from hybrid.limits import CURSOR_MAX_BYTES, Limits
from hybrid.model import Position
from hybrid.protocol.channels import channel_from_path, parse_channel
from hybrid.protocol.cursor import composite_max_bytes, parse_composite, parse_cursor
from hybrid.protocol.eventstream import last_event_id
from hybrid.transports.exchange import Exchange

CHANNELS_PATH = b"/v1/channels"


class Target(msgspec.Struct, frozen=True):
    """What a plain request asks for. `has_cursor`: it said from where, so that silence would lose something."""

    channels: tuple[str, ...]
    positions: Mapping[str, Position]
    history: int
    has_cursor: bool


def read_channels(exchange: Exchange, limits: Limits) -> tuple[str, ...]:
    """The channels of the URL, sorted. Raises ProtocolError, LimitError."""
    path = exchange.raw_path
    if path == CHANNELS_PATH:
        names = [parse_channel(name) for name in exchange.query("name")]
    else:
        names = [channel_from_path(path[len(CHANNELS_PATH) + 1 :])]
    channels = tuple(sorted(set(names)))
    if len(channels) != len(names):
        raise ProtocolError("bad_request", "Each channel may be named once.")
    if len(channels) > limits.channels_per_request_max:
        detail = f"One request follows at most {limits.channels_per_request_max} channels."
        raise LimitError("channels_per_request_max", detail, name="bad_request")
    return channels


def read_target(exchange: Exchange, limits: Limits, channels: tuple[str, ...] | None = None) -> Target:
    """The channels (of the URL, or those of a ticket) and their positions. Raises ProtocolError, LimitError."""
    if channels is None:
        channels = read_channels(exchange, limits)
    if not channels:
        raise ProtocolError("bad_request", "Name a channel: /v1/channels/NAME, or ?name=A&name=B.")
    if len(channels) > 1 and composite_max_bytes(channels) > CURSOR_MAX_BYTES:
        raise ProtocolError("too_large", "The names of these channels are too long for one cursor; ask for fewer.")
    header = exchange.header(b"last-event-id")
    cursor = (last_event_id(header) if header is not None else "") or exchange.query_one("after") or ""
    positions: Mapping[str, Position] = {}
    if cursor:
        positions = {channels[0]: parse_cursor(cursor)} if len(channels) == 1 else parse_composite(cursor)
        if not positions.keys() <= set(channels):
            raise ProtocolError("bad_request", "The cursor is of other channels.")
    history = int(exchange.query_number("history", 0, limits.history_page_max))
    return Target(channels, positions, history, bool(cursor))
