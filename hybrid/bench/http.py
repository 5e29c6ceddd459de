"""As much of HTTP/1.1 as a load needs: heads, and bodies whose length is told or that come in chunks (RFC 9112)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_HEAD_MAX_BYTES: Final = 65_536


class Unreadable(Exception):
    """The peer sent what cannot be read; the text says what, and quotes nothing."""


@dataclass(slots=True)
class Head:
    """The head of an answer. Names of `headers` are in lower case; `size` is how many bytes it took."""

    status: int
    headers: dict[str, str]
    size: int

    @property
    def is_chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def is_last(self) -> bool:
        """Whether the connection ends behind this answer."""
        return "close" in self.headers.get("connection", "").lower()


@dataclass(slots=True)
class Answer:
    """A whole answer; `size` is how many bytes it took."""

    head: Head
    body: bytes
    size: int


def read_head(data: bytes | bytearray) -> Head | None:
    """The head that the data begins with; None as long as it is not whole. Raises Unreadable."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > _HEAD_MAX_BYTES:
            raise Unreadable("the head of an answer does not end")
        if len(data) >= 5 and not data.startswith(b"HTTP/"):
            raise Unreadable("the answer is not HTTP")
        return None
    status_line, *lines = bytes(data[:end]).split(b"\r\n")
    words = status_line.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise Unreadable("the answer is not HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    return Head(int(words[1]), headers, end + 4)


def read_answer(data: bytes | bytearray, *, has_ended: bool = False) -> Answer | None:
    """The answer that the data begins with; None as long as it is not whole. Raises Unreadable."""
    head = read_head(data)
    if head is None:
        return None
    if head.is_chunked:
        body, used, is_whole = read_chunks(bytes(data[head.size :]))
        return Answer(head, body, head.size + used) if is_whole else None
    told = head.headers.get("content-length")
    if told is not None:
        if not told.isdigit():
            raise Unreadable("the length of an answer is not a number")
        end = head.size + int(told)
        return Answer(head, bytes(data[head.size : end]), end) if len(data) >= end else None
    if head.status in (101, 204, 304):
        return Answer(head, b"", head.size)
    return Answer(head, bytes(data[head.size :]), len(data)) if has_ended else None


def read_chunks(data: bytes) -> tuple[bytes, int, bool]:
    """The bodies of all whole chunks, the bytes that they took, and whether the last chunk was among them.

    Source: RFC 9112, section 7.1. Raises Unreadable.
    """
    bodies: list[bytes] = []
    start = 0
    while True:
        end = data.find(b"\r\n", start)
        if end < 0:
            if len(data) - start > 1_024:
                raise Unreadable("a chunk has no size")
            break
        try:
            length = int(data[start:end].partition(b";")[0], 16)
        except ValueError:
            raise Unreadable("the size of a chunk is not a number") from None
        if not length:
            closing = data.find(b"\r\n\r\n", end)
            if data[end + 2 : end + 4] == b"\r\n":
                return b"".join(bodies), end + 4, True
            return (b"".join(bodies), closing + 4, True) if closing >= 0 else (b"".join(bodies), start, False)
        after = end + 2 + length
        if len(data) < after + 2:
            break
        if data[after : after + 2] != b"\r\n":
            raise Unreadable("a chunk does not end where it should")
        bodies.append(data[end + 2 : after])
        start = after + 2
    return b"".join(bodies), start, False
