"""What is listened to on the servers, kept so over broken connections and moving slots.

A connection that breaks is replaced, everything that was listened to is asked for again, and only when the server has
acknowledged all of it the listener is told of a gap: from then on a head that is read has everything behind it. A topic
on which something comes before that is told at once, so that no message is heard between a break and its gap. On a
Cluster the topics of one server share a connection, and a slot that moves takes its topics along.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from hybrid.broker.redis.line import TIMEOUT_S, Command, Unreachable
from hybrid.broker.redis.servers import Server, Servers
from hybrid.errors import BrokerError

_log = logging.getLogger(__name__)

_WAIT_S: Final = 5.0  # for an acknowledgement, reconnects included; then the caller may think again
_LOOK_S: Final = 0.5
_PING_S: Final = 4.0
_PAUSE_MAX_S: Final = 2.0
_AT_ONCE: Final = 512  # topics named in one command

Heard = Callable[[bytes, bytes], None]
"""Called with topic and message. Must not raise."""


class Topics:
    """See the module's text. `gap` is called with the topics whose messages may have been missed."""

    def __init__(self, servers: Servers, heard: Heard, gap: Callable[[list[bytes]], None]) -> None:
        self._servers = servers
        self._heard = heard
        self._gap = gap
        self._ears: dict[Server, _Ear] = {}
        self._ear_of: dict[bytes, _Ear] = {}
        self._is_closed = False
        self.connects = 0
        """How many listening connections there have been."""
        self.failures = 0
        """How many attempts to connect failed, and connections broke."""
        servers.on_moved = self._settle
        servers.on_dropped = self._drop

    def __len__(self) -> int:
        return len(self._ear_of)

    @property
    def is_connected(self) -> bool:
        """Whether everything that is listened to is heard now."""
        return all(ear.is_settled for ear in self._ears.values())

    async def subscribe(self, topic: bytes) -> None:
        """Listen; returns when the server has acknowledged it. Idempotent. Raises BrokerError, and listens no more."""
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._servers.ready()
                if self._is_closed:
                    raise BrokerError(None, "The broker is closed.")
                ear = self._ear_of.get(topic) or self._listen(topic)
                await ear.acknowledged(topic)
        except TimeoutError:
            self.unsubscribe(topic)
            raise Unreachable(retry_after_s=1.0) from None
        except BaseException:
            self.unsubscribe(topic)
            raise

    def unsubscribe(self, topic: bytes) -> None:
        """Listen no more. Idempotent."""
        ear = self._ear_of.pop(topic, None)
        if ear is not None:
            ear.remove(topic)

    async def close(self) -> None:
        """End all connections. Safe to call twice."""
        self._is_closed = True
        self._ear_of.clear()
        for ear in list(self._ears.values()):
            await ear.close()

    # -- for the ears

    def received(self, topic: bytes, message: bytes) -> None:
        """A message came; whatever is not listened to any more is late."""
        if topic in self._ear_of:
            self._heard(topic, message)

    def settled(self, topics: list[bytes]) -> None:
        """These are heard again after they were not."""
        self._gap([topic for topic in topics if topic in self._ear_of])

    def lost(self, topic: bytes) -> None:
        """A server says that a topic's slot is not its any more."""
        self._servers.refresh_soon()

    # -- inside

    def _listen(self, topic: bytes, *, was_heard: bool = False) -> _Ear:
        server = self._servers.server_of(topic)
        ear = self._ears.get(server)
        if ear is None:
            ear = self._ears[server] = _Ear(self, self._servers, server)
        self._ear_of[topic] = ear
        ear.add(topic, was_heard=was_heard)
        return ear

    def _drop(self) -> None:
        for ear in self._ears.values():
            ear.drop()

    async def _settle(self) -> None:
        """Slots have moved: let every topic be listened to where it is now."""
        for topic, ear in list(self._ear_of.items()):
            if self._servers.server_of(topic) != ear.server:
                ear.remove(topic)
                self._listen(topic, was_heard=True)
        for server, ear in list(self._ears.items()):
            if not len(ear):
                del self._ears[server]
                await ear.close()


class _Ear:
    """One connection that listens to one server."""

    def __init__(self, topics: Topics, servers: Servers, server: Server) -> None:
        self.server = server
        self.is_settled = True
        self._topics = topics
        self._servers = servers
        self._subscribe, self._unsubscribe = (
            ("SSUBSCRIBE", "SUNSUBSCRIBE")
            if servers.is_cluster
            else (
                "SUBSCRIBE",
                "UNSUBSCRIBE",
            )
        )
        # Topic -> whether it was ever acknowledged, so that its messages may have been missed since.
        self._wanted: dict[bytes, bool] = {}
        self._open: set[bytes] = set()  # acknowledged on this connection
        self._waiting: dict[bytes, list[asyncio.Future[None]]] = {}
        self._unsent: dict[bytes, bool] = {}  # True: subscribe
        # Commands that were sent: whether they subscribe, and their topics that the server has not answered for.
        self._asked: deque[tuple[bool, deque[bytes]]] = deque()
        self._unanswered: dict[bytes, int] = {}  # in how many of these commands a topic stands
        self._refused: set[bytes] = set()  # to be asked for again
        self._owed: set[bytes] = set()  # heard on the last connection, and not acknowledged yet on this one
        self._missed: set[bytes] = set()  # acknowledged again, and not told yet
        self._is_wanted = asyncio.Event()
        self._drop = asyncio.Event()
        self._heard_s = 0.0
        self._has_failed = False
        self._has_been_refused = False
        self._is_closed = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    def __len__(self) -> int:
        return len(self._wanted)

    def add(self, topic: bytes, *, was_heard: bool) -> None:
        self._wanted[topic] = was_heard
        self._unsent[topic] = True
        self._is_wanted.set()

    def remove(self, topic: bytes) -> None:
        self._wanted.pop(topic, None)
        for topics in (self._open, self._refused, self._owed, self._missed):
            topics.discard(topic)
        self._unsent[topic] = False
        self._is_wanted.set()
        for future in self._waiting.pop(topic, ()):
            if not future.done():
                future.set_exception(Unreachable(None, "It is not listened to any more."))
        self._settle()

    async def acknowledged(self, topic: bytes) -> None:
        """Return when the server has said that it will send this topic."""
        if topic in self._open:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(topic, []).append(future)
        await future

    def drop(self) -> None:
        self._drop.set()

    async def close(self) -> None:
        self._is_closed = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(BrokerError(None, "The broker is closed."))

    # -- life

    async def _run(self) -> None:
        pause_s = 0.0
        # Not `while True`: a task group whose own tasks fail at that moment swallows the cancellation from `close`.
        while not self._is_closed:
            while not self._wanted:
                self._is_wanted.clear()
                await self._is_wanted.wait()
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    connection = await self._servers.connect(self.server)
            except (RedisError, OSError, TimeoutError, BrokerError) as error:
                self._failed(error)
                self._servers.refresh_soon()
                pause_s = min(max(0.1, pause_s * 2), _PAUSE_MAX_S)
                continue
            pause_s = 0.1
            self._topics.connects += 1
            self._begin()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(connection))
                    group.create_task(self._write(connection))
                    group.create_task(self._watch(connection))
            except* (RedisError, OSError, TimeoutError) as failed:
                self._failed(failed.exceptions[0])
            except* Exception as failed:
                _log.error("a listening connection failed and is opened again", exc_info=failed.exceptions[0])
            finally:
                self._open.clear()
                self._missed.clear()
                self.is_settled = not self._wanted
                await connection.disconnect(nowait=True)

    def _begin(self) -> None:
        self._drop.clear()
        self._asked.clear()
        self._unanswered.clear()
        self._refused.clear()
        self._owed = {topic for topic, was_heard in self._wanted.items() if was_heard}
        self._unsent = dict.fromkeys(self._wanted, True)
        self._is_wanted.set()
        self._heard_s = asyncio.get_running_loop().time()

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            while not self._unsent:
                self._is_wanted.clear()
                await self._is_wanted.wait()
            unsent, self._unsent = self._unsent, {}
            commands: list[Command] = []
            for verb, is_subscribing in ((self._unsubscribe, False), (self._subscribe, True)):
                topics = [topic for topic, wanted in unsent.items() if wanted is is_subscribing]
                # On a Cluster one command names topics of one slot only.
                size = 1 if self._servers.is_cluster else _AT_ONCE
                for first in range(0, len(topics), size):
                    named = topics[first : first + size]
                    commands.append((verb, *named))
                    self._asked.append((is_subscribing, deque(named)))
                    for topic in named:
                        self._unanswered[topic] = self._unanswered.get(topic, 0) + 1
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        received = self._topics.received
        while True:
            try:
                answer: Any = await connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
            except ResponseError as error:
                self._was_refused(error)
                continue
            self._heard_s = loop.time()
            kind = answer[0]
            if kind == b"message" or kind == b"smessage":
                if answer[1] in self._missed:
                    # While others are awaited still. It may follow one that was missed, so that is told first.
                    self._missed.discard(answer[1])
                    self._topics.settled([answer[1]])
                received(answer[1], answer[2])
            elif kind == b"subscribe" or kind == b"ssubscribe":
                self._answered(answer[1])
                self._subscribed(answer[1])
            elif kind == b"unsubscribe" or kind == b"sunsubscribe":
                if self._asked and not self._asked[0][0] and self._asked[0][1][0] == answer[1]:
                    self._answered(answer[1])
                elif answer[1] in self._wanted:  # unasked: the slot has gone elsewhere
                    self._open.discard(answer[1])
                    self._wanted[answer[1]] = True
                    self._refused.add(answer[1])
                    self._topics.lost(answer[1])

    async def _watch(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        is_asked = False
        while True:
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._drop.wait()
                raise ConnectionError("the server is not the one to ask any more")
            except TimeoutError:
                pass
            if self._refused:
                # Whoever waited for one was told. Who heard it before waits for nothing, and would never hear it again.
                self._unsent.update(dict.fromkeys(self._refused, True))
                self._refused.clear()
                self._is_wanted.set()
            silent_s = loop.time() - self._heard_s
            if silent_s > _PING_S + TIMEOUT_S or (self._asked and silent_s > TIMEOUT_S):
                raise TimeoutError(f"nothing was heard for {silent_s:.0f} s")
            if silent_s <= _PING_S:
                is_asked = False
            elif not is_asked:
                is_asked = True
                await connection.send_packed_command(connection.pack_command("PING"), check_health=False)

    # -- what happens

    def _answered(self, topic: bytes) -> None:
        """The server has answered for the next topic that it was asked for."""
        _, topics = self._asked[0]
        topics.popleft()
        if not topics:
            self._asked.popleft()
        self._settle_count(topic)

    def _settle_count(self, topic: bytes) -> None:
        left = self._unanswered.pop(topic, 1) - 1
        if left:
            self._unanswered[topic] = left

    def _subscribed(self, topic: bytes) -> None:
        # While anything of it is on its way, this is the answer to an earlier word, and an unsubscribe may follow it.
        if topic in self._wanted and topic not in self._unsent and topic not in self._unanswered:
            self._open.add(topic)
            self._owed.discard(topic)
            if self._wanted[topic]:
                self._missed.add(topic)
            self._wanted[topic] = True
            for future in self._waiting.pop(topic, ()):
                if not future.done():
                    future.set_result(None)
        self._settle()

    def _settle(self) -> None:
        """Once all that was heard is heard again: tell that it may have missed something in between."""
        if not self.is_settled and len(self._open) >= len(self._wanted):
            self.is_settled = True
            self._has_been_refused = False
            if self._has_failed and self._open:
                self._has_failed = False
                _log.warning("listening again, to %d topics", len(self._open))
        if self._missed and not self._owed:
            missed, self._missed = list(self._missed), set()
            self._topics.settled(missed)

    def _was_refused(self, error: ResponseError) -> None:
        """A Cluster's server does not have the slot; or we are not permitted to listen. It concerns a whole command."""
        is_subscribing, topics = self._asked.popleft() if self._asked else (False, deque[bytes]())
        if not self._servers.is_cluster and not self._has_been_refused:
            self._has_been_refused = True
            _log.error("Redis does not let us listen, see docs/redis.md: %s", error)
        for topic in topics:
            self._settle_count(topic)
            if is_subscribing and topic in self._wanted:
                self._refused.add(topic)
                for future in self._waiting.pop(topic, ()):
                    if not future.done():
                        future.set_exception(Unreachable(retry_after_s=1.0))
            self._topics.lost(topic)

    def _failed(self, error: Exception) -> None:
        self._topics.failures += 1
        if not self._has_failed:
            self._has_failed = True
            _log.warning("a listening connection to Redis broke: %s", error or type(error).__name__)
