"""That the bench of shapes would notice: a publication that is lost, repeated or out of order, wherever it is cut."""

from __future__ import annotations

from array import array
from xml.etree import ElementTree

import pytest

from hybrid.model import Publication
from hybrid.protocol.publications import session_event, session_json
from tests.bench.shapes import report
from tests.bench.shapes.chart import draw
from tests.bench.shapes.client import Broken, Client, Refused
from tests.bench.shapes.curves import Curve, Point
from tests.bench.shapes.shapes import Row
from tests.bench.shapes.stage import Outcome

READY = b'HTTP/1.1 200 OK\r\n\r\n{"attached":{"session":"s1"}}{"subscribed":{"channels":[]}}'


def publication(offset: int, channel: str = "a") -> Publication:
    return Publication(channel, offset, "e1", f"{offset:08x}", b'"@%019d..."' % (1_000 + offset))


def stream(*offsets: int) -> bytes:
    return b"".join(session_event(publication(offset)) for offset in offsets)


def heard(*pieces: bytes) -> Client:
    client = Client("sse", "token", ["a"])
    client.is_ready = client._is_greeted = False
    client._early, client._second = bytearray(), b""
    for piece in (READY, *pieces):
        client.receive(piece, 2_000, array("q"))
    return client


@pytest.mark.parametrize("width", [1, 7, 100])
def test_every_publication_counts_however_the_stream_is_cut(width: int) -> None:
    data = stream(*range(1, 20))
    client = heard(*(data[start : start + width] for start in range(0, len(data), width)))
    assert (client.count, client.wrong, client.offset) == (19, 0, 19)


@pytest.mark.parametrize("offsets", [(1, 3), (1, 1), (1, 2, 4, 3), (2, 1)], ids=["lost", "again", "order", "back"])
def test_what_is_not_the_next_one_is_wrong(offsets: tuple[int, ...]) -> None:
    assert heard(stream(*offsets)).wrong > 0


def test_each_channel_is_on_its_own() -> None:
    data = b"".join(session_json(publication(offset, name)) for offset in (1, 2) for name in ("a", "b"))
    assert (heard(data).count, heard(data).wrong) == (4, 0)


def test_a_reset_is_no_fault_and_is_counted() -> None:
    reset = b'data: {"reset":{"channel":"a","position":{"offset":7,"epoch":"e1","tag":"00000007"}}}\n\n'
    client = heard(stream(1), reset, stream(8, 9))
    assert (client.resets, client.wrong, client.offset) == (1, 0, 9)


def test_a_client_that_is_told_to_come_later_does() -> None:
    client = Client("sse", "token", ["a"])
    client.is_ready = client._is_greeted = False
    client._early, client._second = bytearray(), b""
    client.receive(b'HTTP/1.1 503 \r\n\r\n{"number":1,"retry_', 0, array("q"))
    with pytest.raises(Refused) as refused:
        client.receive(b'after_s":1.5}', 0, array("q"))
    assert refused.value.delay_s == 1.5
    client._early.clear()
    with pytest.raises(Broken):
        client.receive(b'HTTP/1.1 401 \r\n\r\n{"number":4501}', 0, array("q"))


def test_the_picture_is_an_image_with_words_for_those_who_do_not_see_it() -> None:
    curve = Curve("clients", "clients & more", "a note", [Point(1, [2.0, 3.0, 1.0]), Point(1_000, [2.5])], [])
    root = ElementTree.fromstring(draw([curve, curve]))
    assert root.get("aria-label") == (
        "CPU of the server for each delivery, in microseconds. "
        "clients & more: 2.0 us at 1, 2.5 us at 1,000; clients & more: 2.0 us at 1, 2.5 us at 1,000"
    )
    assert "prefers-color-scheme: dark" in draw([curve])


def test_a_shape_of_several_rounds_has_its_medians_and_the_words_of_the_middle_round() -> None:
    rounds = [
        [Row("all", Outcome(1, 1_000, cpu_s, 1.0, p50, 2 * p50), words), Row("none", Outcome(1, 10, 1.0, 1.0))]
        for cpu_s, p50, words in ((0.01, 3.0, "first"), (0.04, 1.0, "second"), (0.02, 2.0, "third"))
    ]
    every, none = map(report.line, report.by_shape(rounds).values())
    assert every == (
        "| all | 1,000 | 50,000 (25,000-100,000) | 20.00 (10.00-40.00) | 2.0 (1.0-3.0) / 4.0 (2.0-6.0) | third |"
    )
    assert none == "| none | 10 | 10 (10-10) | 100,000.00 (100,000.00-100,000.00) |  |  |"
    assert report.line(rounds[0][:1]) == "| all | 1,000 | 100,000 | 10.00 | 3.0 / 6.0 | first |"
