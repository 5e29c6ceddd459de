"""The load of the soak: readers over every transport that come, go, move, break, sleep and are revoked, all the time.

Lasting clients read from the beginning to the end; guests stay for a while; plain readers go on by cursor; slow ones
stop reading until the server has stopped writing, and then read everything. What a node holds for them has to be the
same after hours. A `Checker` is told all that happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import httpx2

from hybrid.auth.development import FULL_SCOPE, DevelopmentIssuer
from hybrid.client import Client
from hybrid.client.credentials import Credentials
from hybrid.client.endpoint import Dial, Endpoint
from hybrid.client.plain import PlainPublication, PlainReader
from hybrid.client.subscription import Subscription
from hybrid.errors import HybridError
from hybrid.model import Position
from hybrid.protocol.cursor import parse_cursor
from tests.support.checker import Verdict
from tests.support.crowd import CHANNELS, TIMING, Crowd
from tests.support.nodes import AUDIENCE
from tests.support.raw import RAW_LEGS, Door, Ended, attach_of

LASTING: Final = 24
_TOKEN_S: Final = 240.0  # so that every lasting client refreshes its token several times
_TOKEN_KEPT_S: Final = 60.0
_PULSE_S: Final = 1.0  # one publication on each channel, and
_BURST: Final = 3  # so many more at once on one of them
_SMALL: Final = "x" * 64
_LARGE: Final = "x" * 24_000  # one in _LARGE_EVERY: what fills the buffers of who does not read
_LARGE_EVERY: Final = 6
_STAY_S: Final = (2.0, 20.0)
_SLEEP_S: Final = (5.0, 25.0)  # well within the time that history is kept
_QUIET_MAX_S: Final = 60.0
_KINDS: Final = ("websocket", "sse", "longpoll")


class People(Crowd):
    """See the module's text. `counts` says what has happened."""

    def __init__(self, dial: Dial, issuer: DevelopmentIssuer, group: asyncio.TaskGroup, dice: random.Random) -> None:
        super().__init__(dial, issuer, group)
        self.counts: Counter[str] = Counter()
        self.expects_end: set[str] = set()
        self._dice = dice
        self._names = itertools.count(1)
        self._minted: dict[str, tuple[float, str]] = {}
        self._guests: set[asyncio.Task[None]] = set()
        self._is_over = False

    def token(self, subject: str, scope: str = FULL_SCOPE) -> str:
        """A token that lives for some minutes; shared for one of them."""
        now_s = time.monotonic()
        made_s, token = self._minted.get(subject + scope, (0.0, ""))
        if not token or now_s - made_s > _TOKEN_KEPT_S:
            token = self._issuer.mint(subject, scope, lifetime_s=_TOKEN_S)
            self._minted[subject + scope] = (now_s, token)
        return token

    # -- who reads

    async def gather(self, size: int = LASTING) -> None:
        """Those who stay."""
        for number in range(size):
            name = f"lasting-{number}"
            client = await self._client(name, _KINDS[number % len(_KINDS)], is_packed=number % 6 == 0)
            self.clients[name] = client
            for channel in self._dice.sample(CHANNELS, 2):
                await self._subscribe(name, client, channel)

    async def _client(self, subject: str, kind: str, *, is_packed: bool = False) -> Client:
        client = Client(
            AUDIENCE,
            lambda: self.token(subject),
            kind,
            encoding="msgpack" if is_packed else "json",
            dial=self._dial,
            timing=TIMING,
        )
        await client.__aenter__()
        self.counts["connects"] += 1
        return client

    async def _subscribe(self, name: str, client: Client, channel: str) -> tuple[str, Subscription]:
        subscription = await client.subscribe(channel)
        assert subscription.position is not None
        reader = f"{name}#{next(self._names)}"
        self.checker.subscribed(reader, channel, subscription.position)
        subscription.on_reset = lambda position: self.checker.was_reset(reader, channel, position)

        async def read() -> None:
            try:
                async for publication in subscription:
                    self.checker.received(reader, channel, publication.position, publication.data, time.monotonic())
                    self.counts["deliveries"] += 1
            except HybridError as error:
                if name not in self.expects_end:
                    self.checker.ended(reader, channel, str(error))

        task = self._group.create_task(read())
        self._readers.append(task)
        task.add_done_callback(self._readers.remove)
        return reader, subscription

    # -- what happens to them

    async def churn_forever(self, pause_s: float) -> None:
        """One thing after the other, without waiting for those that take their time."""
        things: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (8, self._cut),
            (4, self._move),
            (6, self._guest),
            (4, self._plain_guest),
            (2, self._sleeper),
            (2, self._vanishing),
            (2, self._revoked),
            (3, self._asking),
        ]
        weights = [weight for weight, _ in things]
        while True:
            await asyncio.sleep(pause_s * self._dice.uniform(0.5, 1.5))
            if self._is_over:
                return
            [(_, thing)] = self._dice.choices(things, weights)
            task = self._group.create_task(self._tried(thing))
            self._guests.add(task)
            task.add_done_callback(self._guests.discard)

    async def _tried(self, thing: Callable[[], Awaitable[None]]) -> None:
        try:
            await thing()
        except (ConnectionError, HybridError, Ended, httpx2.HTTPError, TimeoutError) as error:
            # A node is away for some seconds of an hour. What was promised is judged by the checker, not here.
            self.counts[f"in vain: {thing.__name__.strip('_')} ({type(error).__name__})"] += 1

    def _somebody(self) -> Client:
        return self.clients[self._dice.choice(list(self.clients))]

    async def _cut(self) -> None:
        self._somebody().cut()
        self.counts["cuts"] += 1

    async def _move(self) -> None:
        await self._somebody().move_to(self._dice.choice(_KINDS))
        self.counts["moves"] += 1

    async def _guest(self) -> None:
        name = f"guest-{next(self._names)}"
        client = await self._client(name, self._dice.choice(_KINDS), is_packed=self._dice.random() < 0.2)
        reading: list[tuple[str, str]] = []
        try:
            for channel in self._dice.sample(CHANNELS, 2):
                reader, subscription = await self._subscribe(name, client, channel)
                reading.append((reader, channel))
            await asyncio.sleep(self._dice.uniform(*_STAY_S))
            if self._dice.random() < 0.5:
                await subscription.unsubscribe()
        finally:
            self._leaves(name, reading)
            await client.__aexit__(None, None, None)
        self.counts["guests"] += 1

    def _leaves(self, name: str, reading: list[tuple[str, str]]) -> None:
        self.expects_end.add(name)
        for reader, channel in reading:
            self.checker.left(reader, channel)

    async def _plain_guest(self) -> None:
        """What curl, EventSource and a poll loop do."""
        kind, channel = self._dice.choice(_KINDS), self._dice.choice(CHANNELS)
        name = f"plain-{kind}-{next(self._names)}"
        endpoint = Endpoint(AUDIENCE, dial=self._dial, connect_timeout_s=TIMING.connect_timeout_s)
        await endpoint.open()
        try:
            reader = PlainReader(endpoint, Credentials(lambda: self.token(name)), channel, kind, history=2)
            self.counts["connects"] += 1
            items = reader.items()
            started = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._dice.uniform(*_STAY_S)), contextlib.aclosing(items):
                    async for item in items:
                        position = parse_cursor(item.cursor)
                        if not started:
                            self.checker.subscribed(name, channel, position)
                            self.checker.left(name, channel)
                            started = True
                        elif not isinstance(item, PlainPublication):
                            self.checker.was_reset(name, channel, position)
                        else:
                            self.checker.received(name, channel, position, item.data, time.monotonic())
                            self.counts["deliveries"] += 1
        finally:
            await endpoint.close()
        self.counts["plain guests"] += 1

    async def _sleeper(self) -> None:
        """Reads nothing, with small buffers, until much waits; then everything."""
        leg = RAW_LEGS[self._dice.choice(("websocket", "sse"))](self._door("sleeper"))
        try:
            await leg.open(attach_of(1, *CHANNELS), buffer_bytes=4_096)
            self.counts["connects"] += 1
            name = f"sleeper-{next(self._names)}"
            for item in (await leg.next("subscribed"))["subscribed"]["channels"]:
                self.checker.subscribed(name, item["channel"], _position(item["position"]))
                self.checker.left(name, item["channel"])
            await asyncio.sleep(self._dice.uniform(*_SLEEP_S))
            with contextlib.suppress(TimeoutError, Ended):
                async with asyncio.timeout(4.0):
                    while True:
                        self._woken(name, await leg.next("publication", "reset"))
        finally:
            leg.close()
        self.counts["sleepers"] += 1

    def _woken(self, name: str, push: dict[str, Any]) -> None:
        if "reset" in push:
            self.checker.was_reset(name, push["reset"]["channel"], _position(push["reset"]["position"]))
            return
        told = push["publication"]
        self.checker.received(name, told["channel"], _position(told), told["data"], time.monotonic())
        self.counts["deliveries"] += 1

    async def _vanishing(self) -> None:
        """Connects, reads nothing at all, and resets its connection."""
        leg = RAW_LEGS[self._dice.choice(("websocket", "sse"))](self._door("vanishing"))
        try:
            await leg.open(attach_of(1, *CHANNELS), buffer_bytes=4_096)
            self.counts["connects"] += 1
            await asyncio.sleep(self._dice.uniform(*_STAY_S))
        finally:
            leg.close()
        self.counts["vanished"] += 1

    async def _revoked(self) -> None:
        """Somebody is thrown out of everything at once."""
        name = f"revoked-{next(self._names)}"
        client = await self._client(name, self._dice.choice(_KINDS))
        reading: list[tuple[str, str]] = []
        try:
            channel = self._dice.choice(CHANNELS)
            reader, _ = await self._subscribe(name, client, channel)
            reading.append((reader, channel))
            await asyncio.sleep(1.5)  # a token of the same second would be refused for good
            self._leaves(name, reading)
            answer = await self._request(
                "POST",
                "/v1/revoke",
                {
                    "Content-Type": "application/json",
                    "Authorization": f"Bearer {self.token('operator', f'{FULL_SCOPE} hybrid:revoke')}",
                },
                json.dumps({"subject": name}).encode(),
            )
            assert answer.status_code in (200, 429, 503), answer.text
            self._minted.pop(name + FULL_SCOPE, None)
            await asyncio.sleep(1.0)
        finally:
            self._leaves(name, reading)
            await client.__aexit__(None, None, None)
        self.counts["revoked"] += 1

    async def _asking(self) -> None:
        """History and presence, as any backend asks."""
        await self._request("GET", f"/v1/history/{self._dice.choice(CHANNELS).replace(':', '%3A')}?limit=50")
        await self._request("GET", "/v1/presence/seen%3A1")
        client = self._somebody()
        await client.history(self._dice.choice(CHANNELS), limit=20)
        self.counts["questions"] += 1

    def counts_of_clients(self, name: str) -> int:
        """What the lasting clients counted, all together."""
        return sum(int(getattr(client.stats, name)) for client in self.clients.values())

    def _door(self, subject: str) -> Door:
        address = self._dial("raw") if callable(self._dial) else self._dial
        return Door(address, self._url.netloc, self.token(subject))

    # -- publishing and the end

    async def publish_forever(self) -> None:
        """Pulses by HTTP with a key and from sessions, some of them large."""
        for turn in itertools.count():
            await asyncio.sleep(_PULSE_S * self._dice.uniform(0.5, 1.5))
            if not self.is_publishing:
                return
            for number, channel in enumerate([*CHANNELS, *[CHANNELS[turn % len(CHANNELS)]] * _BURST]):
                self.publish(channel, self._dice.choice(list(self.clients)) if number % 2 else None)

    def _new(self, channel: str) -> tuple[str, Any]:
        id = f"p{next(self._numbers)}"
        data = {"id": id, "text": _SMALL if int(id[1:]) % _LARGE_EVERY else _LARGE}
        self.checker.asked(id, channel, data, time.monotonic())
        self.counts["publications"] += 1
        return id, data

    async def settle(self, max_s: float = _QUIET_MAX_S) -> Verdict:
        """Let everybody who came for a while go, and judge all that happened.

        The log is what publishers were told: each was answered in the end, so its offsets must be 1, 2, 3 without a
        hole, which a publication that is in the log twice would leave. The store keeps the last few minutes only.
        """
        self._is_over = True
        self.is_publishing = False
        await self.until(lambda: not self._guests, max_s)
        await self.until(lambda: not self._open_publishes, max_s, lambda: str(self.checker.unanswered[:10]))
        heads: dict[str, Position] = {}
        for channel in CHANNELS:
            answers = [answer for answer in self.checker.answers.values() if answer.channel == channel]
            answers.sort(key=lambda answer: answer.position.offset)
            holes = [answer.id for offset, answer in enumerate(answers, 1) if answer.position.offset != offset]
            assert not holes, f"{channel}: not one after the other from {holes[0]} on"
            log = [(answer.position, self.checker.asked_for[answer.id].data) for answer in answers]
            self.checker.read_log(channel, log)
            heads[channel] = answers[-1].position
        with contextlib.suppress(AssertionError):  # the verdict says it better
            await self.until(lambda: not self.checker.behind(heads), max_s)
        return self.checker.verdict()


def _position(told: dict[str, Any]) -> Position:
    return Position(told["offset"], told.get("epoch", ""), told.get("tag", ""))
