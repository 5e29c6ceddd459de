"""What is asked for, checked and shared out."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from hybrid.bench.plan import CHANNELS_PER_PLAIN_STREAM_MAX, make, parse_mix
from hybrid.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "clients", "counts"),
    [
        ("websocket", 7, {"websocket": 7}),
        ("websocket=70,sse=20,longpoll=10", 1_000, {"websocket": 700, "sse": 200, "longpoll": 100}),
        ("websocket=1, sse=1, plain-sse=1", 100, {"websocket": 34, "sse": 33, "plain-sse": 33}),
        ("sse=0.5,longpoll=0.5", 3, {"sse": 2, "longpoll": 1}),
        ("sse=1,longpoll=0", 3, {"sse": 3}),
    ],
)
def test_shares_become_clients(text: str, clients: int, counts: dict[str, int]) -> None:
    assert parse_mix(text, clients) == counts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pigeon", "websocket, sse, longpoll, plain-sse"),
        ("", "websocket, sse"),
        ("sse=many", "number of at least 0"),
        ("sse=-1", "number of at least 0"),
        ("sse=nan", "number of at least 0"),
        ("sse=inf", "number of at least 0"),
        ("sse=1,sse=2", "twice"),
        ("sse=0", "above 0"),
    ],
)
def test_bad_shares_are_refused_with_what_to_write(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        parse_mix(text, 10)


def test_transports_are_mixed_evenly() -> None:
    plan = make(clients=100, mix="websocket=50,sse=30,longpoll=20")
    order = plan.transports()
    assert Counter(order) == plan.mix
    assert Counter(order[:10]) == {"websocket": 5, "sse": 3, "longpoll": 2}


@pytest.mark.parametrize(
    ("choices", "channels", "each"),
    [
        ({}, 1, 1),
        ({"channels": 10}, 10, 1),
        ({"per_channel": 20}, 5, 1),
        ({"channels": 10, "per_channel": 50}, 10, 5),
        ({"channels": 7, "per_channel": 100}, 7, 7),
    ],
)
def test_every_channel_has_as_many_clients_as_any_other(choices: dict[str, Any], channels: int, each: int) -> None:
    plan = make(clients=100, **choices)
    assert (plan.channels, plan.channels_per_client) == (channels, each)
    counts = Counter(number for client in range(100) for number in plan.channels_of(client))
    assert len(counts) == channels
    assert max(counts.values()) - min(counts.values()) <= 1
    assert sum(counts.values()) == 100 * each


def test_in_flight_is_one_but_for_a_rate() -> None:
    assert make().in_flight == 1
    assert make(rate_per_s=10.0).in_flight == 32
    assert make(rate_per_s=10.0, in_flight=3).in_flight == 3


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"channels": 2, "per_channel": 10}, "raise --channels to 10"),
        ({"channels": 2, "per_channel": 500}, "more than the 100 clients"),
        ({"channels": 300, "per_channel": 100}, "at most"),
        ({"channels": CHANNELS_PER_PLAIN_STREAM_MAX + 1, "per_channel": 100, "mix": "plain-sse"}, "16 at most"),
        ({"prefix": "a*"}, "--prefix"),
        ({"prefix": "ä" * 130}, "--prefix"),
        ({"channels": 16, "per_channel": 100, "mix": "plain-sse", "prefix": "x" * 100}, "shorten --prefix"),
        ({"publish_over": "websocket", "in_flight": 65}, "at most 64"),
        ({"publishers": 0, "publications": 5}, "--publishers 0"),
        ({"publishers": 0, "clients": 0}, "nothing to do"),
        ({"clients": 0, "is_reconnect_storm": True}, "needs clients"),
        ({"mix": {"sse": 3}}, "not as many"),
    ],
)
def test_what_cannot_be_is_refused(choices: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make(**choices)


def test_runs_have_channels_of_their_own() -> None:
    assert make().channel(0) != make().channel(0)
    assert make(prefix="chat:load-").channel(3).startswith("chat:load-")
