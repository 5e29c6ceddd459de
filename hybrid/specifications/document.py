"""A document as it is given out."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec


class Document:
    """JSON that does not change while the process lives. `etag` is strong: of exactly these bytes."""

    __slots__ = ("body", "etag", "value")

    def __init__(self, value: dict[str, Any]) -> None:
        self.body: Final = msgspec.json.encode(value)
        self.value: Final[dict[str, Any]] = msgspec.json.decode(self.body)  # as a reader has it: no tuples
        self.etag: Final = b'"%b"' % hashlib.sha256(self.body).hexdigest()[:16].encode()

    def formatted(self) -> str:
        """The same for people, and for comparing two versions; ends with a newline."""
        return msgspec.json.format(self.body, indent=2).decode() + "\n"
