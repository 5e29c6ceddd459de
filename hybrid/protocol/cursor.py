"""Positions as text (cursors) and as JSON, both ways.

One channel: `k3f9-42-9c1d07aa`, or `0` for the start. Several: `chat%3A1=k3f9-42-9c1d07aa,news=0`, sorted by name.
Only the form that hybrid itself writes is accepted, but in a composite any order, and names that are not
encoded more than a URL path needs: people type these. Rules: `docs/protocol.md`, section "Words".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from hybrid.errors import ProtocolError
from hybrid.limits import CURSOR_MAX_BYTES, OFFSET_MAX
from hybrid.model import START, Position
from hybrid.protocol.channels import parse_channel, percent_decode, percent_encode
from hybrid.protocol.commands import WirePosition

_EPOCH: Final = re.compile(r"[a-z0-9]{1,16}\Z")
_TAG: Final = re.compile(r"[0-9a-f]{8}\Z")
_CURSOR: Final = re.compile(r"([a-z0-9]{1,16})-([1-9][0-9]{0,15})-([0-9a-f]{8})\Z")
_CURSOR_MAX_CHARACTERS: Final = 16 + 1 + 16 + 1 + 8

_WIRE_START: Final = WirePosition(0)


def format_cursor(position: Position) -> str:
    """The cursor of a position: `epoch-offset-tag`, or `0` for the start."""
    if position.offset == 0:
        return "0"
    return f"{position.epoch}-{position.offset}-{position.tag}"


def parse_cursor(text: str) -> Position:
    """The position that a cursor names. Raises ProtocolError `bad_request` for anything else."""
    if text == "0":
        return START
    match = _CURSOR.match(text) if len(text) <= _CURSOR_MAX_CHARACTERS else None
    if match is None:
        raise ProtocolError(None, "The cursor is malformed; send it as it was received, or 0 for the start.")
    offset = int(match[2])
    if offset > OFFSET_MAX:
        raise ProtocolError(None, "The cursor's offset is too large.")
    return Position(offset, match[1], match[3])


def format_composite(positions: Mapping[str, Position]) -> str:
    """The cursor of several channels, sorted by name.

    Raises ProtocolError `too_large` past 2 KB; `composite_max_bytes` tells beforehand whether that can come.
    """
    text = ",".join(f"{percent_encode(name)}={format_cursor(positions[name])}" for name in sorted(positions))
    if len(text) > CURSOR_MAX_BYTES:
        raise _composite_too_large()
    return text


def parse_composite(text: str) -> dict[str, Position]:
    """The positions that a composite cursor names, in the order of the text. Empty text is malformed.

    Raises ProtocolError: `too_large` past 2 KB, otherwise `bad_request` (a channel named twice included).
    """
    if len(text) > CURSOR_MAX_BYTES:
        raise _composite_too_large()
    if not text.isascii():
        raise ProtocolError(None, "The names in a cursor of several channels must be percent-encoded.")
    positions: dict[str, Position] = {}
    for item in text.split(","):
        encoded, equals, cursor = item.partition("=")
        if not equals:
            raise ProtocolError(None, "A cursor of several channels must read `name=cursor,name=cursor`.")
        channel = parse_channel(percent_decode(encoded.encode()))
        if channel in positions:
            raise ProtocolError(None, "The cursor names a channel twice.")
        positions[channel] = parse_cursor(cursor)
    return positions


def composite_max_bytes(channels: Iterable[str]) -> int:
    """How long the composite cursor of these channels can ever become, to refuse a stream before it starts."""
    return sum(len(percent_encode(channel)) + 1 + _CURSOR_MAX_CHARACTERS + 1 for channel in channels) - 1


def _composite_too_large() -> ProtocolError:
    return ProtocolError("too_large", f"The cursor is longer than {CURSOR_MAX_BYTES} bytes; follow fewer channels.")


def to_wire(position: Position) -> WirePosition:
    """A position as the wire's JSON object."""
    if position.offset == 0:
        return _WIRE_START
    return WirePosition(position.offset, position.epoch, position.tag)


def from_wire(position: WirePosition) -> Position:
    """The position that a peer sent.

    Raises ProtocolError `bad_request` when epoch and tag are not of their forms: both belong to every offset but 0.
    """
    if position.offset == 0:
        if position.epoch or position.tag:
            raise ProtocolError(None, "The position with offset 0 has neither epoch nor tag.")
        return START
    if _EPOCH.match(position.epoch) is None or _TAG.match(position.tag) is None:
        raise ProtocolError(None, "A position needs the epoch and the tag that came with its offset.")
    return Position(position.offset, position.epoch, position.tag)
