"""One connection to one server, shared by everybody who has something to ask it.

Commands that come while others are being written leave together, in one write; answers come back in the order of the
commands (RESP has no other way to tell whose they are). So a burst of publishes costs a few system calls, and nobody
waits for a connection to be free.

A line connects when it is first needed and again whenever it broke. It notices a server that says nothing any more:
while commands wait for answers by their age, otherwise by a PING of its own. What it was given and has not sent when a
connection breaks is sent on the next one; what it has sent may or may not have taken effect, and its callers are told
exactly that (`Unanswered`).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from hybrid.counts import Sizes
from hybrid.errors import BrokerError

_log = logging.getLogger(__name__)

Command: TypeAlias = tuple[bytes | str | int, ...]
Connect: TypeAlias = Callable[[], Awaitable[AbstractConnection]]

TIMEOUT_S: Final = 3.0
"""Without an answer for this long a server counts as gone: far above any script of ours, and soon enough to heal."""
_LOOK_S: Final = 0.5  # between two looks at the clock
_PING_S: Final = 4.0  # idle for this long: ask whether the server is still there
_PAUSE_MIN_S: Final = 0.1
_PAUSE_MAX_S: Final = 2.0  # between two attempts to connect, while somebody asks
UNSENT_MAX: Final = 20_000
"""Commands that wait for a connection, and publications that wait for an answer; more are refused at once.

A second's worth of publishing.
"""


class Unreachable(BrokerError):
    """The server cannot be reached: the command was not sent and has had no effect."""


class Unanswered(BrokerError):
    """The connection broke between a command and its answer: whether it took effect is not known."""


class Line:
    """See the module's text. Not thread-safe: one event loop."""

    def __init__(self, connect: Connect, name: str) -> None:
        self._connect = connect
        self._name = name
        self._unsent: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._sent: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._is_wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._failure: Exception | None = None
        self._pause_s = 0.0
        self._resume_s = 0.0
        self._heard_s = 0.0
        self._drop = asyncio.Event()
        self.is_connected = False
        self.life = 0
        """How many connections it has had: what was answered in another life was answered by another connection."""
        self.failures = 0
        """How many attempts to connect failed, and connections broke."""
        self.answer_us = Sizes()
        """From the writing of a command until its answer."""

    @property
    def waiting(self) -> int:
        """How many commands wait to be sent, or for their answer."""
        return len(self._unsent) + len(self._sent)

    @property
    def oldest_s(self) -> float:
        """For how long the command that was written first has been waiting for its answer; 0 when none does."""
        return asyncio.get_running_loop().time() - self._sent[0][1] if self._sent else 0.0

    def send(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """Send a command; its answer is the future's result, bytes not decoded.

        The future fails with Unreachable, with Unanswered, or with redis-py's ResponseError when the server refuses.
        Cancelling it does not call the command back.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._is_closed:
            _fail(future, BrokerError(None, "The broker is closed."))
        elif len(self._unsent) >= UNSENT_MAX or (not self.is_connected and loop.time() < self._resume_s):
            _fail(future, self._unreachable())
        else:
            self._unsent.append((command, future))
            self._is_wanted.set()
            if self._task is None:
                self._task = loop.create_task(self._run())
        return future

    def drop(self) -> None:
        """Give the present connection up: the server is not, or not any more, the one to ask."""
        self._drop.set()

    async def close(self) -> None:
        """End the connection; everything that waits fails. Safe to call twice."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._fail_unsent(BrokerError(None, "The broker is closed."))

    # -- life

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        # Not `while True`: a task group whose own tasks fail at that moment swallows the cancellation from `close`.
        while not self._is_closed:
            while not self._unsent:
                self._is_wanted.clear()
                await self._is_wanted.wait()
            if (delay_s := self._resume_s - loop.time()) > 0:
                await asyncio.sleep(delay_s)
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    connection = await self._connect()
            except (RedisError, OSError, TimeoutError, BrokerError) as error:
                self._failed(error)
                self._fail_unsent(self._unreachable())
                continue
            self._failure, self._pause_s, self._resume_s = None, 0.0, 0.0
            connected_s = loop.time()
            self._drop.clear()
            self._heard_s = loop.time()
            self.is_connected = True
            self.life += 1
            try:
                await self._use(connection)
            except* (RedisError, OSError, TimeoutError) as group:
                self._failed(group.exceptions[0])
            except* Exception as group:
                _log.error("%s failed and is opened again", self._name, exc_info=group.exceptions[0])
            finally:
                self.is_connected = False
                if loop.time() - connected_s > _PAUSE_MIN_S:
                    # It was good until now: what comes meanwhile waits for the next one instead of being refused.
                    self._resume_s = 0.0
                self._fail_sent()
                await _hang_up(connection)

    async def _use(self, connection: AbstractConnection) -> None:
        """Until the connection breaks, which is raised."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(connection))
            group.create_task(self._write(connection))
            group.create_task(self._watch())
            group.create_task(self._dropped())

    async def _write(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        # Not `while True`: a task group whose own tasks fail at that moment swallows the cancellation from `close`.
        while not self._is_closed:
            while not self._unsent:
                self._is_wanted.clear()
                await self._is_wanted.wait()
            now_s = loop.time()
            commands = []
            while self._unsent:
                command, future = self._unsent.popleft()
                if not future.done():
                    commands.append(command)
                    self._sent.append((future, now_s))
            packed = pack(commands)
            try:
                await connection.send_packed_command(packed, check_health=False)
            except RuntimeError as error:  # uvloop's word for a connection that was lost a moment ago
                raise ConnectionError(str(error)) from error

    async def _read(self, connection: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            refused: ResponseError | None = None
            answer = None
            try:
                answer = await connection.read_response(
                    disable_decoding=True, timeout=math.inf, disconnect_on_error=False
                )
            except ResponseError as error:
                refused = error
            self._heard_s = heard_s = loop.time()
            future, sent_s = self._sent.popleft()
            self.answer_us.add_s(heard_s - sent_s)
            if future.done():
                continue
            if refused is not None:
                _fail(future, refused)
            else:
                future.set_result(answer)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_S)
            now_s = loop.time()
            if self._sent and now_s - max(self._sent[0][1], self._heard_s) > TIMEOUT_S:
                raise TimeoutError(f"no answer within {TIMEOUT_S:g} s")
            if not self._sent and not self._unsent and now_s - self._heard_s > _PING_S:
                self.send("PING")

    async def _dropped(self) -> None:
        await self._drop.wait()
        raise ConnectionError("the server is not the one to ask any more")

    # -- failures

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        self.failures += 1
        if self._failure is None:  # once for each outage
            _log.warning("%s: %s", self._name, _words(error))
        self._failure = error
        self._pause_s = min(max(self._pause_s * 2, _PAUSE_MIN_S), _PAUSE_MAX_S)
        self._resume_s = asyncio.get_running_loop().time() + self._pause_s

    def _unreachable(self) -> BrokerError:
        return self._failure if isinstance(self._failure, BrokerError) else Unreachable(retry_after_s=1.0)

    def _fail_unsent(self, error: BrokerError) -> None:
        while self._unsent:
            _, future = self._unsent.popleft()
            _fail(future, error)

    def _fail_sent(self) -> None:
        while self._sent:
            future, _ = self._sent.popleft()
            _fail(future, Unanswered(retry_after_s=1.0))


def pack(commands: Sequence[Command]) -> bytes:
    """The commands as RESP has them. redis-py's own takes three times as long: it was a third of a publish."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            if isinstance(word, str):
                word = word.encode()
            elif isinstance(word, int):
                word = b"%d" % word
            parts.append(b"$%d\r\n%b\r\n" % (len(word), word))
    return b"".join(parts)


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Who waits is told. Who asked many and left at the first failure has seen it: asyncio need not log the others."""
    if not future.done():
        future.set_exception(error)
        future.exception()


async def _hang_up(connection: AbstractConnection) -> None:
    with suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)
