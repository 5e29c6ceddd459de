"""Bytes that are nearly right: seeds that were changed in a few places, with what parsers trip over put in.

One generator for both ways of fuzzing: `make_input` takes its choices from a `random.Random`, which is a seeded one in
`make fuzz`, and Hypothesis' in `make test` (so that a failure shrinks).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

ODD: Final = (
    *(b"\x00", b"\xff", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xb2", b"\xb9", b"\xe2\x80\xa8"),
    *(b"\r\n", b"\n", b"\r", b"\t", b" ", b"\r\n\r\n", b"\n\n", b"\x0b", b"\x1c", b"\x85"),
    *(b'"', b"'", b"\\", b"\\ud800", b"\\u0000", b"{", b"}", b"[", b"]", b":", b",", b";", b"=", b"%", b"%zz", b"*"),
    *(b"0", b"-1", b"1e999", b"NaN", b"Infinity", b"1" * 400, b"9" * 5_000, b"0x10", b"1_0", b"+1", b"\xd9\xa3"),
    *(b"[" * 3_000, b'{"a":' * 2_000, b"\x91" * 3_000, b"\x81\xa1a" * 2_000, b"\xc1", b"\xdf\xff\xff\xff\xff"),
    *(b"null", b"true", b"{}", b"[]", b'""', b"://", b"::", b"[::1", b"%00", b"..", b"@", b"\x7f", b"."),
)
"""Not valid UTF-8 and not what it seems (superscripts are digits to `str.isdigit`), line ends of other alphabets, too
much of everything, and depth that runs out of stack."""
_CHANGES_MAX: Final = 5
_BYTES_MAX: Final = 40_000


def make_input(dice: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One input; a tenth of them have nothing to do with any seed."""
    if dice.random() < 0.1:
        return b"".join(dice.choice(ODD) for _ in range(dice.randint(0, 4)))
    data = dice.choice(seeds)
    for _ in range(dice.randint(0, _CHANGES_MAX)):
        data = _changed(dice, data, seeds)
    return data[:_BYTES_MAX]


def _changed(dice: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    at = dice.randint(0, len(data))
    until = min(len(data), at + dice.choice((0, 1, 1, 2, 4, 16)))
    kind = dice.randrange(7)
    if kind == 0:
        return data[:at] + dice.choice(ODD) + data[until:]
    if kind == 1:
        return data[:at] + bytes((dice.randrange(256),)) + data[at + 1 :]
    if kind == 2:
        return data[:at] + data[until:]
    if kind == 3:  # the same again
        return data[:at] + data[at:until] * dice.choice((2, 3, 70)) + data[until:]
    if kind == 4:  # the end of another one
        other = dice.choice(seeds)
        return data[:at] + other[dice.randint(0, len(other)) :]
    if kind == 5:
        return data[:at]
    if not data:
        return data
    at %= len(data)
    return data[:at] + bytes((data[at] ^ (1 << dice.randrange(8)),)) + data[at + 1 :]


def shrunk(data: bytes, fails: object) -> bytes:
    """A smaller input with the same failure; `fails(data)` says whether it is one."""
    assert callable(fails)
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            less = data[:at] + data[at + size :]
            if fails(less):
                data = less
            else:
                at += size
        size //= 2
    return data
