"""Heads, bodies and chunks, in pieces of any size."""

from __future__ import annotations

import pytest

from hybrid.bench.http import Unreadable, read_answer, read_chunks, read_head

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=1\r\n world\r\n0\r\n\r\n"


@pytest.mark.parametrize(("data", "body"), [(PLAIN, b"hello"), (CHUNKED, b"hello world")])
def test_an_answer_is_whole_with_its_last_byte(data: bytes, body: bytes) -> None:
    for end in range(len(data)):
        assert read_answer(data[:end]) is None
    answer = read_answer(data + b"next")
    assert answer is not None
    assert (answer.body, answer.size) == (body, len(data))
    assert answer.head.is_last is (data is PLAIN)


def test_an_answer_without_length_ends_with_its_connection() -> None:
    data = b"HTTP/1.0 502 Bad Gateway\r\n\r\n<html>"
    assert read_answer(data) is None
    answer = read_answer(data, has_ended=True)
    assert answer is not None
    assert (answer.head.status, answer.body) == (502, b"<html>")


def test_an_upgrade_has_no_body() -> None:
    answer = read_answer(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00")
    assert answer is not None
    assert answer.size == answer.head.size


@pytest.mark.parametrize(
    "data", [b"SSH-2.0-OpenSSH", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 " + b"x" * 70_000]
)
def test_what_is_not_http_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_head(data)


@pytest.mark.parametrize("data", [b"x\r\n", b"2\r\nabc\r\n", b"1" * 2_000, b"5\r\nhelloXX"])
def test_broken_chunks_are_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read_chunks(data)


def test_a_length_that_is_none_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        read_answer(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")


def test_chunks_end_with_trailers() -> None:
    assert read_chunks(b"1\r\na\r\n0\r\nX: y\r\n\r\n") == (b"a", 17, True)
    assert read_chunks(b"1\r\na\r\n0\r\nX: y\r\n") == (b"a", 6, False)
