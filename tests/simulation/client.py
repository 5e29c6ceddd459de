"""A client written from `docs/protocol.md` alone, which believes nobody and forgives nothing.

It keeps its channels' positions, races nothing, and changes transport, node and channels when it is told to. What its
application gets goes to the checker as it comes: a repetition is noted, not dropped.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from hybrid.broker.base import Appended
from hybrid.engine.operations import PublishRequest
from hybrid.errors import TABLE, HybridError
from hybrid.model import Position, Principal
from tests.simulation.leg import Leg
from tests.simulation.node import Node, Unreachable
from tests.simulation.seat import Seat, read, wire
from tests.support.checker import Checker

TRANSPORTS = ("websocket", "sse", "longpoll")
_PATIENCE_S = 10.0
_SILENCE_S = 50.0  # two and a half heartbeats
_BEAT_S = 15.0
_POLL_MAX_S = 5.0
_INTERNAL = TABLE["internal"].number
_LOST_ANSWERS = 0.03  # share of the answers to polls that never arrive


class Broken(AssertionError):
    """The server said what it must not say."""


def _continues(position: Position, last: Position) -> bool:
    return position.offset == last.offset + 1 and (not last.offset or position.epoch == last.epoch)


class Client:
    """`live` it, and tell it what to do meanwhile."""

    def __init__(
        self, name: str, channels: Sequence[str], nodes: Sequence[Node], checker: Checker, random: Random
    ) -> None:
        self.name = name
        self.current: Leg | None = None
        self.seats: dict[str, Seat] = {}
        self.moves = 0
        self.connects: Counter[str] = Counter()
        self.principal = Principal(issuer="simulation", subject=name, token_hash=name.encode())
        self._nodes = nodes
        self._checker = checker
        self._random = random
        self._session = self._sealed = ""
        self._attempt = self._last_seq = self._number = self._ids = self._stays = 0
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._is_in_doubt = False  # about what became of a numbered command: only a new session says all
        self._is_changing = False
        for channel in channels:
            self._take_seat(channel)

    # -- its life

    async def live(self) -> None:
        """Be connected, for ever."""
        while True:
            leg = self.current or await self._connect()
            await leg.over.wait()
            if self.current is leg:
                self._lost()
                await asyncio.sleep(self._random.uniform(0.01, 0.5))

    async def _connect(self) -> Leg:
        while True:
            leg = self._leg()
            if await self._try(leg):
                return leg
            leg.end()
            self._lost()
            await asyncio.sleep(self._random.uniform(0.01, 1.0))

    async def _try(self, leg: Leg) -> bool:
        if self._is_in_doubt:
            self._session = ""
        self._is_in_doubt = False
        attach = self._attach(leg, confirm=True)
        self.current = leg  # from here on only this one is listened to
        try:
            await self._open(leg, attach)
        except (Unreachable, HybridError, TimeoutError):
            return False
        if not await leg.until(lambda: leg.is_ready, _PATIENCE_S):
            return False
        self.connects[leg.transport] += 1
        self._keep(leg)
        return True

    async def move(self) -> None:
        """Make before break: a candidate, somewhere and somehow else, that takes over when it has answered."""
        former = self.current
        if former is None or not former.is_ready or self._is_in_doubt or self._is_changing:
            return
        self._is_changing = True
        leg = self._leg()
        try:
            await self._open(leg, self._attach(leg, confirm=False))
            if not await leg.until(lambda: bool(leg.session), _PATIENCE_S) or self.current is not former:
                leg.end()
                return
            confirm = {"method": "confirm", "attempt": leg.attempt, "subscriptions": self._subscriptions()}
            self.current = leg
            former.end()
            self.moves += 1
            self._begin(leg.session)
            if leg.wire is not None and leg.transport == "websocket":
                leg.wire.say(msgspec.json.encode(confirm))
            elif leg.transport == "sse":
                leg.run(self._confirmed(leg, confirm))
            self._keep(leg, confirm=True)
        except (Unreachable, HybridError, TimeoutError):
            leg.end()
        finally:
            self._is_changing = False

    async def _confirmed(self, leg: Leg, confirm: dict[str, Any]) -> None:
        try:
            await leg.node.command(self.principal, leg.session, confirm)
        except (Unreachable, HybridError):
            leg.end()

    def _leg(self) -> Leg:
        self._attempt += 1
        return Leg(self._random.choice(TRANSPORTS), self._random.choice(self._nodes), self._attempt, self._heard)

    async def _open(self, leg: Leg, attach: dict[str, Any]) -> None:
        if leg.is_stream:
            leg.wire = leg.node.open(leg.transport, leg, self.principal, attach)
        else:
            async with asyncio.timeout(_PATIENCE_S):
                for push in await leg.node.poll(self.principal, attach):
                    leg.tell(push)

    def _keep(self, leg: Leg, *, confirm: bool = False) -> None:
        """What the leg needs from now on."""
        if leg.is_stream:
            leg.run(self._beat(leg))
        else:
            leg.run(self._poll(leg, confirm))

    async def _beat(self, leg: Leg) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            if asyncio.get_running_loop().time() - leg.heard_s > _SILENCE_S:
                leg.end()
            elif leg.wire is not None and leg.transport == "websocket":
                leg.wire.say(msgspec.json.encode({"method": "heartbeat", "last_seq": self._last_seq}))

    async def _poll(self, leg: Leg, is_candidate: bool) -> None:
        failures = 0
        while failures < 5:
            poll = {
                "method": "poll",
                "session": self._session,
                "attempt": leg.attempt,
                "last_seq": self._last_seq,
                "positions": self._positions(),
                "sealed": self._sealed,
                "wait_s": self._random.uniform(0.0, _POLL_MAX_S),
                **({"confirm": True} if is_candidate else {}),
            }
            # A candidate is known where it was opened; whatever is confirmed goes on anywhere.
            node = leg.node if is_candidate else self._random.choice(self._nodes)
            try:
                async with asyncio.timeout(_PATIENCE_S + _POLL_MAX_S):
                    pushes = await node.poll(self.principal, poll)
                if self._random.random() < _LOST_ANSWERS:
                    raise Unreachable
            except (Unreachable, HybridError, TimeoutError):
                failures += 1
                await asyncio.sleep(self._random.uniform(0.01, 0.3))
                continue
            failures, is_candidate = 0, False
            for push in pushes:
                leg.tell(push)
        leg.end()

    def _lost(self) -> None:
        self.current = None
        for waiting in self._replies.values():
            if not waiting.done():
                waiting.set_exception(Unreachable())
        self._replies.clear()
        for seat in self.seats.values():
            seat.held = None

    # -- what it asks for

    async def publish(self, channel: str, id: str, data: dict[str, Any]) -> None:
        """Until it is answered, again and again with the same key."""
        request = PublishRequest(channel=channel, data=msgspec.json.encode(data), key=id)
        while True:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    position = await self._publish(request, data)
                break
            except (Unreachable, HybridError, TimeoutError):
                await asyncio.sleep(self._random.uniform(0.05, 1.0))
        self._checker.answered(id, position, asyncio.get_running_loop().time())

    async def _publish(self, request: PublishRequest, data: dict[str, Any]) -> Any:
        leg = self.current
        if leg is not None and leg.is_ready and leg.transport == "websocket" and self._random.random() < 0.7:
            command = {"method": "publish", "channel": request.channel, "data": data, "key": request.key}
            return read((await self._ask(leg, command))["position"])
        answer = (await self._random.choice(self._nodes).publish(self.principal, [request]))[0]
        if not isinstance(answer, Appended):
            raise answer
        return answer.position

    async def change_channels(self, channel: str) -> None:
        """Leave a channel, or come to it: streams only, one change at a time."""
        leg = self.current
        if leg is None or not leg.is_ready or not leg.is_stream or self._is_changing or self._is_in_doubt:
            return
        self._is_changing = self._is_in_doubt = True
        try:
            if channel in self.seats:
                seat = self.seats.pop(channel)
                if seat.position is not None:
                    self._checker.left(seat.reader, channel)
                if leg.transport != "websocket":
                    leg.left.add(channel)
                await self._change(leg, {"method": "unsubscribe", "channel": channel})
            else:
                seat = self._take_seat(channel)
                seat.held = []
                reply = await self._change(leg, {"method": "subscribe", "channel": channel})
                if self.seats.get(channel) is seat and seat.position is None:
                    self._start(channel, seat, reply)
            if self.current is leg:
                self._is_in_doubt = False
        except HybridError:
            leg.end()
        except (Unreachable, TimeoutError):
            pass  # the next attach says it all
        finally:
            self._is_changing = False

    async def _change(self, leg: Leg, command: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        numbered = {**command, "n": self._number}
        if leg.transport == "websocket":
            return await self._ask(leg, numbered)
        async with asyncio.timeout(_PATIENCE_S):
            reply = await self._random.choice(self._nodes).command(self.principal, self._session, {**numbered, "id": 1})
        if self.current is not leg:
            raise Unreachable
        if reply is None or "error" in reply:
            leg.end()
            raise Unreachable
        return reply

    async def _ask(self, leg: Leg, command: dict[str, Any]) -> dict[str, Any]:
        self._ids += 1
        number = self._ids
        waiting: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = waiting
        assert leg.wire is not None
        leg.wire.say(msgspec.json.encode({**command, "id": number}))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                reply = await waiting
        finally:
            self._replies.pop(number, None)
        if "error" in reply:
            if "n" in command:
                leg.end()
            raise Unreachable
        return reply

    # -- what it hears

    def _heard(self, leg: Leg, push: dict[str, Any]) -> None:
        if "attached" in push:
            attached = push["attached"]
            if attached["attempt"] != leg.attempt:
                raise Broken(f"attached as {attached['attempt']} what was {leg.attempt}")
            leg.session = attached["session"]
            if leg is self.current:
                self._begin(leg.session)
        elif "reply" in push:
            waiting = self._replies.get(push["reply"].get("id", 0))
            if waiting is not None and not waiting.done():
                waiting.set_result(push["reply"])
        elif "disconnect" in push:
            leg.end()
            if push["disconnect"]["code"] == _INTERNAL:
                raise Broken(f"{self.name}: the server failed on a {leg.transport}")
        elif leg is not self.current:
            if "heartbeat" not in push:
                raise Broken(f"{self.name}: a candidate brought {push}")
        elif "subscribed" in push:
            self._subscribed(leg, push["subscribed"])
        elif "publication" in push:
            self._publication(push["publication"])
        elif "reset" in push:
            self._reset(push["reset"]["channel"], push["reset"])
        elif "unsubscribed" in push:
            leg.end()

    def _subscribed(self, leg: Leg, subscribed: dict[str, Any]) -> None:
        self._sealed = subscribed.get("sealed", "")
        told = {item["channel"]: item for item in subscribed["channels"]}
        if told.keys() != self.seats.keys():
            raise Broken(f"{self.name} asked for {sorted(self.seats)} and was told of {sorted(told)}")
        for channel, seat in self.seats.items():
            if "error" in told[channel]:
                leg.end()  # the broker may be away: again
                return
            self._start(channel, seat, told[channel])
        leg.is_ready = True

    def _start(self, channel: str, seat: Seat, told: dict[str, Any]) -> None:
        position = read(told["position"])
        if seat.position is None:
            self._checker.subscribed(seat.reader, channel, position)
            seat.position = position
        elif not told.get("recovered", True):
            self._reset(channel, told)
        elif position.offset != seat.position.offset:
            raise Broken(f"{seat.reader} is at {seat.position} and was told to go on after {position}")
        held, seat.held = seat.held, None
        seat.drops_until = 0
        if held is not None:
            seat.drops_until = position.offset
            for push in held:
                if "reset" in push:
                    self._reset(channel, push["reset"])
                else:
                    self._publication(push["publication"])

    def _reset(self, channel: str, told: dict[str, Any]) -> None:
        seat = self.seats.get(channel)
        if seat is not None and seat.position is None and seat.held is not None:
            seat.held.append({"reset": told})
        elif seat is not None and seat.position is not None:
            seat.position, seat.drops_until = read(told["position"]), 0
            self._checker.was_reset(seat.reader, channel, seat.position)

    def _publication(self, publication: dict[str, Any]) -> None:
        channel = publication["channel"]
        seat = self.seats.get(channel)
        if seat is None:
            return  # on its way when the channel was left
        if seat.position is None:
            if seat.held is None:
                raise Broken(f"{seat.reader} has not been told where it begins")
            seat.held.append({"publication": publication})
            return
        position = read(publication)
        if position.offset <= seat.drops_until:
            return
        if self.current is not None and channel in self.current.left and not _continues(position, seat.position):
            self.current.end()  # of the former subscription, or not: the next attach says from where
            return
        seat.drops_until = 0
        seat.position = position
        self._checker.received(seat.reader, channel, position, publication["data"], asyncio.get_running_loop().time())

    # -- what it says of itself

    def _begin(self, session: str) -> None:
        """In a new session everything is numbered anew."""
        if session != self._session:
            self._session = session
            self._last_seq = self._number = 0

    def _attach(self, leg: Leg, *, confirm: bool) -> dict[str, Any]:
        return {
            "method": "attach",
            "attempt": leg.attempt,
            "nonce": f"{self.name}-{leg.attempt}",
            "last_seq": self._last_seq,
            "subscriptions": self._subscriptions(),
            **({"session": self._session} if self._session else {}),
            **({"confirm": True} if confirm else {}),
        }

    def _subscriptions(self) -> list[dict[str, Any]]:
        return [
            {"channel": channel, **({} if seat.position is None else {"position": wire(seat.position)})}
            for channel, seat in self.seats.items()
        ]

    def _positions(self) -> list[dict[str, Any]]:
        return [wanted for wanted in self._subscriptions() if "position" in wanted]

    def _take_seat(self, channel: str) -> Seat:
        self._stays += 1
        seat = self.seats[channel] = Seat(f"{self.name}.{self._stays}")
        return seat
