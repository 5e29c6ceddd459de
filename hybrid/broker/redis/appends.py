"""Appends on their way to Redis: those of one channel that wait together are one call of one script.

They leave at the end of the turn of the event loop in which they came, so nobody waits for company; a busy node has
plenty of it. A call is bounded, because Redis does nothing else meanwhile, and what shares one shares its fate when the
connection breaks: so keyed ones, which may be sent again, never travel with others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from hashlib import blake2b
from random import Random, SystemRandom
from typing import Any, Final, TypeAlias

from hybrid.broker.base import Append, Appended
from hybrid.broker.digest import body_digest
from hybrid.broker.redis import line, scripts
from hybrid.broker.redis.keys import ChannelKeys, Keys
from hybrid.broker.redis.line import Command, Line, Unanswered
from hybrid.broker.redis.replicas import Replicas
from hybrid.broker.redis.servers import Servers
from hybrid.errors import BrokerError, KeyConflict
from hybrid.limits import Limits
from hybrid.model import UNVERIFIED_TAG, Position

_log = logging.getLogger(__name__)

_EPOCH_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_EPOCH_CHARACTERS: Final = 6
_DURABLE: Final = "durable"  # the purpose of the line that waits for replicas: nobody else must wait with it
TOGETHER_MAX: Final = 64
"""Publications in one call: as many as one frame or body may hold, and less than a millisecond of Redis' time."""
TOGETHER_MAX_BYTES: Final = 262_144
"""Data in one call of several."""

_Result: TypeAlias = Appended | BrokerError


class _Asked:
    """One caller's appends: their results, and who waits for them."""

    __slots__ = ("done", "left", "results")

    def __init__(self, count: int) -> None:
        self.results: list[_Result | None] = [None] * count
        self.left = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answer(self, place: int, result: _Result) -> None:
        self.results[place] = result
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class _Call:
    """Appends of one channel that leave together, and where their results go."""

    __slots__ = ("appends", "bytes", "keys", "kind", "places")

    def __init__(self, keys: ChannelKeys, kind: tuple[object, ...]) -> None:
        self.keys = keys
        self.kind = kind
        self.appends: list[Append] = []
        self.places: list[tuple[_Asked, int]] = []
        self.bytes = 0

    def has_room(self, size: int) -> bool:
        return len(self.appends) < TOGETHER_MAX and self.bytes + size <= TOGETHER_MAX_BYTES


class Appends:
    """See the module's text. One for each broker."""

    def __init__(self, servers: Servers, keys: Keys, limits: Limits, skew_ms: Callable[[], int]) -> None:
        self._servers = servers
        self._keys = keys
        self._limits = limits
        self._skew_ms = skew_ms
        self._random = Random(SystemRandom().getrandbits(256))
        self._replicas = Replicas()
        self._verb: Final = "SPUBLISH" if servers.is_cluster else "PUBLISH"
        self._open: dict[bytes, _Call] = {}  # by topic: what leaves at the end of this turn
        self._waiting = 0  # publications that are not answered
        self._tasks: set[asyncio.Task[None]] = set()

    async def append(self, appends: Sequence[Append]) -> list[_Result]:
        """`Broker.append`, once the servers are `ready`. An append without a key is never repeated."""
        if not appends:
            return []
        asked = _Asked(len(appends))
        if not self._open:
            asyncio.get_running_loop().call_soon(self._leave)
        for place, append in enumerate(appends):
            self._add(append, asked, place)
        await asked.done
        return [result for result in asked.results if result is not None]

    async def purge(self, channel: str) -> str:
        """`Broker.purge`: the cursor that readers go on after, empty where there is no log. Raises BrokerError."""
        topic, head, log = self._keys.of(channel)
        answer: bytes = await self._servers.run_script(
            scripts.PURGE,
            (head, log),
            topic,
            self._verb,
            self._new_epoch(),
            UNVERIFIED_TAG,
            round(self._limits.meta_ttl_s * 1000),
            self._skew_ms(),
        )
        return answer.decode("ascii")

    async def close(self) -> None:
        """Wait for what is under way; the lines are closed, so that it has failed."""
        await asyncio.sleep(0)  # for the lines' futures to tell
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- together

    def _add(self, append: Append, asked: _Asked, place: int) -> None:
        if self._waiting >= line.UNSENT_MAX:
            asked.answer(place, line.Unreachable(retry_after_s=1.0))
            return
        self._waiting += 1
        keys = self._keys.of(append.channel)
        kind = (append.key is None, append.is_durable, append.history_size, append.history_ttl_s)
        size = len(append.data)
        call = self._open.get(keys.topic)
        if call is not None and (call.kind != kind or not call.has_room(size)):
            self._send(call)  # what comes behind it on the same line is appended behind it
            call = None
        if call is None:
            call = self._open[keys.topic] = _Call(keys, kind)
        call.appends.append(append)
        call.places.append((asked, place))
        call.bytes += size

    def _leave(self) -> None:
        calls, self._open = self._open, {}
        for call in calls.values():
            self._send(call)

    def _send(self, call: _Call) -> None:
        purpose = _DURABLE if call.appends[0].is_durable else ""
        try:
            to_server = self._servers.line(call.keys.topic, purpose)
        except BrokerError as error:
            self._answer(call, [error] * len(call.appends))
            return
        try:
            command = self._command(call)
        except Exception:  # the other calls of this turn have nothing to do with it
            _log.exception("an append could not be written as a command")
            self._answer(call, [BrokerError("internal")] * len(call.appends))
            return
        future = to_server.send(*command)

        def answered(future: asyncio.Future[Any]) -> None:
            if call.appends[0].is_durable or future.cancelled() or future.exception() is not None:
                task = asyncio.get_running_loop().create_task(self._follow(call, command, future, to_server, purpose))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._answer(call, _results(future.result()))

        future.add_done_callback(answered)

    def _answer(self, call: _Call, results: Sequence[_Result]) -> None:
        self._waiting -= len(call.places)
        for (asked, place), result in zip(call.places, results, strict=True):
            asked.answer(place, result)

    def _command(self, call: _Call) -> Command:
        first = call.appends[0]
        topic, head, log = call.keys
        names: list[bytes] = [head, log]
        words: list[bytes | str | int] = [
            topic,
            self._verb,
            self._new_epoch(),
            first.history_size,
            round(first.history_ttl_s * 1000),
            round(self._limits.meta_ttl_s * 1000),
            round(self._limits.idempotency_window_s * 1000),
            self._skew_ms(),
        ]
        for append in call.appends:
            digest = b""
            if append.key is not None:
                digest = body_digest(append)
                key_digest = blake2b(append.key.encode(), digest_size=16).hexdigest()
                names.append(call.keys.idempotency(key_digest.encode()))
            words += (append.data, append.type or "", "b" if append.is_binary else "j", self._new_tag(), digest)
        return self._servers.eval(scripts.PUBLISH, tuple(names), *words)

    def _new_epoch(self) -> str:
        return "".join(self._random.choices(_EPOCH_ALPHABET, k=_EPOCH_CHARACTERS))

    def _new_tag(self) -> str:
        return f"{self._random.getrandbits(32):08x}"

    # -- one that was not simply answered

    async def _follow(
        self, call: _Call, command: Command, future: asyncio.Future[Any], asked: Line, purpose: str
    ) -> None:
        appends = call.appends
        results: list[_Result]
        try:
            answer, answered_on = await self._servers.followed(
                future, call.keys.topic, command, asked, purpose=purpose, is_safe=appends[0].key is not None
            )
            life = answered_on.life
            results = _results(answer)
            if appends[0].is_durable:
                results = await self._confirmed(results, answered_on, life)
        except Unanswered:
            results = [_unknown(append) for append in appends]
        except BrokerError as error:
            results = [error] * len(appends)
        except Exception:  # whoever waits would wait for ever
            _log.exception("an append failed")
            results = [_unknown(append) for append in appends]
        self._answer(call, results)

    async def _confirmed(self, results: list[_Result], answered_on: Line, life: int) -> list[_Result]:
        if not any(isinstance(result, Appended) for result in results) or await self._replicas.have(answered_on, life):
            return results
        unconfirmed = BrokerError("unconfirmed", retry_after_s=1.0)
        return [unconfirmed if isinstance(result, Appended) else result for result in results]


def _results(lines: list[bytes]) -> list[_Result]:
    return [_result(line) for line in lines]


def _result(line: bytes) -> _Result:
    status, _, cursor = line.decode("ascii").partition(" ")
    if status == "2":
        return KeyConflict()
    if status == "3":
        _log.error("Redis refused a publication behind others that it took")
        return BrokerError(retry_after_s=1.0)
    epoch, offset, tag = cursor.split("-")
    return Appended(Position(int(offset), epoch, tag), was_repeated=status == "1")


def _unknown(append: Append) -> BrokerError:
    if append.key is not None:
        detail = "Redis did not answer in time; try again with the same key, which makes it appear once."
        return BrokerError(None, detail, retry_after_s=1.0)
    return BrokerError("outcome_unknown", "Redis did not answer in time, and without a key it was not tried again.")
