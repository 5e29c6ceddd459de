"""The zoo's own relay breaks connections as it says: shown with short times, and a client that knows nothing."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.proxy.zoo import chaos
from tests.proxy.zoo.animals import ANIMALS, Route
from tests.proxy.zoo.chaos import Network
from tests.proxy.zoo.honest import Honest, honest
from tests.proxy.zoo.visitor import Conversation, conversation

_NEVER_S: Final = 1_000.0
_SILENCE_S: Final = 0.3
"""How long a test listens before it believes that nothing comes."""
_CHAOS: Final = [name for name in ANIMALS if name.startswith("chaos-")]


@asynccontextmanager
async def behind(network: Network, **options: Any) -> AsyncIterator[tuple[Honest, Route]]:
    async with asyncio.timeout(20), honest(**options) as (server, origin):
        async with chaos.relay(network, origin.host, origin.port) as port:
            yield server, Route(f"http://127.0.0.1:{port}")


async def hears_nothing(talk: Conversation) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(_SILENCE_S):
            await talk.reader.read(1)


async def hear_on(talk: Conversation) -> None:
    while True:
        await talk.hear()


async def commands_pass(route: Route) -> None:
    async with conversation(route) as talk:
        assert (await talk.ask("POST", "/v1/command", body=b"{}")).status == 200


@asynccontextmanager
async def stream(route: Route) -> AsyncIterator[Conversation]:
    """An event stream whose head has come."""
    async with conversation(route) as talk:
        assert (await talk.ask("GET", "/v1/events")).status == 200
        yield talk


@asynccontextmanager
async def upgraded(route: Route) -> AsyncIterator[Conversation]:
    """A WebSocket that is open."""
    async with conversation(route) as talk:
        assert (await talk.upgrade("/v1/ws")).status == 101
        yield talk


@pytest.mark.parametrize("name", [name for name in _CHAOS if name != "chaos-lumpy-line"])
async def test_each_lets_a_short_answer_through(name: str, tmp_path: Path) -> None:
    async with asyncio.timeout(20), honest() as (_, origin), ANIMALS[name].release(origin, tmp_path) as route:
        async with conversation(route) as talk:
            head = await talk.ask("POST", "/v1/publish", body=b"x" * 100_000)
            assert (head.status, await talk.body(head)) == (200, b"{}")


async def test_dying_only_upgrades_are_reset() -> None:
    async with behind(Network(upgraded=chaos.dying(0.2)), pause_s=0.05) as (server, route):
        async with upgraded(route) as talk:
            assert await talk.hear() == b"tick 0"
            with pytest.raises(ConnectionResetError):
                await hear_on(talk)
        async with stream(route) as talk:
            assert (await talk.reader.read()).count(b"data: ") == server.events


async def test_mute_nothing_passes_either_way_behind_the_101() -> None:
    async with behind(Network(upgraded=chaos.mute), pause_s=0.01) as (server, route):
        async with upgraded(route) as talk:
            await talk.say(b"hello")
            await hears_nothing(talk)
            assert server.frames == []
        await commands_pass(route)


async def test_one_behind_each_piece_waits_for_the_next() -> None:
    network = Network(upgraded=chaos.downward(chaos.one_behind), streams=chaos.one_behind)
    async with behind(network, pause_s=_NEVER_S) as (_, route):
        async with upgraded(route) as talk:
            await hears_nothing(talk)
            await talk.say(b"first")
            assert await talk.hear() == b"tick 0"
            await hears_nothing(talk)
            await talk.say(b"second")
            assert await talk.hear() == b"echo first"
        async with stream(route) as talk:
            await hears_nothing(talk)
        await commands_pass(route)


async def test_one_behind_a_streams_end_brings_what_was_held() -> None:
    async with behind(Network(streams=chaos.one_behind), pause_s=0.02) as (server, route), stream(route) as talk:
        assert (await talk.reader.read()).count(b"data: ") == server.events


async def test_held_a_stream_comes_when_enough_of_it_has() -> None:
    async with behind(Network(streams=chaos.held(5_000)), pause_s=0.02, padding=1_000) as (server, route):
        async with stream(route) as talk:
            await talk.reader.readexactly(5_000)
            assert not server.sent_all.is_set()
            await talk.reader.read()
        await commands_pass(route)


async def test_held_a_stream_that_is_too_short_comes_at_its_end() -> None:
    async with behind(Network(streams=chaos.held(64 * 1_024)), pause_s=0.02) as (server, route), stream(route) as talk:
        assert await talk.reader.read(1)
        assert server.sent_all.is_set()


async def test_max_response_a_stream_ends_early_and_other_answers_do_not() -> None:
    network = Network(streams=chaos.cut_after(5_000))
    async with behind(network, pause_s=0.0, padding=1_000, large=9_000) as (_, route):
        async with stream(route) as talk:
            assert len(await talk.reader.read()) == 5_000
        async with conversation(route) as talk:
            assert len(await talk.body(await talk.ask("GET", "/v1/large"))) == 9_000


async def test_dribble_the_first_bytes_come_alone() -> None:
    async with (
        behind(Network(anything=chaos.downward(chaos.dribbled(8, 0.02))), large=1_000) as (_, route),
        conversation(route) as talk,
    ):
        talk.writer.write(b"GET /v1/large HTTP/1.1\r\nConnection: close\r\n\r\n")
        parts = []
        while part := await talk.reader.read(65_536):
            parts.append(part)
        assert b"".join(parts).endswith(b"x" * 1_000)
        assert len(parts[0]) < 8
        assert len(parts) > 3


async def test_idle_what_is_silent_is_reset_and_what_is_not_lives_on() -> None:
    network = Network(anything=chaos.idle(0.4, is_silent=False))
    async with behind(network, pause_s=0.05, poll_s=_NEVER_S) as (_, route), upgraded(route) as chatty:
        async with conversation(route) as talk:
            with pytest.raises(ConnectionResetError):
                await talk.ask("GET", "/v1/poll")
        while await chatty.hear() != b"tick 20":
            pass


async def test_idle_silently_neither_side_hears_of_it() -> None:
    network = Network(anything=chaos.idle(0.2, is_silent=True))
    async with behind(network, pause_s=_NEVER_S) as (server, route), upgraded(route) as talk:
        assert await talk.hear() == b"tick 0"
        await hears_nothing(talk)  # by then it is forgotten
        await talk.say(b"is anybody there?")
        await hears_nothing(talk)
        assert server.frames == []


async def test_rate_bytes_take_their_time() -> None:
    loop = asyncio.get_running_loop()
    async with behind(Network(anything=chaos.slow(10_000, 0.1)), large=3_000) as (_, route):
        async with conversation(route) as talk:
            started_s = loop.time()
            head = await talk.ask("GET", "/v1/large")
            assert loop.time() - started_s >= 0.19  # there and back
            assert await talk.body(head) == b"x" * 3_000
            assert loop.time() - started_s >= 0.49  # and 0.3 s of bytes


async def test_lumpy_many_frames_come_at_the_same_moment() -> None:
    loop = asyncio.get_running_loop()
    async with (
        behind(Network(anything=chaos.downward(chaos.in_lumps(0.4))), pause_s=0.02) as (_, route),
        upgraded(route) as talk,
    ):
        came_s: list[float] = []
        while len(came_s) < 40:
            await talk.hear()
            came_s.append(loop.time())
        gaps = [later - earlier for earlier, later in itertools.pairwise(came_s)]
        assert 1 <= sum(gap > 0.2 for gap in gaps) <= 5  # instead of 39 times 0.02 s


async def test_lumpy_streams_wait_and_answers_do_not() -> None:
    network = Network(upgraded=chaos.downward(chaos.in_lumps(_NEVER_S)), streams=chaos.in_lumps(_NEVER_S))
    async with behind(network, pause_s=0.01) as (_, route):
        async with upgraded(route) as talk:
            await hears_nothing(talk)
        async with stream(route) as talk:
            await hears_nothing(talk)
        await commands_pass(route)


async def test_post_blocked_commands_are_refused_and_streams_are_not() -> None:
    async with behind(Network(refused=("POST /v1/command",)), pause_s=0.01) as (server, route):
        async with conversation(route) as talk:
            head = await talk.ask("POST", "/v1/command", body=b"{}")
            assert (head.status, await talk.body(head)) == (403, b"<p>Blocked by your network.</p>\r\n")
        async with stream(route) as talk:
            assert (await talk.reader.read()).count(b"data: ") == server.events
        async with upgraded(route) as talk:
            assert await talk.hear() == b"tick 0"


async def test_a_client_that_leaves_is_missed_by_the_origin() -> None:
    async with behind(Network(), pause_s=0.01) as (server, route):
        async with upgraded(route) as talk:
            await talk.say(b"hello")
            while await talk.hear() != b"echo hello":
                pass
        async with asyncio.timeout(5):
            while server.open:  # noqa: ASYNC110 -- of a connection's end nobody is told
                await asyncio.sleep(0.01)
