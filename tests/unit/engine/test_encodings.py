from __future__ import annotations

import msgspec
import pytest

from hybrid.engine.encodings import PLAIN_EVENT, PLAIN_JSON, SESSION_EVENT, SESSION_JSON, SESSION_MSGPACK, Encoding
from hybrid.engine.ring import Entry
from hybrid.model import Publication
from hybrid.protocol.pushes import PresencePush, Push

JOIN = Push(join=PresencePush("a", "alice", "app"))


@pytest.mark.parametrize(
    ("encoding", "announced"),
    [
        (SESSION_JSON, b'{"join":{"channel":"a","subject":"alice","client":"app"}}'),
        (SESSION_EVENT, b'data: {"join":{"channel":"a","subject":"alice","client":"app"}}\n\n'),
        (SESSION_MSGPACK, msgspec.msgpack.encode({"join": {"channel": "a", "subject": "alice", "client": "app"}})),
        (PLAIN_JSON, None),
        (PLAIN_EVENT, None),
    ],
)
def test_sessions_carry_joins_and_plain_streams_do_not(encoding: Encoding, announced: bytes | None) -> None:
    assert encoding.announce(JOIN) == announced


@pytest.mark.parametrize("encoding", [SESSION_JSON, SESSION_EVENT, SESSION_MSGPACK, PLAIN_JSON, PLAIN_EVENT])
def test_payloads_are_those_of_encode_and_kept_with_the_entry(encoding: Encoding) -> None:
    publication = Publication("a", 1, "e1", "00000001", b'{"x":1}')
    entry = Entry(publication)
    (payload,) = encoding.payloads(None, [entry])
    assert payload == encoding.encode(publication)
    assert encoding.payloads(None, [entry])[0] is payload
