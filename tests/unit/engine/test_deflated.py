"""Compression made once: which payloads, for whom, how often, and that none depends on another one."""

from __future__ import annotations

import asyncio
import json
import random
import zlib
from typing import Any

import pytest

from hybrid.engine import deflated
from hybrid.engine.deflated import Compression, deflate
from hybrid.engine.encodings import PLAIN_EVENT, PLAIN_JSON, SESSION_EVENT, SESSION_JSON, SESSION_MSGPACK, Encoding
from hybrid.engine.link import Deflated
from hybrid.limits import Limits
from hybrid.model import Publication
from hybrid.protocol.pushes import PresencePush, Push
from tests.support.hubs import staged
from tests.support.links import FakeLink, Reader, items
from tests.support.virtual_time import in_virtual_time, settle

ABLE = FakeLink(takes_deflated=True)
PLAIN = FakeLink()
LONG = b'"' + b"abc " * 500 + b'"'


def inflated(payload: bytes) -> bytes:
    """By a receiver that has seen nothing before."""
    return zlib.decompressobj(wbits=-15).decompress(payload + b"\x00\x00\xff\xff")


def publication(data: bytes = LONG, channel: str = "chat:lobby") -> Publication:
    return Publication(channel=channel, offset=7, epoch="e", tag="00c0ffee", data=data)


def compression(min_bytes: int = 100, **options: Any) -> Compression:
    return Compression(min_bytes, options.get("may_deflate", lambda channel: True))


def test_each_message_stands_alone() -> None:
    """Whoever comes in the middle can read on; and nobody's words are in the window of another's."""
    words = random.Random(7)
    messages = [json.dumps([words.randint(0, 50) for _ in range(words.randint(20, 400))]).encode() for _ in range(50)]
    packed = [deflate(message) for message in messages]
    assert all(isinstance(item, Deflated) for item in packed)
    assert [inflated(item) for item in packed] == messages
    assert [deflate(message) for message in reversed(messages)] == packed[::-1]


def test_what_does_not_get_smaller_stays_as_it_is() -> None:
    noise = random.Random(7).randbytes(2_000)
    assert type(deflate(noise)) is bytes
    assert deflate(noise) == noise
    assert deflate(b"") == b""


@pytest.mark.parametrize("encoding", [SESSION_JSON, SESSION_MSGPACK, PLAIN_JSON], ids=repr)
def test_the_twin_of_an_encoding_is_the_same_compressed(encoding: Encoding) -> None:
    made = compression()
    twin = made.encoding_for(ABLE, encoding)
    assert twin is not encoding
    assert made.encoding_for(ABLE, encoding) is twin  # or links would not be grouped
    assert made.encoding_for(PLAIN, encoding) is encoding
    payload = twin.encode(publication())
    assert type(payload) is Deflated
    assert inflated(payload) == encoding.encode(publication())
    push = Push(join=PresencePush("a", "alice", "app"))
    assert twin.announce(push) == encoding.announce(push)


@pytest.mark.parametrize("encoding", [SESSION_EVENT, PLAIN_EVENT], ids=repr)
def test_event_streams_have_no_twin(encoding: Encoding) -> None:
    assert compression().encoding_for(ABLE, encoding) is encoding


def test_from_how_many_bytes_on() -> None:
    size = len(PLAIN_JSON.encode(publication()))
    assert type(compression(size).encoding_for(ABLE, PLAIN_JSON).encode(publication())) is Deflated
    assert type(compression(size + 1).encoding_for(ABLE, PLAIN_JSON).encode(publication())) is bytes


def test_channels_that_may_not_be_compressed_are_not() -> None:
    made = compression(may_deflate=lambda channel: not channel.startswith("bank:"))
    encoding = made.encoding_for(ABLE, PLAIN_JSON)
    assert type(encoding.encode(publication())) is Deflated
    assert type(encoding.encode(publication(channel="bank:7"))) is bytes


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was compressed, each time."""
    made: list[bytes] = []

    def counting(payload: bytes) -> bytes:
        made.append(payload)
        return deflate(payload)

    monkeypatch.setattr(deflated, "deflate", counting)
    return made


@in_virtual_time
async def test_a_publication_is_compressed_once_whoever_listens_and_comes_back(compressed: list[bytes]) -> None:
    async with staged(Limits(deflate_min_bytes=100)) as stage:
        links = [FakeLink(items, is_fast=True, takes_deflated=number % 2 == 0) for number in range(20)]
        readers = [Reader(stage.hub, link=link) for link in links]
        for reader in readers:
            await reader.follow("a")
        stage.publish(3, data=LONG)
        await asyncio.sleep(0.01)
        assert len(compressed) == 3
        first = links[0].payloads
        assert [type(payload) for payload in first] == [Deflated] * 3
        for link in links[::2]:  # the same objects, not equal ones
            assert list(map(id, link.payloads)) == list(map(id, first))
        assert [inflated(payload) for payload in first] == links[1].payloads
        late = Reader(stage.hub, link=FakeLink(items, is_fast=True, takes_deflated=True))
        await late.follow("a", history=3)
        await settle()
        assert list(map(id, late.link.payloads)) == list(map(id, first))
        assert len(compressed) == 3


@in_virtual_time
async def test_nothing_is_compressed_where_nobody_asked(compressed: list[bytes]) -> None:
    async with staged(Limits(deflate_min_bytes=100)) as stage:
        reader = Reader(stage.hub)
        await reader.follow("a")
        stage.publish(3, data=LONG)
        await asyncio.sleep(0.01)
        assert len(reader.link.payloads) == 3
        assert compressed == []


@in_virtual_time
async def test_what_is_kept_counts_among_the_bytes_of_the_ring() -> None:
    async with staged(Limits(deflate_min_bytes=100)) as stage:
        reader = Reader(stage.hub, link=FakeLink(items, is_fast=True, takes_deflated=True))
        await reader.follow("a")
        stage.publish(1, data=LONG)
        before = stage.hub.stats().ring_bytes
        plain = Reader(stage.hub)
        await plain.follow("a", history=1)
        await settle()
        assert stage.hub.stats().ring_bytes == before + len(plain.link.payloads[0])
