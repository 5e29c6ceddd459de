from __future__ import annotations

import itertools

from hybrid.broker.base import Append
from hybrid.broker.digest import body_digest


def test_whatever_makes_the_body_counts() -> None:
    appends = [
        Append(channel=channel, data=data, type=type, is_binary=is_binary)
        for channel, data, type, is_binary in itertools.product(
            ("a", "ab"), (b"1", b"b1"), (None, "b", "j"), (False, True)
        )
    ]
    digests = {body_digest(append) for append in appends}
    assert len(digests) == len(appends)
    assert {len(digest) for digest in digests} == {16}


def test_key_and_bounds_do_not_count() -> None:
    plain = Append(channel="a", data=b"1")
    other = Append(channel="a", data=b"1", key="k", history_size=1, history_ttl_s=1.0, is_durable=True)
    assert body_digest(plain) == body_digest(other)
