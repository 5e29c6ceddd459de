"""Payloads of publications, one writer per way of listening.

This is the hot path: each is called once per publication and encoding, and its result is shared by all links. `data`
is JSON that was checked when it was published (`protocol.data`), without raw line breaks, so it is put in as it is.
Shapes: `docs/protocol.md`, sections "Plain channels" and "Pushes"; event streams: WHATWG HTML, section 9.2.
"""

from __future__ import annotations

import base64
from typing import Any, Final

import msgspec

from hybrid.model import Publication
from hybrid.protocol.data import to_msgpack
from hybrid.protocol.pushes import WirePublication

_encode: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode
_Raw: Final = msgspec.Raw


class _PublicationPush(msgspec.Struct, frozen=True, gc=False):
    publication: WirePublication


def wire_publication(publication: Publication) -> WirePublication:
    """The publication for a JSON reply; its data is embedded as it stands. MSGPACK transcodes it when it encodes."""
    return WirePublication(
        publication.channel,
        publication.offset,
        publication.epoch,
        publication.tag,
        _Raw(publication.data),
        publication.type,
        publication.is_binary,
    )


def session_json(publication: Publication) -> bytes:
    """The push of a JSON session: `{"publication":{"channel","offset","epoch","tag","data","type"?,"binary"?}}`."""
    return _encode(_PublicationPush(wire_publication(publication)))


def session_event(publication: Publication) -> bytes:
    """`session_json` as one event of a session's event stream."""
    return b"data: %b\n\n" % session_json(publication)


def session_msgpack(publication: Publication) -> bytes:
    """The push of a MessagePack session: the same map, data transcoded, bytes as binary (`binary` is true then)."""
    return _encode_msgpack(_PublicationPush(wire_publication_msgpack(wire_publication(publication))))


def wire_publication_msgpack(publication: WirePublication) -> WirePublication:
    """The same with data in MessagePack instead of JSON, for the MessagePack encoder only."""
    return msgspec.structs.replace(publication, data=_Raw(to_msgpack(bytes(publication.data), publication.binary)))


def plain_json(publication: Publication) -> bytes:
    """The frame of a plain WebSocket, and the item of a plain long poll: the publication without an envelope."""
    return _encode(wire_publication(publication))


def plain_event(publication: Publication) -> bytes:
    """The event of a plain stream of one channel: its cursor, its type if it has one, its data."""
    p = publication
    if p.type is None:
        return f"id: {p.epoch}-{p.offset}-{p.tag}\ndata: ".encode() + p.data + b"\n\n"
    return f"id: {p.epoch}-{p.offset}-{p.tag}\nevent: {p.type}\ndata: ".encode() + p.data + b"\n\n"


def bundle_event(publication: Publication, cursor: str) -> bytes:
    """The event of a plain stream of several channels; `cursor` is composite and already counts this publication."""
    line = f"\nevent: {publication.type}" if publication.type is not None else ""
    return b'id: %b%b\ndata: {"channel":%b,"data":%b}\n\n' % (
        cursor.encode(),
        line.encode(),
        _encode(publication.channel),
        publication.data,
    )


def data_of(publication: WirePublication) -> Any:
    """What the publisher sent, from a decoded push: bytes where it is binary, otherwise the JSON value."""
    if publication.binary and isinstance(publication.data, dict):
        return base64.b64decode(publication.data["base64"])
    return publication.data
