"""JSON as applications publish it, the same in every run: one event, one object with a few fields, one table."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping

TEXT = (
    "we will be there at eight because the train is late again and nobody has told me which platform it leaves from so "
    "please wait for us near the big clock in the hall with the tickets that you bought last week thank you very much"
)
WORDS = TEXT.split()
NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")


def payloads(size: int, seed: int = 1) -> Iterator[str]:
    """Endlessly many JSON texts of about `size` bytes: below 256 a message, below 4 KB an order, above a table."""
    drawn = random.Random(seed)
    make = _message if size < 256 else _order if size < 4_096 else _table
    while True:
        yield make(drawn, size)


def _message(drawn: random.Random, size: int) -> str:
    value = {"id": drawn.getrandbits(48), "user": drawn.choice(NAMES), "at": 1_700_000_000_000 + drawn.getrandbits(32)}
    return _filled(drawn, value, "text", size)


def _order(drawn: random.Random, size: int) -> str:
    lines = [
        {
            "sku": f"{drawn.getrandbits(32):08x}",
            "quantity": drawn.randint(1, 9),
            "price": round(drawn.uniform(1, 300), 2),
            "currency": "EUR",
            "is_gift": drawn.random() < 0.2,
        }
        for _ in range(size // 160)
    ]
    customer = {"name": drawn.choice(NAMES), "email": f"{drawn.choice(NAMES)}@example.com", "country": "DE"}
    value = {"order": f"{drawn.getrandbits(64):016x}", "status": "paid", "customer": customer, "lines": lines}
    return _filled(drawn, value, "note", size)


def _table(drawn: random.Random, size: int) -> str:
    rows = [
        {
            "symbol": "".join(drawn.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=4)),
            "bid": round(drawn.uniform(1, 900), 2),
            "ask": round(drawn.uniform(1, 900), 2),
            "volume": drawn.randint(0, 2_000_000),
            "change": round(drawn.gauss(0, 2), 3),
        }
        for _ in range(size // 84)
    ]
    return _filled(drawn, {"kind": "snapshot", "rows": rows}, "note", size)


def _filled(drawn: random.Random, value: Mapping[str, object], key: str, size: int) -> str:
    """With words up to the size."""
    text = json.dumps(value, separators=(",", ":"))
    words: list[str] = []
    room = size - len(text) - len(key) - 6
    while room > 0:
        words.append(drawn.choice(WORDS))
        room -= len(words[-1]) + 1
    return json.dumps({**value, key: " ".join(words)}, separators=(",", ":"))
